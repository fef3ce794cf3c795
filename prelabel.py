"""The command line: one thin function a command, its work imported when it is used."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from server.errors import BadSetting, PrelabelError

if TYPE_CHECKING:
    from server.models.registry import Registry

app = typer.Typer(
    help="Pre-annotates Label Studio tasks with a text classifier you exported yourself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)

BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Folder of the bundle.", show_default="artifacts/imdb-cnn")
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="auto, tables, onnx or torchscript.", show_default=False)
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help="auto, cpu, cuda, or GPUs by number, such as cuda:0,cuda:1.", show_default=False
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="Label=choice, where the project's choices are named otherwise; may be repeated.",
        show_default=False,
    ),
]
TextOption = Annotated[str, typer.Option("--text", help="Column with the text.")]
LabelOption = Annotated[
    str,
    typer.Option(
        "--label", help="Column with the label; in Label Studio's JSON export the name of the control."
    ),
]
BundlesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--bundle",
        help="Folder of a bundle; may be repeated: each is served at its name.",
        show_default="artifacts/imdb-cnn",
    ),
]
BasicAuthOption = Annotated[
    str | None,
    typer.Option(
        "--basic-auth",
        metavar="USER:PASSWORD",
        help="The server's user and password.",
        show_default="PRELABEL_BASIC_AUTH_USER and _PASS",
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold", help="Probability of a label where several may be chosen.", show_default="0.5"
    ),
]
OnRayOption = Annotated[
    bool, typer.Option("--on-ray", help="On a Ray cluster (needs prelabel[ray]); see docs/ray.md.")
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        help="auto or HOST:PORT of the cluster; local starts one for this command.",
        show_default="RAY_ADDRESS, else local",
    ),
]
ScoreOption = Annotated[
    str | None,
    typer.Option(
        "--score",
        help="What a prediction's score is: confidence, margin or entropy.",
        show_default="confidence",
    ),
]


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="cnn.pt: the tutorial's state_dict.")],
    vocab: Annotated[
        Path, typer.Option(help="vocab_obj.pt of torchtext, or a text file with one token a line.")
    ],
    out: Annotated[Path, typer.Option(help="The bundle's folder, such as artifacts/NAME.")],
    labels: Annotated[
        str, typer.Option(help="Labels in class order, separated by commas.")
    ] = "Negative,Positive",
    torchscript: Annotated[bool, typer.Option(help="Also keep model.ts in the bundle.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there already.")] = False,
) -> None:
    """Turn a checkpoint into a bundle, and prove that both answer the same."""
    from export.checkpoint import read_network
    from export.publish import export_bundle

    network = read_network(checkpoint, vocab, tuple(label.strip() for label in labels.split(",")))
    bundle = export_bundle(network, out, torchscript=torchscript, force=force, on_report=console.print)
    console.print(
        f"[bold]{bundle.version}[/bold] is in {out}. Serve it with: prelabel serve --bundle {out}",
        soft_wrap=True,
    )


@app.command()
def train(
    train_file: Annotated[
        Path,
        typer.Option(
            "--train",
            help=(
                "Labelled texts: .csv, .json, .jsonl (also .xz, .gz), .parquet, or Label Studio's JSON "
                "export."
            ),
        ),
    ],
    out: Annotated[Path, typer.Option(help="The bundle's folder, such as artifacts/NAME.")],
    test_file: Annotated[
        Path | None, typer.Option("--test", help="Labelled texts for the final figures.", show_default=False)
    ] = None,
    text: TextOption = "review",
    label: LabelOption = "sentiment",
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Passes over the texts (6, and more where there are few texts).", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same network on one machine.")] = 1,
    vocabulary: Annotated[
        int, typer.Option(min=10, max=1_000_000, help="Most tokens in the vocabulary.")
    ] = 30_000,
    ignore: Annotated[
        str,
        typer.Option(
            help="Tokens that the network must not see, as a regular expression for the whole token.",
            show_default=False,
        ),
    ] = "",
    plots: Annotated[
        Path | None, typer.Option(help="Folder for a picture of the learning curve.", show_default=False)
    ] = None,
    torchscript: Annotated[bool, typer.Option(help="Also keep model.ts in the bundle.")] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a stopped or killed run was.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there already.")] = False,
) -> None:
    """Train the network on your own labelled texts, and export it. Ctrl-C keeps the best weights so far."""
    from export.training.dataset import TrainingSource
    from export.training.pipeline import TrainingOptions, train_bundle

    options = TrainingOptions(seed=seed, epochs=epochs, vocabulary=vocabulary, ignore=ignore)
    bundle = train_bundle(
        TrainingSource(train_file, test_file, text, label),
        out,
        options,
        console,
        torchscript=torchscript,
        force=force,
        resume=resume,
        plots_folder=plots,
    )
    console.print(
        f"[bold]{bundle.version}[/bold] is in {out}. Serve it with: prelabel serve --bundle {out}",
        soft_wrap=True,
    )


@app.command()
def predict(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help=".csv, .json, .jsonl (also .xz, .gz) or .parquet; with --on-ray also a folder of them.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help=".json or .jsonl, for Label Studio's import; with --on-ray a folder."
        ),
    ],
    bundle: BundleOption = None,
    label_config: Annotated[
        Path | None, typer.Option(help="The project's labeling config (XML).", show_default="the tutorial's")
    ] = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    label_map: MapOption = None,
    score: ScoreOption = None,
    threshold: ThresholdOption = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on where a killed run stopped; with --on-ray that is always so."),
    ] = False,
    on_ray: OnRayOption = False,
    ray_address: RayAddressOption = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="Of the files of --on-ray: jsonl or parquet.", show_default="jsonl"),
    ] = None,
    process_cpus: Annotated[
        int | None, typer.Option(min=1, help="CPU cores of each process of --on-ray.", show_default="1")
    ] = None,
) -> None:
    """Write the pre-annotated import file for a file of texts."""
    from server.label_studio.labeling_config import TUTORIAL_CONFIG, read_plan
    from server.offline.classifier import open_classifier
    from server.offline.labeler import Labeler
    from server.offline.predict_file import predict_file
    from server.offline.records import read_text
    from server.on_ray.options import check_installed, check_none_given, read_address, read_suffix, share
    from server.settings import load_settings

    settings = load_settings(
        bundle=bundle,
        engine=engine,
        device=device,
        label_map=_joined(label_map),
        score=score,
        threshold=threshold,
    )
    config = read_text(label_config) if label_config else TUTORIAL_CONFIG
    if on_ray:
        check_installed()
        from server.on_ray.parts import OutputTarget
        from server.on_ray.predict import check_whole, plan_job, predict_on_ray

        of = share(settings, process_cpus or 1)
        job = plan_job(source, OutputTarget(out, read_suffix(form)), settings, of, config)
        with _progress(source, sum(part.size for part in job.parts)) as show:
            outcome = predict_on_ray(job, of, read_address(ray_address, os.environ), show)
        check_whole(outcome)
        console.print(
            f"{outcome.rows:,} tasks in {outcome.parts} files in {out}, {outcome.before} files of them "
            "were done before.",
            soft_wrap=True,
        )
        return
    check_none_given(ray_address=ray_address, format=form, process_cpus=process_cpus)
    opened = open_classifier(settings)
    plan = read_plan(config, opened.bundle.labels, settings.label_map)
    with opened as classifier, _progress(source) as show:
        labeler = Labeler(classifier, plan, settings.scoring)
        done = predict_file(source, out, labeler, resume=resume, on_progress=show)
    console.print(
        f"{done.rows:,} tasks in {out}, {done.without_text:,} of them had no text. Model version: "
        f"{labeler.version}",
        soft_wrap=True,
    )


@app.command()
def evaluate(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help=(
                "Labelled texts: .csv, .json, .jsonl (also .xz, .gz), .parquet, or Label Studio's JSON "
                "export."
            ),
        ),
    ],
    bundle: BundleOption = None,
    text: TextOption = "review",
    label: LabelOption = "sentiment",
    by: Annotated[
        str | None, typer.Option(help="Also tell apart the values of this column.", show_default=False)
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pictures: reliability diagram, accuracy by length.", show_default=False
        ),
    ] = None,
    label_map: MapOption = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
) -> None:
    """Measure a bundle on your own labelled texts, before you trust its predictions."""
    from server.evaluate.evaluate import evaluate_file
    from server.evaluate.plots import check_available
    from server.evaluate.report import draw, show
    from server.offline.classifier import open_classifier
    from server.settings import load_settings

    if plots is not None:
        check_available()
    settings = load_settings(bundle=bundle, engine=engine, device=device, label_map=_joined(label_map))
    with open_classifier(settings) as classifier, _progress(source) as on_progress:
        result = evaluate_file(
            source,
            classifier,
            text=text,
            label=label,
            label_map=settings.label_map,
            by=by,
            on_progress=on_progress,
        )
    engine_used = classifier.engine
    console.print(
        f"[bold]{classifier.bundle.version}[/bold] on {source}, {engine_used.name} on {engine_used.device}",
        soft_wrap=True,
    )
    show(result, Console(), by=by)
    if plots is not None:
        console.print(f"Pictures: {', '.join(map(str, draw(result, plots, by=by)))}", soft_wrap=True)


@app.command()
def annotate(
    label_studio: Annotated[
        str,
        typer.Option(
            "--label-studio",
            metavar="URL",
            help="Label Studio's URL; its API token is read from LABEL_STUDIO_API_KEY.",
        ),
    ],
    project: Annotated[int, typer.Option(help="The project's number.")],
    view: Annotated[
        int | None,
        typer.Option(
            help="Only the tasks of this tab: the number behind tab= in its address.", show_default=False
        ),
    ] = None,
    only_unlabeled: Annotated[
        bool, typer.Option("--only-unlabeled", help="Only tasks without an annotation.")
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask this ML backend instead of a bundle.", show_default=False),
    ] = None,
    auth: BasicAuthOption = None,
    bundle: BundleOption = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    label_map: MapOption = None,
    score: ScoreOption = None,
    threshold: ThresholdOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Predictions stored with one request.")] = 10_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Predict, but store nothing.")] = False,
) -> None:
    """Store predictions for the tasks of a Label Studio project that lack them. Run it again to go on after a
    stop.
    """
    from server.annotate.backend_source import open_backend
    from server.annotate.console import progress_bar, show, status, stop_on_ctrl_c
    from server.annotate.prediction_source import open_bundle
    from server.annotate.run import AnnotateOptions, AnnotateRun
    from server.label_studio.api_client import Api
    from server.label_studio.credentials import basic_auth, token, web_address
    from server.settings import load_settings

    settings = load_settings(
        bundle=bundle,
        engine=engine,
        device=device,
        label_map=_joined(label_map),
        score=score,
        threshold=threshold,
    )
    options = AnnotateOptions(project, batch, view, only_unlabeled, dry_run)
    api = Api(web_address("--label-studio", label_studio), token(os.environ))
    asked = {
        name: value for name, value in {"score": score, "threshold": threshold}.items() if value is not None
    }
    with stop_on_ctrl_c(console) as stop:
        if backend is not None:
            opened = open_backend(
                web_address("--backend", backend), basic_auth(auth, os.environ), asked, stop.wait
            )
        else:
            opened = open_bundle(settings)
        with opened as open_source:
            run = AnnotateRun(api, options, open_source)
            try:
                with progress_bar(console) as on_progress:
                    run.go(stop=stop.is_set, wait=stop.wait, on_progress=on_progress)
            finally:
                if run.outcome is not None:
                    show(run.outcome, options, Console())
    raise typer.Exit(status(run.outcome))


@app.command("serve")
def serve_command(
    bundle: BundlesOption = None,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(
            help="Bundles that answer as one, as NAME=A,B or NAME=A,B:WEIGHT,WEIGHT; may be repeated.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="9090")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that answer on the port.", show_default="1")
    ] = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    label_map: MapOption = None,
    score: ScoreOption = None,
    threshold: ThresholdOption = None,
    log_format: Annotated[
        str | None, typer.Option(help="json or text; auto is text on a terminal.", show_default="auto")
    ] = None,
    on_ray: OnRayOption = False,
    ray_address: RayAddressOption = None,
    replicas: Annotated[
        str | None, typer.Option(help="Servers on the cluster: 2, or by load as 1-8.", show_default="1")
    ] = None,
    replica_cpus: Annotated[
        int | None, typer.Option(min=1, help="CPU cores of each replica.", show_default="1")
    ] = None,
) -> None:
    """Serve bundles as Label Studio ML backends. Every setting is also an environment variable: see the
    README.
    """
    from server.launch.launcher import serve
    from server.launch.startup_banner import as_lines, startup_banner
    from server.log_setup import is_json
    from server.on_ray.options import check_installed, check_none_given, read_address, read_replicas, share
    from server.settings import load_settings

    settings = load_settings(
        bundle=tuple(bundle) if bundle else None,
        ensemble=";".join(ensemble) if ensemble else None,
        host=host,
        port=port,
        workers=workers,
        engine=engine,
        device=device,
        label_map=_joined(label_map),
        score=score,
        threshold=threshold,
        log_format=log_format,
    )
    if on_ray:
        check_installed()
        from server.on_ray.serve import serve_on_ray

        asked = (
            read_replicas(replicas or "1"),
            share(settings, replica_cpus or 1),
            read_address(ray_address, os.environ),
        )
        serve_on_ray(
            settings, *asked, lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
        )
        return
    check_none_given(ray_address=ray_address, replicas=replicas, replica_cpus=replica_cpus)

    def tell(registry: "Registry") -> None:
        told = startup_banner(settings, registry)
        if is_json(settings.log_format):
            logging.getLogger("prelabel").info("serving", extra={"fields": told})
            return
        for line in as_lines(told):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    serve(settings, tell)


@app.command()
def bundles(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Folder that holds bundles.")] = Path(
        "artifacts"
    ),
    backend: Annotated[
        str | None,
        typer.Option(help="URL of a running server, to tell which of them it serves.", show_default=False),
    ] = None,
) -> None:
    """List the bundles in a folder: name, version, labels, accuracy, size, and what is wrong with those that
    are not whole.
    """
    from server.offline.list_bundles import find_bundles, serving, show

    show(find_bundles(folder), serving(backend) if backend else None, Console())


@app.command()
def connect(
    label_studio: Annotated[
        str, typer.Option(help="Address of Label Studio; its token comes from LABEL_STUDIO_API_KEY.")
    ],
    project: Annotated[int, typer.Option(help="Number of the project.")],
    backend: Annotated[str, typer.Option(help="Address of this server, as Label Studio reaches it.")],
    auth: BasicAuthOption = None,
    check: Annotated[bool, typer.Option("--check", help="Only look, change nothing.")] = False,
    disconnect: Annotated[
        bool, typer.Option("--disconnect", help="Take back what connect made; predictions stay.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove the project's other ML backends and their webhooks.")
    ] = False,
) -> None:
    """Connect the server to a project of Label Studio, and prove that predictions and scores arrive."""
    from server.connect import checklist, connect_steps, disconnect_steps
    from server.connect.options import read_options
    from server.label_studio.api_client import Api
    from server.label_studio.credentials import token

    wish = read_options(
        label_studio, project, backend, auth, os.environ, check=check, disconnect=disconnect, replace=replace
    )
    run = disconnect_steps.disconnect if disconnect else connect_steps.connect
    stdout = Console()
    if not run(wish, Api(wish.label_studio, token(os.environ)), lambda line: checklist.show(line, stdout)):
        raise typer.Exit(1)


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def bench(context: typer.Context) -> None:
    """Measure Prelabel on this machine, in a source checkout; lists the benchmarks, or runs the one named
    with its own options.
    """
    import runpy

    checkout = Path(__file__).parent
    if not (checkout / "benchmarks").is_dir():
        raise BadSetting(
            "bench: the benchmarks are not installed with Prelabel: run it from a source checkout, as "
            ".venv/dev/bin/prelabel bench."
        )
    sys.path.insert(0, str(checkout))
    sys.argv = ["prelabel bench", *context.args]
    runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)


@contextmanager
def _progress(source: Path, size: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """A bar that follows (rows done, bytes of `source` read) up to its `size`."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.fields[rows]} texts, {task.fields[rate]}/s"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        total = size if size is not None else source.stat().st_size if source.exists() else None
        task = bar.add_task("texts", total=total, rows=0, rate=0)
        begun: list[int] = []

        def show(rows: int, read: int) -> None:
            begun.append(rows)
            elapsed = bar.tasks[task].elapsed or 0
            bar.update(
                task, completed=read, rows=rows, rate=f"{(rows - begun[0]) / elapsed:,.0f}" if elapsed else 0
            )

        yield show
        bar.update(task, completed=bar.tasks[task].total or 0)


def _joined(pairs: list[str] | None) -> str | None:
    return ",".join(pairs) if pairs else None


def main() -> None:
    """Run the command line; a refusal is one sentence and exit status 1."""
    try:
        app()
    except PrelabelError as error:
        console.print(f"[red]Error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
