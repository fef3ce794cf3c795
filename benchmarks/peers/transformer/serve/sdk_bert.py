"""Label Studio's SDK with a class like its example bert_classifier: a pipeline of transformers, made
once, that takes one text after another. Unlike the example it cuts texts; long ones fail otherwise.
"""

import os
from pathlib import Path
from typing import Any

# the SDK then creates its model at the first request for predictions, even without a set-up before
os.environ["LABEL_STUDIO_ML_BACKEND_V2"] = ""

from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLBase
from transformers import pipeline

FOLDER = Path(os.environ["PEER_MODEL"]) / "hf"

CLASSIFIER = pipeline("text-classification", model=str(FOLDER), tokenizer=str(FOLDER), device="cpu")


class BertClassifier(LabelStudioMLBase):
    def predict(self, tasks: list[dict[str, Any]], **kwargs: Any) -> list[dict[str, Any]]:
        answers = CLASSIFIER([task["data"]["review"] for task in tasks], truncation=True)
        return [prediction(answer["label"], answer["score"]) for answer in answers]


def prediction(label: str, score: float) -> dict[str, Any]:
    region = {"from_name": "section", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return {"result": [region], "score": score}


app = init_app(model_class=BertClassifier, model_dir=str(FOLDER))
