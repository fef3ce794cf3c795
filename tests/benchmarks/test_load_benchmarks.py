"""The load benchmarks, small but on a real server: they run, count requests, and hide no failure."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import client
from benchmarks.http_connection import Response
from benchmarks.label_studio import body_of, setup_body
from benchmarks.load_result import median_stages
from benchmarks.overload import PATIENCE
from benchmarks.response_check import WRONG, Request, failure_of, gives_reason, same
from benchmarks.served import served
from server.bundle import Bundle, read_bundle
from server.transport.admission import LARGE_REQUEST_BYTES, LARGE_SHARE
from tests.conftest import Benchmark, random_texts
from tests.launch.test_signals import until
from tests.serving import running
from tests.transport.test_admission import connected, head

TEXTS = random_texts(5)

LARGE = body_of(["good film " * LARGE_REQUEST_BYTES])


def predict_url(server: httpx.Client) -> str:
    return f"{str(server.base_url).rstrip('/')}/predict"


def test_the_server_accepts_the_bodies(bundle: Bundle) -> None:
    with running(bundle) as server:
        assert server.post("/setup", content=setup_body()).json() == {"model_version": bundle.version}
        assert len(server.post("/predict", content=body_of(TEXTS)).json()["results"]) == len(TEXTS)
    assert b"\n" not in body_of(["two\nlines and an é"])


@pytest.mark.parametrize(
    "options",
    [{"clients": 3}, {"clients": 3, "new_connections": True}],
    ids=["kept connections", "new connections"],
)
def test_a_closed_loop_sends_each_clients_requests(bundle: Bundle, options: dict[str, Any]) -> None:
    with running(bundle) as server:
        result = client.run(
            predict_url(server), [body_of(TEXTS[:2]), body_of(TEXTS[2:])], requests=4, **options
        ).checked()
    assert (len(result.latencies), result.refused, result.failed) == (12, 0, {})
    assert result.tasks in range(2 * 12, 3 * 12 + 1)
    assert 0 < result.ms(0.5) <= result.ms(1)
    assert {"parse", "tokenize", "queue", "engine", "results", "write", "total"} == set(result.stages)


def test_an_open_loop_runs_during_other_work(bundle: Bundle) -> None:
    with running(bundle) as server:
        answer, result = client.run_during(
            predict_url(server),
            [body_of(TEXTS[:1])],
            lambda: [server.get("/health").status_code for _ in range(50)],
            rate=100,
        )
    assert answer == [200] * 50
    assert result.failed == {}


def test_refused_and_failed_requests_are_counted_and_reported(bundle: Bundle) -> None:
    with running(bundle, max_tasks=3, max_requests=LARGE_SHARE) as server, connected(server) as large:
        large.sendall(head(LARGE_REQUEST_BYTES + 1))  # holds the slot for large requests
        bodies = [body_of(TEXTS[:1]), LARGE, body_of(TEXTS[:4])]
        until(lambda: server.post("/predict", content=LARGE).status_code == 429)
        result = client.run(predict_url(server), bodies, requests=6)
        assert (len(result.latencies), result.refused, result.failed) == (2, 2, {"status 413": 2})
        with pytest.raises(SystemExit, match="status 413: 2; refused"):
            result.checked()
        with pytest.raises(SystemExit, match="could not start"):
            client.run(predict_url(server), bodies[1:], requests=1)
        with pytest.raises(SystemExit, match="could not start"):
            client.run(predict_url(server).replace("predict", "nothing"), bodies, requests=1)


def test_results_are_counted() -> None:
    def wrong(status: int, body: object, tasks: int) -> str | None:
        return failure_of(Response(status, json.dumps(body).encode(), b"", 0.0), Request(b"", tasks))

    assert wrong(200, {"results": [{"result": []}]}, 1) is None
    assert wrong(200, {"results": [{"result": []}]}, 2) == "1 results for 2 tasks"
    assert wrong(200, {"results": [{}]}, 1) == "a task that could not be predicted"
    assert wrong(200, [], 1) == "a response without results"
    assert wrong(500, {}, 1) == "status 500"
    assert median_stages([b"a;dur=1.5, b;dur=2", b"a;dur=2.5, b;dur=2", b"a;dur=9, b;dur=2", b""]) == {
        "a": 2.5,
        "b": 2.0,
    }


def test_responses_are_compared_with_the_expected_ones(bundle: Bundle) -> None:
    bodies = [body_of(TEXTS[:1]), body_of(TEXTS)]
    with running(bundle, max_requests=LARGE_SHARE) as server, connected(server) as large:
        expected = [server.post("/predict", content=body).content for body in bodies]
        large.sendall(head(LARGE_REQUEST_BYTES + 1))  # holds the slot for large requests
        until(lambda: server.post("/predict", content=LARGE).status_code == 429)
        with client.started(predict_url(server), [*bodies, LARGE], [*expected, b"{}"], requests=6) as load:
            result = load.result()
        assert (len(result.latencies), result.refused, result.failed) == (4, 2, {})
        assert set(result.refused_seconds) == {"429"}
        with client.started(
            predict_url(server), [bodies[0], body_of(["good film"])], [expected[0]] * 2, requests=6
        ) as load:
            result = load.result()
        assert (len(result.latencies), result.failed) == (3, {WRONG: 3})


def test_numbers_may_differ_by_the_tolerance() -> None:
    assert same(
        {"score": 0.5, "result": [{"choices": ["a"]}]}, {"score": 0.5 + 1e-7, "result": [{"choices": ["a"]}]}
    )
    for other in ({"score": 0.6, "result": []}, {"score": 0.5, "result": [1]}, {"score": 0.5}, [0.5]):
        assert not same({"score": 0.5, "result": []}, other)
    assert gives_reason(b'{"detail": "full"}')
    assert not any(map(gives_reason, (b"", b"[]", b'{"detail": ""}', b"{}")))


def test_an_open_loop_of_gets_runs_until_it_is_stopped(bundle: Bundle) -> None:
    with (
        running(bundle) as server,
        client.started(
            predict_url(server).replace("predict", "health"), [], get=True, rate=500, even=True
        ) as started,
    ):
        for _ in range(20):
            server.get("/health")
        started.stop()
        result = started.result()
    assert result.failed == {}
    assert (result.late >= 0, result.busy > 0) == (True, True)


@pytest.mark.slow
def test_memory_of_a_server_and_of_its_workers(bundle: Bundle) -> None:
    with served(bundle.path, "--device", "cpu", "--workers", "2") as server:
        assert server.client.get("/health").json()["worker"]["of"] == 2
        assert server.memory_mb() > 0
        assert len(server.process.children(recursive=True)) >= 2


@pytest.mark.slow
def test_large_request(figures_of: Benchmark) -> None:
    from benchmarks.large_request import main

    figures = figures_of(main, "large_request", "--tasks", 300, "--rounds", 1, "--idle", 0.1)
    assert figures["tasks"] == 300
    assert figures["idle"]["singles"] > 0
    assert figures["p99_times_idle"] == figures["during"]["p99_ms"] / figures["idle"]["p99_ms"]
    assert figures["share_of_ceiling"] == pytest.approx(
        figures["tasks_per_s"] / figures["without_server_tasks_per_s"]
    )


@pytest.mark.slow
def test_stage_breakdown(figures_of: Benchmark) -> None:
    from benchmarks.stage_breakdown import STAGES, main

    figures = figures_of(main, "stage_breakdown", "--tasks", 300, "--rounds", 1, "--singles", 5)
    assert (figures["large"]["tasks"], figures["single"]["tasks"]) == (300, 1)
    for each in figures.values():
        assert set(each["us_per_task"]) == set(STAGES)
        assert each["sum_us"] == pytest.approx(sum(each["us_per_task"].values()))
        assert each["text_waited_us"] == pytest.approx(each["us_per_task"]["queue"] * each["tasks"])
        assert each["total_us"] > 0


@pytest.mark.slow
def test_ready(figures_of: Benchmark) -> None:
    from benchmarks.ready import main

    figures = figures_of(main, "ready", "--rounds", 1)
    assert 0 < figures["seconds_to_health"] < figures["seconds_to_first_answer"]
    assert figures["memory_mb"] > 0


@pytest.mark.slow
def test_bulk(figures_of: Benchmark, tmp_path: Path) -> None:
    from benchmarks.bulk import main

    assert figures_of(main, "bulk", "--rounds", 1, "--made-up", 7)["reviews"] == 7
    (tmp_path / "in.csv").write_text("review\ngood\nbad\n")
    figures = figures_of(main, "bulk", tmp_path / "in.csv", "--rounds", 1)
    assert (figures["reviews"], figures["rounds"]) == (2, 1)
    assert figures["reviews_per_s"] == pytest.approx(2 / figures["seconds"])
    assert figures["peak_memory_mb"] > 10


@pytest.mark.slow
def test_latency(figures_of: Benchmark) -> None:
    from benchmarks.latency import main

    figures = figures_of(main, "latency", "--rounds", 1, "--seconds", 0.2, "--shares", "20,50")
    assert figures["capacity_per_s"] > 0
    assert [load["share"] for load in figures["loads"]] == [0.2, 0.5]
    for load in figures["loads"]:
        assert load["p50_ms"] <= load["p99_ms"] <= load["longest_ms"]
        assert (load["per_s"] > 0, load["refused"]) == (True, 0)


@pytest.mark.slow
def test_scaling(figures_of: Benchmark) -> None:
    from benchmarks.scaling import main

    options = (
        "--rounds",
        1,
        "--seconds",
        0.1,
        "--clients",
        "1,2",
        "--tasks",
        "1,10",
        "--tokens",
        "16,9000",
        "--workers",
        "1,2",
    )
    figures = figures_of(main, "scaling", *options)
    assert {part: [next(iter(each.values())) for each in points] for part, points in figures.items()} == {
        "clients": [1, 2], "tasks": [1, 10], "lengths": [16, 9000], "workers": [1, 2],
    }  # fmt: skip
    assert set(figures["clients"][0]) == {"clients", "requests_per_s", "p50_ms", "p99_ms"}
    assert set(figures["tasks"][0]) == {"tasks_per_request", "tasks_per_s", "p50_ms"}
    assert set(figures["lengths"][0]) == {"tokens", "tasks_per_s", "us_per_task"}
    assert set(figures["workers"][0]) == {"workers", "singles_per_s", "bulk_tasks_per_s", "memory_mb"}


def test_scaling_makes_texts_of_exact_lengths() -> None:
    from benchmarks.scaling import texts_of_length
    from server.encoders.cnn.basic_english import basic_english

    tokens = [token for text in TEXTS for token in basic_english(text)]
    for length in (1, 7, 10 * len(tokens)):
        assert {len(basic_english(text)) for text in texts_of_length(tokens, length)} == {length}


@pytest.mark.slow
def test_overload(figures_of: Benchmark) -> None:
    from benchmarks.overload import main

    figures = figures_of(main, "overload", "--seconds", 2, "--times", "2,3", "--every", 0.5, "--large", 300)
    assert [load["times"] for load in figures["loads"]] == [2, 3]
    for load in figures["loads"]:
        assert load["mixed"]["right"] > 0
        assert load["health"]["right"] > 0
        for each in (load["mixed"], load["large"], load["health"]):
            assert each["requests"] == each["right"] + each["refused"]["requests"]
            assert (each["wrong"], each["server_errors"], each["failed"]) == (0, 0, {})
        assert all(memory > 10 for memory in load["memory_mb"])
        assert load["cores_of_server"] > 0
        assert 0 < load["seconds_to_usual"] < PATIENCE


@pytest.mark.slow
def test_soak(figures_of: Benchmark) -> None:
    from benchmarks.soak import main

    figures = figures_of(
        main, "soak", "--minutes", 0.05, "--reload-every", 0.2, "--look-every", 0.2, "--large", 300
    )
    assert figures["failed"] == {}
    assert (figures["wrong"], figures["wrong_at_the_end"]) == (0, 0)
    assert figures["reloads"] >= 2
    assert {"GET /health", "POST /setup", "POST /predict", "POST /admin/reload", "disconnected"} <= set(
        figures["sent"]
    )
    assert all(memory > 10 for memory in figures["memory_mb"])
    for name in ("descriptors", "threads"):
        assert all(count > 0 for count in figures[name].values())


def test_a_reversed_vocabulary_gives_other_predictions(bundle: Bundle, tmp_path: Path) -> None:
    from benchmarks.mixed_load import Recorded
    from benchmarks.soak import reversed_vocabulary

    with running(bundle, read_bundle(reversed_vocabulary(bundle.path, tmp_path / "other"))) as server:
        mine, others = (
            server.post(f"{path}/predict", content=body_of(TEXTS)).content for path in ("", "/other")
        )
    assert failure_of(Response(200, others, b"", 0.0), Request(b"", len(TEXTS), mine)) == WRONG
    recorded = Recorded(b"", len(TEXTS), [mine, others])
    responses = [
        Response(status, body, b"", 0.0) for status, body in ((200, mine), (200, others), (429, mine))
    ]
    assert [*map(recorded.failure_of, responses)] == [None, None, "refused with 429"]
    mixed = json.dumps(
        {"results": json.loads(mine)["results"][:1] + json.loads(others)["results"][1:]}
    ).encode()
    assert recorded.failure_of(Response(200, mixed, b"", 0.0)) == WRONG


def test_growth_is_from_the_first_tenth_to_the_last() -> None:
    from benchmarks.soak import growth

    assert growth([100.0] * 15 + [110.0] * 5) == pytest.approx(0.1)
    assert growth([100.0, 300.0, 100.0]) == 0
