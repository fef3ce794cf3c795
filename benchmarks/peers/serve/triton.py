"""Triton Inference Server, as nvidia-pytriton runs it: the function stays in this process.

    python -m benchmarks.peers.serve.triton

With dynamic batches of the requests at hand; neither waiting for more nor a second instance made a clear
difference.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.serve.network import Network

AT_ONCE = 2

BATCH = 128
"""Maximum rows; it rejects larger requests."""


def main() -> None:
    serve(Network(at_once=AT_ONCE).probabilities)


def serve(probabilities: Callable[[Sequence[str]], list[list[float]]]) -> None:
    @batch
    def classify(texts: Any) -> dict[str, Any]:
        return {
            "probabilities": np.array(probabilities([row[0].decode() for row in texts]), dtype=np.float32)
        }

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(os.environ["PEER_PORT"]),
        grpc_address="127.0.0.1",
        grpc_port=free_port(),
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="network",
            infer_func=classify,
            inputs=[Tensor(name="texts", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(max_batch_size=BATCH, batcher=DynamicBatcher()),
        )
        triton.serve()


def free_port() -> int:
    """pytriton uses gRPC to its server; the default port may be in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
