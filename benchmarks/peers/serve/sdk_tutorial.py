"""Label Studio's SDK with a class like the tutorial's: torch, torchtext's tokenizer, one text after another.

The model is built in `__init__`. The SDK creates the class at each set-up and, in its newest source, at each
request; the release on PyPI does so if a request asks for it (`force_reload`). As in the tutorial, dropout
stays on, so predictions vary.
"""

import os
import re
from typing import Any

# the SDK then creates its model at the first request for predictions, even without a set-up before
os.environ["LABEL_STUDIO_ML_BACKEND_V2"] = ""

import numpy as np
import torch
from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLBase
from torch import Tensor, nn

from benchmarks.peers.serve.vocabulary import Vocabulary, model_folder, read_facts

RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\'", " '  "),
        (r"\"", ""),
        (r"\.", " . "),
        (r"<br \/>", " "),
        (r",", " , "),
        (r"\(", " ( "),
        (r"\)", " ) "),
        (r"\!", " ! "),
        (r"\?", " ? "),
        (r"\;", " "),
        (r"\:", " "),
        (r"\s+", " "),
    )
]


def basic_english(text: str) -> list[str]:
    """torchtext's tokenizer, by regular expressions."""
    text = text.lower()
    for pattern, replacement in RULES:
        text = pattern.sub(replacement, text)
    return text.split()


class CNN(nn.Module):
    def __init__(
        self, words: int, dimensions: int, filters: int, widths: list[int], classes: int, pad: int
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, dimensions, padding_idx=pad)
        self.convs = nn.ModuleList([nn.Conv1d(dimensions, filters, width) for width in widths])
        self.fc = nn.Linear(filters * len(widths), classes)
        self.dropout = nn.Dropout(0.25)

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.dropout(self.embedding(ids)).permute(0, 2, 1)
        pooled = [torch.relu(conv(embedded)).max(dim=-1).values for conv in self.convs]
        answer: Tensor = self.fc(self.dropout(torch.cat(pooled, dim=-1)))
        return answer


def checkpoint() -> dict[str, Any]:
    with np.load(model_folder() / "weights.npz") as weights:
        return {name: torch.from_numpy(weights[name]) for name in weights.files}


torch.save(checkpoint(), model_folder() / "cnn.pt")


class Sentiment(LabelStudioMLBase):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        facts = read_facts()
        self.labels: list[str] = facts["labels"]
        self.vocabulary = Vocabulary(facts)
        state = torch.load(model_folder() / "cnn.pt")
        words, dimensions = state["embedding.weight"].shape
        self.model = CNN(
            words, dimensions, len(state["convs.0.bias"]), facts["widths"], len(self.labels), facts["pad"]
        )
        self.model.load_state_dict(state)

    def predict(self, tasks: list[dict[str, Any]], **kwargs: Any) -> list[dict[str, Any]]:
        predictions = []
        for task in tasks:
            ids = torch.tensor([self.vocabulary.ids(basic_english(task["data"]["review"]))])
            with torch.no_grad():
                score, best = torch.softmax(self.model(ids), dim=-1).max(dim=-1)
            region = {
                "from_name": "sentiment",
                "to_name": "text",
                "type": "choices",
                "value": {"choices": [self.labels[int(best)]]},
            }
            predictions.append({"result": [region], "score": float(score)})
        return predictions


app = init_app(model_class=Sentiment, model_dir=str(model_folder()))
