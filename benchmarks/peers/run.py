"""Prelabel compared with other serving frameworks on the same network: throughput and latency.

    .venv/dev/bin/python -m benchmarks.peers.run [REVIEWS.csv] [--rounds 3] [--only a,b]
                                                 [--model conv|folded|both]
                                                 [--quick]

`make peers` builds the peers' environments first. One server runs at a time and is started again for each
round; rounds are interleaved over the peers. Every peer gets its own protocol's JSON from the same client
program (`benchmarks/peers/client.py`): requests of 100 tasks one after another, single tasks one after
another, and single tasks from 16 clients. Rates and p50 are medians over rounds, p99 is over the single tasks
of all rounds. |Δp| is the largest difference to Prelabel's engine in the probability of the peer's label.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import results
from benchmarks.peers.models import MODELS, write_model
from benchmarks.peers.peer_list import PEERS, Peer
from benchmarks.peers.plan import Measurement, Plan
from benchmarks.peers.protocols import Answer
from benchmarks.peers.servers import PeerFailed, measured, serving
from benchmarks.texts import arguments, texts_of
from server.arrays import Floats
from server.bundle import Bundle, read_bundle
from server.engines.base import pad
from server.engines.factory import open_engine
from server.models.tokenizer import Tokenizer

Figures = dict[str, Any]


@dataclass(frozen=True)
class Size:
    tasks: int
    """Tasks in a large request."""
    requests: int
    """Number of different large requests."""
    seconds: float
    """Seconds of each of the three measurements of a round."""
    rounds: int


DEFAULT = Size(tasks=100, requests=3, seconds=1.5, rounds=3)
QUICK = Size(tasks=5, requests=1, seconds=0.1, rounds=1)


@dataclass
class Rounds:
    """Measurements of one peer with one model; a `failure` ends them."""

    measured: list[Measurement] = field(default_factory=list)
    failure: str = ""


def main(words: Sequence[str] | None = None) -> None:
    args = options(words)
    size = QUICK if args.quick else DEFAULT
    rounds = args.rounds or size.rounds
    bundle = read_bundle(args.bundle)
    texts = texts_of(args.reviews, size.tasks * size.requests)
    models = MODELS if args.model == "both" else (args.model,)
    peers = [peer for peer in PEERS if not args.only or peer.name in args.only]
    found: dict[tuple[str, str], Rounds] = {}
    with TemporaryDirectory(prefix="peers-") as home:
        folders = {model: Path(home) / model for model in models}
        for model, folder in folders.items():
            folder.mkdir()
            write_model(bundle, model, folder)
        runs = [
            (peer, model)
            for _ in range(rounds)
            for model in models
            for peer in peers
            if model in (peer.models or models[:1])
        ]
        for peer, model in track(runs, "Peers", console=Console(stderr=True), disable=args.quick):
            rounds_of_peer = found.setdefault((peer.name, model), Rounds())
            if not rounds_of_peer.failure:
                try:
                    rounds_of_peer.measured.append(one_round(peer, folders[model], bundle, texts, size))
                except PeerFailed as error:
                    rounds_of_peer.failure = str(error)
    expected = expected_probabilities(bundle, texts)
    tables = {
        model: {
            peer.name: figures_of(peer, found[key], bundle, expected)
            for peer in peers
            if (key := key_of(peer, model, models)) in found
        }
        for model in models
    }
    for model, figures in tables.items():
        Console(width=150).print(table_of(model, figures, f"{len(texts):,} texts, {rounds} rounds"))
    results.write("peers", tables)


def options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int)
    parser.add_argument(
        "--only",
        type=lambda names: names.split(","),
        default=[],
        help="only these of: " + ", ".join(peer.name for peer in PEERS),
    )
    parser.add_argument("--model", choices=(*MODELS, "both"), default="both")
    parser.add_argument(
        "--quick", action="store_true", help="a few texts and one short round, to see that everything works"
    )
    args = parser.parse_args(words)
    if unknown := set(args.only) - {peer.name for peer in PEERS}:
        parser.error(
            f"--only {','.join(sorted(unknown))}: no such peer; the peers are "
            f"{', '.join(peer.name for peer in PEERS)}"
        )
    return args


def key_of(peer: Peer, model: str, models: Sequence[str]) -> tuple[str, str]:
    """A peer with its own model is measured with the first model and stands in every table."""
    return peer.name, model if peer.models else models[0]


def one_round(peer: Peer, folder: Path, bundle: Bundle, texts: list[str], size: Size) -> Measurement:
    """Raises PeerFailed."""
    if not peer.ready():
        raise PeerFailed("its environment does not exist: run `make peers`")
    bodies = [
        peer.protocol.body(texts[i : i + size.tasks]).decode() for i in range(0, len(texts), size.tasks)
    ]
    single = [peer.protocol.body([text]).decode() for text in texts[: size.tasks]]
    program = "client" if peer.command else "inprocess"
    with serving(peer, folder, bundle.path.resolve()) if peer.command else nullcontext(0) as port:
        plan = Plan(
            port=port, path=peer.path, bulk=bodies, single=single, tasks=size.tasks, seconds=size.seconds
        )
        command = [sys.executable, "-m", f"benchmarks.peers.{program}"]
        return measured(command, plan, os.environ | {"PEER_MODEL": str(folder)})


def expected_probabilities(bundle: Bundle, texts: list[str]) -> Floats:
    engine, rows = open_engine(bundle, device="cpu"), Tokenizer.of(bundle).encode_all(texts)
    return engine.run(*pad(rows, max(map(len, rows))))


def figures_of(peer: Peer, rounds: Rounds, bundle: Bundle, probabilities: Floats) -> Figures:
    if rounds.failure:
        return {"failed": rounds.failure}
    answers = [answer for measured in rounds.measured for answer in answers_of(peer, measured, bundle)]
    expected = np.tile(probabilities, (len(rounds.measured), 1))
    chosen = [bundle.labels.index(label) for label, _ in answers]
    differences = np.abs(
        expected[np.arange(len(answers)), chosen] - [probability for _, probability in answers]
    )
    singles = sorted(each for measured in rounds.measured for each in measured.single_seconds)
    return {
        "bulk_tasks_per_s": statistics.median(each.bulk_tasks_per_s for each in rounds.measured),
        "single_p50_ms": statistics.median(statistics.median(each.single_seconds) for each in rounds.measured)
        * 1000,
        "single_p99_ms": singles[int(len(singles) * 0.99)] * 1000,
        "clients16_requests_per_s": statistics.median(
            each.clients16_requests_per_s for each in rounds.measured
        ),
        "max_dp": float(differences.max()),
        "same_label": float(np.mean(expected.argmax(axis=1) == chosen)),
        "version": peer.version(),
        "settings": peer.settings,
    }


def answers_of(peer: Peer, measured: Measurement, bundle: Bundle) -> list[Answer]:
    return [
        answer for body in measured.answers for answer in peer.protocol.answers(body.encode(), bundle.labels)
    ]


def table_of(model: str, peers: dict[str, Figures], title: str) -> Table:
    columns = (
        "",
        "bulk tasks/s",
        "single p50 ms",
        "p99 ms",
        "16 clients requests/s",
        "max |Δp|",
        "same label",
        "version",
        "settings",
    )
    table = Table(*columns, title=f"{model}: {title}")
    for name, each in peers.items():
        if "failed" in each:
            table.add_row(name, *["–"] * 7, f"failed: {each['failed']}")
            continue
        rates = (
            f"{each['bulk_tasks_per_s']:,.0f}",
            f"{each['single_p50_ms']:.2f}",
            f"{each['single_p99_ms']:.2f}",
            f"{each['clients16_requests_per_s']:,.0f}",
        )
        table.add_row(
            name,
            *rates,
            f"{each['max_dp']:.0e}",
            f"{each['same_label']:.1%}",
            each["version"],
            each["settings"],
        )
    return table


if __name__ == "__main__":
    main()
