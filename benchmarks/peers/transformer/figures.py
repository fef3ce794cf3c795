"""Measurements of the peers with a transformer as figures, goals and a table. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.goals import Goal
from benchmarks.load_result import quantile
from benchmarks.peers.plan import Measurement
from benchmarks.peers.protocols import Answer
from benchmarks.peers.transformer.peer_list import FLOAT32, TransformerPeer
from server.engines.onnx_transformer import GROUP_TOKENS, groups

Figures = dict[str, Any]

MIXES = ("short", "long", "mixed")

OURS, OURS_INT8 = "prelabel", "prelabel_int8"

PIPELINES = ("pipeline", "pipeline_1")

LOOPS = ("onnx_loop", "onnx_loop_1")


@dataclass(frozen=True)
class Expected:
    """What the model says in eager torch, by text: the probability of each label, and the text's tokens."""

    labels: Sequence[str]
    probabilities: Mapping[str, Sequence[float]]
    tokens: Mapping[str, int]

    def difference(self, text: str, answer: Answer) -> float:
        label, probability = answer
        return abs(self.probabilities[text][self.labels.index(label)] - probability)

    def label(self, text: str) -> str:
        row = self.probabilities[text]
        return self.labels[max(range(len(row)), key=row.__getitem__)]


@dataclass
class Rounds:
    """One peer's measurements by mix, its answers to labelled texts, the tokens of its queue's bulk batches
    (`used` with padding, `needed` without) by mix if it counts them; a `failure` ends them.
    """

    measured: dict[str, list[Measurement]] = field(default_factory=dict)
    labelled: list[Answer] = field(default_factory=list)
    used: dict[str, float] = field(default_factory=dict)
    needed: dict[str, float] = field(default_factory=dict)
    failure: str = ""


def figures_of(
    peer: TransformerPeer,
    rounds: Rounds,
    mixes: Mapping[str, Sequence[str]],
    labelled: Sequence[tuple[str, str]],
    expected: Expected,
) -> Figures:
    if rounds.failure:
        return {"failed": rounds.failure}
    answers = [
        pair
        for mix, texts in mixes.items()
        for measured in rounds.measured[mix]
        for pair in zip(texts, answers_of(peer, measured, expected.labels), strict=True)
    ]
    answers += [(text, answer) for (text, _), answer in zip(labelled, rounds.labelled, strict=False)]
    found = {text: answer[0] for text, answer in answers}
    right = [found[text] == label for text, label in labelled if text in found]
    of_mixes = {mix: mix_figures(measured) for mix, measured in rounds.measured.items()}
    for mix, texts in mixes.items():
        of_mixes[mix]["padding"] = padding_of(peer, [expected.tokens[text] for text in texts])
        if rounds.needed.get(mix):
            of_mixes[mix]["queue_padding"] = rounds.used[mix] / rounds.needed[mix] - 1
    return {
        "mixes": of_mixes,
        "max_dp": max(expected.difference(text, answer) for text, answer in answers),
        "same_label": statistics.mean(answer[0] == expected.label(text) for text, answer in answers),
        "accuracy": statistics.mean(right),
        "accuracy_texts": len(right),
        "precision": peer.precision,
        "reference": peer.reference,
        "own_function": peer.own,
        "version": peer.version(),
        "settings": peer.settings,
    }


def answers_of(peer: TransformerPeer, measured: Measurement, labels: Sequence[str]) -> list[Answer]:
    return [answer for body in measured.answers for answer in peer.protocol.answers(body.encode(), labels)]


def mix_figures(rounds: Sequence[Measurement]) -> Figures:
    many = [each for measured in rounds for each in measured.clients16_seconds]
    found: Figures = {
        "texts_per_s": statistics.median(each.bulk_tasks_per_s for each in rounds),
        "single_p50_ms": statistics.median(statistics.median(each.single_seconds) for each in rounds) * 1000,
    }
    if many:
        found |= {
            "clients16_texts_per_s": statistics.median(each.clients16_requests_per_s for each in rounds),
            "clients16_p50_ms": quantile(many, 0.5) * 1000,
            "clients16_p99_ms": quantile(many, 0.99) * 1000,
        }
    return found


def padding_of(peer: TransformerPeer, tokens: Sequence[int]) -> float | None:
    """Padded tokens / tokens - 1 of a large request of texts with these tokens; None if it is not known. The
    batches of Prelabel's queue are run in groups, which are taken from its engine.
    """
    lengths = np.array(sorted(tokens) if "--sort" in peer.program else tokens, dtype=np.int32)
    if peer.name == OURS:
        of_engine = groups(lengths, GROUP_TOKENS)
    elif peer.batch:
        of_engine = iter(np.split(np.arange(len(tokens)), range(peer.batch, len(tokens), peer.batch)))
    else:
        return None
    padded = sum(len(group) * int(lengths[group].max()) for group in of_engine)
    return padded / int(lengths.sum()) - 1


