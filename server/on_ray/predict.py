"""`prelabel predict --on-ray`: predicts the parts of a folder in parallel on a cluster.

    parts ─▶ Ray Data ─▶ processes with the bundle's engine ─▶ OUT, file by file

Ray Data distributes parts, not rows, and reassigns the parts of a failed node. Each process reads, chunks and
predicts a part exactly as a local run would, so the results are the same. Every node must reach IN and OUT by
the same path.
"""

import logging
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext

from server.bundle import read_bundle
from server.errors import BadBundle, BadInput, PrelabelError
from server.label_studio.labeling_config import LabelingPlan
from server.offline.classifier import CHUNK, open_classifier
from server.offline.labeler import Labeler
from server.offline.predict_file import Progress, write_tasks
from server.offline.predict_plan import PredictOptions, plan_of
from server.offline.records import open_records
from server.offline.row_texts import RowText
from server.offline.truncation import Truncation
from server.on_ray.cluster import connected
from server.on_ray.options import Resources, settings_for_node
from server.on_ray.outputs import open_output
from server.on_ray.parts import OutputTarget, Part, find_parts
from server.settings import Settings

MAX_ERRORS_SHOWN = 5
"""Maximum number of errors in the message; the rest are counted."""


@dataclass(frozen=True)
class PredictJob:
    """Passed to every process. `version` is the bundle's version, which every node must have."""

    settings: Settings
    plan: LabelingPlan
    text: RowText | None
    version: str
    truncation: Truncation | None
    target: OutputTarget
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class RayPredictResult:
    """`parts` in total, of which `skipped` were done before; `rows`, `without_text` and `truncated`
    count those of all; `errors`: one message per failed part; `nodes`: IDs of the nodes that took part.
    """

    parts: int
    skipped: int
    rows: int
    without_text: int
    truncated: int
    errors: tuple[str, ...]
    nodes: frozenset[str]


def plan_job(
    source: Path, target: OutputTarget, settings: Settings, resources: Resources, options: PredictOptions
) -> PredictJob:
    """Raises BadBundle, BadInput, BadLabelConfig, BadSetting."""
    settings = settings_for_node(settings, resources)
    bundle = read_bundle(settings.bundle[0])
    plan, text = plan_of(options, bundle, settings)
    deciding = (
        settings.scoring.version(bundle.version),
        settings.engine,
        settings.device,
        settings.budget(settings.device),
        plan,
        text,
        CHUNK,
    )
    return PredictJob(
        settings,
        plan,
        text,
        bundle.version,
        Truncation.of(bundle),
        target,
        tuple(find_parts(source.resolve(), target, deciding)),
    )


def predict_on_ray(
    job: PredictJob, resources: Resources, address: str, on_progress: Callable[[int, int], None]
) -> RayPredictResult:
    """Predict the missing parts on the cluster at `address`. Calls `on_progress(rows, bytes of the input)`
    after each part.

    A part that fails does not affect the others. Raises BadSetting, BadBundle, BadInput.
    """
    finished = [job.target.done(part) for part in job.parts]
    progress = [each for each in finished if each is not None]
    rows, size = (
        sum(each.rows for each in progress),
        sum(part.size for part, each in zip(job.parts, finished, strict=True) if each is not None),
    )
    without_text = sum(each.without_text for each in progress)
    truncated = sum(each.truncated for each in progress)
    missing = [number for number, each in enumerate(finished) if each is None]
    errors, nodes = list[str](), set[str]()
    on_progress(rows, size)
    if missing:
        try:
            job.target.state_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{job.target.folder}: cannot be written ({error.strerror}).") from None
        with connected(address):
            for result in _results(job, missing, resources):
                if result["error"]:
                    errors.append(result["error"])
                rows += result["rows"]
                size += job.parts[result["part"]].size
                without_text += result["without_text"]
                truncated += result["truncated"]
                nodes.add(result["node"])
                on_progress(rows, size)
        job.target.clean()
    return RayPredictResult(
        len(job.parts), len(progress), rows, without_text, truncated, tuple(errors), frozenset(nodes)
    )


def check_complete(result: RayPredictResult) -> None:
    """Raises BadInput with the errors if parts failed, because the output is then incomplete."""
    if result.errors:
        hidden = len(result.errors) - MAX_ERRORS_SHOWN
        more = f" And {hidden} more." if hidden > 0 else ""
        raise BadInput(
            f"{len(result.errors)} of {result.parts} parts failed, the others are done: "
            f"{' '.join(result.errors[:MAX_ERRORS_SHOWN])}{more}"
        )


def _results(job: PredictJob, missing: Sequence[int], resources: Resources) -> Any:
    """The results of `PartLabeler`, in the order in which parts finish."""
    # Ray Data reports to its own log file; the progress bar shows rows and bytes
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    DataContext.get_current().enable_progress_bars = False
    actors = min(len(missing), max(1, int(ray.cluster_resources().get("CPU", 1)) // resources.cpus))
    # one block per part, so that each is assigned and retried separately
    parts = ray.data.from_items([{"part": number} for number in missing], override_num_blocks=len(missing))
    processes = ActorPoolStrategy(
        min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=1
    )
    return parts.map_batches(
        PartLabeler,
        fn_constructor_args=(job,),
        batch_size=1,
        compute=processes,
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
    ).iter_rows()


class PartLabeler:
    """Predicts parts in an actor of Ray Data: part number → result. Ray Data has no start hook, so the
    constructor opens the engine.
    """

    def __init__(self, job: PredictJob) -> None:
        self.job = job
        self.classifier = open_classifier(job.settings)
        found = self.classifier.bundle.version
        if found != job.version:
            raise BadBundle(
                f"{job.settings.bundle[0]} on {socket.gethostname()}: expected {job.version}, found "
                f"{found}; copy the same bundle to that folder on each node."
            )
        self.classifier.__enter__()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        (number,) = batch["part"]
        part = self.job.parts[number]
        error = ""
        try:
            # Ray Data assigns a part again if its result was lost with a node
            progress = self.job.target.done(part) or self._predict(part)
        except PrelabelError as failure:
            progress, error = Progress(key=""), str(failure)
        result = {
            "part": number,
            "rows": progress.rows,
            "without_text": progress.without_text,
            "truncated": progress.truncated,
            "error": error,
            "node": ray.get_runtime_context().get_node_id(),
        }
        return {name: np.array([value]) for name, value in result.items()}

    def _predict(self, part: Part) -> Progress:
        target, progress = self.job.target, Progress(key=part.key)
        # a unique name: an abandoned process may still be writing
        whole = target.state_folder / f"{uuid.uuid4().hex}.part"
        labeler = Labeler(self.classifier, self.job.plan, self.job.settings.scoring, self.job.text)
        try:
            with (
                open_records(part.source, part.span) as (records, _),
                open_output(whole, target.suffix) as writer,
            ):
                for _ in write_tasks(records, writer, labeler, progress, part.source):
                    pass
            target.publish(whole, part, progress)
        except OSError as error:
            raise BadInput(
                f"{target.file(part)}: cannot be written on {socket.gethostname()} ({error.strerror}); "
                "every node needs access to this path."
            ) from None
        finally:
            whole.unlink(missing_ok=True)
        return progress
