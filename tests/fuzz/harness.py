"""One door under atheris: `python tests/fuzz/harness.py DOOR SECONDS FOLDER`.

The door, its valid files and its mutators are the benchmark's own; atheris adds which lines of the
readers an input reached. Ends with an error at the first finding, whose bytes stay in FOLDER.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(name: str, seconds: int, folder: Path) -> None:
    """Search for so many seconds; does not return."""
    import atheris

    with atheris.instrument_imports(
        include=["privgen.data", "privgen.documents", "privgen.tiling"]
    ):
        from benchmarks.fuzz.archives import doors
        from benchmarks.fuzz.door import MOST_SECONDS, Inputs
        from privgen.cli.exits import hush_libraries
    hush_libraries()
    door = next(one for one in doors() if one.name == name)
    inputs = Inputs(door, folder / "door")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(inputs.seeds):
        (corpus / f"{number}").write_bytes(data)

    def open_one(data: bytes) -> None:
        found = inputs.judged(data)
        if found.kind:
            raise AssertionError(f"{name}: {found.kind}: {found.said}")

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        changed = inputs.changed(draw, data) if data and draw.random() < 0.5 else data
        fits = len(changed) <= most and changed != data
        return changed if fits else bytes(atheris.Mutate(data, most))

    options = {
        "max_total_time": seconds,
        "timeout": round(MOST_SECONDS),
        "rss_limit_mb": 2048,
        "max_len": 2**17,
        "print_final_stats": 1,
        "artifact_prefix": f"{folder}/",
    }
    told = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup([sys.argv[0], *told, str(corpus)], open_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
