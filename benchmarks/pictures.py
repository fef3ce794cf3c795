"""The report's pictures (PNG): each function draws one from the saved figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import TF_IDF
from server.evaluate.plots import BLUE, GREY, ORANGE, new_figure, save

Figures = Mapping[str, Any]
"""A benchmark's name → its figures."""

STAGES = {
    "parse": "#2f6db3",
    "tokenize": "#6ea3d8",
    "queue": "#8a8a8a",
    "engine": "#d9762b",
    "results": "#e8ac7d",
    "write": "#5b8f5b",
}


def engines(figures: Figures, path: Path) -> None:
    """Microseconds per text of each engine; dashed lines show the time of the look-ups alone."""
    texts = figures["engine"]["texts"]
    canvas = new_figure(9, 2 + 0.55 * len(texts))
    axes = canvas.subplots()
    _pairs(
        axes,
        list(texts),
        {
            "one thread": [each["us_per_text_one_thread"] for each in texts.values()],
            f"all threads ({figures['engine'].get('threads', '?')})": [
                each["us_per_text_all_threads"] for each in texts.values()
            ],
        },
        "{:,.0f} µs",
    )
    for style, (level, each) in zip(
        ("-.", "--", ":"), figures.get("bandwidth", {}).get("levels", {}).items(), strict=False
    ):
        limit = each["us_per_review_int16"]
        axes.axvline(
            limit,
            color="black",
            linestyle=style,
            linewidth=1,
            label=f"look-ups in {level}: {limit:,.0f} µs",
        )
    axes.set(
        xlabel="µs per text, logarithmic (lower is better)",
        title="Engines, and the int16 look-ups of one thread if all tables were in one level",
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    save(canvas, path)


def gpu(figures: Figures, path: Path) -> None:
    """On one GPU: reviews per second of each contender with two concurrent calls, and the longest first call
    of a length.
    """
    found = {name: each for name, each in figures["gpu"]["engines"].items() if "failed" not in each}
    names = sorted(found, key=lambda name: -found[name]["reviews_per_s"]["2"])
    canvas = new_figure(11, 1.8 + 0.5 * len(names))
    rate, wait = canvas.subplots(1, 2, sharey=True)
    _pairs(rate, names, {"two calls": [found[name]["reviews_per_s"]["2"] for name in names]}, "{:,.0f}")
    rate.set(xlabel="reviews per second, logarithmic (higher is better)", title=figures["gpu"]["device"])
    _pairs(
        wait,
        names,
        {key: [found[name]["first"][f"{key}_ms"] for name in names] for key in ("p50", "longest")},
        "{:,.1f} ms",
    )
    wait.set(
        xlabel="ms of a call with one row, logarithmic (lower is better)",
        title="First call of a length",
    )
    wait.legend(loc="lower right")
    save(canvas, path)


def peers(figures: Figures, path: Path) -> None:
    """Tasks per second in large requests, for each peer and each form of the model; the fastest on top."""
    models: Figures = figures["peers"]
    rates = {
        model: {name: each["bulk_tasks_per_s"] for name, each in table.items() if "failed" not in each}
        for model, table in models.items()
    }
    names = sorted(
        {name for each in rates.values() for name in each},
        key=lambda name: -max(each.get(name, 0) for each in rates.values()),
    )
    canvas = new_figure(9, 1.8 + 0.5 * len(names))
    axes = canvas.subplots()
    _pairs(
        axes,
        names,
        {f"model {model}": [each.get(name, 0) for name in names] for model, each in rates.items()},
        "{:,.0f}",
    )
    axes.set(xlabel="tasks per second, logarithmic (higher is better)", title="Large requests")
    axes.legend(loc="lower right")
    save(canvas, path)


def latency(figures: Figures, path: Path) -> None:
    """Latency of single tasks by load."""
    found = figures["latency"]
    canvas = new_figure(7, 4.5)
    axes = canvas.subplots()
    shares = [load["share"] * 100 for load in found["loads"]]
    for key, name, color in (
        ("p50_ms", "p50", BLUE),
        ("p99_ms", "p99", ORANGE),
        ("longest_ms", "max", GREY),
    ):
        axes.plot(shares, [load[key] for load in found["loads"]], "o-", color=color, label=name)
    axes.set(
        xlabel=f"load, % of {found['capacity_per_s']:,.0f} single tasks per second",
        ylabel="latency in ms, logarithmic",
        yscale="log",
        title="Latency by load",
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(0, 100)
    axes.legend()
    save(canvas, path)


def stage_breakdown(figures: Figures, path: Path) -> None:
    """Stages of a task in a large request and of a single task; their lengths are times.

    Micro-batches of a large request run concurrently, so its stages are the work of several threads. Its
    queue is left out: while one text waits, others are processed.
    """
    canvas = new_figure(9, 4)
    for axes, key in zip(canvas.subplots(2, 1), ("large", "single"), strict=True):
        found = figures["stage_breakdown"][key]
        left = 0.0
        for stage, us in found["us_per_task"].items():
            if key == "large" and stage == "queue":
                continue
            axes.barh([0], [us], left=left, color=STAGES.get(stage), label=stage)
            left += us
        axes.axvline(
            found["wall_us"], color="black", linestyle="--", linewidth=1, label="client's wall clock"
        )
        axes.set(
            xlabel="µs per task",
            title="a single task"
            if key == "single"
            else f"a request of {found['tasks']:,} tasks: work of all threads",
        )
        axes.set_yticks([])
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    save(canvas, path)


def scaling(figures: Figures, path: Path) -> None:
    """Throughput by clients, tasks per request, tokens per text and workers."""
    found = figures["scaling"]
    canvas = new_figure(11, 7)
    plots = canvas.subplots(2, 2).flat
    for axes, (key, by, rate, what) in zip(
        plots,
        (
            ("clients", "clients", "requests_per_s", "single tasks per second"),
            ("tasks", "tasks_per_request", "tasks_per_s", "tasks per second"),
            ("lengths", "tokens", "tasks_per_s", "tasks per second"),
        ),
        strict=False,
    ):
        x = [line[by] for line in found[key]]
        axes.plot(x, [line[rate] for line in found[key]], "o-", color=BLUE)
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [f"{each:,}" for each in x], rotation=45)
        axes.set_xticks([], minor=True)
        axes.set(
            xlabel={
                "clients": "concurrent clients",
                "tasks": "tasks per request",
                "lengths": "tokens per text",
            }[key],
            ylabel=what,
        )
        axes.set_ylim(bottom=0)
    axes = canvas.axes[3]
    workers = found["workers"]
    names = [str(line["workers"]) for line in workers]
    axes.plot(
        names,
        [line["bulk_tasks_per_s"] for line in workers],
        "o-",
        color=BLUE,
        label="tasks per second, large requests",
    )
    axes.plot(
        names,
        [line["singles_per_s"] for line in workers],
        "o-",
        color=ORANGE,
        label="single tasks per second",
    )
    axes.set(xlabel="workers", ylabel="tasks per second")
    axes.set_ylim(bottom=0)
    axes.legend()
    save(canvas, path)


def label_efficiency(figures: Figures, path: Path) -> None:
    """Accuracy on test texts by the number of labels, one panel for each data set."""
    sets = figures["label_efficiency"]["sets"]
    canvas = new_figure(3.6 * len(sets), 3.8)
    panels = canvas.subplots(1, len(sets), squeeze=False)[0]
    for axes, found in zip(panels, sets, strict=True):
        lines = found["lines"]
        labels = [line["labels"] for line in lines]
        for name, color in (("prelabel train", BLUE), *zip(TF_IDF, (ORANGE, GREY), strict=True)):
            axes.plot(labels, [line[name]["accuracy"] for line in lines], "o-", color=color, label=name)
        axes.set_xscale("log")
        axes.set_xticks(labels, [f"{each:,}" for each in labels], rotation=45)
        axes.set_xticks([], minor=True)
        axes.set(xlabel="labelled texts", title=found["name"])
    panels[0].set_ylabel("accuracy")
    panels[-1].legend(loc="lower right")
    save(canvas, path)


def active_learning(figures: Figures, path: Path) -> None:
    """Accuracy of the served model by annotations, for each order: the mean of the draws, and a band from the
    worst to the best. One panel for each data set.
    """
    sets = figures["active_learning"]["sets"]
    canvas = new_figure(3.6 * len(sets), 3.8)
    panels = canvas.subplots(1, len(sets), squeeze=False)[0]
    for axes, found in zip(panels, sets, strict=True):
        for (order, draws), color in zip(found["accuracy"].items(), (BLUE, ORANGE, GREY), strict=True):
            values = np.array(draws)
            axes.plot(found["labels"], values.mean(axis=0), color=color, label=order)
            axes.fill_between(
                found["labels"], values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0
            )
        start = f"from {found['start']}" if found["start"] else "without a model"
        axes.set(xlabel="annotations", title=f"{found['name']}\n{start}")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on test texts")
    panels[0].legend(loc="lower right")
    save(canvas, path)


def _pairs(axes: Any, names: Sequence[str], series: Mapping[str, Sequence[float]], form: str) -> None:
    """Grouped horizontal bars with their values as labels in the given `form`; zeros are left out."""
    height = 0.8 / len(series)
    for number, ((name, values), color) in enumerate(zip(series.items(), (BLUE, ORANGE, GREY), strict=False)):
        positions = np.arange(len(names)) + (number - (len(series) - 1) / 2) * height
        present = [(y, value) for y, value in zip(positions, values, strict=True) if value > 0]
        bars = axes.barh(
            [y for y, _ in present],
            [value for _, value in present],
            height=height,
            color=color,
            label=name,
        )
        axes.bar_label(bars, labels=[form.format(value) for _, value in present], padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    # a bar has no start on a logarithmic axis; leave room for the label of the longest
    shown = [value for values in series.values() for value in values if value > 0]
    axes.set_xlim(min(shown) / 4, max(shown) * 2.5)
