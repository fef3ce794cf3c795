"""Files that hold what users' texts say: for their owner alone, from the moment they are made."""

import os


def private(path: str, flags: int) -> int:
    """An opener for `open`: whatever the umask, only the owner may read and write the file, also one that was
    there before.
    """
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
