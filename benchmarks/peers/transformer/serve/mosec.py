"""mosec: worker processes behind its Rust server.

python -m benchmarks.peers.transformer.serve.mosec --address 127.0.0.1 --port PORT
"""

from typing import Any

from mosec import Server, Worker

from benchmarks.peers.transformer.serve.network import Network

WORKERS, AT_ONCE = 2, 2


class Classifier(Worker):
    def __init__(self) -> None:
        self.network = Network(at_once=AT_ONCE)

    def forward(self, data: dict[str, Any]) -> list[list[float]]:
        return self.network.probabilities(data["texts"])


if __name__ == "__main__":
    server = Server()
    server.append_worker(Classifier, num=WORKERS)
    server.run()
