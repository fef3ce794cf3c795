"""Label Studio's SDK with the network loaded once per process, called by the class that the SDK expects."""

import os
from typing import Any

# the SDK then creates its model at the first request for predictions, even without a set-up before
os.environ["LABEL_STUDIO_ML_BACKEND_V2"] = ""

from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLBase

from benchmarks.peers.serve.network import Network
from benchmarks.peers.serve.vocabulary import model_folder

NETWORK = Network(at_once=2)


class Sentiment(LabelStudioMLBase):
    def predict(self, tasks: list[dict[str, Any]], **kwargs: Any) -> list[dict[str, Any]]:
        labels = NETWORK.facts["labels"]
        answers = NETWORK.probabilities([task["data"]["review"] for task in tasks])
        return [prediction(labels, answer) for answer in answers]


def prediction(labels: list[str], probabilities: list[float]) -> dict[str, Any]:
    score = max(probabilities)
    region = {
        "from_name": "sentiment",
        "to_name": "text",
        "type": "choices",
        "value": {"choices": [labels[probabilities.index(score)]]},
    }
    return {"result": [region], "score": score}


app = init_app(model_class=Sentiment, model_dir=str(model_folder()))
