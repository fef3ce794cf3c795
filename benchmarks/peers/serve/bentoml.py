"""BentoML: a service class.

    bentoml serve benchmarks.peers.serve.bentoml:Classifier --host 127.0.0.1 --port PORT

With adaptive batches; one process without them made no clear difference.
"""

import bentoml

from benchmarks.peers.serve.network import Network

WORKERS, AT_ONCE = 2, 2


@bentoml.service(workers=WORKERS, http_stats={"timeout": 60})
class Classifier:
    def __init__(self) -> None:
        self.network = Network(at_once=AT_ONCE)

    @bentoml.api(batchable=True)
    def predict(self, texts: list[str]) -> list[list[float]]:
        return self.network.probabilities(texts)
