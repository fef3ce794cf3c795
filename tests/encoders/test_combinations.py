"""Every combination of encoders under one head: proven parity, and answers that depend on the text alone."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from export.parity import TOLERANCE
from server.arrays import Floats, Ids
from server.bundle import Bundle, Head
from server.engines.base import MAX_CHUNK, pad, run_in_chunks
from server.engines.devices import Grid
from server.engines.factory import open_engine
from server.engines.onnx_cuda import BoundCalls
from server.engines.onnx_runtime import CPU, DynamicSession, open_session
from server.engines.pinned_memory import PlainHostBuffers
from server.engines.torch_script import TorchScriptEngine
from server.models.tokenizer import Tokenizer
from tests.conftest import random_texts
from tests.encoders.fitted import fitted, published

COMBINATIONS = [("words",), ("characters",), ("cnn",), ("characters", "cnn", "words"), ("learned", "words")]
TEXTS = [*random_texts(20), "", " ", "0", "日本語 ﬁlm", "\ud800 \0 good", "good " * 300]


@pytest.fixture(
    scope="module",
    params=list(product(COMBINATIONS, (2, 5), ("softmax", "sigmoid"))),
    ids=lambda each: f"{'+'.join(each[0])}-{each[1]}-{each[2]}",
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Floats]:
    """A bundle, and the probabilities of TEXTS by the definition."""
    kinds, classes, head = request.param
    bundle = published(tmp_path_factory.mktemp("bundles") / "b", kinds, classes, head, torchscript=True)
    return bundle, fitted(kinds, classes, head).probabilities(TEXTS).astype(np.float32)


def test_parity_is_proven_for_every_engine(case: tuple[Bundle, Floats]) -> None:
    engines = case[0].manifest.parity["engines"]
    assert [each["engine"] for each in engines] == ["onnx", "tables", "torchscript"]
    assert all(each["max_difference"] <= TOLERANCE for each in engines)


def test_an_answer_depends_on_the_text_alone(case: tuple[Bundle, Floats]) -> None:
    """Not on the engine, the batch, the padding, nor what lies after a row's end."""
    bundle, expected = case
    rows = Tokenizer.of(bundle).encode_all(TEXTS)
    assert all(map(np.array_equal, rows, map(Tokenizer.of(bundle).encode, TEXTS)))
    for name in ("tables", "onnx", "torchscript"):
        engine = open_engine(bundle, engine=name, device="cpu")
        alone = np.concatenate([engine.run(*pad([row], len(row))) for row in rows])
        batch = engine.run(*with_garbage(rows, max(map(len, rows)) + 40))
        assert np.abs(alone - expected).max() <= TOLERANCE, name
        assert np.abs(batch - expected).max() <= TOLERANCE, name


def test_bound_calls_ignore_what_earlier_calls_left(case: tuple[Bundle, Floats]) -> None:
    bundle, expected = case
    rows = Tokenizer.of(bundle).encode_all(TEXTS)
    longest = max(map(len, rows))
    grid = Grid((64, longest), 4 * longest)
    bound = BoundCalls(bundle, open_session(bundle, (CPU, {})), "cpu", grid, PlainHostBuffers())
    found = np.concatenate([bound.run(*with_garbage([row], len(row))) for row in rows[::-1]])[::-1]
    assert np.abs(found - expected).max() <= TOLERANCE
    assert np.abs(bound.run(*with_garbage(rows, longest)) - expected).max() <= TOLERANCE


def test_chunks_of_any_size_give_the_answer_of_the_whole_row(case: tuple[Bundle, Floats]) -> None:
    """A row has more ids of one encoder than of another, so one runs out of chunks first."""
    bundle, expected = case
    rows = Tokenizer.of(bundle).encode_all(TEXTS)
    call = pad(rows, max(map(len, rows)))
    session = DynamicSession(open_session(bundle, (CPU, {})), bundle.encoders)
    script = TorchScriptEngine(bundle, "cpu")
    for step in (session._step, script._step):
        chunked = run_in_chunks(step, session.start, *call, bundle.encoders, 32)
        assert np.abs(chunked - expected).max() <= TOLERANCE


@pytest.mark.parametrize("engine", ["tables", "onnx", "torchscript"])
def test_a_text_longer_than_a_chunk_has_one_answer(tmp_path: Path, engine: str) -> None:
    kinds = "words", "cnn", "characters"
    bundle = published(tmp_path / "b", kinds, 3, torchscript=True)
    texts = ["good bad " * (MAX_CHUNK // 2 + 700), "film", "very bad film " * MAX_CHUNK]
    rows = Tokenizer.of(bundle).encode_all(texts)
    found = open_engine(bundle, engine=engine, device="cpu").run(*pad(rows, max(map(len, rows))))
    assert np.abs(found - fitted(kinds, 3).probabilities(texts)).max() <= TOLERANCE


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_softmax_sums_to_one_and_sigmoid_need_not(tmp_path: Path, head: Head) -> None:
    bundle = published(tmp_path / "b", ["words"], 5, head)
    row = Tokenizer.of(bundle).encode("good film")
    total = open_engine(bundle, device="cpu").run(*pad([row], len(row))).sum()
    assert (abs(total - 1) < 1e-6) == (head == "softmax")


def with_garbage(rows: list[Ids], length: int) -> tuple[Ids, Ids]:
    """Padded with ids of another text: they are valid, but not this row's."""
    ids, lengths = pad(rows, length)
    for row, end in enumerate(lengths):
        ids[row, end:] = 7
    return ids, lengths
