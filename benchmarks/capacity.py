"""Capacity model: what more workers, cores and GPUs would handle and cost, from one worker's measurements.

docs/performance.md explains the model.

    .venv/dev/bin/python -m benchmarks.capacity [--workers 2] [--cores 4] [--price 0.50]

Reads the figures of `scaling`, `large_request`, `stage_breakdown`, `tokenizer` and `bandwidth`; measures
nothing. Times are seconds of one core.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from benchmarks import results, tables

NEEDED = ("scaling", "large_request", "stage_breakdown", "tokenizer", "bandwidth")
"""Benchmarks whose figures the model needs."""

FLOAT32 = 4
"""Bytes of a number in a GPU's tables."""

PRICES = (0.1, 0.5, 1.0, 4.0)
"""Examples of the price of an hour, in any currency."""

HOSTS = ((1, 1), (1, 2), (2, 4), (4, 8), (8, 16))
"""Examples of (workers, cores)."""


@dataclass(frozen=True)
class Review:
    """Core seconds of a review, alone in its request or one of many: `loop` in its worker's event loop,
    `threads` in other threads.
    """

    loop: float
    threads: float

    def per_s(self, workers: int, cores: float) -> float:
        """Reviews per second: an event loop uses at most one core, and all threads share the cores."""
        return min(workers / self.loop, cores / (self.loop + self.threads))

    @property
    def cores_a_worker(self) -> float:
        """Maximum number of cores that one worker keeps busy."""
        return 1 + self.threads / self.loop


@dataclass(frozen=True)
class Model:
    single: Review
    bulk: Review
    tokenizer: float
    """Core seconds of a review's tokenization, which stays on the CPU."""
    bytes_a_review: float
    """Bytes that a review reads from tables in GPU memory."""

    def gpu_bulk_per_s(self, workers: int, cores: float, bandwidth: float) -> float:
        """Upper bound of reviews per second with one GPU whose memory delivers `bandwidth` bytes per second,
        if its kernels took no time.
        """
        return min(
            Review(self.bulk.loop, self.tokenizer).per_s(workers, cores), bandwidth / self.bytes_a_review
        )


def model_of(kept: Mapping[str, Mapping[str, Any]]) -> Model:
    """The model from the figures of one worker. Its event loop limits single tasks, the cores limit large
    requests.

    Raises:
        KeyError: one of `NEEDED` was not measured.
    """
    scaling, large, stages, tokenizer, bandwidth = (kept[name]["figures"] for name in NEEDED)
    one, cores = scaling["workers"][0], kept["scaling"]["machine"]["cores"]
    if one["workers"] != 1:
        raise KeyError("scaling with one worker")
    threads = kept["large_request"]["machine"]["cores"] / large["without_server_tasks_per_s"]
    return Model(
        single=Review(1 / one["singles_per_s"], stages["single"]["us_per_task"]["engine"] / 1e6),
        bulk=Review(max(cores / one["bulk_tasks_per_s"] - threads, 0.0), threads),
        tokenizer=tokenizer["microseconds_a_text"]["encode_all"] / 1e6,
        bytes_a_review=bandwidth["numbers_a_review"] * FLOAT32,
    )


def checked(kept: Mapping[str, Mapping[str, Any]]) -> list[dict[str, float]]:
    """The model compared with each measured number of workers; errors are relative to the measurement."""
    model, cores = model_of(kept), kept["scaling"]["machine"]["cores"]
    rows = []
    for found in kept["scaling"]["figures"]["workers"]:
        workers = int(found["workers"])
        row: dict[str, float] = {"workers": workers, "memory_mb": found["memory_mb"]}
        for name, review, measured in (
            ("singles", model.single, found["singles_per_s"]),
            ("bulk", model.bulk, found["bulk_tasks_per_s"]),
        ):
            predicted = review.per_s(workers, cores)
            row |= {
                f"{name}_measured": measured,
                f"{name}_model": predicted,
                f"{name}_error": round(predicted / measured - 1, 6) + 0.0,
            }
        rows.append(row)
    return rows


def cost_per_million(price: float, per_s: float) -> float:
    """Cost of a million reviews on a host that costs `price` per hour and handles `per_s` reviews per second,
    fully used.
    """
    return price / (per_s * 3600) * 1e6


def section(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The report's section, as Markdown."""
    missing = [name for name in NEEDED if name not in kept]
    if missing:
        return "First run " + ", ".join(f"`python -m benchmarks.{name} reviews.csv`" for name in missing)
    model, cores = model_of(kept), kept["scaling"]["machine"]["cores"]
    costs = [
        {"review": name, "loop": each.loop * 1e6, "threads": each.threads * 1e6, "cores": each.cores_a_worker}
        for name, each in (("alone in its request", model.single), ("one of many", model.bulk))
    ]
    hosts = [
        {"workers": w, "cores": c, "singles": model.single.per_s(w, c), "bulk": model.bulk.per_s(w, c)}
        for w, c in HOSTS
    ]
    bulk = model.bulk.per_s(1, cores)
    headings = {
        "workers": "workers",
        "singles_measured": "single tasks per second",
        "singles_model": "model",
        "singles_error": "error",
        "bulk_measured": "tasks per second, large requests",
        "bulk_model": "model",
        "bulk_error": "error",
        "memory_mb": "memory MB",
    }
    rows = [
        {**row, **{name: f"{row[name]:+.1%}" for name in ("singles_error", "bulk_error")}}
        for row in checked(kept)
    ]
    return "\n\n".join(
        (
            "Computed from one worker's figures: [the model](../docs/performance.md#capacity).",
            tables.lines(
                {
                    "review": "a review",
                    "loop": "µs in the event loop",
                    "threads": "µs in other threads",
                    "cores": "max cores per worker",
                },
                costs,
            ),
            f"The model compared with measurements, {cores} cores:",
            tables.lines(headings, rows),
            "The model for similar processors; there are no measurements with these numbers of cores:",
            tables.lines(
                {
                    "workers": "workers",
                    "cores": "cores",
                    "singles": "single tasks per second",
                    "bulk": "tasks per second, large requests",
                },
                hosts,
            ),
            f"Cost of a million reviews at the measured {tables.number(bulk)} tasks per second:",
            tables.lines(
                {"price": "price per hour", "cost": "a million reviews"},
                [{"price": each, "cost": cost_per_million(each, bulk)} for each in PRICES],
            ),
            f"No GPU figures yet; a review reads {tables.number(model.bytes_a_review / 1e6)} MB of tables.",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cores", type=float, default=2.0)
    parser.add_argument("--price", type=float, default=1.0, help="of the host, per hour")
    args = parser.parse_args()
    kept = {name: found for name in NEEDED if (found := results.read(name)) is not None}
    console = Console()
    if len(kept) < len(NEEDED):
        raise SystemExit(section(kept))
    model = model_of(kept)
    for name, review in (("single tasks", model.single), ("large requests", model.bulk)):
        per_s = review.per_s(args.workers, args.cores)
        console.print(
            f"{name}: {per_s:,.0f} reviews per second, {cost_per_million(args.price, per_s):.3g} for a "
            "million",
            highlight=False,
        )
    console.print(section(kept), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
