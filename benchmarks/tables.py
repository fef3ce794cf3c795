"""The report's tables: each function turns one benchmark's figures into Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

Figures = Mapping[str, Any]
"""The figures of one benchmark, as saved."""

TF_IDF = "TF-IDF words", "TF-IDF characters"
"""The baselines of the label efficiency."""

WITH_ENCODER = "prelabel train --sentence-encoder"
OF_EMBEDDINGS = "embeddings, logistic regression", "embeddings, balanced logistic regression"
"""The same with a sentence encoder, where one was given."""


def engine(figures: Figures) -> str:
    texts, grid = figures["texts"], figures["grid"]
    headings = {
        "name": "engine",
        "us_per_text_one_thread": "µs per text, one thread",
        "us_per_text_all_threads": "all threads",
        "max_dp": "max |Δp| to onnx",
    }
    names = list(dict.fromkeys(line["engine"] for line in grid))
    cells = {(line["tokens"], line["rows"], line["engine"]): line["us_per_row"] for line in grid}
    sizes = dict.fromkeys((tokens, rows) for tokens, rows, _ in cells)
    parts = [
        lines(headings, ({"name": name, **each} for name, each in texts.items())),
        (
            f"engine=tables on all threads is {number(figures['times_tutorial'])} times as fast as the "
            "tutorial's "
            "loop with its better number of threads."
        ),
        "Microseconds per row, one thread:",
        table(
            ("tokens × rows per call", *names),
            (
                (f"{tokens:,} × {rows}", *(cells.get((tokens, rows, name), "–") for name in names))
                for tokens, rows in sizes
            ),
        ),
    ]
    return "\n\n".join(parts)


ON_GPU = {
    "name": "contender",
    "open_s": "s to open",
    "memory_mb": "MB",
    "first_p50": "one row: p50 ms",
    "first_p99": "p99",
    "first_longest": "max",
    "ratio": "p99 ÷ p50, repeated",
    "rate1": "reviews/s, 1 call",
    "rate2": "2 calls",
    "rate3": "3 calls",
    "max_dp": "max |Δp| to the CPU",
}


def gpu(figures: Figures) -> str:
    server = {
        "engine": "server",
        "workers": "workers",
        "bulk_tasks_per_s": "tasks/s, large requests",
        "single_p50_ms": "single task: p50 ms",
        "single_p99_ms": "p99 ms",
    }
    names = list(dict.fromkeys(name for rates in figures["sizes"].values() for name in rates))
    parts = [
        f"{figures['device']}, {figures['texts']:,} reviews of {figures['tokens']:.0f} tokens on average.",
        *_contenders(figures, ON_GPU),
        table(
            ("padded tokens per call", *(f"{name}, reviews/s" for name in names)),
            (
                (f"{int(tokens):,}", *(rates.get(name, "–") for name in names))
                for tokens, rates in figures["sizes"].items()
            ),
        ),
        lines(server, figures["server"]),
    ]
    return "\n\n".join(parts)


def gpu_transformer(figures: Figures) -> str:
    columns = list(ON_GPU.items())
    columns.insert(2, ("first_calls_s", "s for its first calls"))
    headings = {key: heading.replace("reviews", "texts") for key, heading in columns}
    padding = {
        "precision": "shapes of",
        "most_rows": "rows of the longest texts",
        "calls": "calls in bulk",
        "bulk": "padding in bulk, %",
        "single": "single rows, %",
    }
    parts = [
        (
            f"{figures['device']}, {figures['model']} ({figures['architecture']}, {figures['features']} "
            f"features), {figures['texts']:,} texts of {figures['tokens']:.0f} tokens on average, at most "
            f"{figures['max_length']}."
        ),
        *_contenders(figures, headings),
        lines(padding, ({"precision": name, **each} for name, each in figures["padding"].items())),
    ]
    return "\n\n".join(parts)


def _contenders(figures: Figures, headings: Mapping[str, str]) -> list[str]:
    """The table of the contenders, and the reasons of those that failed."""
    engines = figures["engines"].items()
    failed = [f"{name}: {each['failed']}" for name, each in engines if "failed" in each]
    measured = (_on_gpu(name, each) for name, each in engines if "failed" not in each)
    return [lines(headings, measured), *(["Failed: " + "; ".join(failed)] if failed else [])]


def _on_gpu(name: str, found: Figures) -> dict[str, object]:
    first, again, rates = found["first"], found["again"], found["reviews_per_s"]
    latencies = {
        "first_p50": first["p50_ms"],
        "first_p99": first["p99_ms"],
        "first_longest": first["longest_ms"],
        "ratio": again["p99_times_p50"],
    }
    return {**found, "name": name, **latencies, **{f"rate{calls}": rate for calls, rate in rates.items()}}


def bandwidth(figures: Figures) -> str:
    headings = {
        "level": "level",
        "mb": "MiB",
        "gb_per_s": "GB/s",
        "gb_per_s_all_threads": "GB/s, all threads",
        "us_per_review_int16": "µs per review, int16",
        "us_per_review_float32": "µs per review, float32",
    }
    return lines(headings, ({"level": level, **each} for level, each in figures["levels"].items()))


def kernels(figures: Figures) -> str:
    headings = {
        "kernel": "kernel",
        "us_per_text": "µs per text",
        "times_float32": "× float32",
        "max_dp": "max |Δp|",
        "gb_per_s": "GB/s",
    }
    return lines(headings, ({"kernel": name, **each} for name, each in figures["ways"].items()))


def tokenizer(figures: Figures) -> str:
    times = figures["microseconds_a_text"]
    return table(
        ("tokenizer", "µs per review", "× str.replace"),
        ((name, us, times["str.replace"] / us) for name, us in times.items()),
    )


def ngrams(figures: Figures) -> str:
    ratios = figures["times_bundle"]
    return table(
        ("one text of 60 words", "µs", "× the bundle's CNN"),
        ((name, us, ratios.get(name, "–")) for name, us in figures["microseconds_a_text"].items()),
    )


def stage_breakdown(figures: Figures) -> str:
    large, single = figures["large"], figures["single"]
    rows: list[tuple[str, object, object]] = [
        (stage, us, single["us_per_task"].get(stage, "–")) for stage, us in large["us_per_task"].items()
    ]
    rows += [
        ("total in the server", large["total_us"], single["total_us"]),
        ("client's wall clock", large["wall_us"], single["wall_us"]),
    ]
    stages = table(("µs per task", f"{large['tasks']:,} tasks", "one task"), rows)
    return (
        f"{stages}\n\nMicro-batches of a large request run concurrently on several threads, so its stages "
        "sum up to more than its total."
    )


def large_request(figures: Figures) -> str:
    memory = figures["memory_mb"]
    request = (
        ("seconds", figures["seconds"]),
        ("tasks per second", figures["tasks_per_s"]),
        ("tasks per second in the process, without a server", figures["without_server_tasks_per_s"]),
        ("share of that ceiling", f"{figures['share_of_ceiling']:.0%}"),
        ("memory before, MB", memory["idle"]),
        ("memory after, MB", memory["after"]),
    )
    headings = {
        "when": "single tasks",
        "singles": "completed",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "longest_ms": "max ms",
    }
    singles = (
        {"when": when, **figures[key]}
        for key, when in (("idle", "idle"), ("during", "during the large request"))
    )
    parts = [
        table((f"{figures['tasks']:,} tasks, {number(figures['mb'])} MB", ""), request),
        lines(headings, singles),
        f"p99 during a large request is {number(figures['p99_times_idle'])} times that of an idle server.",
    ]
    return "\n\n".join(parts)


def latency(figures: Figures) -> str:
    headings = {
        "share": "load",
        "per_s": "requests per second",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "longest_ms": "max ms",
        "refused": "refused",
    }
    loads = ({**load, "share": f"{load['share']:.0%}"} for load in figures["loads"])
    return (
        f"Load is a share of the capacity, {number(figures['capacity_per_s'])} single tasks per "
        f"second.\n\n{lines(headings, loads)}"
    )


def overload(figures: Figures) -> str:
    headings = {
        "kind": "requests",
        "requests": "sent",
        "right": "correct",
        "wrong": "wrong",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "longest_ms": "max ms",
        "refused": "429",
        "refused_p50_ms": "p50 ms",
        "refused_p99_ms": "p99 ms",
        "refused_longest_ms": "max ms",
        "server_errors": "5xx",
        "else": "other failures",
    }
    memory = {
        "before": "memory before, MB",
        "most": "max",
        "after": "after",
        "seconds_to_usual": "seconds to recover",
        "cores_of_server": "cores used by the server",
        "cores_of_clients": "by the clients",
        "client_late_p99_ms": "requests sent late by, p99 ms",
    }

    def line(kind: str, found: Figures) -> Figures:
        refused = {f"refused_{name}": figure for name, figure in found["refused"].items()}
        return {
            "kind": kind,
            **found,
            **refused,
            "refused": found["refused"]["requests"],
            "else": sum(found["failed"].values()),
        }

    names = {"mixed": "mixed", "large": f"{figures['large_tasks']:,} tasks", "health": "/health"}
    parts = [
        (
            f"The capacity is {number(figures['capacity_per_s'])} requests per second, 95 % with a single "
            "task and 5 % with 100 tasks."
        ),
    ]
    for load in figures["loads"]:
        resources = {
            **load,
            "before": load["memory_mb"][0],
            "most": max(load["memory_mb"]),
            "after": load["memory_mb_after"],
        }
        parts += [
            f"{load['times']} × the capacity for {load['seconds']:g} s:",
            lines(headings, (line(kind, load[name]) for name, kind in names.items())),
            lines(memory, [resources]),
        ]
    return "\n\n".join(parts)


def soak(figures: Figures) -> str:
    memory = figures["memory_mb_without_load"]
    rows: list[tuple[str, object, object]] = [("memory without load, MB", memory["start"], memory["end"])]
    rows += [
        (f"{name} without load", figures[name]["start"], figures[name]["end"])
        for name in ("descriptors", "threads")
    ]
    summary = (
        f"{number(figures['minutes'])} minutes, {number(figures['requests'])} requests, "
        f"{number(figures['reloads'])} reloads: {figures['wrong']} wrong responses and "
        f"{sum(figures['failed'].values())} other failures under load, {figures['wrong_at_the_end']} wrong "
        "responses of the idle server at the end. "
        f"Memory under load grew by {figures['rss_growth_after_5_min']:.1%} after the warm-up and peaked at "
        f"{number(max(figures['memory_mb']))} MB."
    )
    return f"{summary}\n\n{table(('', 'after the warm-up', 'at the end'), rows)}"


def scaling(figures: Figures) -> str:
    headings = {
        "clients": {
            "clients": "clients",
            "requests_per_s": "single tasks per second",
            "p50_ms": "p50 ms",
            "p99_ms": "p99 ms",
        },
        "tasks": {
            "tasks_per_request": "tasks per request",
            "tasks_per_s": "tasks per second",
            "p50_ms": "p50 ms",
        },
        "lengths": {
            "tokens": "tokens per text",
            "tasks_per_s": "tasks per second",
            "us_per_task": "µs per task",
        },
        "workers": {
            "workers": "workers",
            "singles_per_s": "single tasks per second",
            "bulk_tasks_per_s": "tasks per second, large requests",
            "memory_mb": "memory MB",
        },
    }
    return "\n\n".join(lines(each, figures[key]) for key, each in headings.items())


def bulk(figures: Figures) -> str:
    return lines(
        {
            "reviews": "reviews",
            "seconds": "seconds",
            "reviews_per_s": "reviews per second",
            "peak_memory_mb": "peak memory, MB",
        },
        [figures],
    )


def ready(figures: Figures) -> str:
    return lines(
        {
            "seconds_to_health": "seconds to ready",
            "seconds_to_first_answer": "seconds to the first prediction",
            "memory_mb": "memory MB",
        },
        [figures],
    )


def label_efficiency(figures: Figures) -> str:
    def cells(line: Figures) -> list[str]:
        ours, (words, characters) = line["prelabel train"], (line[name] for name in TF_IDF)
        return [
            f"{line['labels']:,}",
            *(f"{each[key]:.3f}" for key in ("accuracy", "macro_f1") for each in (ours, words, characters)),
            f"{ours['calibration_error']:.3f}",
            f"{ours['calibration_error_by_chance']:.3f}",
            f"{ours['seconds']:.1f}",
        ]

    columns = (
        "data",
        "labels",
        "accuracy",
        "words",
        "characters",
        "macro F1",
        "words",
        "characters",
        "ECE",
        "by chance",
        "seconds",
    )
    found = table(
        columns, ([each["name"], *cells(line)] for each in figures["sets"] for line in each["lines"])
    )
    lines_of_encoder = [
        (each["name"], line) for each in figures["sets"] for line in each["lines"] if WITH_ENCODER in line
    ]
    return f"{found}\n\n{_with_sentence_encoder(lines_of_encoder)}" if lines_of_encoder else found


def _with_sentence_encoder(measured: Sequence[tuple[str, Figures]]) -> str:
    """A sentence encoder compared with logistic regression on its embeddings."""
    names = WITH_ENCODER, "prelabel train", *OF_EMBEDDINGS
    heads = "", " of n-grams", " of logistic regression", " of balanced logistic regression"
    keys = ("accuracy", "macro_f1")
    columns = [f"{key.replace('_', ' ')}{head}" for key in keys for head in heads]
    return table(
        ("data, with a sentence encoder", "labels", *columns, "ECE", "seconds"),
        (
            [
                data,
                f"{line['labels']:,}",
                *(f"{line[name][key]:.3f}" for key in keys for name in names),
                f"{line[WITH_ENCODER]['calibration_error']:.3f}",
                f"{line[WITH_ENCODER]['seconds']:.1f}",
            ]
            for data, line in measured
        ),
    )


SHOWN_LABELS = 10, 50, 100, 200, 300, 500
"""In the table of active learning: after the round that reaches this number."""


def active_learning(figures: Figures) -> str:
    """Mean accuracy of the served model for some numbers of annotations, and what the gate did."""

    def cells(found: Figures) -> Iterable[Sequence[object]]:
        sizes = found["labels"]
        needed = labels_needed(found)
        for order, draws in found["accuracy"].items():
            means = [sum(each) / len(each) for each in zip(*draws, strict=True)]
            at = [
                next((f"{mean:.3f}" for size, mean in zip(sizes, means, strict=True) if size >= wanted), "–")
                for wanted in SHOWN_LABELS
            ]
            many = needed[order] or "–"
            yield [f"{found['name']}, {order}", *at, f"{mean_accuracy(sizes, means):.3f}", many]

    curves = table(
        (
            "data, order",
            *(f"{size} labels" for size in SHOWN_LABELS),
            "mean of the curve",
            "labels for the accuracy of all random ones",
        ),
        (line for found in figures["sets"] for line in cells(found)),
    )
    gate = table(
        (
            "data",
            "starts from",
            "tasks",
            "test texts",
            "accepted",
            "refused",
            "waiting",
            "worst step",
            "seconds of a round",
        ),
        (
            [
                found["name"],
                found["start"] or "nothing",
                found["tasks"],
                found["test_texts"],
                *(found["rounds"].get(decision, 0) for decision in ("accepted", "refused", "waiting")),
                f"{found['steps']['worst']:+.3f}",
                found["round_seconds"],
            ]
            for found in figures["sets"]
        ),
    )
    return f"{curves}\n\n{gate}"


def mean_accuracy(sizes: Sequence[int], accuracies: Sequence[float]) -> float:
    """The area under the curve, divided by its width."""
    parts = zip(pairwise(sizes), pairwise(accuracies), strict=True)
    area = sum((high - low) * (first + second) / 2 for (low, high), (first, second) in parts)
    return area / (sizes[-1] - sizes[0])


def labels_needed(found: Figures) -> dict[str, int | None]:
    """For each order, the annotations from which on the mean accuracy is that of all random ones."""
    means = {
        order: [sum(each) / len(each) for each in zip(*draws, strict=True)]
        for order, draws in found["accuracy"].items()
    }
    wanted = means["random"][-1]
    return {
        order: next((size for size, mean in zip(found["labels"], each, strict=True) if mean >= wanted), None)
        for order, each in means.items()
    }


def fuzz(figures: Figures) -> str:
    memory = figures["memory_mb"]
    found = lines(
        {"target": "target", "inputs": "inputs", "per_s": "per second", "findings": "findings"},
        figures["targets"],
    )
    grown = f"memory {number(memory['start'])} MB at the start, {number(memory['end'])} MB at the end"
    return (
        f"{number(figures['inputs'])} mutated inputs, {number(figures['findings'])} findings; "
        f"{grown}.\n\n{found}"
    )


def peers(figures: Figures) -> str:
    headings = {
        "name": "server",
        "bulk_tasks_per_s": "tasks per second, large requests",
        "single_p50_ms": "single task: p50 ms",
        "single_p99_ms": "p99 ms",
        "clients16_requests_per_s": "single tasks per second, 16 clients",
        "max_dp": "max |Δp|",
        "same_label": "same label",
        "version": "version",
        "settings": "settings",
    }

    def line(name: str, each: Figures) -> Figures:
        if "failed" in each:
            return {"name": name, "settings": f"failed: {each['failed']}"}
        return {"name": name, **each, "same_label": f"{each['same_label']:.1%}"}

    return "\n\n".join(
        f"Model {model}:\n\n{lines(headings, (line(*each) for each in table.items()))}"
        for model, table in figures.items()
    )


def peers_transformers(figures: Figures) -> str:
    mixes = ("short", "long", "mixed")
    headings = {
        "name": "peer",
        **{mix: f"texts per second, {mix}" for mix in mixes},
        "single_p50_ms": "single text, mixed: p50 ms",
        "clients16_p50_ms": "16 clients: p50 ms",
        "clients16_p99_ms": "p99 ms",
        "max_dp": "max |Δp|",
        "version": "version",
        "settings": "settings",
    }

    def line(name: str, each: Figures) -> Figures:
        if "failed" in each:
            return {"name": name, "settings": f"failed: {each['failed']}"}
        rates = {mix: each["mixes"][mix]["texts_per_s"] for mix in mixes}
        return {"name": name, **each, **each["mixes"]["mixed"], **rates}

    tokens = ", ".join(f"{mix} {number(mean)}" for mix, mean in figures["mean_tokens"].items())
    parts = [
        f"Mean tokens of a text: {tokens}; at most {figures['max_tokens']}.",
        lines(headings, (line(*each) for each in figures["peers"].items())),
        "\n".join(
            f"- {goal['name']}: {goal['wanted']}; {'met' if goal['met'] else '**missed**'}: {goal['found']}"
            for goal in figures["goals"]
        ),
    ]
    return "\n\n".join(parts)


def lines(headings: Mapping[str, str], found: Iterable[Figures]) -> str:
    """A table with one line for each of `found`; a missing figure is a dash."""
    return table(tuple(headings.values()), ([line.get(key, "–") for key in headings] for line in found))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. The first column is text; the others are figures, aligned to the right."""
    whole = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in whole)


def _cell(cell: object) -> str:
    return number(cell) if isinstance(cell, int | float) else str(cell).replace("|", "\\|")


def number(figure: float) -> str:
    """Three significant digits, and commas: 12,346 · 53.3 · 0.0123 · 2e-07."""
    if figure == 0 or abs(figure) >= 100 or isinstance(figure, int):
        return f"{figure:,.0f}"
    return f"{figure:.1g}" if abs(figure) < 1e-3 else f"{figure:.3g}"
