"""Shared parts: a tiny network and its bundle, made once a run; the reference answers where they lie next to
the checkout.
"""

import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

from benchmarks import results
from export.checkpoint import read_network
from export.cnn import Network, NetworkShape, SentimentCNN
from export.publish_checkpoint import export_bundle
from server.bundle import Bundle, read_bundle
from server.engines.base import Engine
from server.engines.factory import open_engine
from server.log_setup import VERBOSE_LIBRARIES
from tests import process_state

ROOT = Path(__file__).parent.parent

# how long an example takes says how busy the machine is
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# the same examples in every run, so that only a change makes a run fail; `make test-slow` tries others
settings.register_profile("same examples", UNTIMED, derandomize=True)
settings.register_profile("other examples", UNTIMED, max_examples=500)
settings.load_profile("same examples")

MOST_PROCESSES = 4
"""Maximum pytest-xdist workers. Each loads its own libraries and models, about 1 GB."""

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the cores are shared out already


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return min(
        MOST_PROCESSES, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    )


WORDS = (
    "<unk>",
    "<pad>",
    "good",
    "bad",
    "film",
    "the",
    "a",
    ".",
    "not",
    "very",
    "'",
    "s",
    "plot",
    "actor",
    "émigré",
    "10/10",
)

Benchmark = Callable[..., dict[str, Any]]


def pytest_collection_finish() -> None:
    """What is imported stays: each server that a test starts would have the garbage collector look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _process_as_before_the_module(request: pytest.FixtureRequest) -> Iterator[None]:
    """The next fixture for modules: their own fixtures may change a setting while their tests run."""
    if request.node.get_closest_marker("ray"):  # Ray changes hooks and signal handlers of the process
        yield
        return
    before = process_state.settings_and_frozen()
    yield
    assert not process_state.differences(before, process_state.settings_and_frozen()), "settings left changed"


@pytest.fixture(autouse=True)
def _process_as_before_the_test(
    request: pytest.FixtureRequest, _process_as_before_the_module: None
) -> Iterator[None]:
    """A test that leaves a setting of the process changed fails here: a later one could depend on it."""
    if request.node.get_closest_marker("ray"):
        yield
        return
    before = process_state.settings()
    yield
    assert not process_state.differences(before, process_state.settings()), "settings left changed"


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """For a test that runs what a process of its own would run: afterwards logging is as it was."""
    loggers = [logging.root, *map(logging.getLogger, VERBOSE_LIBRARIES)]
    levels = [(each, each.level) for each in loggers]
    handlers = logging.root.handlers[:]
    yield
    for logger, level in levels:
        logger.setLevel(level)
    logging.root.handlers[:] = handlers


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data; the tests that need it skip where it is not."""
    folder = ROOT.parent / "shared"
    if not (folder / "oracle" / "golden.json").exists():
        pytest.skip("the tutorial's reference answers are not next to this checkout")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> list[dict[str, Any]]:
    """Texts with the tokens, ids and probabilities that the tutorial's own code gives them."""
    entries: list[dict[str, Any]] = json.loads((shared / "oracle" / "golden.json").read_text())
    return entries


@pytest.fixture(scope="session")
def oracle_bundle(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of the checkpoint that the reference answers are for; made once per run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with FileLock(folder / "oracle.lock"):
        if not (folder / "oracle").exists():
            checkpoint = folder / "oracle.pt"
            subprocess.run([sys.executable, shared / "oracle" / "make_checkpoint.py", checkpoint], check=True)
            labels = ("Negative", "Positive")
            network = read_network(checkpoint, shared / "tutorial" / "vocab_obj.pt", labels)
            export_bundle(network, folder / "oracle")
    return read_bundle(folder / "oracle")


def tiny_network(widths: tuple[int, ...] = (2, 3, 5), classes: int = 2, seed: int = 0) -> Network:
    """A network small enough to export in a second, with weights that make probabilities differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cnn = SentimentCNN(NetworkShape(len(WORDS), 8, 4, widths, classes)).eval()
    labels = ("Negative", "Positive", "Neutral", "Mixed")[:classes]
    return Network(cnn, WORDS, 0, 1, labels)


@pytest.fixture(scope="session")
def network() -> Network:
    return tiny_network()


@pytest.fixture(scope="session")
def bundle(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny network's bundle; never changed by a test."""
    return export_bundle(network, tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def onnx(bundle: Bundle) -> Engine:
    return open_engine(bundle, device="cpu")


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of 0 to 400 known and unknown words."""
    random = np.random.default_rng(seed)
    vocabulary = [*WORDS[2:], "unseen", "(", "!"]
    return [" ".join(random.choice(vocabulary, random.integers(0, 400))) for _ in range(count)]


@pytest.fixture
def figures_of(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    """Runs a benchmark's `main` with the tiny bundle and these options; the figures that it keeps."""
    monkeypatch.setattr(results, "FOLDER", tmp_path / "measured")

    def run(main: Callable[[], None], name: str, *options: object) -> dict[str, Any]:
        monkeypatch.setattr("sys.argv", [name, "--bundle", str(bundle.path), *map(str, options)])
        main()
        found = results.read(name)
        assert found is not None
        figures: dict[str, Any] = found["figures"]
        return figures

    return run
