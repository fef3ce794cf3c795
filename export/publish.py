"""Publishes a bundle folder atomically, after its parity check."""

import ctypes
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.parity import Parity, as_manifest, as_table, check
from server.bundle import NAME, TORCHSCRIPT, Bundle, Manifest, read_bundle, sha256_of
from server.errors import BadInput

Content = dict[str, Any]
"""The entries of a manifest, without its name, version, parity and files."""


def publish(
    out: Path,
    write: Callable[[Path], Content],
    prove: Callable[[Bundle], list[Parity]],
    *,
    files: Mapping[str, bytes] | None = None,
    torchscript: bool = True,
    force: bool = False,
    on_report: Callable[[Any], None] | None = None,
) -> Bundle:
    """Write a bundle, check its parity and publish it as the folder `out`; `on_report` gets the parity table.

    `write` writes the network's files into a folder and returns the entries of the manifest; `files` are
    those of the bundle besides. Everything
    is written to a temporary folder next to `out` and renamed, so a reader never sees half a bundle. Raises
    BadInput if `out` exists without `force` or cannot be written, NotProven if an engine differs.
    """
    out = out.absolute()
    check_name(out, force=force)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.new")
    try:
        temporary.mkdir(parents=True)
        content = {"name": out.name} | write(temporary)
        for name, data in (files or {}).items():
            (temporary / name).write_bytes(data)
        _write_manifest(content, temporary)
        report = prove(read_bundle(temporary))
        if on_report is not None:
            on_report(as_table(report))
        check(report)
        if not torchscript:
            (temporary / TORCHSCRIPT).unlink(missing_ok=True)
        _write_manifest(content | {"parity": as_manifest(report)}, temporary)
        bundle = read_bundle(temporary)
        _swap(temporary, out)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written ({error.strerror}).") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return replace(bundle, path=out)


def check_name(out: Path, *, force: bool) -> None:
    """Raises BadInput if a bundle `out` could not be published; call it before long work."""
    out = out.absolute()
    if not NAME.fullmatch(out.name):
        raise BadInput(
            f"--out {out}: the folder's name becomes the bundle's name: letters, digits, dots, dashes, "
            "underscores, at most 100."
        )
    if out.exists() and not force:
        raise BadInput(f"--out {out}: a bundle exists there already; choose another name or give --force.")


def _write_manifest(content: Content, folder: Path) -> None:
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != "manifest.json"}
    manifest = Manifest(**content, files=files)
    manifest = manifest.model_copy(update={"version": manifest.content_version()})
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", "utf-8")


def _swap(new: Path, out: Path) -> None:
    """Replace `out` by `new` in one step: if the process or the machine stops, `out` is one of both,
    complete.
    """
    if not out.exists():
        new.rename(out)
    elif not _exchange(new, out):
        # without an atomic exchange: move the old folder away first, so that no name holds parts of both
        old = out.with_name(f".{out.name}.{os.getpid()}.old")
        out.rename(old)
        try:
            new.rename(out)
        except OSError:
            old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names atomically, by Linux's renameat2 with RENAME_EXCHANGE, which Python does not offer;
    False if the system cannot.
    """
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
