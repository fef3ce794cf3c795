"""Label Studio's load on an ML backend, for Locust: any backend, at any address.

    .venv/dev/bin/locust -f benchmarks/locustfile.py --host http://HOST:9090 --headless -u 10 -t 30s
                         [Annotator | Retrieve] [--shape ramp]

Annotator opens one task after another: GET /health, POST /setup and POST /predict with one task, each over a
new TCP connection, as Label Studio does. Retrieve is "Retrieve predictions": the same with all tasks in one
POST: 100, 1,000 or 20,000 of them (--sizes). Without a name both run, nine to one. `--shape ramp` doubles the
users every --step seconds up to -u, to find the capacity of a backend; names then include the number of
users. --think is the pause of a user between two tasks.

Each response is checked: anything but one result for each task is a failure. 429 and 503, which a full server
returns, have names of their own. The stages of Server-Timing are shown next to the requests, with the type
"timing".
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
from benchmarks.response_check import REFUSED
from benchmarks.texts import numbers_of, texts_of

SINGLES = 1000
"""Number of different tasks that annotators open."""

BODIES: dict[int, list[bytes]] = {}
"""Bodies for /predict by number of tasks, made before the test starts: a large one takes a second."""


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    options = parser.add_argument_group("Label Studio")
    options.add_argument(
        "--reviews", type=Path, help="A file with a column `review`; without it, texts are made up."
    )
    options.add_argument(
        "--sizes",
        default="100,1000,20000",
        help="Tasks in the requests of Retrieve, in turn, separated by commas.",
    )
    options.add_argument(
        "--think", type=float, default=0.0, help="Seconds that a user pauses between two tasks."
    )
    options.add_argument(
        "--shape",
        choices=("steady", "ramp"),
        default="steady",
        help="All users at once, or twice as many at each step.",
    )
    options.add_argument("--step", type=float, default=10.0, help="Seconds of a step of the ramp.")


@events.test_start.add_listener
def make_bodies(environment: Environment, **_: Any) -> None:
    args = options_of(environment)
    sizes = numbers_of(args.sizes) if Retrieve in environment.user_classes else []
    texts = texts_of(args.reviews, max([SINGLES, *sizes]))
    BODIES.update({size: [body_of(texts[:size])] for size in sizes})
    BODIES[1] = [body_of([text]) for text in texts[:SINGLES]]


def options_of(environment: Environment) -> Namespace:
    return cast("Namespace", environment.parsed_options)


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def users_at(elapsed: float, step: float, most: int) -> int | None:
    """Users of a ramp after `elapsed` seconds: 1, doubled at each step up to `most`; None after that."""
    number = int(elapsed / step)
    if number and 1 << (number - 1) >= most:
        return None
    return min(1 << number, most)


class Shape(LoadTestShape):
    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None  # noqa: S101 - Locust sets it
        args, elapsed = options_of(self.runner.environment), self.get_run_time()
        if args.run_time and elapsed >= args.run_time:
            return None
        users = args.num_users or 1
        if args.shape == "steady":
            return users, args.spawn_rate or users
        now = users_at(elapsed, args.step, users)
        return (now, now) if now is not None else None


class LabelStudio(FastHttpUser):
    """The common base of Annotator and Retrieve."""

    abstract = True
    network_timeout = PATIENCE
    # Label Studio closes its connections after one request although it asks to keep them; this header makes
    # the client close them
    default_headers = HEADERS | {"Connection": "close"}

    def wait_time(self) -> float:
        return cast("float", options_of(self.environment).think)

    def predict(self, body: bytes, tasks: int) -> None:
        """Label Studio's requests for a prediction: it checks the backend's health, sets it up and sends
        tasks.
        """
        with self.send("GET", "/health", "/health") as response:
            if response.status_code != 200:
                return
        with self.send("POST", "/setup", "/setup", setup_body()) as response:
            if response.status_code == 200 and not value_of(response, "model_version"):
                response.failure("no model_version in the response")
        with self.send("POST", "/predict", f"/predict {counted(tasks, 'task')}", body) as response:
            if response.status_code == 200:
                found = value_of(response, "results")
                if not isinstance(found, list) or len(found) != tasks:
                    response.failure(
                        f"{len(found) if isinstance(found, list) else 'no'} results for {tasks} tasks"
                    )

    @contextmanager
    def send(
        self, method: str, path: str, name: str, body: bytes | None = None
    ) -> Iterator[ResponseContextManager]:
        """A request, recorded under `name` with the stages of its Server-Timing; the block checks its
        response.
        """
        name += self.step()
        with self.client.request(
            method, path, name=name, data=cast("Any", body), catch_response=True
        ) as response:
            headers: Mapping[str, Any] = response.headers or {}
            for stage, spent in stages_of(headers.get("server-timing") or "").items():
                self.environment.events.request.fire(
                    request_type="timing",
                    name=f"{name}: {stage}",
                    response_time=spent,
                    response_length=0,
                    exception=None,
                    context={},
                )
            if response.status_code in REFUSED:
                response.request_meta["name"] = f"{name}, refused with {response.status_code}"
                response.success()
            yield response

    def step(self) -> str:
        """A suffix of names with the number of users, so that a ramp's table shows each step."""
        runner = self.environment.runner
        if runner is None or options_of(self.environment).shape == "steady":
            return ""
        return f", {counted(runner.target_user_count, 'user')}"


def value_of(response: ResponseContextManager, key: str) -> Any:
    try:
        found = msgspec.json.decode(response.content or b"")
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
