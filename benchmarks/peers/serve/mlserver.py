"""MLServer: a model with the Open Inference Protocol.

    python -m benchmarks.peers.serve.mlserver

In the server's own process: its pool of two processes made no clear difference. Adaptive batches wait for
other requests, which slows down a single client.
"""

import asyncio
import os

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.peers.serve.network import Network

WORKERS, AT_ONCE = 0, 2


class Classifier(MLModel):
    async def load(self) -> bool:
        self.network = Network(at_once=AT_ONCE)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self.network.probabilities(StringCodec.decode_input(payload.inputs[0]))
        numbers = [number for answer in answers for number in answer]
        output = ResponseOutput(
            name="probabilities", shape=[len(answers), len(answers[0])], datatype="FP32", data=numbers
        )
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main() -> None:
    server = MLServer(
        Settings(
            host="127.0.0.1",
            http_port=int(os.environ["PEER_PORT"]),
            grpc_port=0,
            metrics_endpoint=None,
            parallel_workers=WORKERS,
            debug=False,
        )
    )
    model = ModelSettings(name="network", implementation=Classifier)
    await server.start([model])


if __name__ == "__main__":
    asyncio.run(main())
