"""LitServe: an API server in front of worker processes.

python -m benchmarks.peers.transformer.serve.litserve
"""

import os
from typing import Any

from litserve import LitAPI, LitServer

from benchmarks.peers.transformer.serve.network import Network

WORKERS, AT_ONCE = 2, 2


class Classifier(LitAPI):
    def setup(self, device: str) -> None:
        self.network = Network(at_once=AT_ONCE)

    def decode_request(self, request: dict[str, Any], **kwargs: Any) -> list[str]:
        texts: list[str] = request["texts"]
        return texts

    def predict(self, x: list[str], **kwargs: Any) -> list[list[float]]:
        return self.network.probabilities(x)

    def encode_response(self, output: list[list[float]], **kwargs: Any) -> dict[str, Any]:
        return {"probabilities": output}


if __name__ == "__main__":
    server = LitServer(Classifier(), accelerator="cpu", workers_per_device=WORKERS)
    server.run(
        host="127.0.0.1", port=int(os.environ["PEER_PORT"]), log_level="warning", generate_client_file=False
    )
