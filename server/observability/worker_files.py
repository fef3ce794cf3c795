"""The folder into which several processes count, a few files each, as the library writes them.

A process holds a lock on a file of its own while it lives: the system lets go of it however it ends, and no
other process's number can be taken for it. Of one that ended, what it counted is added to the files of
`ENDED`, so that there are never more than those of the living and one set; what it said of its own state goes
with it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

from server.files import atomic_replace

ENDED = "ended"
"""In place of a process's number."""


def live_in(folder: Path) -> IO[str]:
    """Tells the others that this process lives, as long as what is returned stays open."""
    path = folder / f"{os.getpid()}.starting"
    lock = path.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    path.rename(path.with_suffix(".alive"))  # only now it is looked at
    return lock


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Blocks while another process, or thread, is at the files."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def forget_dead(folder: Path) -> None:
    """Nobody else may be at the files (`one_at_a_time`), but for the living, who write to their own."""
    for path in folder.glob("*.alive"):
        with path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # it lives
            mark_process_dead(path.stem, str(folder))
            for kind in ("counter", "histogram"):
                _add(folder / f"{kind}_{path.stem}.db", folder / f"{kind}_{ENDED}.db")
            path.unlink()


def _add(source: Path, target: Path) -> None:
    """Add the values in one file to those in another, and remove the one."""
    if not source.exists():
        return
    total: dict[str, float] = {}
    for path in (source, target):
        if path.exists():
            for key, value, _, _ in MmapedDict.read_all_values_from_file(path):
                total[key] = total.get(key, 0.0) + value
    with atomic_replace(target) as new:
        new.unlink(missing_ok=True)  # of a process that died: the library would add to it
        values = MmapedDict(str(new))
        for key, value in total.items():
            values.write_value(key, value, 0.0)
        values.close()
    source.unlink()