def goals(figures: Mapping[str, Figures], expected_accuracy: float) -> list[Goal]:
    found = []
    for name, wanted, rule in RULES:
        try:
            found.append(Goal(name, wanted, *rule(figures, expected_accuracy)))
        except (KeyError, ValueError):
            found.append(Goal(name, wanted, "not measured", None))
    return found


def best_of(figures: Mapping[str, Figures], names: Sequence[str], mix: str) -> str:
    """The one with the most texts a second. Raises ValueError if none was measured."""
    return max(
        (name for name in names if "mixes" in figures.get(name, {})),
        key=lambda name: float(figures[name]["mixes"][mix]["texts_per_s"]),
    )


def _throughput(figures: Mapping[str, Figures], accuracy: float) -> tuple[str, bool]:  # noqa: ARG001 - rules have one shape
    peers = [name for name, each in figures.items() if name != OURS and each.get("precision") == FLOAT32]
    best = best_of(figures, peers, "mixed")
    times = _rate(figures, OURS) / _rate(figures, best)
    found = f"{times:.2f} × {best}"
    with_own = [name for name in peers if figures[name]["own_function"] and not figures[name]["reference"]]
    if with_own and best not in with_own:
        other = best_of(figures, with_own, "mixed")
        found += f" ({_rate(figures, OURS) / _rate(figures, other):.2f} × {other})"
    return found, times >= 1.5


def _int8(figures: Mapping[str, Figures], accuracy: float) -> tuple[str, bool]:
    best = best_of(figures, PIPELINES, "mixed")
    times = _rate(figures, OURS_INT8) / _rate(figures, best)
    points = (accuracy - figures[OURS_INT8]["accuracy"]) * 100
    return f"{times:.2f} × {best}, {points:+.2f} points lost", times >= 4 and points <= 0.5


def _padding(figures: Mapping[str, Figures], accuracy: float) -> tuple[str, bool]:  # noqa: ARG001 - the same
    mixes = figures[OURS]["mixes"]
    shares = {mix: each["padding"] for mix, each in mixes.items() if each["padding"] is not None}
    mix = max(shares, key=lambda each: float(shares[each]))
    return f"{shares[mix]:.1%} ({mix})", shares[mix] <= 0.10


def _single(figures: Mapping[str, Figures], accuracy: float) -> tuple[str, bool]:  # noqa: ARG001 - the same
    times = {
        mix: figures[OURS]["mixes"][mix]["single_p50_ms"]
        / min(figures[name]["mixes"][mix]["single_p50_ms"] for name in LOOPS)
        for mix in MIXES
    }
    mix = max(times, key=lambda each: times[each])
    return f"{times[mix]:.2f} × ({mix})", times[mix] <= 1.2


def _rate(figures: Mapping[str, Figures], name: str) -> float:
    return float(figures[name]["mixes"]["mixed"]["texts_per_s"])


RULES = (
    ("mixed lengths, float32, texts/s", ">= 1.5 × the best peer", _throughput),
    ("mixed lengths, int8, texts/s", ">= 4 × transformers, <= 0.5 points lost", _int8),
    ("padding, worst mix", "<= 10 %", _padding),
    ("one text after another, p50, worst mix", "<= 1.2 × the faster ONNX Runtime loop", _single),
)


def table_of(figures: Mapping[str, Figures], title: str) -> Table:
    columns = ("short", "long", "mixed", "p50 short", "p50 long", "16: p50", "p99", "max |Δp|", "accuracy")
    table = Table("", *columns, "padding", "version", "settings", title=title)
    for name, each in figures.items():
        if "failed" in each:
            table.add_row(name, *["–"] * len(columns), "–", "–", f"failed: {each['failed']}")
            continue
        mixes = each["mixes"]
        table.add_row(
            name,
            *(f"{mixes[mix]['texts_per_s']:,.1f}" for mix in MIXES),
            *(f"{mixes[mix]['single_p50_ms']:.1f}" for mix in ("short", "long")),
            *(number(mixes["mixed"].get(f"clients16_{key}_ms"), ",.0f") for key in ("p50", "p99")),
            f"{each['max_dp']:.0e}",
            f"{each['accuracy']:.1%}",
            number(mixes["mixed"]["padding"], ".1%"),
            each["version"],
            each["settings"],
        )
    return table


def number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
