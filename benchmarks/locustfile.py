"""The load that Label Studio makes on an ML backend, for Locust: any backend, at any address.

    .venv/dev/bin/locust -f benchmarks/locustfile.py --host http://HOST:9090 --headless -u 10 -t 30s [Annotator | Retrieve] [--shape ramp]

Annotator opens one task after another: GET /health, POST /setup and POST /predict with one task, each over a
new TCP connection, as Label Studio has it. Retrieve is "Retrieve predictions": the same with all tasks in one
POST, 100, 1,000 or 20,000 of them (--sizes). Without a name both come, nine to one. `--shape ramp` doubles
the users every --step seconds up to -u, to see where a backend has enough; names then carry the number of
users. --think is what users wait between two tasks.

Each answer is checked: as many results as tasks, or it is a failure. 429 and 503 stand under names of their
own, as refusals that a full server means. What a backend tells in Server-Timing stands beside the requests,
by stage, with the type "timing".
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
from locust import FastHttpUser, LoadTestShape, events, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment

from benchmarks.label_studio import HEADERS, body_of, setup_body
from benchmarks.load_generator import PATIENCE
from benchmarks.load_result import stages_of
from benchmarks.response_check import REFUSALS
from benchmarks.texts import numbers_of, texts_of

SINGLES = 1000
"""Different tasks that annotators open."""

BODIES: dict[int, list[bytes]] = {}
"""Bodies for /predict by number of tasks, made before the test starts, for making a large one takes a second.
"""


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    options = parser.add_argument_group("Label Studio")
    options.add_argument(
        "--reviews", type=Path, help="File with a column `review`; made-up texts without one."
    )
    options.add_argument(
        "--sizes",
        default="100,1000,20000",
        help="Tasks in a request of Retrieve, separated by commas; each in turn.",
    )
    options.add_argument(
        "--think", type=float, default=0.0, help="Seconds that a user waits between two tasks."
    )
    options.add_argument(
        "--shape",
        choices=("steady", "ramp"),
        default="steady",
        help="All users at once, or twice as many step by step.",
    )
    options.add_argument("--step", type=float, default=10.0, help="Seconds of one step of the ramp.")


@events.test_start.add_listener
def make_bodies(environment: Environment, **_: Any) -> None:
    asked = options_of(environment)
    sizes = numbers_of(asked.sizes) if Retrieve in environment.user_classes else []
    texts = texts_of(asked.reviews, max([SINGLES, *sizes]))
    BODIES.update({size: [body_of(texts[:size])] for size in sizes})
    BODIES[1] = [body_of([text]) for text in texts[:SINGLES]]


def options_of(environment: Environment) -> Namespace:
    return cast("Namespace", environment.parsed_options)


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def users_at(elapsed: float, step: float, most: int) -> int | None:
    """Users of a ramp after `elapsed` seconds: 1, then twice as many each step, `most` in the last one. None
    after that.
    """
    number = int(elapsed / step)
    if number and 1 << (number - 1) >= most:
        return None
    return min(1 << number, most)


class Shape(LoadTestShape):
    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None  # noqa: S101 - Locust sets it
        asked, elapsed = options_of(self.runner.environment), self.get_run_time()
        if asked.run_time and elapsed >= asked.run_time:
            return None
        users = asked.num_users or 1
        if asked.shape == "steady":
            return users, asked.spawn_rate or users
        now = users_at(elapsed, asked.step, users)
        return (now, now) if now is not None else None


class LabelStudio(FastHttpUser):
    """What annotators and "Retrieve predictions" have in common."""

    abstract = True
    network_timeout = PATIENCE
    # Label Studio leaves its connections after one request, whatever it says of keeping them; here the header
    # makes the client do so
    default_headers = HEADERS | {"Connection": "close"}

    def wait_time(self) -> float:
        return cast("float", options_of(self.environment).think)

    def predict(self, body: bytes, tasks: int) -> None:
        """What Label Studio does for any prediction: it asks whether the backend is up, sets it up if so, and
        sends the tasks.
        """
        with self.asked("GET", "/health", "/health") as answer:
            if answer.status_code != 200:
                return
        with self.asked("POST", "/setup", "/setup", setup_body()) as answer:
            if answer.status_code == 200 and not value_of(answer, "model_version"):
                answer.failure("no model_version in the answer")
        with self.asked("POST", "/predict", f"/predict {counted(tasks, 'task')}", body) as answer:
            if answer.status_code == 200:
                found = value_of(answer, "results")
                if not isinstance(found, list) or len(found) != tasks:
                    answer.failure(
                        f"{len(found) if isinstance(found, list) else 'no'} results for {tasks} tasks"
                    )

    @contextmanager
    def asked(
        self, method: str, path: str, name: str, body: bytes | None = None
    ) -> Iterator[ResponseContextManager]:
        """A request under `name`, with what its answer tells of itself; the block says what else is wrong
        with it.
        """
        name += self.step()
        with self.client.request(
            method, path, name=name, data=cast("Any", body), catch_response=True
        ) as answer:
            headers: Mapping[str, Any] = answer.headers or {}
            for stage, spent in stages_of(headers.get("server-timing") or "").items():
                self.environment.events.request.fire(
                    request_type="timing",
                    name=f"{name}: {stage}",
                    response_time=spent,
                    response_length=0,
                    exception=None,
                    context={},
                )
            if answer.status_code in REFUSALS:
                answer.request_meta["name"] = f"{name}, refused with {answer.status_code}"
                answer.success()
            yield answer

    def step(self) -> str:
        """Behind names, so that a ramp's table is read step by step."""
        runner = self.environment.runner
        if runner is None or options_of(self.environment).shape == "steady":
            return ""
        return f", {counted(runner.target_user_count, 'user')}"


def value_of(answer: ResponseContextManager, key: str) -> Any:
    try:
        found = msgspec.json.decode(answer.content or b"")
    except ValueError:
        return None
    return found.get(key) if isinstance(found, dict) else None


class Annotator(LabelStudio):
    weight = 9
    opened = 0

    @task
    def open_a_task(self) -> None:
        bodies = BODIES[1]
        self.opened += 1
        self.predict(bodies[self.opened % len(bodies)], 1)


class Retrieve(LabelStudio):
    weight = 1
    times = 0

    @task
    def retrieve_predictions(self) -> None:
        sizes = numbers_of(options_of(self.environment).sizes)
        size = sizes[self.times % len(sizes)]
        self.times += 1
        self.predict(BODIES[size][0], size)
