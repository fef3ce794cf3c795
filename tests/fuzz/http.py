"""Requests to every route of a complete server, in this process or through a socket of a real one.

An input is the request as sent over the connection, so that both targets accept the same inputs.
"""

import asyncio
import json
import logging
import math
import socket
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp, Message

from server.api.open_inference_codec import HEADER_LENGTH
from server.app import build_app
from server.bundle import Bundle
from server.label_studio.labeling_config import TUTORIAL_CONFIG
from server.log_setup import JsonLines, TextLines
from server.settings import load_settings
from server.transport.responses import is_open_inference
from tests.fuzz.mutate import WORDS, changed_json, changed_xml, cut
from tests.fuzz.target import Finding
from tests.serving import predict_body

CORPUS = Path(__file__).with_name("corpus") / "bodies"
TOKEN = "administrators-token"
USER, PASSWORD = "studio", "a password"
KNOWN_EVERY = 1_000

PROTOCOL_PATHS = (
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/tiny",
    "/v2/models/tiny/ready",
    "/openapi.json",
)
PATHS = (
    "/",
    "/health",
    "/live",
    "/ready",
    "/metrics",
    "/setup",
    "/predict",
    "/webhook",
    "/versions",
    "/admin/reload",
    "/admin/rollback",
    *PROTOCOL_PATHS,
)
ROUTES = {
    "none",
    *PATHS,
    *(
        f"/v2/models/{{name}}{of}{what}"
        for of in ("", "/versions/{version}")
        for what in ("", "/ready", "/infer")
    ),
}
"""Route labels of the metrics, including that of requests without a route."""

ODD_PATHS = (
    "",
    "*",
    "//",
    "/.",
    "/..",
    "/nowhere",
    "/predict/",
    "/PREDICT",
    "//predict",
    "/predict//",
    "/%70redict",
    "/%2e%2e/etc/passwd",
    "/tiny",
    "/tiny/",
    "/tiny/predict",
    "/other/predict",
    "/both/predict",
    "/both/setup",
    "/both/",
    "/p",
    "/p/",
    "/p/predict",
    "/p/both/versions",
    "/p/p/health",
    "/tiny/tiny/health",
    "/docs",
    "/metrics",
    "/v2/",
    "/v2//",
    "/v2/models",
    "/v2/models//infer",
    "/v2/models/%00/infer",
    "/v2/models/tiny%2finfer",
    "/v2/models/tiny/versions//infer",
    "/v2/models/both/versions/é/ready",
    "/p/v2/models/both/infer",
    "/tiny/v2/models/tiny",
    "/v2/models/" + "a" * 10_000 + "/infer",
    "/p/openapi.json",
    "/predict?a=b",
    "/predict?\udcff",
    "/nowhere?\udcff",
    "/predict/?\udcff",
    "/%ff",
    "/%00",
    "/predict%00",
    "/predict;x=1",
    "/predict#x",
    "http://x/predict",
    "http://[/x",
    "/" + "a" * 10_000,
    "/" + "%41" * 3_000,
    "/é",
    "/\ud83d",
    "/predict\t",
    "/tiny%2fpredict",
    "/\\predict",
    "/%s",
)
METHODS = (
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "get",
    "FOO",
    "",
    "P\0ST",
    "PRI",
)
HEADERS = (
    ("host", "x"),
    ("host", "["),
    ("host", "[::1"),
    ("host", "a:b"),
    ("host", ""),
    ("host", "é"),
    ("host", "evil/../"),
    ("host", "a@b#c"),
    ("host", "x" * 5_000),
    ("content-length", "-1"),
    ("content-length", "9" * 30),
    ("content-length", "9" * 5_000),
    ("content-length", "0x10"),
    ("content-length", "²"),
    ("content-length", "1"),
    ("inference-header-content-length", "0"),
    ("inference-header-content-length", "7"),
    ("inference-header-content-length", "9" * 5_000),
    ("inference-header-content-length", "²"),
    ("content-encoding", "identity"),
    ("content-length", "99999999999"),
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "gzip"),
    ("content-encoding", "gzip"),
    ("expect", "100-continue"),
    ("content-type", "text/plain"),
    ("content-type", "application/json; charset=utf-16"),
    ("content-type", "\xff"),
    ("accept-encoding", "gzip;q=x"),
    ("authorization", "Basic"),
    ("authorization", "Basic !"),
    ("authorization", "Basic Og=="),
    ("authorization", "Basic /////w=="),
    ("authorization", "Bearer \xff"),
    ("authorization", "basic " + "A" * 5_000),
    ("authorization", ""),
    ("authorization", "\xa0"),
    ("x-request-id", "a\tb"),
    ("x-request-id", "x" * 5_000),
    ("x-request-id", "mine"),
    ("user-agent", "heartex/1.23.2"),
    ("upgrade", "websocket"),
    ("upgrade", "h2c"),
    ("connection", "upgrade"),
    ("connection", "close"),
    ("x-forwarded-for", "1.2.3.4, é"),
    ("x-forwarded-proto", "javascript"),
    ("range", "bytes=0-"),
    ("cookie", "=;;="),
    ("te", "trailers"),
    ("x", "y" * 60_000),
    ("", "x"),
)


