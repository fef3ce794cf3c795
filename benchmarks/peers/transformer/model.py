"""A classifier of BERT's kind, fitted in a few minutes: a sentence encoder with a new head.

    python -m benchmarks.peers.transformer.model --encoder FOLDER --out FOLDER < TEXTS.json

Runs in the environment of the peer `transformers`. TEXTS.json is a list of [text, label]. The tokenizer's
files are copied, not saved, because the last versions of transformers write names that earlier ones do not
know; a length to cut and to pad to is taken out, since each peer sets its own.
"""

import argparse
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.peers.transformer.shape import MAX_TOKENS

EPOCHS, BATCH, FIT_TOKENS = 2, 16, 96
RATE, HEAD_RATE = 1e-4, 1e-3

Texts = list[tuple[str, str]]

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    texts: Texts = [(text, label) for text, label in json.load(sys.stdin)]
    torch.manual_seed(1)
    fit(args.encoder, texts, args.epochs, args.out)


def fit(encoder: Path, texts: Texts, epochs: int, out: Path) -> None:
    labels = sorted({label for _, label in texts})
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type="single_label_classification",
    )
    head = [each for name, each in model.named_parameters() if name.startswith("classifier")]
    rest = [each for name, each in model.named_parameters() if not name.startswith("classifier")]
    optimizer = torch.optim.AdamW([{"params": rest, "lr": RATE}, {"params": head, "lr": HEAD_RATE}])
    steps = -(-len(texts) // BATCH) * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [RATE, HEAD_RATE], total_steps=steps + 1)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for batch in batches(texts, epoch):
            inputs = tokenizer(
                [text for text, _ in batch],
                truncation=True,
                max_length=FIT_TOKENS,
                padding=True,
                return_tensors="pt",
            )
            wanted = torch.tensor([labels.index(label) for _, label in batch])
            loss: Any = model(**inputs, labels=wanted).loss
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(texts):.3f}", file=sys.stderr)  # noqa: T201
    save(model, encoder, out)


def batches(texts: Texts, epoch: int) -> Iterator[Texts]:
    """Texts of about the same length share a batch; the order of the batches is by chance."""
    numbers = random.Random(epoch)  # noqa: S311 - an order, not a secret
    keyed = sorted(texts, key=lambda each: len(each[0]) * numbers.uniform(0.8, 1.25))
    found = [keyed[i : i + BATCH] for i in range(0, len(keyed), BATCH)]
    numbers.shuffle(found)
    yield from found


def save(model: Any, encoder: Path, out: Path) -> None:
    """Whole or not at all: the folder gets its name at the end."""
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    model.eval().save_pretrained(part)
    for name in TOKENIZER:
        shutil.copyfile(encoder / name, part / name)
    tokenizer = json.loads((part / "tokenizer.json").read_text("utf-8"))
    settings = json.loads((part / "tokenizer_config.json").read_text("utf-8"))
    (part / "tokenizer.json").write_text(json.dumps(tokenizer | {"truncation": None, "padding": None}))
    (part / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": MAX_TOKENS}))
    part.rename(out)


if __name__ == "__main__":
    main()
