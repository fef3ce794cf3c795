"""Targets without I/O: configs, extra parameters of a backend, webhooks, texts, inference requests."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from server.api.open_inference_codec import read_body, write_answer
from server.api.webhook_codec import decode_event, decode_large_event
from server.bundle import Bundle
from server.encoders.cnn.basic_english import basic_english
from server.encoders.cnn.encoder import cnn_of
from server.encoders.transformer.encoder import TransformerEncoder, TransformerSpec
from server.errors import BadLabelConfig, BadRequest
from server.label_studio.extra_params import requested_learning, requested_scoring
from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan, read_question
from server.learning.annotations import Annotation
from server.learning.events import Event, EventReader
from server.models.tokenizer import Tokenizer
from server.prediction.token_rows import TokenRows
from server.scoring import DEFAULT_SCORING
from tests.fuzz.mutate import WORDS, changed_json, changed_xml, cut
from tests.fuzz.target import Finding

CORPUS = Path(__file__).with_name("corpus") / "configs"
BODIES = Path(__file__).with_name("corpus") / "bodies"

LONGEST_MESSAGE = 3_000
"""Maximum characters of an error message, which quotes input only in part."""

DATA: tuple[Any, ...] = (
    {
        "review": "good",
        "html": "<p>good</p>",
        "talk": [{"says": "x"}],
        "film": {"title": "It"},
        "body": [{"text": "b"}],
        "a": [1, [2], {"b": []}],
    },
    {
        "review": ["x", 1, "\ud800"],
        "html": "<!--" * 50,
        "talk": [None, [], {"says": {}}],
        "film": [],
        "body": {"0": "x"},
        "a": ["x"] * 3,
    },
    {"review": 10**400, "html": "<![CDATA[" * 50, "talk": 1e999, "body": [[]], "": "x"},
    {},
    None,
    [],
    "x",
    [[["x"]]],
    7,
)
"""Task data to read with an accepted config."""

EXTRA: tuple[Any, ...] = (
    None,
    "",
    "{}",
    {},
    {"score": "margin"},
    {"score": "entropy", "threshold": 0.3},
    '{"score": "margin", "threshold": 1}',
    {"threshold": 0.5},
    {"learn": True, "score": "margin"},
    '{"learn": "sentiment"}',
    [1],
)

CHARACTERS = (
    "'\"<br />BR.,()!?;:\n\t\x00\x1c\x1f\x7f\x85\xa0\u1680\u2028\u3000\ud800\udfffİßΣσςéaz😀\ufeff\u0301"
)


def as_text(data: bytes) -> str:
    """The input as text, with lone surrogates for invalid UTF-8."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")


class Configs:
    name, limit, weight = "labeling configs", 1.0, 0.1

    def __init__(self) -> None:
        self._seeds = [path.read_text() for path in sorted(CORPUS.iterdir())]

    def make(self, random: Random) -> bytes:
        config = random.choice(self._seeds)
        if random.random() < 0.8:
            config = changed_xml(config, random)
        data = config.encode("utf-8", "surrogatepass")
        return cut(data, random) if random.random() < 0.3 else data

    def check(self, data: bytes) -> None:
        try:
            plan = read_plan(as_text(data), ("Negative", "Positive"), {"Negative": "0", "Positive": "1"})
        except BadLabelConfig as error:
            check_words(str(error))
            return
        for each in DATA:
            if any(text is not None and not isinstance(text, str) for text in plan.texts(each)):
                raise Finding("an invalid text")
        if not plan.summary:
            raise Finding("a plan without targets")


class ExtraParams:
    name, limit, weight = "extra params", 1.0, 0.03

    def make(self, random: Random) -> bytes:
        data = changed_json(random.choice(EXTRA), random)
        return cut(data, random) if random.random() < 0.2 else data

    def check(self, data: bytes) -> None:
        """As text, which Label Studio's form sends, and as a value, which its API sends."""
        values: list[Any] = [as_text(data)]
        with suppress(ValueError, RecursionError):
            values.append(json.loads(data))
        for value in values:
            try:
                learning = requested_learning(value)
                scoring = requested_scoring(value, DEFAULT_SCORING)
            except BadRequest as error:
                check_words(str(error))
                continue
            if not (scoring.score in ("confidence", "margin", "entropy") and 0 < scoring.threshold <= 1):
                raise Finding(f"an invalid scoring: {scoring}")
            if not isinstance(learning, bool | str):
                raise Finding(f"invalid learning: {learning!r}")


