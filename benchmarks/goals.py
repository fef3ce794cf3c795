"""Performance goals, and whether the measured figures meet them. Pure: figures in, goals out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.tables import TF_IDF, labels_needed, mean_accuracy

Figures = Mapping[str, Any]
"""A benchmark's name → its figures."""

FRAMEWORKS = ("bentoml", "litserve", "mosec", "mlserver", "rayserve", "triton", "sdk_fair")
"""Peers that serve any model; the goal compares Prelabel with the best of them."""

GPU_ENGINES = ("onnx", "torchscript")
"""The server's engines among the contenders on a GPU."""


@dataclass(frozen=True)
class Goal:
    """`met` is None if the goal was not measured."""

    name: str
    wanted: str
    found: str
    met: bool | None


def goals(figures: Figures) -> list[Goal]:
    found = []
    for name, wanted, rule in RULES:
        try:
            found.append(Goal(name, wanted, *rule(figures)))
        except KeyError:
            found.append(Goal(name, wanted, "not measured", None))
    return found


def _tutorial(figures: Figures) -> tuple[str, bool]:
    peers = figures["peers"]["conv"]
    times = peers["prelabel"]["bulk_tasks_per_s"] / peers["sdk_tutorial"]["bulk_tasks_per_s"]
    return f"{times:.0f} ×", times >= 50


def _framework(figures: Figures) -> tuple[str, bool]:
    peers = figures["peers"]["conv"]
    rates = {
        name: peers[name]["bulk_tasks_per_s"]
        for name in FRAMEWORKS
        if "bulk_tasks_per_s" in peers.get(name, {})
    }
    if not rates:
        raise KeyError("no framework was measured")
    best = max(rates, key=lambda name: rates[name])
    times = peers["prelabel"]["bulk_tasks_per_s"] / rates[best]
    return f"{times:.1f} × {best}", times >= 8


def _ceiling(figures: Figures) -> tuple[str, bool]:
    share = figures["large_request"]["share_of_ceiling"]
    return f"{share:.0%}", share >= 0.85


def _single(figures: Figures) -> tuple[str, bool]:
    return _at_most(figures["scaling"]["clients"][0]["p50_ms"], 2, "ms")


def _engine(figures: Figures) -> tuple[str, bool]:
    return _at_most(figures["engine"]["texts"]["tables"]["us_per_text_all_threads"], 50, "µs")


def _tokenizer(figures: Figures) -> tuple[str, bool]:
    return _at_most(figures["tokenizer"]["microseconds_a_text"]["encode_all"], 25, "µs")


def _interactive(figures: Figures) -> tuple[str, bool]:
    times, p99 = figures["large_request"]["p99_times_idle"], figures["large_request"]["during"]["p99_ms"]
    return f"{times:.1f} ×, {p99:.1f} ms", times <= 3 and p99 <= 15


def _ready(figures: Figures) -> tuple[str, bool]:
    return _at_most(figures["ready"]["seconds_to_health"], 2, "s")


def _file(figures: Figures) -> tuple[str, bool]:
    bulk = figures["bulk"]
    return _at_most(bulk["seconds"] / bulk["reviews"] * 25_000, 5, "s")


def _overload_responses(figures: Figures) -> tuple[str, bool]:
    found = [load[kind] for load in _twice(figures) for kind in ("mixed", "large", "health")]
    wrong, errors = (
        sum(each["wrong"] for each in found),
        sum(each["server_errors"] + sum(each["failed"].values()) for each in found),
    )
    return f"{wrong} wrong, {errors} failed", wrong == errors == 0


def _overload_rejections(figures: Figures) -> tuple[str, bool]:
    return _at_most(max(load["mixed"]["refused"].get("p99_ms", 0.0) for load in _twice(figures)), 50, "ms")


def _overload_health(figures: Figures) -> tuple[str, bool]:
    return _at_most(max(load["health"]["longest_ms"] for load in _twice(figures)), 100, "ms")


def _overload_recovery(figures: Figures) -> tuple[str, bool]:
    return _at_most(max(load["seconds_to_usual"] for load in _twice(figures)), 1, "s")


def _twice(figures: Figures) -> list[Figures]:
    return [load for load in figures["overload"]["loads"] if load["times"] == 2]


def _soak_responses(figures: Figures) -> tuple[str, bool]:
    soak = figures["soak"]
    wrong, failed = soak["wrong"] + soak["wrong_at_the_end"], sum(soak["failed"].values())
    return f"{wrong} wrong, {failed} failed", wrong == failed == 0