@dataclass(frozen=True)
class Call:
    """A request. `right_length`: whether its Content-Length is right."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    right_length: bool = True

    def written(self) -> bytes:
        headers = [("host", "127.0.0.1"), *self.headers]
        if self.right_length and self.body:
            headers.append(("content-length", str(len(self.body))))
        head = (
            f"{self.method} {self.path} HTTP/1.1\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in headers)
            + "\r\n"
        )
        return head.encode("utf-8", "surrogatepass") + self.body


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


def seeds() -> list[Call]:
    """Requests of Label Studio, of clients of the Open Inference Protocol and others: every body to its
    routes, and requests without a body.
    """
    calls = [
        Call("GET", path)
        for path in ("/", "/health", "/live", "/ready", "/metrics", "/versions", *PROTOCOL_PATHS)
    ]
    for path in sorted(CORPUS.iterdir()):
        route, body = path.name.partition("-")[0].partition(".")[0], path.read_bytes()
        if route == "infer":
            # with tensors after it, the JSON ends at the line feed
            length_header = ((HEADER_LENGTH, str(body.index(b"\n") + 1)),) if path.suffix == ".bin" else ()
            calls += [
                Call("POST", f"{path}/infer", length_header, body)
                for path in ("/v2/models/tiny", "/p/v2/models/both")
            ]
        else:
            calls += [
                Call("POST", f"{prefix}/{route}", (("content-type", "application/json"),), body)
                for prefix in ("", "/both", "/p/other")
            ]
    bearer = (("authorization", f"Bearer {TOKEN}"),)
    return [
        *calls,
        Call("POST", "/admin/reload", bearer, b'{"bundle": "tiny"}'),
        Call("POST", "/admin/rollback", bearer, b'{"bundle": "nothing"}'),
    ]


def json_of(body: bytes, headers: dict[str, str]) -> bytes:
    """The JSON part of a body, before its tensors."""
    return body[: int(headers[HEADER_LENGTH])] if HEADER_LENGTH in headers else body


class Requests:
    """Generates requests from `seeds`."""

    def __init__(self) -> None:
        self._seeds = [
            (call, json.loads(json_of(call.body, dict(call.headers))) if call.body else {})
            for call in seeds()
        ]
        self._bodies = [call.body for call, _ in self._seeds if call.body]

    def make(self, random: Random) -> Call:
        call, value = random.choice(self._seeds)
        if call.path == "/admin/reload" and random.random() < 0.95:
            call = replace(call, headers=())  # an accepted request takes the time of a hundred others
        for _ in range(random.choice((1, 1, 1, 2))):
            match random.randrange(12):
                case 0 | 1 | 2 | 3 | 4 | 5 | 6 if call.body:
                    call = replace(call, body=changed_json(value, random, changed_xml))
                case 7 | 8 | 9 if call.body:
                    call = replace(call, body=cut(call.body, random, self._bodies))
                case 10:
                    call = replace(
                        call,
                        path=random.choice((*PATHS, *ODD_PATHS)),
                        method=random.choice((call.method, *METHODS)),
                    )
                case _:
                    headers = [
                        *call.headers,
                        *random.choices(HEADERS, k=random.choice((1, 2, 5))),
                        ("x-odd", random.choice(WORDS)),
                    ]
                    call = replace(call, headers=tuple(headers), right_length=random.random() < 0.8)
        return call


class Watch(logging.Handler):
    """Log lines: each must be a single line in both formats, and none may report an internal error."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.alarms: list[str] = []
        self._json, self._text = JsonLines(), TextLines()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            error = record.exc_info[1] if record.exc_info else None
            frames = traceback.extract_tb(error.__traceback__)[-2:] if error else []
            where = " ← ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
            self.alarms.append(f"logged: {record.getMessage()[:24]!r} {type(error).__name__} at {where}")
        elif record.name.startswith(("prelabel", "server")):
            for text in (self._json.format(record), self._text.format(record)):
                if "\n" in text or "Traceback" in text:
                    self.alarms.append("logged: more than one line")

    @contextmanager
    def watching(self) -> Iterator[None]:
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)


