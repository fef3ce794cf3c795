"""Triton Inference Server, as nvidia-pytriton runs it: the function stays in this process.

python -m benchmarks.peers.transformer.serve.triton
"""

from benchmarks.peers.serve.triton import serve
from benchmarks.peers.transformer.serve.network import Network

AT_ONCE = 2

if __name__ == "__main__":
    serve(Network(at_once=AT_ONCE).probabilities)
