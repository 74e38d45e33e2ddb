import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from privgen.compute.workers import shielded
from tests.helpers.processes import alive, started, until

PARENT = """
import multiprocessing, os, time
from pathlib import Path
from privgen.compute.workers import serve_parent

def work(mark):
    serve_parent()
    Path(mark).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=work, args=("MARK",))
    child.start()
    try:
        child.join()
    except KeyboardInterrupt:
        time.sleep(60)
"""


def test_a_worker_outlives_ctrl_c_but_not_its_parent(tmp_path: Path) -> None:
    mark, script = tmp_path / "mark", tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT).replace("MARK", str(mark)))
    with started([sys.executable, str(script)]) as parent:
        until(lambda: mark.exists() and mark.read_text())
        worker = int(mark.read_text())
        os.killpg(parent.pid, signal.SIGINT)
        try:
            parent.wait(0.5)
        except subprocess.TimeoutExpired:
            assert worker in alive(parent.pid)
        else:
            raise AssertionError("the parent waits")
        parent.kill()
        parent.wait(10)
        until(lambda: not alive(parent.pid), 10)


def test_a_ctrl_c_that_another_thread_hears_waits_for_the_end() -> None:
    ready, reached = threading.Event(), []
    listener = threading.Thread(target=ready.wait, daemon=True)
    listener.start()  # its mask lets Ctrl-C in

    @shielded()
    def start() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        start()
    ready.set()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
