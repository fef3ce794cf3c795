"""A peer without a server: a plan in, a measurement out, as `benchmarks.peers.client` measures a server.

    python -m benchmarks.peers.transformer.inprocess KIND [--batch 1] [--threads 0] [--sort] < PLAN.json

Runs in the peer's environment. KIND is `transformers` (a pipeline of torch), `optimum` (the same pipeline on
ONNX Runtime) or `onnx` (ONNX Runtime in a loop). Threads are those of one model call; 0 is the library's
default. The plan's bodies are those of the `IN_PROCESS` protocol. There are no 16 clients.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.peers.plan import WARM_UP, Measurement, Plan

Answers = list[tuple[str, float]]

Classify = Callable[[Sequence[str]], Answers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--sort", action="store_true", help="by length within a request")
    args = parser.parse_args()
    plan = Plan(**json.load(sys.stdin))
    classify = KINDS[args.kind](Path(os.environ["PEER_MODEL"]), args.batch, args.threads)
    print(measure(by_length(classify) if args.sort else classify, plan).to_json())  # noqa: T201


def measure(classify: Classify, plan: Plan) -> Measurement:
    bulk, single = ([json.loads(body)["texts"] for body in bodies] for bodies in (plan.bulk, plan.single))
    answers = [classify(texts) for texts in bulk]
    large = in_sequence(classify, cycle(bulk), plan.seconds, plan.least_bulk)
    for texts in single[:WARM_UP]:
        classify(texts)
    singles = in_sequence(classify, cycle(single), plan.seconds, plan.least_single) if single else []
    return Measurement(
        bulk_tasks_per_s=len(large) * plan.tasks / sum(large) if large else 0,
        single_seconds=singles,
        clients16_requests_per_s=0,
        answers=[json.dumps(answer) for answer in answers],
        clients16_seconds=[],
    )


def in_sequence(classify: Classify, requests: Iterator[list[str]], seconds: float, least: int) -> list[float]:
    each: list[float] = []
    while sum(each) < seconds or len(each) < least:
        start = time.perf_counter()
        classify(next(requests))
        each.append(time.perf_counter() - start)
    return each


def by_length(classify: Classify) -> Classify:
    def sorted_first(texts: Sequence[str]) -> Answers:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = dict(zip(order, classify([texts[i] for i in order]), strict=True))
        return [found[i] for i in range(len(texts))]

    return sorted_first


def transformers(folder: Path, batch: int, threads: int) -> Classify:
    import torch
    from transformers import pipeline

    if threads:
        torch.set_num_threads(threads)
    model = str(folder / "hf")
    return of_pipeline(pipeline("text-classification", model=model, tokenizer=model, device="cpu"), batch)


def optimum(folder: Path, batch: int, threads: int) -> Classify:
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    options = SessionOptions()
    options.intra_op_num_threads = threads
    model = ORTModelForSequenceClassification.from_pretrained(folder / "onnx", session_options=options)
    tokenizer = AutoTokenizer.from_pretrained(folder / "onnx")
    return of_pipeline(pipeline("text-classification", model=model, tokenizer=tokenizer), batch)


def of_pipeline(classifier: Any, batch: int) -> Classify:
    def classify(texts: Sequence[str]) -> Answers:
        return [
            (each["label"], each["score"])
            for each in classifier(list(texts), truncation=True, batch_size=batch)
        ]

    return classify


def onnx(folder: Path, batch: int, threads: int) -> Classify:  # noqa: ARG001 - $PEER_MODEL is the folder
    from benchmarks.peers.transformer.serve.network import Network

    network = Network(threads=threads)

    def classify(texts: Sequence[str]) -> Answers:
        return [
            max(zip(network.labels, row, strict=True), key=lambda each: each[1])
            for row in network.in_batches(texts, batch)
        ]

    return classify


KINDS: dict[str, Callable[[Path, int, int], Classify]] = {
    "transformers": transformers,
    "optimum": optimum,
    "onnx": onnx,
}


if __name__ == "__main__":
    main()
