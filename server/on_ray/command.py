"""The commands `prelabel predict --on-ray` and `prelabel serve --on-ray`."""

import os
from pathlib import Path

from rich.console import Console

from server.errors import BadSetting
from server.offline.predict_plan import PredictOptions
from server.offline.progress_bar import progress_bar
from server.offline.truncation import truncation_sentence
from server.on_ray.options import (
    CPUS,
    REPLICAS,
    RayOptions,
    check_installed,
    read_address,
    read_replicas,
    read_suffix,
    resources_for,
)
from server.settings import Settings


def predict_on_cluster(
    source: Path, out: Path, options: PredictOptions, settings: Settings, ray: RayOptions, console: Console
) -> None:
    """Predict a file, or the files of a folder, and print what was written. Raises PrelabelError."""
    options.check()
    check_installed()
    from server.on_ray.parts import OutputTarget
    from server.on_ray.predict import check_complete, plan_job, predict_on_ray

    resources = resources_for(settings, ray.process_cpus or CPUS)
    target = OutputTarget(out, read_suffix(ray.format))
    job = plan_job(source, target, settings, resources, options)
    with progress_bar(console, sum(part.size for part in job.parts)) as on_progress:
        done = predict_on_ray(job, resources, read_address(ray.ray_address, os.environ), on_progress)
    check_complete(done)
    console.print(
        f"{done.rows:,} tasks in {done.parts} files in {out}; {done.skipped} of them were already complete.",
        markup=False,
        soft_wrap=True,
    )
    if done.truncated:
        console.print(truncation_sentence(done.truncated, job.truncation), markup=False, soft_wrap=True)


def serve_on_cluster(settings: Settings, ray: RayOptions, console: Console) -> None:
    """Serve until a signal ends the process. Raises PrelabelError."""
    if settings.learn:
        raise BadSetting(
            "learn (PRELABEL_LEARN) does not work with --on-ray: what is learned is kept in a folder of one "
            "machine. Serve without --on-ray, or without --learn."
        )
    check_installed()
    from server.on_ray.serve import serve_on_ray

    serve_on_ray(
        settings,
        read_replicas(ray.replicas or REPLICAS),
        resources_for(settings, ray.replica_cpus or CPUS),
        read_address(ray.ray_address, os.environ),
        lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
    )
