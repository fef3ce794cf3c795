"""Metric files of several worker processes in one shared folder, as prometheus_client writes them.

Each process holds a lock on its own file while it lives. The operating system releases the lock however the
process ends, so a reused process id cannot be mistaken for a living worker. When a process has ended, its
counters and histograms are added to the files of ENDED and its gauges are dropped. The number of files is
thus bounded by the living processes plus one set.
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
"""Replaces the process id in the names of the files of ended processes."""


def hold_alive_lock(folder: Path) -> IO[str]:
    """Mark this process as living for as long as the returned file stays open."""
    path = folder / f"{os.getpid()}.starting"
    lock = path.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    path.rename(path.with_suffix(".alive"))  # visible to merge_ended only when locked
    return lock


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock the folder; blocks while another process or thread holds the lock."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def merge_ended(folder: Path) -> None:
    """Merge the files of ended processes into those of ENDED. The caller holds `exclusive`; living processes
    keep writing to their own files.
    """
    for path in folder.glob("*.alive"):
        with path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # the process lives
            mark_process_dead(path.stem, str(folder))
            for kind in ("counter", "histogram"):
                _merge(folder / f"{kind}_{path.stem}.db", folder / f"{kind}_{ENDED}.db")
            path.unlink()


def _merge(source: Path, target: Path) -> None:
    """Add the values of `source` to those of `target` and remove `source`."""
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
