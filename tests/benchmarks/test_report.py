"""The report: goals, Markdown and pictures from saved figures, and missing benchmarks."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, results
from benchmarks.goals import RULES, goals
from benchmarks.tables import number, table

MANY: dict[str, Any] = {"singles": 500, "p50_ms": 1.2, "p99_ms": 4.0, "longest_ms": 9.0}


SENT: dict[str, Any] = {
    "requests": 180_000,
    "right": 90_000,
    "wrong": 0,
    "p50_ms": 100.0,
    "p99_ms": 300.0,
    "longest_ms": 90.0,
    "refused": {"requests": 90_000, "p50_ms": 5.0, "p99_ms": 20.0, "longest_ms": 70.0},
    "server_errors": 0,
    "failed": {},
}


def peer(rate: float) -> dict[str, Any]:
    return {
        "bulk_tasks_per_s": rate,
        "single_p50_ms": 1.1,
        "single_p99_ms": 2.0,
        "clients16_requests_per_s": 900.0,
        "max_dp": 2e-7,
        "same_label": 1.0,
        "version": "1.0",
        "settings": "one process | eight threads",
    }


ON_GPU: dict[str, Any] = {
    "open_s": 2.0,
    "memory_mb": 900.0,
    "first": {"p50_ms": 0.2, "p99_ms": 0.3, "longest_ms": 0.5, "p99_times_p50": 1.5},
    "again": {"p99_times_p50": 1.2},
    "reviews_per_s": {"1": 200_000.0, "2": 400_000.0, "3": 410_000.0},
    "max_dp": 2e-7,
}

FIGURES: dict[str, Any] = {
    "gpu": {
        "device": "A GPU",
        "texts": 20_000,
        "tokens": 243.0,
        "engines": {"onnx": ON_GPU, "ORT Conv": {"failed": "no memory"}},
        "sizes": {"8192": {"onnx": 9.0}},
        "server": [
            {
                "engine": "onnx",
                "workers": 4,
                "bulk_tasks_per_s": 70_000.0,
                "single_p50_ms": 0.9,
                "single_p99_ms": 1.4,
            }
        ],
    },
    "gpu_transformer": {
        "device": "A GPU",
        "model": "topics",
        "architecture": "bert",
        "features": 384,
        "max_length": 512,
        "texts": 4000,
        "tokens": 190.0,
        "engines": {
            "onnx float16": {**ON_GPU, "first_calls_s": 0.1},
            "torch.compile float16": {"failed": "no compiler"},
        },
        "padding": {"float16": {"calls": 30, "most_rows": 37, "bulk": 12.5, "single": 30.0}},
    },
    "peers": {
        "conv": {
            "prelabel": peer(9000.0),
            "sdk_tutorial": peer(100.0),
            "mosec": peer(1000.0),
            "triton": {"failed": "it did not start"},
        },
        "folded": {"prelabel": peer(9000.0), "mosec": peer(3000.0)},
    },
    "peers_transformers": {
        "mean_tokens": {"short": 100.0, "long": 300.0},
        "max_tokens": 512,
        "peers": {
            "prelabel": {
                "mixes": {
                    mix: {"texts_per_s": 40.0, "single_p50_ms": 27.0, "clients16_p50_ms": 300.0}
                    for mix in ("short", "long", "mixed")
                },
                "max_dp": 1e-6,
                "version": "1",
                "settings": "defaults",
            },
            "triton": {"failed": "it did not start"},
        },
        "goals": [{"name": "padding", "wanted": "<= 10 %", "found": "1 %", "met": True}],
    },
    "engine": {
        "threads": 2,
        "texts": {
            "tables": {"us_per_text_one_thread": 54.0, "us_per_text_all_threads": 30.0, "max_dp": 2e-7},
            "onnx": {"us_per_text_one_thread": 180.0, "us_per_text_all_threads": 110.0, "max_dp": 0.0},
            "tutorial loop": {
                "us_per_text_one_thread": 2500.0,
                "us_per_text_all_threads": 2400.0,
                "max_dp": 2e-7,
            },
        },
        "grid": [
            {"engine": engine, "tokens": 64, "rows": rows, "us_per_row": 12.5}
            for engine in ("tables", "onnx")
            for rows in (1, 8)
        ],
        "times_tutorial": 80.0,
    },
    "bandwidth": {
        "numbers_a_review": 400_000.0,
        "levels": {
            level: {
                "mb": mb,
                "gb_per_s": 20.0,
                "gb_per_s_all_threads": 30.0,
                "us_per_review_int16": us,
                "us_per_review_float32": us * 2,
            }
            for level, mb, us in (("L2", 0.5, 13.0), ("L3", 16.0, 38.0), ("memory", 256.0, 98.0))
        },
    },
    "kernels": {
        "ways": {"float32": {"us_per_text": 160.0, "times_float32": 1.0, "max_dp": 1e-7, "gb_per_s": 9.0}}
    },
    "tokenizer": {"microseconds_a_text": {"str.replace": 60.0, "encode_all": 20.0}},
    "ngrams": {
        "microseconds_a_text": {"words": 16.0, "tokenize": 60.0, "engine": 15.0},
        "times_bundle": {"tokenize": 10.0, "engine": 0.5},
    },
    "stage_breakdown": {
        "large": {
            "tasks": 20_000,
            "us_per_task": {"parse": 4.0, "tokenize": 20.0, "engine": 31.0, "write": 2.0},
            "total_us": 60.0,
            "wall_us": 66.0,
        },
        "single": {
            "tasks": 1,
            "us_per_task": {"parse": 50.0, "tokenize": 40.0, "engine": 90.0, "write": 10.0},
            "total_us": 400.0,
            "wall_us": 900.0,
        },
    },
    "large_request": {
        "tasks": 20_000,
        "mb": 40.5,
        "idle": MANY,
        "during": {**MANY, "p99_ms": 8.0},
        "p99_times_idle": 2.0,
        "seconds": 1.5,
        "tasks_per_s": 13_000.0,
        "without_server_tasks_per_s": 15_000.0,
        "share_of_ceiling": 0.87,
        "memory_mb": {"idle": 400.0, "after": 600.0},
    },
    "latency": {
        "capacity_per_s": 2000.0,
        "loads": [
            {
                "share": share,
                "per_s": 2000 * share,
                "p50_ms": 1.0,
                "p99_ms": 4.0,
                "longest_ms": 9.0,
                "refused": 0,
            }
            for share in (0.2, 0.9)
        ],
    },
    "overload": {
        "capacity_per_s": 1500.0,
        "idle_p50_ms": 1.1,
        "cores": 2,
        "large_tasks": 20_000,
        "loads": [
            {
                "times": 2,
                "seconds": 60.0,
                "per_s": 3000.0,
                "mixed": SENT,
                "large": {**SENT, "refused": {"requests": 0}},
                "health": SENT,
                "seconds_to_usual": 0.2,
                "memory_mb": [400.0, 600.0, 500.0],
                "memory_mb_after": 450.0,
                "cores_of_server": 1.2,
                "cores_of_clients": 0.6,
                "client_late_p99_ms": 3.0,
            }
        ],
    },
    "soak": {
        "minutes": 30.0,
        "requests": 100_000,
        "wrong": 0,
        "failed": {},
        "wrong_at_the_end": 0,
        "reloads": 90,
        "memory_mb": [400.0, 500.0],
        "rss_growth_after_5_min": 0.01,
        "memory_mb_without_load": {"start": 400.0, "end": 401.0},
        "descriptors": {"start": 20, "end": 20, "most": 40},
        "threads": {"start": 12, "end": 12, "most": 12},
    },
    "scaling": {
        "clients": [
            {"clients": clients, "requests_per_s": 900.0, "p50_ms": 1.1, "p99_ms": 3.0} for clients in (1, 16)
        ],
        "tasks": [{"tasks_per_request": tasks, "tasks_per_s": 900.0, "p50_ms": 1.1} for tasks in (1, 1000)],
        "lengths": [{"tokens": tokens, "tasks_per_s": 900.0, "us_per_task": 70.0} for tokens in (64, 4096)],
        "workers": [
            {"workers": workers, "singles_per_s": 900.0, "bulk_tasks_per_s": 9000.0, "memory_mb": 500.0}
            for workers in (1, 2)
        ],
    },
    "bulk": {
        "reviews": 50_000,
        "seconds": 8.0,
        "rounds": 3,
        "reviews_per_s": 6250.0,
        "peak_memory_mb": 700.0,
    },
    "label_efficiency": {
        "sets": [
            {
                "name": "en",
                "test_texts": 400,
                "lines": [
                    {
                        "labels": labels,
                        "draws": 5,
                        "prelabel train": {
                            "accuracy": 0.84,
                            "macro_f1": 0.80,
                            "calibration_error": 0.04,
                            "calibration_error_by_chance": 0.03,
                            "seconds": 9.0,
                        },
                        "TF-IDF words": {"accuracy": 0.7, "macro_f1": 0.6, "calibration_error": 0.2},
                        "TF-IDF characters": {"accuracy": 0.8, "macro_f1": 0.7, "calibration_error": 0.2},
                    }
                    for labels in (50, 500)
                ],
            }
        ]
    },
    "active_learning": {
        "sets": [
            {
                "name": name,
                "start": start,
                "classes": 2,
                "tasks": 2_000,
                "test_texts": 1_000,
                "draws": 2,
                "labels": [10, 20, 500],
                "accuracy": {
                    "diverse": [[0.5, 0.8, 0.9]] * 2 if not start else [[0.91, 0.92, 0.93]] * 2,
                    "uncertainty": [[0.5, 0.7, 0.9]] * 2 if not start else [[0.91, 0.92, 0.93]] * 2,
                    "random": [[0.5, 0.6, 0.8]] * 2 if not start else [[0.91, 0.92, 0.93]] * 2,
                },
                "rounds": {"accepted": 12, "refused": 6},
                "steps": {"number": 10, "worse": 2, "worst": -0.01, "p": 1.0},
                "round_seconds": 0.3,
            }
            for name, start in (("en", None), ("films", "imdb-cnn"))
        ]
    },
    "fuzz": {
        "targets": [{"target": "http", "inputs": 400_000, "per_s": 2000.0, "findings": 0}],
        "inputs": 400_000,
        "findings": 0,
        "memory_mb": {"start": 700.0, "end": 710.0},
    },
    "ready": {"seconds_to_health": 1.4, "seconds_to_first_answer": 1.5, "rounds": 3, "memory_mb": 400.0},
}


def saved(*names: str, cpu: str = "A processor") -> dict[str, dict[str, Any]]:
    """What these benchmarks kept, all of them without names."""
    rest = {
        "time": "2026-01-02T03:04:05+00:00",
        "commit": "0123456789ab",
        "versions": {"python": "3.11.7"},
        "machine": {"cpu": cpu, "cores": 2, "memory_gib": 8.0, "system": "Linux x86_64"},
    }
    return {
        name: {"command": f"python -m benchmarks.{name} r.csv", **rest, "figures": FIGURES[name]}
        for name in names or FIGURES
    }


def test_goals_show_the_measured_figures() -> None:
    found = goals(FIGURES)
    assert [goal.found for goal in found] == [
        "90 ×",
        "9.0 × mosec",
        "87%",
        "1.1 ms",
        "30 µs",
        "20 µs",
        "2.0 ×, 8.0 ms",
        "1.4 s",
        "0 wrong, 0 failed",
        "20 ms",
        "90 ms",
        "0.2 s",
        "0 wrong, 0 failed",
        "1.0%",
        "+0 descriptors, +0 threads",
        "410,000/s (onnx)",
        "70,000/s",
        "0.9 ms",
        "1.5 ×",
        "2e-07",
        "+0.040 (en 50)",
        "+0.100 (en 50)",
        "+0.040, +0.100",
        "0.040 (en 500); 1 of 1 met",
        "9.0 s (en 50)",
        "en 20",
        "en +0.149",
        "worst step -0.010 (en) of 20",
        "films 0.910",
        "4 s",
    ]
    assert all(goal.met for goal in found)


def test_goals_can_be_missed() -> None:
    slow = {
        **FIGURES,
        "ready": {"seconds_to_health": 2.5},
        "large_request": {**FIGURES["large_request"], "p99_times_idle": 3.5},
    }
    assert [goal.name for goal in goals(slow) if not goal.met] == [
        "Single task during a large request: latency, p99",
        "Start: time to ready",
    ]


def test_goals_of_a_gpu_can_be_missed() -> None:
    slow = {
        **ON_GPU,
        "max_dp": 1e-3,
        "first": {**ON_GPU["first"], "p99_times_p50": 40.0},
        "reviews_per_s": {"1": 1.0},
    }
    found = goals({"gpu": {**FIGURES["gpu"], "engines": {"onnx": slow}}})
    assert [goal.met for goal in found if goal.name.startswith("GPU engine")] == [False] * 3


def test_a_goal_without_figures_is_neither_reached_nor_missed() -> None:
    assert [(goal.found, goal.met) for goal in goals({})] == [("not measured", None)] * len(RULES)
    failed = {
        "peers": {
            "conv": {"prelabel": peer(1.0), "sdk_tutorial": {"failed": "no"}, "mosec": {"failed": "no"}}
        }
    }
    assert {goal.met for goal in goals(failed)} == {None}


def test_the_report_has_the_goals_first_and_every_benchmark_with_its_command() -> None:
    text = report.render(saved())
    assert (
        text.index("## Goals")
        < text.index("## Capacity")
        < min(text.index(f"## {section.title}") for section in report.SECTIONS)
    )
    assert "not measured" not in text
    for section in report.SECTIONS:
        assert f"`python -m benchmarks.{section.benchmark} r.csv`" in text
    for said in (
        "**Machine:** A processor, 2 cores",
        "0123456789ab",
        "it did not start",
        "Failed: ORT Conv: no memory",
        "Failed: torch.compile float16: no compiler",
        "| float16 | 37 | 30 | 12.5 | 30 |",
        "one process \\| eight threads",
        "| 64 × 8 | 12.5 | 12.5 |",
    ):
        assert said in text


def test_a_benchmark_without_figures_is_listed_with_its_command() -> None:
    text = report.render(saved("bulk"))
    assert text.count("\n\nnot measured: `") == len(report.SECTIONS) - 1
    assert "not measured: `make fuzz`" in text
    assert "not measured: `python -m benchmarks.peers.run reviews.csv`" in text
    assert report.render({}).startswith("# Benchmarks\n\n## Goals")


def test_different_machines_are_listed_with_their_benchmarks() -> None:
    text = report.render(saved("bulk") | saved("ready", cpu="Another"))
    assert "**Machine of bulk:** A processor" in text
    assert "**Machine of ready:** Another" in text


def test_every_name_has_a_section() -> None:
    assert {section.benchmark for section in report.SECTIONS} == set(FIGURES)


def test_the_committed_report_is_rendered_from_the_committed_figures() -> None:
    measured = {
        section.benchmark: found
        for section in report.SECTIONS
        if (found := results.read(section.benchmark)) is not None
    }
    assert measured.keys() == {path.stem for path in results.FOLDER.glob("*.json")}
    committed = Path(report.__file__).with_name("REPORT.md").read_text("utf-8")
    assert committed == report.render(measured), "run python -m benchmarks.report"


def test_the_same_figures_make_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "measured")
    (tmp_path / "measured").mkdir()
    for name, found in saved().items():
        (tmp_path / "measured" / f"{name}.json").write_text(json.dumps(found))
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        monkeypatch.setattr(sys, "argv", ["report", "--out", str(folder / "REPORT.md")])
        report.main()
        made.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")})
    assert made[0] == made[1]
    assert len(made[0]) == 1 + sum(section.picture is not None for section in report.SECTIONS)
    for section in report.SECTIONS:
        if section.picture is not None:
            assert f"]({report.FOLDER}/{section.picture.file})" in made[0][Path("REPORT.md")].decode()


def test_a_picture_without_figures_is_deleted(tmp_path: Path) -> None:
    drawn = report.draw(saved("engine", "stage_breakdown"), tmp_path)
    assert [path.name for path in drawn] == ["engines.png", "stage_breakdown.png"]
    assert [path.name for path in report.draw(saved("engine"), tmp_path)] == ["engines.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["engines.png"]


def test_figures_have_three_significant_digits() -> None:
    assert [number(each) for each in (0, 12_345.6, 53.32, 0.0123, 2.3e-7, 3)] == [
        "0",
        "12,346",
        "53.3",
        "0.0123",
        "2e-07",
        "3",
    ]
    assert table(("a", "|b|"), [("x", 1)]) == "| a | \\|b\\| |\n| --- | ---: |\n| x | 1 |"
