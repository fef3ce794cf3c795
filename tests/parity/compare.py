"""Compares Prelabel with torchtext and the tutorial's network, on real reviews.

    python -m tests.parity.compare --python .venv/parity/bin/python

torchtext's last release does not load with a current torch, so `reference.py` runs in another environment.
Compares the tokens and ids of all texts, and the probabilities of a bundle exported from the same checkpoint.
Exits with status 1 on any difference.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from export.checkpoint import read_network
from export.publish_checkpoint import export_bundle
from export.vocabulary import Vocabulary, read_vocab
from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.encoders.cnn.basic_english import BasicEnglish, basic_english
from server.engines.base import pad
from server.engines.factory import open_engine
from server.models.tokenizer import Tokenizer
from server.offline.records import open_records

SHARED = Path(__file__).resolve().parents[3] / "shared"
VOCAB, GOLDEN = SHARED / "tutorial" / "vocab_obj.pt", SHARED / "oracle" / "golden.json"
CHECKPOINTS, REVIEWS = SHARED / "oracle" / "make_checkpoint.py", SHARED / "imdb" / "train.csv.xz"

TOKENIZED, PREDICTED = 5000, 200
"""Number of reviews whose tokens are compared, and of those whose probabilities are compared."""

SALT, MIN_LENGTH, TOLERANCE = 3, 7, 1e-5
"""The checkpoint's seed; the widest filter in tokens; the largest |Δp|."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare Prelabel with torchtext and the tutorial's network."
    )
    parser.add_argument(
        "--python", type=Path, required=True, help="a Python with torch 2.3.1 and torchtext 0.18.0"
    )
    python = parser.parse_args().python
    missing = [path.name for path in (VOCAB, GOLDEN, CHECKPOINTS, REVIEWS) if not path.exists()]
    if missing:
        print(f"skipped: the shared folder next to the repository lacks {', '.join(missing)}")
        return 0
    golden = [entry["text"] for entry in json.loads(GOLDEN.read_text("utf-8"))]
    texts = golden + reviews(TOKENIZED)
    # the golden texts are the short, empty and odd ones
    network = range(len(golden) + PREDICTED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = folder / "cnn.pt"
        subprocess.run([sys.executable, str(CHECKPOINTS), str(checkpoint), "--salt", str(SALT)], check=True)
        job = {"texts": texts, "network": list(network), "vocab": str(VOCAB), "checkpoint": str(checkpoint)}
        expected = reference(python, job, folder)
        bundle = export_bundle(read_network(checkpoint, VOCAB, ("Negative", "Positive")), folder / "parity")
        found = probabilities(bundle, texts[: len(network)])
    print(", ".join(f"{name} {version}" for name, version in expected["versions"].items()))
    same_tokens = compare_tokens(texts, expected, read_vocab(VOCAB))
    return 0 if compare_probabilities(found, np.array(expected["probabilities"])) and same_tokens else 1


def reviews(count: int) -> list[str]:
    """`count` reviews, spread over the whole file."""
    with open_records(REVIEWS) as (rows, _):
        every = [row["review"] for row in rows]
    return list(islice(every, 0, None, len(every) // count))[:count]


def reference(python: Path, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The results of torchtext and the tutorial's network."""
    source, out = folder / "job.json", folder / "answer.json"
    source.write_text(json.dumps(job), "utf-8")
    # not resolved: the target of the link is outside of its virtual environment
    subprocess.run(
        [str(python.absolute()), str(Path(__file__).with_name("reference.py")), str(source), str(out)],
        check=True,
    )
    results: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return results


def probabilities(bundle: Bundle, texts: Sequence[str]) -> Floats:
    """The bundle's probabilities from ONNX Runtime, in batches of mixed length."""
    tokenizer = Tokenizer.of(bundle)
    rows: list[Ids] = [tokenizer.encode(text) for text in texts]
    engine = open_engine(bundle, engine="onnx", device="cpu")
    try:
        batches = [rows[i : i + 16] for i in range(0, len(rows), 16)]
        return np.concatenate([engine.run(*pad(batch, max(map(len, batch)))) for batch in batches])
    finally:
        engine.close()


def compare_tokens(texts: Sequence[str], expected: dict[str, Any], vocab: Vocabulary) -> bool:
    ids_of = {token: i for i, token in enumerate(vocab.tokens)}
    tokenizer = BasicEnglish(ids_of, unknown=vocab.unknown_id, pad=vocab.pad_id, min_length=MIN_LENGTH)
    wrong_tokens = [
        text for text, tokens in zip(texts, expected["tokens"], strict=True) if basic_english(text) != tokens
    ]
    padded = [ids + [vocab.pad_id] * (MIN_LENGTH - len(ids)) for ids in expected["ids"]]
    wrong_ids = [
        text for text, ids in zip(texts, padded, strict=True) if tokenizer.encode(text).tolist() != ids
    ]
    print(
        f"tokens: {len(texts)} texts, {sum(map(len, expected['tokens']))} tokens; different tokens in "
        f"{len(wrong_tokens)}, different ids in {len(wrong_ids)}"
    )
    for text in (wrong_tokens + wrong_ids)[:5]:
        print(f"  differs: {text[:120]!r}")
    return not wrong_tokens and not wrong_ids


def compare_probabilities(found: Floats, expected: Floats) -> bool:
    difference = float(np.abs(found - expected).max())
    agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    classes = ", ".join(map(str, np.bincount(expected.argmax(axis=1))))
    print(
        f"probabilities: {len(found)} texts ({classes} by class); max |Δp| {difference:.2g} (at most "
        f"{TOLERANCE:.0e}), same class {agreement:.2%}"
    )
    return difference <= TOLERANCE and agreement == 1.0


if __name__ == "__main__":
    raise SystemExit(main())