def _soak_memory(figures: Figures) -> tuple[str, bool]:
    share = figures["soak"]["rss_growth_after_5_min"]
    return f"{share:.1%}", share < 0.02


def _soak_descriptors(figures: Figures) -> tuple[str, bool]:
    more = {
        name: figures["soak"][name]["end"] - figures["soak"][name]["start"]
        for name in ("descriptors", "threads")
    }
    return ", ".join(f"{count:+d} {name}" for name, count in more.items()), max(more.values()) <= 0


def _gpu_engine(figures: Figures) -> tuple[str, bool]:
    rates = {
        name: max(each["reviews_per_s"].values())
        for name, each in figures["gpu"]["engines"].items()
        if name in GPU_ENGINES and "failed" not in each
    }
    best = max(rates, key=lambda name: rates[name])
    return f"{rates[best]:,.0f}/s ({best})", rates[best] >= 300_000


def _gpu_server(figures: Figures) -> tuple[str, bool]:
    best = max(each["bulk_tasks_per_s"] for each in figures["gpu"]["server"])
    return f"{best:,.0f}/s", best >= 60_000


def _gpu_single(figures: Figures) -> tuple[str, bool]:
    return _at_most(min(each["single_p50_ms"] for each in figures["gpu"]["server"]), 2, "ms")


def _gpu_stalls(figures: Figures) -> tuple[str, bool]:
    found = figures["gpu"]["engines"]["onnx"]["first"]["p99_times_p50"]
    return f"{found:.1f} ×", found <= 3


def _gpu_parity(figures: Figures) -> tuple[str, bool]:
    worst = max(
        each["max_dp"]
        for name, each in figures["gpu"]["engines"].items()
        if name in GPU_ENGINES and "failed" not in each
    )
    return f"{worst:.0e}", worst <= 1e-5


def _lines(figures: Figures) -> list[tuple[str, Figures]]:
    """(point, figures) of each number of labels of each data set."""
    return [
        (f"{each['name']} {line['labels']:,}", line)
        for each in figures["label_efficiency"]["sets"]
        for line in each["lines"]
    ]


def _gains(figures: Figures, key: str) -> dict[str, float]:
    """What the trained model has above the better baseline."""
    return {
        point: line["prelabel train"][key] - max(line[name][key] for name in TF_IDF)
        for point, line in _lines(figures)
    }


def _least_gain(key: str) -> Callable[[Figures], tuple[str, bool]]:
    def rule(figures: Figures) -> tuple[str, bool]:
        gains = _gains(figures, key)
        worst = min(gains, key=lambda point: gains[point])
        return f"{gains[worst]:+.3f} ({worst})", gains[worst] >= -0.005

    return rule


def _mean_gain(figures: Figures) -> tuple[str, bool]:
    accuracy, f1 = (
        sum(gains.values()) / len(gains)
        for gains in (_gains(figures, key) for key in ("accuracy", "macro_f1"))
    )
    return f"{accuracy:+.3f}, {f1:+.3f}", min(accuracy, f1) >= 0.02


def _label_calibration(figures: Figures) -> tuple[str, bool]:
    errors = {
        point: line["prelabel train"]["calibration_error"]
        for point, line in _lines(figures)
        if line["labels"] >= 100
    }
    if not errors:
        raise KeyError("fewer labels only")
    worst = max(errors, key=lambda point: errors[point])
    met = sum(error <= 0.05 for error in errors.values())
    return f"{errors[worst]:.3f} ({worst}); {met} of {len(errors)} met", errors[worst] <= 0.05


def _fit_time(figures: Figures) -> tuple[str, bool]:
    seconds = {
        point: line["prelabel train"]["seconds"] for point, line in _lines(figures) if line["labels"] <= 500
    }
    worst = max(seconds, key=lambda point: seconds[point])
    return f"{seconds[worst]:.1f} s ({worst})", seconds[worst] <= 20


def _projects(figures: Figures, *, start: bool) -> list[Figures]:
    """The simulated projects that start from a bundle, or from nothing."""
    found = [each for each in figures["active_learning"]["sets"] if bool(each["start"]) is start]
    if not found:
        raise KeyError("none was simulated")
    return found


def _fewer_labels(figures: Figures) -> tuple[str, bool]:
    needed = {each["name"]: labels_needed(each)["diverse"] for each in _projects(figures, start=False)}
    found = ", ".join(f"{name} {labels or 'more'}" for name, labels in needed.items())
    return found, all(labels is not None and labels <= 300 for labels in needed.values())


