"""Learned tokenizers: what they do to texts, the file, and that a broken or foreign one is an error."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.training.tokens import Tokens, learn_tokens
from server.bundle import Bundle, read_bundle
from server.encoders.cnn import learned
from server.encoders.cnn.learned import PIECE, LearnedTokenizer, learned_content
from server.encoders.ngrams.analyzer import normalized
from server.errors import BadBundle
from tests.conftest import ROOT, random_texts
from tests.encoders.fitted import published
from tests.encoders.test_damaged import sign

PAD = 1
TEXTS = [
    "日本語のテキスト、中文",
    "Ｆｕｌｌ ﬁlm",
    "",
    " ",
    "a\n\tb",
    "\ud800 x",
    "\0",
    "<unk> <pad>",
    "ß" * 5000,
]


@pytest.fixture(scope="module")
def pieces() -> Tokens:
    return learn_tokens([*random_texts(50), "東京都の天気は晴れです。" * 30], 500)


@pytest.fixture(scope="module")
def tokenizer(pieces: Tokens) -> LearnedTokenizer:
    assert pieces.learned is not None
    return LearnedTokenizer(pieces.learned, pad=PAD, min_length=3)


def text_of(ids: Any, pieces: Tokens) -> str:
    """What the tokens say; a space comes before each word."""
    from tokenizers.decoders import ByteLevel

    decoded: str = ByteLevel().decode([pieces.tokens[i] for i in ids if i != PAD])
    return decoded


@given(
    st.text(
        "abzAZ09 \n\t.,!'-_<>é日本語テﾃｶﾞＡ１ﬁ\u3000ßẞı\u0301\u1100\u1161\U0001f600\U0001d400", max_size=60
    )
)
def test_the_tokens_of_a_text_are_all_of_its_normal_form(
    pieces: Tokens, tokenizer: LearnedTokenizer, text: str
) -> None:
    found = text_of(tokenizer.encode(text), pieces)
    assert "".join(found.split()) == "".join(normalized(text).split())
    assert np.array_equal(tokenizer.encode(text), tokenizer.encode(f"  {text}\n"))


def test_other_forms_of_a_text_have_its_tokens(tokenizer: LearnedTokenizer) -> None:
    for one, other in (
        ("Ｆｕｌｌ ﬁlm", "full film"),
        ("ÉTÉ", "e\u0301te\u0301"),
        ("ｶﾞ", "ガ"),
        ("a\n b", "a b"),
    ):
        assert np.array_equal(tokenizer.encode(one), tokenizer.encode(other)), one


def test_every_text_has_ids_of_the_vocabulary_alone_and_in_a_batch(
    pieces: Tokens, tokenizer: LearnedTokenizer
) -> None:
    rows = tokenizer.encode_all(TEXTS)
    for text, row in zip(TEXTS, rows, strict=True):
        assert row.dtype == np.int32
        assert len(row) >= 3
        assert 0 <= row.min() <= row.max() < len(pieces.tokens)
        assert np.array_equal(row, tokenizer.encode(text))
    assert rows[2].tolist() == [PAD] * 3
    assert not {0, PAD} & set(rows[7].tolist())  # marks and letters like others
    assert np.array_equal(rows[5], tokenizer.encode("\ufffd x"))
    assert tokenizer.encode_all([]) == []


def test_a_long_text_is_encoded_in_pieces(tokenizer: LearnedTokenizer) -> None:
    text = "東京都の天気" * PIECE
    size = len(tokenizer.encode("東京都の天気" * 100)) - len(tokenizer.encode("東京都の天気" * 99))
    assert abs(len(tokenizer.encode(text)) - size * PIECE) < 10 * len(text) / PIECE
    assert np.array_equal(tokenizer.encode("a b " * PIECE), np.tile(tokenizer.encode("a b a b"), PIECE // 2))


def test_many_threads_get_the_ids_of_one(tokenizer: LearnedTokenizer) -> None:
    texts = random_texts(200)
    expected = tokenizer.encode_all(texts)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(tokenizer.encode_all, [texts] * 8):
            assert all(map(np.array_equal, rows, expected))


LEARN = """
import hashlib, random
from export.training.tokens import learn_tokens
chance = random.Random(1)
texts = ["".join(chance.choices("abc日本語の ", k=200)) for _ in range(300)]
print(hashlib.sha256(learn_tokens(texts, 600).learned.encode()).hexdigest())
"""


@pytest.mark.slow
def test_the_same_texts_give_the_same_tokens_on_any_number_of_threads() -> None:
    found = {
        subprocess.check_output(
            [sys.executable, "-c", LEARN],
            cwd=ROOT,
            env={"PYTHONHASHSEED": str(threads), "RAYON_NUM_THREADS": str(threads)},
        )
        for threads in (1, 2, 5)
    }
    assert len(found) == 1


def test_the_library_comes_with_such_a_bundle_only_and_its_client_never(tmp_path: Path) -> None:
    for name in ("cnn", "learned"):
        published(tmp_path / name, [name])
        code = (
            "import sys, server.app; from pathlib import Path; from server.bundle import read_bundle;"
            "from server.models.tokenizer import Tokenizer;"
            f"Tokenizer.of(read_bundle(Path({str(tmp_path / name)!r}))).encode('a');"
            "print('tokenizers' in sys.modules, 'huggingface_hub' in sys.modules)"
        )
        said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
        assert said.split() == [str(name == "learned"), "False"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return published(tmp_path_factory.mktemp("bundles") / "whole", ["learned"])


def setting(*path: Any, value: Any) -> Callable[[Any], Any]:
    def edit(content: Any) -> Any:
        inner = content
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        return content

    return edit


def extra_token(content: Any) -> Any:
    content["model"]["vocab"]["more"] = len(content["model"]["vocab"])
    return content


DAMAGES: list[tuple[str, Callable[[Any], Any]]] = [
    ("settings differ", setting("truncation", value={"max_length": 5})),
    ("settings differ", setting("padding", value={"strategy": {"Fixed": 9}})),
    ("settings differ", setting("post_processor", value={"type": "ByteLevel"})),
    ("settings differ", setting("added_tokens", value=[{"id": 2**31, "content": "x"}])),
    ("settings differ", setting("normalizer", value=None)),
    ("settings differ", setting("pre_tokenizer", value={"type": "Split", "pattern": {"Regex": "(a*)*b"}})),
    ("settings differ", setting("model", "dropout", value=0.5)),
    ("settings differ", setting("model", "type", value="Unigram")),
    ("settings differ", setting("more", value=1)),
    ("not that of vocab.txt", extra_token),
    ("not that of vocab.txt", setting("model", "vocab", "<unk>", value=10**9)),
    ("not that of vocab.txt", setting("model", "vocab", "<unk>", value="0")),
    ("not that of vocab.txt", setting("model", "vocab", value={})),
    ("not that of vocab.txt", setting("model", "vocab", value=[])),
    ("cannot read it", setting("model", "vocab", "<unk>", value=False)),
    ("cannot read it", setting("model", "merges", value=[["absent", "absent"]])),
    ("cannot read it", setting("model", "merges", value=[["a"]])),
    ("cannot read it", setting("model", "merges", value={"a": "b"})),
    ("not a tokenizer", setting("model", value=[])),
    ("not a tokenizer", lambda _: []),
    ("not a tokenizer", lambda _: None),
]


@pytest.mark.parametrize(("message", "damage"), DAMAGES)
def test_a_tokenizer_of_another_origin_is_an_error(
    whole: Bundle, tmp_path: Path, message: str, damage: Callable[[Any], Any]
) -> None:
    content = damage(json.loads(whole.file("tokenizer.json").read_text("utf-8")))
    refused(whole, tmp_path, json.dumps(content).encode(), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "Expecting value"), (b"{", "Expecting"), (b"\xff", "utf-8"), (b"[" * 200_000, "recursion")],
)
def test_a_file_that_is_no_json_is_an_error(
    whole: Bundle, tmp_path: Path, content: bytes, message: str
) -> None:
    refused(whole, tmp_path, content, message)


def test_a_gigantic_file_is_an_error(whole: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "MAX_LEARNED", 2**20)
    refused(whole, tmp_path, b" " * 2**20 + b" ", "expected at most 1 MB")


@given(st.data())
def test_any_merges_are_an_error_or_give_ids_of_the_vocabulary(pieces: Tokens, data: st.DataObject) -> None:
    assert pieces.learned is not None
    content = json.loads(pieces.learned)
    merges = content["model"]["merges"]
    piece = st.sampled_from([*pieces.tokens[:400:7], "", "absent"]) | st.none() | st.integers()
    pair = st.sampled_from(merges) | st.lists(piece, max_size=3) | piece
    for merge, at in data.draw(st.lists(st.tuples(pair, st.integers(0, len(merges) - 1)), max_size=8)):
        merges[at] = merge
    try:
        found = LearnedTokenizer(json.dumps(content), pad=PAD, min_length=1).encode("東京都の天気 good film")
    except ValueError:
        return
    assert 0 <= found.min() <= found.max() < len(pieces.tokens)


def refused(whole: Bundle, folder: Path, content: bytes, message: str) -> None:
    for name in ("manifest.json", *whole.manifest.files):
        (folder / name).write_bytes((whole.path / name).read_bytes())
    (folder / "tokenizer.json").write_bytes(content)
    sign(folder)
    with pytest.raises(BadBundle, match=f"tokenizer.json: .*{message}.*; train the bundle again"):
        read_bundle(folder)


def test_a_bundle_has_one_cnn(whole: Bundle) -> None:
    spec = whole.manifest.encoders[0].model_dump()
    content = whole.manifest.model_dump() | {"encoders": [spec, spec | {"tokenizer": "basic_english"}]}
    with pytest.raises(ValueError, match="must not share files"):
        type(whole.manifest).model_validate(content)


def test_the_file_is_what_the_library_makes_of_it(pieces: Tokens) -> None:
    """So SETTINGS are complete: the library adds none."""
    from tokenizers import Tokenizer

    assert pieces.learned is not None
    assert json.loads(Tokenizer.from_str(pieces.learned).to_str()) == json.loads(pieces.learned)
    assert json.loads(learned_content([], [])) == json.loads(
        Tokenizer.from_str(learned_content([], [])).to_str()
    )
