"""What more workers, cores and GPUs would answer, and what it costs, from what one worker was measured to do.
docs/performance.md explains the model.

    .venv/dev/bin/python -m benchmarks.capacity [--workers 2] [--cores 4] [--price 0.50]

Reads the figures that `scaling`, `large_request`, `stage_breakdown`, `tokenizer` and `bandwidth` kept; measures nothing.
Times are seconds of one core.
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
"""Of an hour, in any currency: examples."""

HOSTS = ((1, 1), (1, 2), (2, 4), (4, 8), (8, 16))
"""Workers and cores: examples."""


@dataclass(frozen=True)
class Review:
    """What a review takes of a core, alone in its request or one of many: `loop` in the one event loop of its
    worker, `threads` in any other thread.
    """

    loop: float
    threads: float

    def per_s(self, workers: int, cores: float) -> float:
        """Reviews a second: no loop does more than one core's work, and all share the cores."""
        return min(workers / self.loop, cores / (self.loop + self.threads))

    @property
    def cores_a_worker(self) -> float:
        """How many cores one worker keeps busy at the most."""
        return 1 + self.threads / self.loop


@dataclass(frozen=True)
class Model:
    single: Review
    bulk: Review
    tokenizer: float
    """Of a review, which a GPU leaves to the processor."""
    bytes_a_review: float
    """Looked up in a GPU's tables."""

    def gpu_bulk_per_s(self, workers: int, cores: float, bandwidth: float) -> float:
        """Reviews a second at the most with one GPU whose memory gives `bandwidth` bytes a second, were its
        kernels free.
        """
        return min(
            Review(self.bulk.loop, self.tokenizer).per_s(workers, cores), bandwidth / self.bytes_a_review
        )


def model_of(kept: Mapping[str, Mapping[str, Any]]) -> Model:
    """From one worker's figures alone. Its loop is the limit of single tasks, its cores are that of many in a
    request.

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
    """The model beside each number of workers that was measured; errors are shares of what was measured."""
    model, cores = model_of(kept), kept["scaling"]["machine"]["cores"]
    rows = []
    for found in kept["scaling"]["figures"]["workers"]:
        workers = int(found["workers"])
        row: dict[str, float] = {"workers": workers, "memory_mb": found["memory_mb"]}
        for name, review, measured in (
            ("singles", model.single, found["singles_per_s"]),
            ("bulk", model.bulk, found["bulk_tasks_per_s"]),
        ):
            said = review.per_s(workers, cores)
            row |= {
                f"{name}_measured": measured,
                f"{name}_model": said,
                f"{name}_error": round(said / measured - 1, 6) + 0.0,
            }
        rows.append(row)
    return rows


def cost_per_million(price: float, per_s: float) -> float:
    """Of a million reviews on a host that costs `price` an hour and answers `per_s` of them a second, always
    busy.
    """
    return price / (per_s * 3600) * 1e6


def section(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The report's part, as Markdown."""
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
        "singles_measured": "single tasks a second", "singles_model": "model", "singles_error": "error",
        "bulk_measured": "tasks a second, many a request", "bulk_model": "model", "bulk_error": "error",
        "memory_mb": "memory MB",
    }  # fmt: skip
    rows = [
        {**row, **{name: f"{row[name]:+.1%}" for name in ("singles_error", "bulk_error")}}
        for row in checked(kept)
    ]
    return "\n\n".join(
        (
            "Computed from the figures of one worker below; "
            "[capacity](../docs/performance.md#capacity) explains the model.",
            tables.lines(
                {
                    "review": "a review",
                    "loop": "µs of its worker's loop",
                    "threads": "µs of other threads",
                    "cores": "cores a worker keeps busy",
                },
                costs,
            ),
            f"The model beside what was measured, {cores} cores:",
            tables.lines(headings, rows),
            "The model alone, for processors like this one; with other numbers of cores there are no "
            "figures to hold it against:",
            tables.lines(
                {
                    "workers": "workers",
                    "cores": "cores",
                    "singles": "single tasks a second",
                    "bulk": "tasks a second, many a request",
                },
                hosts,
            ),
            f"A million reviews at the measured {tables.number(bulk)} a second, many a request:",
            tables.lines(
                {"price": "price of an hour", "cost": "a million reviews"},
                [{"price": each, "cost": cost_per_million(each, bulk)} for each in PRICES],
            ),
            "There are no figures of a GPU yet. A review looks up "
            f"{tables.number(model.bytes_a_review / 1e6)} MB of tables there.",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cores", type=float, default=2.0)
    parser.add_argument("--price", type=float, default=1.0, help="of the host, an hour")
    asked = parser.parse_args()
    kept = {name: found for name in NEEDED if (found := results.read(name)) is not None}
    console = Console()
    if len(kept) < len(NEEDED):
        raise SystemExit(section(kept))
    model = model_of(kept)
    for name, review in (("single tasks", model.single), ("many a request", model.bulk)):
        per_s = review.per_s(asked.workers, asked.cores)
        console.print(
            f"{name}: {per_s:,.0f} reviews a second, {cost_per_million(asked.price, per_s):.3g} for a "
            "million of them",
            highlight=False,
        )
    console.print(section(kept), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
