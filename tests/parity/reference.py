"""The tutorial's side of the comparison, with the last torchtext and a matching torch. Imports nothing of
Prelabel.

    python reference.py JOB.json ANSWER.json

A job names the texts, the vocabulary and the checkpoint. The answer holds the tokens and ids of all texts,
and the probabilities of those texts that the job lists for the network.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torchtext
from torch import Tensor, nn

torchtext.disable_torchtext_deprecation_warning()

from torchtext.data.utils import get_tokenizer  # noqa: E402 - it warns while it is imported


class SentimentCNN(nn.Module):
    """The tutorial's network: ids int64[1, length] → logits float32[1, classes]."""

    def __init__(self, state: dict[str, Tensor], pad: int) -> None:
        super().__init__()
        vocabulary, dimensions = state["embedding.weight"].shape
        banks = [state[f"convs.{i}.weight"] for i in range(3)]
        self.embedding = nn.Embedding(vocabulary, dimensions, padding_idx=pad)
        self.convs = nn.ModuleList([nn.Conv1d(dimensions, bank.shape[0], bank.shape[2]) for bank in banks])
        self.fc = nn.Linear(sum(bank.shape[0] for bank in banks), state["fc.bias"].shape[0])
        self.dropout = nn.Dropout(0.25)
        self.load_state_dict(state)

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.dropout(self.embedding(ids)).permute(0, 2, 1)
        pooled = [torch.relu(conv(embedded)).max(dim=-1).values for conv in self.convs]
        logits: Tensor = self.fc(self.dropout(torch.cat(pooled, dim=-1)))
        return logits


def answer(job: dict[str, Any]) -> dict[str, Any]:
    tokenize = get_tokenizer("basic_english")
    vocab = torch.load(job["vocab"])
    pad = vocab["<pad>"]
    tokens = [tokenize(text) for text in job["texts"]]
    ids = [vocab(words) for words in tokens]
    network = SentimentCNN(torch.load(job["checkpoint"], weights_only=True), pad).eval()
    with torch.inference_mode():
        rows = [torch.tensor([ids[i] + [pad] * (7 - len(ids[i]))]) for i in job["network"]]
        probabilities = [torch.softmax(network(row), dim=-1)[0].tolist() for row in rows]
    versions = {"torch": torch.__version__, "torchtext": torchtext.__version__}
    return {"versions": versions, "tokens": tokens, "ids": ids, "probabilities": probabilities}


if __name__ == "__main__":
    source, out = map(Path, sys.argv[1:])
    out.write_text(json.dumps(answer(json.loads(source.read_text("utf-8")))), "utf-8")
