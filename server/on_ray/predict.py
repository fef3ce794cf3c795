"""`prelabel predict --on-ray`: the parts of a folder, each read, predicted and written by one of many
processes on the cluster.

    parts ─▶ Ray Data ─▶ processes with the bundle's engine ─▶ OUT, file by file

Ray Data hands out parts, not rows: it gives a part that a dead node had to another, and the rows are read,
cut into chunks and answered as without it, so the answers are the same. IN and OUT lie where every node can
reach them by the same path.
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
from server.label_studio.labeling_config import LabelingPlan, read_plan
from server.offline.classifier import CHUNK, open_classifier
from server.offline.labeler import Labeler
from server.offline.predict_file import Progress, write_tasks
from server.offline.records import open_records
from server.on_ray.cluster import connected
from server.on_ray.options import Share, within
from server.on_ray.outputs import open_output
from server.on_ray.parts import OutputTarget, Part, find_parts
from server.settings import Settings

MOST_NAMED = 5
"""Refused parts that are told one by one."""


@dataclass(frozen=True)
class PredictJob:
    """What every process of a run needs. `version` is the bundle's, that each node must have."""

    settings: Settings
    plan: LabelingPlan
    version: str
    target: OutputTarget
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class RayPredictResult:
    """`refused` are sentences, one a part; `nodes` those that worked."""

    parts: int
    before: int
    rows: int
    without_text: int
    refused: tuple[str, ...]
    nodes: frozenset[str]


def plan_job(
    source: Path, target: OutputTarget, settings: Settings, share: Share, label_config: str
) -> PredictJob:
    """Raises BadBundle, BadInput, BadLabelConfig."""
    settings = within(settings, share)
    bundle = read_bundle(settings.bundle[0])
    plan = read_plan(label_config, bundle.labels, settings.label_map)
    deciding = (
        settings.scoring.version(bundle.version),
        settings.engine,
        settings.device,
        settings.budget(settings.device),
        plan,
        CHUNK,
    )
    return PredictJob(
        settings, plan, bundle.version, target, tuple(find_parts(source.resolve(), target, deciding))
    )


def predict_on_ray(
    job: PredictJob, share: Share, at: str, on_progress: Callable[[int, int], None]
) -> RayPredictResult:
    """Do the parts that lack, on the cluster at the address `at`. `on_progress(rows, bytes of the input)` is
    called after each.

    Parts that are refused cost only themselves. Raises BadSetting, BadBundle, BadInput.
    """
    found = [job.target.done(part) for part in job.parts]
    progress = [each for each in found if each is not None]
    rows, size = (
        sum(each.rows for each in progress),
        sum(part.size for part, each in zip(job.parts, found, strict=True) if each is not None),
    )
    without_text = sum(each.without_text for each in progress)
    lacking = [number for number, each in enumerate(found) if each is None]
    refused, nodes = list[str](), set[str]()
    on_progress(rows, size)
    if lacking:
        try:
            job.target.notes.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{job.target.folder}: cannot be written ({error.strerror}).") from None
        with connected(at):
            for told in _results(job, lacking, share):
                if told["refused"]:
                    refused.append(told["refused"])
                rows, size, without_text = (
                    rows + told["rows"],
                    size + job.parts[told["part"]].size,
                    without_text + told["without_text"],
                )
                nodes.add(told["node"])
                on_progress(rows, size)
        job.target.clean()
    return RayPredictResult(
        len(job.parts), len(progress), rows, without_text, tuple(refused), frozenset(nodes)
    )


def check_whole(outcome: RayPredictResult) -> None:
    """Raises BadInput, which names the refused parts, for then the output lacks them."""
    if outcome.refused:
        more = f" And {len(outcome.refused) - MOST_NAMED} more." if len(outcome.refused) > MOST_NAMED else ""
        raise BadInput(
            f"{len(outcome.refused)} of {outcome.parts} parts were refused, the others are done: "
            f"{' '.join(outcome.refused[:MOST_NAMED])}{more}"
        )


def _results(job: PredictJob, lacking: Sequence[int], share: Share) -> Any:
    """What `PartLabeler` gives back, in whatever order parts are done."""
    # what Ray Data tells of a run goes to its own log; our bar shows rows and bytes
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    DataContext.get_current().enable_progress_bars = False
    most = min(len(lacking), max(1, int(ray.cluster_resources().get("CPU", 1)) // share.cpus))
    # a block a part, so that each is handed out, and tried anew, on its own
    parts = ray.data.from_items([{"part": number} for number in lacking], override_num_blocks=len(lacking))
    processes = ActorPoolStrategy(
        min_size=1, max_size=most, initial_size=most, max_tasks_in_flight_per_actor=1
    )
    return parts.map_batches(
        PartLabeler,
        fn_constructor_args=(job,),
        batch_size=1,
        compute=processes,
        num_cpus=share.cpus,
        num_gpus=share.gpus,
    ).iter_rows()


class PartLabeler:
    """One of the run's processes: a part's number → what became of the part."""

    def __init__(self, job: PredictJob) -> None:
        self.job = job
        self.classifier = open_classifier(job.settings)
        found = self.classifier.bundle.version
        if found != job.version:
            raise BadBundle(
                f"{job.settings.bundle[0]} on {socket.gethostname()}: expected {job.version}, found "
                f"{found}; each node needs the same bundle in that folder."
            )
        self.classifier.__enter__()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        (number,) = batch["part"]
        part = self.job.parts[number]
        refused = ""
        try:
            # a part is handed out twice where the answer was lost with a node
            progress = self.job.target.done(part) or self._predict(part)
        except PrelabelError as error:
            progress, refused = Progress(key=""), str(error)
        told = {
            "part": number,
            "rows": progress.rows,
            "without_text": progress.without_text,
            "refused": refused,
            "node": ray.get_runtime_context().get_node_id(),
        }
        return {name: np.array([value]) for name, value in told.items()}

    def _predict(self, part: Part) -> Progress:
        target, progress = self.job.target, Progress(key=part.key)
        # a name of its own: a process that was given up may still be writing
        whole = target.notes / f"{uuid.uuid4().hex}.part"
        labeler = Labeler(self.classifier, self.job.plan, self.job.settings.scoring)
        try:
            with (
                open_records(part.source, part.stretch) as (records, _),
                open_output(whole, target.suffix) as writer,
            ):
                for _ in write_tasks(records, writer, labeler, progress, part.source):
                    pass
            target.publish(whole, part, progress)
        except OSError as error:
            raise BadInput(
                f"{target.file(part)}: cannot be written on {socket.gethostname()} ({error.strerror}); "
                "every node must reach it by this path."
            ) from None
        finally:
            whole.unlink(missing_ok=True)
        return progress
