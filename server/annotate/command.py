"""The command `prelabel annotate`: opens Label Studio and the source of predictions, runs, and reports."""

import os
import time
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console

from server.annotate.accept import AcceptResult, AcceptRun
from server.annotate.backend_source import open_backend
from server.annotate.background import in_background
from server.annotate.console import (
    LEAVING,
    STOPPED,
    exit_at_once,
    exit_status,
    progress_bar,
    show,
    show_accepted,
    stop_on_ctrl_c,
)
from server.annotate.options import AnnotateOptions
from server.annotate.prediction_source import OpenSource, open_bundle
from server.annotate.run import AnnotateRun
from server.label_studio.api_client import Api
from server.label_studio.credentials import basic_auth, token, web_address
from server.label_studio.project_tasks import read_project
from server.settings import Settings


def annotate_project(
    label_studio: str,
    options: AnnotateOptions,
    settings: Settings,
    backend: str | None,
    auth: str | None,
    extra_params: dict[str, Any],
    console: Console,
) -> int:
    """Annotate a project, print the summary to stdout, and return the exit status. Raises PrelabelError.

    Predictions come from the bundle of the settings, or from `backend`, set up with those `extra_params` that
    are not None. The run has its own thread, so that a second Ctrl-C can leave whatever request is under way.
    """
    options.check(extra_params.get("score"))
    if options.accept_above is not None:
        return _accept(label_studio, options, _source(settings, backend, auth, extra_params), console)
    api = Api(web_address("--label-studio", label_studio), token(os.environ))
    opening = _source(settings, backend, auth, extra_params)
    with (
        stop_on_ctrl_c(console) as stop,
        progress_bar(console, dry_run=options.dry_run) as on_progress,
    ):
        run = AnnotateRun(api, options, stop=stop, on_progress=on_progress)
        running = in_background(lambda: _run(run, opening))
        try:
            error = running.exception()
            left = False
        except KeyboardInterrupt:
            error, left = None, True
    if run.result is not None:
        show(run.result, options, Console())
    if left:
        console.print(LEAVING, soft_wrap=True)
        exit_at_once(STOPPED)
    if error is not None:
        raise error
    return exit_status(run.result, stop)


def _accept(
    label_studio: str, options: AnnotateOptions, opening: AbstractContextManager[OpenSource], console: Console
) -> int:
    """Make annotations of certain predictions, print the summary, and return the exit status."""
    api = Api(web_address("--label-studio", label_studio), token(os.environ))
    with stop_on_ctrl_c(console) as stop, console.status("looking at the tasks") as status, opening as source:

        def on_progress(result: AcceptResult) -> None:
            status.update(f"{result.accepted:,} accepted of {result.looked_at:,} tasks without an annotation")

        run = AcceptRun(api, options, stop, on_progress)
        project = read_project(api.get, options.project)
        result = run.run(source(options.project, project["label_config"]))
    show_accepted(result, options, Console())
    return STOPPED if stop.is_set() else int(bool(result.failed))


def _run(run: AnnotateRun, opening: AbstractContextManager[OpenSource]) -> None:
    with opening as open_source:
        run.run(open_source)


def _source(
    settings: Settings, backend: str | None, auth: str | None, extra_params: dict[str, Any]
) -> AbstractContextManager[OpenSource]:
    if backend is None:
        return open_bundle(settings)
    given = {name: value for name, value in extra_params.items() if value is not None}
    return open_backend(web_address("--backend", backend), basic_auth(auth, os.environ), given, time.sleep)
