"""The capacity model: its predictions, and that the tables of the guide follow from its formulas."""

import re
from typing import Any

import pytest

from benchmarks import capacity
from benchmarks.capacity import Review
from tests.conftest import ROOT

MACHINE = {"cores": 2}
KEPT: dict[str, Any] = {
    "scaling": {
        "machine": MACHINE,
        "figures": {
            "workers": [
                {"workers": 1, "singles_per_s": 2000.0, "bulk_tasks_per_s": 20_000.0, "memory_mb": 500.0},
                {"workers": 2, "singles_per_s": 3000.0, "bulk_tasks_per_s": 25_000.0, "memory_mb": 750.0},
            ]
        },
    },
    "large_request": {"machine": MACHINE, "figures": {"without_server_tasks_per_s": 40_000.0}},
    "stage_breakdown": {"machine": MACHINE, "figures": {"single": {"us_per_task": {"engine": 125.0}}}},
    "tokenizer": {"machine": MACHINE, "figures": {"microseconds_a_text": {"encode_all": 10.0}}},
    "bandwidth": {"machine": MACHINE, "figures": {"numbers_a_review": 250_000.0}},
}


def test_reviews_are_limited_by_event_loops_or_by_cores() -> None:
    review = Review(loop=0.001, threads=0.003)
    assert [review.per_s(workers, 8) for workers in (1, 2, 3)] == pytest.approx([1000, 2000, 2000])
    assert [review.per_s(4, cores) for cores in (1, 4, 16, 32)] == pytest.approx([250, 1000, 4000, 4000])
    assert review.cores_a_worker == pytest.approx(4)


def test_the_model_uses_the_figures_of_one_worker() -> None:
    model = capacity.model_of(KEPT)
    assert (model.single.loop, model.single.threads) == pytest.approx((500e-6, 125e-6))
    assert (model.bulk.loop, model.bulk.threads) == pytest.approx((50e-6, 50e-6))
    assert (model.tokenizer, model.bytes_a_review) == pytest.approx((10e-6, 1e6))


def test_the_model_matches_one_worker_and_is_compared_with_two() -> None:
    one, two = capacity.checked(KEPT)
    assert (one["singles_error"], one["bulk_error"]) == (0, 0)
    assert (two["singles_model"], two["bulk_model"]) == pytest.approx((3200, 20_000))
    assert (two["singles_error"], two["bulk_error"]) == pytest.approx((0.0667, -0.2), abs=1e-4)


def test_a_gpu_is_limited_by_its_memory_or_by_the_cpu() -> None:
    model = capacity.model_of(KEPT)
    assert model.gpu_bulk_per_s(workers=1, cores=16, bandwidth=1e12) == pytest.approx(20_000), "a loop"
    assert model.gpu_bulk_per_s(workers=8, cores=6, bandwidth=1e12) == pytest.approx(100_000), "the cores"
    assert model.gpu_bulk_per_s(workers=99, cores=99, bandwidth=3e11) == pytest.approx(300_000), (
        "the GPU's memory"
    )


def test_the_reports_section_shows_errors_or_missing_benchmarks() -> None:
    assert "| 2 | 3,000 | 3,200 | +6.7% | 25,000 | 20,000 | -20.0% | 750 |" in capacity.section(KEPT)
    part = capacity.section({name: found for name, found in KEPT.items() if name != "stage_breakdown"})
    assert "`python -m benchmarks.stage_breakdown reviews.csv`" in part
    assert "scaling" not in part


def test_the_tables_of_the_guide_follow_from_its_formulas() -> None:
    guide = (ROOT / "docs/performance.md").read_text()
    rates = [float(each.replace(",", "")) for each in re.findall(r"([\d,]+) reviews/s \|", guide)]
    costs = re.findall(r"^\| (\d+\.\d\d) \| (.*) \|$", guide, re.MULTILINE)
    assert (len(rates), len(costs)) == (3, 4)
    for price, cells in costs:
        assert cells.split(" | ") == [
            f"{capacity.cost_per_million(float(price), rate):.3g}" for rate in rates
        ]
    [megabytes] = re.findall(r"4 bytes, ([\d.]+) MB", guide)
    gpus = re.findall(r"\| ([\d,]+) \| ([\d,]+) \|$", guide, re.MULTILINE)
    assert len(gpus) == 4
    for gb_per_s, shown in gpus:
        bound = float(gb_per_s.replace(",", "")) * 1e9 / (float(megabytes) * 1e6)
        assert float(shown.replace(",", "")) == float(f"{bound:.3g}")