def _above_random(figures: Figures) -> tuple[str, bool]:
    gains = {}
    for each in _projects(figures, start=False):
        diverse, random = (
            sum(mean_accuracy(each["labels"], draw) for draw in each["accuracy"][order])
            for order in ("diverse", "random")
        )
        gains[each["name"]] = (diverse - random) / each["draws"]
    return ", ".join(f"{name} {gain:+.3f}" for name, gain in gains.items()), min(gains.values()) > 0


def _never_worse(figures: Figures) -> tuple[str, bool]:
    sets = figures["active_learning"]["sets"]
    worst = min(sets, key=lambda each: each["steps"]["worst"])
    number = sum(each["steps"]["number"] for each in sets)
    found = f"worst step {worst['steps']['worst']:+.3f} ({worst['name']}) of {number}"
    return found, all(each["steps"]["p"] >= 0.05 for each in sets)


def _good_from_the_start(figures: Figures) -> tuple[str, bool]:
    worst = {
        each["name"]: min(min(draw) for draws in each["accuracy"].values() for draw in draws)
        for each in _projects(figures, start=True)
    }
    return ", ".join(f"{name} {least:.3f}" for name, least in worst.items()), min(worst.values()) >= 0.9


def _at_most(found: float, wanted: float, unit: str) -> tuple[str, bool]:
    return f"{found:.3g} {unit}", found <= wanted


RULES: tuple[tuple[str, str, Callable[[Figures], tuple[str, bool]]], ...] = (
    ("Large requests: throughput, times the class of Label Studio's tutorial", "≥ 50 ×", _tutorial),
    ("Large requests: throughput, times the best general serving framework", "≥ 8 ×", _framework),
    ("Large requests: throughput, share of the same work without a server", "≥ 85 %", _ceiling),
    ("Single task: latency, p50", "≤ 2 ms", _single),
    ("Engine: a review, all threads", "≤ 50 µs", _engine),
    ("Tokenizer: a review", "≤ 25 µs", _tokenizer),
    ("Single task during a large request: latency, p99", "≤ 3 × idle, ≤ 15 ms", _interactive),
    ("Start: time to ready", "≤ 2 s", _ready),
    ("Overload at twice the capacity: wrong responses, errors, lost connections", "0", _overload_responses),
    ("Overload at twice the capacity: time to a 429, p99", "≤ 50 ms", _overload_rejections),
    ("Overload at twice the capacity: /health, maximum", "≤ 100 ms", _overload_health),
    ("Overload at twice the capacity: time to recover", "≤ 1 s", _overload_recovery),
    ("Soak test of 30 minutes: wrong responses, failures", "0", _soak_responses),
    ("Soak test of 30 minutes: growth of memory after the warm-up", "< 2 %", _soak_memory),
    ("Soak test of 30 minutes: growth of descriptors and threads", "0", _soak_descriptors),
    ("GPU engine: reviews per second", "≥ 300,000", _gpu_engine),
    ("GPU server with 16 cores, large requests: throughput", "≥ 60,000/s", _gpu_server),
    ("GPU server, single task: latency, p50", "≤ 2 ms", _gpu_single),
    ("GPU engine, first call at a length: p99 ÷ p50", "≤ 3 ×", _gpu_stalls),
    ("GPU engines: |Δp| to the CPU", "≤ 1e-5", _gpu_parity),
    ("Training: accuracy above the better TF-IDF baseline, lowest", "≥ -0.005", _least_gain("accuracy")),
    ("Training: macro F1 above the better TF-IDF baseline, lowest", "≥ -0.005", _least_gain("macro_f1")),
    ("Training: accuracy and macro F1 above the better TF-IDF baseline, mean", "≥ +0.02", _mean_gain),
    ("Training: calibration error from 100 labels on, highest", "≤ 0.05", _label_calibration),
    ("Training: time to fit up to 500 labels", "≤ 20 s", _fit_time),
    (
        "Learning: annotations in the order diverse for the accuracy of 500 random ones",
        "≤ 300",
        _fewer_labels,
    ),
    ("Learning: mean of the curve above that of a random order", "> 0", _above_random),
    ("Learning: accepted models on fresh texts", "none worse by more than noise", _never_worse),
    (
        "Learning: accuracy of a project that starts from a fitting bundle, lowest",
        "≥ 0.9",
        _good_from_the_start,
    ),
    ("`prelabel predict` of 25,000 reviews", "≤ 5 s", _file),
)
