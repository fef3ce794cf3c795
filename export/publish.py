"""Write a bundle folder: all of it, proven, under its name, or nothing."""

import ctypes
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.cnn import Network
from export.folded_cnn import FoldedCNN
from export.model_files import OPSET, write_models
from export.parity import as_manifest, as_table, check, prove
from export.reproducible import reproducible
from server.bundle import NAME, Bundle, Manifest, read_bundle, sha256_of
from server.errors import BadInput


@reproducible()
def export_bundle(
    network: Network,
    out: Path,
    *,
    torchscript: bool = True,
    force: bool = False,
    on_report: Callable[[Any], None] | None = None,
) -> Bundle:
    """Trace, prove and publish `network` as the bundle folder `out`; `on_report` gets the parity table.

    Everything is written to a folder beside and renamed, so a reader never sees half a bundle. Raises
    BadInput when `out` exists and not `force`, NotProven when an engine differs.
    """
    out = out.absolute()
    check_name(out, force=force)
    beside = out.with_name(f".{out.name}.{os.getpid()}.new")
    try:
        beside.mkdir(parents=True)
        _write(network, beside, out.name)
        report = prove(network, read_bundle(beside))
        if on_report is not None:
            on_report(as_table(report))
        check(report)
        if not torchscript:
            (beside / "model.ts").unlink()
        _write_manifest(network, beside, out.name, parity=as_manifest(report))
        read_bundle(beside)
        _swap(beside, out)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written ({error.strerror}).") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return read_bundle(out)


def check_name(out: Path, *, force: bool) -> None:
    """Raises BadInput where a bundle `out` could not be published, for long work to ask before it begins."""
    out = out.absolute()
    if not NAME.fullmatch(out.name):
        raise BadInput(
            f"--out {out}: the folder's name becomes the bundle's name: letters, digits, dots, dashes, "
            "underscores, at most 100."
        )
    if out.exists() and not force:
        raise BadInput(f"--out {out}: there is a bundle already; choose another name or give --force.")


def _write(network: Network, folder: Path, name: str) -> None:
    (folder / "vocab.txt").write_bytes("".join(f"{token}\n" for token in network.tokens).encode())
    write_models(FoldedCNN(network.cnn, network.temperature), folder)
    _write_manifest(network, folder, name, parity={})


def _write_manifest(network: Network, folder: Path, name: str, parity: dict[str, Any]) -> None:
    shape = network.cnn.shape
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != "manifest.json"}
    manifest = Manifest(
        name=name,
        labels=network.labels,
        unknown_id=network.unknown_id,
        pad_id=network.pad_id,
        widths=shape.widths,
        min_length=max(shape.widths),
        features=shape.filters * len(shape.widths),
        temperature=network.temperature,
        opset=OPSET,
        metrics=network.metrics,
        parity=parity,
        files=files,
    )
    manifest = manifest.model_copy(update={"version": manifest.content_version()})
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", "utf-8")


def _swap(new: Path, out: Path) -> None:
    """Put `new` in the place of `out`, in one step: whenever the process or the machine stops, `out` is the
    one or the other, whole.
    """
    if not out.exists():
        new.rename(out)
    elif not _exchange(new, out):
        # a system without that step: what was there is moved aside first, so that no name ever holds parts of
        # two
        old = out.with_name(f".{out.name}.{os.getpid()}.old")
        out.rename(old)
        try:
            new.rename(out)
        except OSError:
            old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Both names for one another (Linux' renameat2 with RENAME_EXCHANGE, which Python has no name for);
    whether the system can.
    """
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
