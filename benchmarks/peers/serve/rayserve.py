"""Ray Serve: replicas behind its proxy.

python -m benchmarks.peers.serve.rayserve
"""

import os

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.serve.network import Network
from benchmarks.peers.serve.vocabulary import model_folder

WORKERS, AT_ONCE, BATCH, WAIT = 2, 2, 1, 0.0


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=32, ray_actor_options={"num_cpus": 0.5})
class Classifier:
    def __init__(self) -> None:
        self.network = Network(at_once=AT_ONCE)

    async def __call__(self, request: Request) -> list[list[float]]:
        texts: list[str] = (await request.json())["texts"]
        if BATCH == 1:
            return self.network.probabilities(texts)
        answers: list[list[float]] = await self.classify(texts)
        return answers

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)
    async def classify(self, requests: list[list[str]]) -> list[list[list[float]]]:
        answers = iter(self.network.probabilities([text for texts in requests for text in texts]))
        return [[next(answers) for _ in texts] for texts in requests]


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=str(model_folder() / "ray"))
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    serve.run(Classifier.bind(), blocking=True)  # type: ignore[attr-defined]  # the decorator has it