class Webhooks:
    """What is learned of a webhook, as a small body and as one that is cut into slices."""

    name, limit, weight = "webhooks", 1.0, 0.05

    def __init__(self) -> None:
        self._seeds = [json.loads(path.read_bytes()) for path in sorted(BODIES.glob("webhook*.json"))]
        self._reader = EventReader(read_question(TUTORIAL_CONFIG), 1_000, "v")

    def make(self, random: Random) -> bytes:
        data = changed_json(random.choice(self._seeds), random)
        return cut(data, random) if random.random() < 0.2 else data

    def check(self, data: bytes) -> None:
        whole = self._learned(lambda: decode_event(bytearray(data)))
        sliced = self._learned(lambda: decode_large_event(bytearray(data), 1_000, 50))
        # the counts of a large body are bounded, and of two errors the other may be found first
        if whole != sliced and isinstance(sliced, list):
            raise Finding(f"in slices, something else is learned: {str(sliced)[:200]}")
        for each in whole if isinstance(whole, list) else []:
            each.text.encode()
            json.dumps(each.labels)

    def _learned(self, decode: Callable[[], Event]) -> list[Annotation] | str:
        try:
            event = decode()
            event.annotation_ids(), event.task_ids()
            return self._reader.annotations(event)
        except BadRequest as error:
            check_words(str(error))
            return "refused"


TRANSFORMER = TransformerEncoder(
    TransformerSpec(architecture="bert", features=4, vocabulary=100, max_length=8, pad_id=0), ""
)
"""It takes token ids, and has neither a tokenizer nor a network."""


class Tensors:
    """A request of the Open Inference Protocol to a transformer: JSON, a line feed, and bytes. An accepted
    one has as many texts, or rows of token ids, as its shape says.
    """

    name, limit, weight = "tensors", 1.0, 0.05

    def __init__(self) -> None:
        self._seeds = [path.read_bytes().partition(b"\n") for path in sorted(BODIES.glob("infer*"))]

    def make(self, random: Random) -> bytes:
        head, end, behind = random.choice(self._seeds)
        if random.random() < 0.5:
            head = changed_json(json.loads(head), random).replace(b"\n", b" ")
        if random.random() < 0.5:
            behind = cut(behind, random)
        data = head + end + behind
        return cut(data, random) if random.random() < 0.2 else data

    def check(self, data: bytes) -> None:
        head, _, behind = data.partition(b"\n")
        try:
            large = 0 if len(data) % 2 else len(data) + 1
            request = read_body(
                bytearray(head + behind), len(head), 1_000, 1_000_000, TRANSFORMER, large=large
            )
        except BadRequest as error:
            check_words(str(error))
            return
        texts, count = request.texts, request.request.inputs[0].shape[0]
        if isinstance(texts, TokenRows):
            check_rows(texts)
        elif not all(isinstance(text, str) for text in texts):
            raise Finding("invalid texts")
        if len(texts) != count:
            raise Finding("another number of texts")
        probabilities = np.full((count, 2), 0.5, dtype=np.float32)
        found, size = write_answer(request, "m", "m-1", ("Negative", "Positive"), probabilities)
        if len(json.loads(found[:size])["outputs"]) != len(request.outputs):
            raise Finding("an answer without what was asked for")


def check_rows(tokens: TokenRows) -> None:
    """Raises Finding unless the transformer can run them."""
    for row in tokens.rows:
        if not (row.dtype == np.int32 and 1 <= len(row) <= tokens.longest and row.max() <= tokens.largest):
            raise Finding("invalid rows")
    if not tokens.fit(TRANSFORMER):
        raise Finding("token ids that the transformer does not take")


class Texts:
    """The ids of a text are those of its `basic_english` tokens."""

    name, limit, weight = "tokenizer", 5.0, 0.05

    def __init__(self, bundle: Bundle) -> None:
        self._vocabulary, self._unknown = (
            cnn_of(bundle.encoders).vocabulary,
            cnn_of(bundle.encoders).spec.unknown_id,
        )
        self._pad, self._min = cnn_of(bundle.encoders).spec.pad_id, cnn_of(bundle.encoders).spec.min_length
        self._tokenizer = Tokenizer.of(bundle)
        self._words = (*list(cnn_of(bundle.encoders).vocabulary)[:200], *WORDS)

    def make(self, random: Random) -> bytes:
        parts = (
            random.choice(self._words)
            if random.random() < 0.5
            else chr(random.choice((random.randrange(0x250), random.randrange(0x110000))))
            for _ in range(random.randrange(60))
        )
        text = "".join(part + random.choice(CHARACTERS) * random.choice((0, 0, 1, 1, 3)) for part in parts)
        return text.encode("utf-8", "surrogatepass")

    def check(self, data: bytes) -> None:
        text = as_text(data)
        expected = [self._vocabulary.get(token, self._unknown) for token in basic_english(text)]
        expected += [self._pad] * (self._min - len(expected))
        alone, (together, _) = self._tokenizer.encode(text), self._tokenizer.encode_all([text, text])
        if alone.tolist() != expected or together.tolist() != expected:
            raise Finding("other ids than those of the tokens")


def check_words(message: str) -> None:
    """An error message is one line of limited length. Raises Finding."""
    if len(message.splitlines()) != 1:
        raise Finding("an error message of several lines, or none")
    if len(message) > LONGEST_MESSAGE:
        raise Finding("an endless error message")
