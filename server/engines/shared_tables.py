"""Tables that several processes share: written once to a folder of theirs, mapped into each one's memory from
there.
"""

import shutil
from dataclasses import fields
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from server.bundle import Bundle
from server.engines.fixed_point_tables import Tables, read_tables


def shared_tables(bundle: Bundle, folder: Path) -> Tables:
    """The bundle's tables out of `folder`; whoever finds them missing puts them there. Raises BadBundle,
    OSError when there is no space.
    """
    home = folder / bundle.version
    if not home.exists():
        _write(read_tables(bundle), home)
    # plain arrays, like those that were not mapped, for which the kernel is compiled
    return Tables(
        **{
            each.name: np.load(home / f"{each.name}.npy", mmap_mode="r").view(np.ndarray)
            for each in fields(Tables)
        }
    )


def _write(tables: Tables, home: Path) -> None:
    """Whole or not at all: beside, and renamed."""
    beside = Path(mkdtemp(dir=home.parent))
    try:
        for each in fields(Tables):
            np.save(beside / f"{each.name}.npy", getattr(tables, each.name))
        beside.rename(home)
    except OSError:
        shutil.rmtree(beside)
        if not home.exists():  # else another process was first
            raise