class InProcess:
    """The complete application, called as uvicorn calls it."""

    limit = 5.0

    def __init__(self, name: str, bundles: Sequence[Bundle], weight: float, **options: Any) -> None:
        self.name, self.weight = name, weight
        names = [bundle.path.name for bundle in bundles]
        several = {"ensemble": f"both={','.join(names)}"} if len(names) > 1 else {}
        settings = load_settings(
            bundle=tuple(bundle.path for bundle in bundles),
            device="cpu",
            engine="tables",
            path_prefix="/p",
            admin_token=TOKEN,
            **several,
            **options,
        )
        self._app = build_app(settings)
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._requests = Requests()
        self._watch = Watch()
        self._done = 0
        self._known = Call(
            "POST",
            "/predict",
            (("authorization", "Basic c3R1ZGlvOmEgcGFzc3dvcmQ="),),
            json.dumps(predict_body(["a good film", "bad plot"], project="9.9")).encode(),
        )
        self._answer = b""

    def __enter__(self) -> "InProcess":
        self._runner.__enter__()
        self._runner.run(self._stack.enter_async_context(self._app.router.lifespan_context(self._app)))
        self._answer = self._known_answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def make(self, random: Random) -> bytes:
        return self._requests.make(random).written()

    def check(self, data: bytes) -> None:
        self._done += 1
        if self._done % KNOWN_EVERY == 0 and self._known_answer() != self._answer:
            raise Finding("a known request is answered otherwise than at first")
        self._watch.alarms.clear()
        with self._watch.watching():
            answer, scope, body = self._called(data)
        if self._watch.alarms:
            raise Finding(self._watch.alarms[0])
        check_answer(scope["method"], scope["path"], body, answer)

    def _called(self, data: bytes) -> tuple[Answer, dict[str, Any], bytes]:
        scope, body = scope_of(data)
        return self._runner.get_loop().run_until_complete(called(self._app, scope, body)), scope, body

    def _known_answer(self) -> bytes:
        answer, _, _ = self._called(self._known.written())
        if answer.status != 200:
            raise Finding(f"a known request is answered {answer.status}: {bytes(answer.body[:200])!r}")
        return bytes(answer.body)


async def called(app: ASGIApp, scope: dict[str, Any], body: bytes) -> Answer:
    """The response of `app` to a request whose body arrives in up to three parts."""
    size = len(body) // 3 + 1 if len(body) % 5 == 0 else len(body) or 1
    parts = [body[begin : begin + size] for begin in range(0, len(body), size)] or [b""]
    answer, ended = Answer(), asyncio.Event()

    async def receive() -> Message:
        if parts:
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]
            }
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    ended.set()
    return answer


def scope_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The ASGI scope of a request that uvicorn's parser accepts."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, _, rest = first.partition(b" ")
    path, _, query = rest.rpartition(b" ")[0].partition(b"?")
    headers = [
        (name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 9090),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "method": method.decode("latin-1"),
        "root_path": "",
        "path": unquote(path.decode("latin-1")) or "/",
        "raw_path": path,
        "query_string": query,
        "headers": headers,
        "state": {},
    }
    return scope, body


class OnlyTasks(msgspec.Struct):
    tasks: list[msgspec.Raw]


def check_answer(method: str, path: str, body: bytes, answer: Answer) -> None:
    """Check what must hold for every response. Raises Finding."""
    if answer.status >= 500 or answer.status < 200:
        raise Finding(f"status {answer.status} to {method} {path[:40]}")
    if b"Traceback (most recent" in answer.body and b"Traceback (most recent" not in body:
        raise Finding("a traceback in the answer")
    if answer.status in (301, 302, 307, 308) or method == "HEAD":
        return
    if answer.status == 200 and path.endswith("/metrics"):
        check_metrics(answer)
        return
    try:
        found = json.loads(json_of(bytes(answer.body), answer.headers))
    except ValueError:
        raise Finding(f"no JSON with status {answer.status} to {method} {path[:40]}") from None
    if answer.status >= 400:
        check_error(found, path, answer)
    elif method == "POST" and path.endswith("/predict"):
        check_results(found, body)
    elif method == "POST" and path.endswith("/infer"):
        check_tensors(found, answer)


