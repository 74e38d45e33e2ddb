"""How many cores this process may use, counted in one place.

A batch system, `taskset` or a container may give a process a few of a machine's cores. Whoever
starts threads or processes by the machine's number would make them wait for each other.
"""

import os


def cores() -> int:
    """Cores this process may run on, at least 1: its affinity, or all where none is known."""
    mine = getattr(os, "sched_getaffinity", None)
    return len(mine(0)) if mine else os.cpu_count() or 1


def decoders() -> int:
    """Threads that decode images at a time, at most 4: more wait for the disk or for Python."""
    return min(4, cores())
