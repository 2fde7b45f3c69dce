"""Who has the CPUs: tests of several machines go on at the same time, but for one that measures.

    python3 tests/vm/turn.py COMMAND…    runs a command beside them, and while none measures
"""

import contextlib
import fcntl
import os
import subprocess
import sys
from pathlib import Path

# Of this checkout, whoever runs it.
LOCKS = Path(__file__).parents[2] / "target"


def opened(name: str):
    # Root may have made it.
    return open(os.open(LOCKS / name, os.O_RDONLY | os.O_CREAT, 0o644), "rb")


@contextlib.contextmanager
def turn(alone: bool):
    LOCKS.mkdir(exist_ok=True)
    with opened("next") as next, opened("turn") as turn:
        # Whoever waits to be alone is the next.
        fcntl.flock(next, fcntl.LOCK_EX)
        fcntl.flock(turn, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(next, fcntl.LOCK_UN)
        yield


if __name__ == "__main__":
    with turn(alone=False):
        sys.exit(subprocess.run(sys.argv[1:]).returncode)