def check_error(found: Any, path: str, answer: Answer) -> None:
    """An error response has a reason in the format of the path's protocol. Raises Finding."""
    if is_open_inference(path):
        if not (isinstance(found, dict) and found.keys() == {"error"} and found["error"]):
            raise Finding(f"an error that the protocol does not have, status {answer.status}")
        return
    if not (
        isinstance(found, dict)
        and (found.keys() >= {"error", "detail", "request_id", "status"} or "changes" in found)
    ):
        raise Finding(f"an error without its reason, status {answer.status}")
    if "request_id" in found and found["request_id"] != answer.headers.get("x-request-id"):
        raise Finding("an error whose request_id is not that of the header")


def check_metrics(answer: Answer) -> None:
    """The format of Prometheus, without label values from clients."""
    try:
        families = list(text_string_to_metric_families(answer.body.decode()))
    except ValueError:
        raise Finding("metrics that Prometheus does not take") from None
    routes = {
        sample.labels["route"] for family in families for sample in family.samples if "route" in sample.labels
    }
    if not routes <= ROUTES:
        raise Finding("a route of a client's own among the metrics")


def check_results(found: Any, body: bytes) -> None:
    """One prediction per task, in Label Studio's format; empty only if a text is too long, or all are: then
    the project learns labels that no model has.
    """
    try:
        tasks = len(msgspec.json.decode(body, type=OnlyTasks).tasks)
    except (ValueError, RecursionError):
        tasks = len(json.loads(body, parse_int=str)["tasks"])
    results = found["results"]
    if len(results) != tasks:
        raise Finding(f"{len(results)} results for {tasks} tasks")
    if not any(results):
        return
    for each in results:
        if not each and len(body) > 1_000_000:
            continue
        if not (
            each.keys() == {"model_version", "score", "result"}
            and 0 <= each["score"] <= 1
            and isinstance(each["result"], list)
        ):
            raise Finding("an invalid prediction")


def check_tensors(found: Any, answer: Answer) -> None:
    """Each output has as many values as its shape says, and all have the same number of texts."""
    behind = len(answer.body) - len(json_of(bytes(answer.body), answer.headers))
    for output in found["outputs"]:
        if "data" in output:
            size = math.prod(output["shape"])
            if len(output["data"]) != size:
                raise Finding("a tensor of another size than its shape")
        else:
            behind -= output["parameters"]["binary_data_size"]
    if len({output["shape"][0] for output in found["outputs"]}) != 1 or behind:
        raise Finding("tensors that do not fit together")


class ThroughSocket:
    """A running server at `address`; also gets input that is not HTTP. `log` is its log file."""

    name, limit, weight = "http, by socket", 5.0, 0.06

    def __init__(self, address: tuple[str, int], log: Path | None = None) -> None:
        self._address, self._log = address, log
        self._requests = Requests()
        self._seen = 0

    def make(self, random: Random) -> bytes:
        data = self._requests.make(random).written()
        match random.randrange(4):
            case 0:
                return cut(data, random)
            case 1:
                head, _, body = data.partition(b"\r\n\r\n")
                return cut(head, random) + b"\r\n\r\n" + body
        return data

    def check(self, data: bytes) -> None:
        """One connection, half-closed after the request. The response must be HTTP and not a server error."""
        with socket.create_connection(self._address, timeout=self.limit) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
                while part := connection.recv(65536):
                    answer += part
            except TimeoutError:
                raise Finding("no answer and no end of the connection") from None
            except OSError:
                answer = b""  # the server closed the connection before the request was sent
        if answer and not answer.startswith(b"HTTP/1.1 "):
            raise Finding(f"no HTTP: {answer[:60]!r}")
        if answer.startswith(b"HTTP/1.1 5"):
            raise Finding(f"{answer[:200]!r}")
        self._check_log()

    def _check_log(self) -> None:
        if self._log is None:
            return
        with self._log.open("rb") as log:
            log.seek(self._seen)
            new = log.read()
            self._seen += len(new)
        if b"Traceback" in new or b'"level":"error"' in new or b"  File " in new:
            raise Finding(f"logged: {new[-400:]!r}")


def huge_text(megabytes: int) -> bytes:
    """A request with a single text of that many megabytes."""
    body = b'{"tasks": [{"data": {"review": "%s"}}], "label_config": %s}' % (
        b"good " * (megabytes * 2**20 // 5),
        json.dumps(TUTORIAL_CONFIG).encode(),
    )
    return Call("POST", "/predict", body=body).written()
