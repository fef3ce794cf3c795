"""At most one process learns in a folder: the learner of a server, or a round by hand."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = "learner.lock"


@contextmanager
def only_learner(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Whether no other process learns in this folder, and none can while the block runs. With `wait` the
    block begins when that is so.
    """
    with (folder / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
