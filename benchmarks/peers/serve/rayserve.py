"""Ray Serve: a replica behind its proxy.

    python -m benchmarks.peers.serve.rayserve

One replica without batches was at least as good as two replicas, or as one with batches.
"""

import os

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.serve.network import Network
from benchmarks.peers.serve.vocabulary import model_folder

AT_ONCE = 2


@serve.deployment(max_ongoing_requests=32)
class Classifier:
    def __init__(self) -> None:
        self.network = Network(at_once=AT_ONCE)

    async def __call__(self, request: Request) -> list[list[float]]:
        body = await request.json()
        return self.network.probabilities(body["texts"])


if __name__ == "__main__":
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(model_folder() / "ray"),
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    serve.run(Classifier.bind(), blocking=True)  # type: ignore[attr-defined]  # the decorator has it
