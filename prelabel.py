"""The command line: each command reads its options and calls the package that does the work."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from export.options import ExportOptions
from export.training.options import TrainingOptions
from server.annotate.options import BATCH, AnnotateOptions
from server.cli import options as cli
from server.cli.help import WIDTH, PlainCommand, examples
from server.cli.next_steps import next_steps
from server.errors import BadSetting, PrelabelError
from server.on_ray.options import RayOptions
from server.settings import Settings, load_settings, unknown_variables

app = typer.Typer(
    help="Pre-annotates Label Studio tasks with a text classifier that you trained yourself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": WIDTH},
)
console = Console(stderr=True)


def command(*usage: str, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as a command whose help page ends with these examples."""
    return app.command(cls=PlainCommand, epilog=examples(*usage), **settings)


@command(
    "prelabel export --checkpoint cnn.pt --vocab vocab_obj.pt \\\n    --out artifacts/films",
    "prelabel export --transformer bert-topics --out artifacts/topics",
    "prelabel export --transformer bert-topics --out artifacts/topics-int8 \\\n"
    "    --quantize int8 --calibration labelled.csv",
)
def export(
    out: cli.NewBundle,
    checkpoint: cli.Checkpoint = None,
    vocab: cli.VocabularyFile = None,
    transformer: cli.TransformerDirectory = None,
    labels: cli.Labels = None,
    long_texts: cli.LongTextsChoice = ExportOptions.long_texts,
    max_length: cli.MaxLength = None,
    quantize: cli.Quantize = None,
    calibration: cli.Calibration = None,
    text: cli.TextColumn = None,
    label: cli.LabelColumn = None,
    torchscript: cli.TorchScript = True,
    force: cli.Force = False,
) -> None:
    """Turn a trained network into a bundle.

    That is a checkpoint of the tutorial, or a transformer. The bundle is published only if it gives the same
    predictions.
    """
    from export.command import export_network

    of_transformers = long_texts, max_length, quantize, calibration, text, label
    options = ExportOptions(out, checkpoint, vocab, transformer, labels, *of_transformers)
    bundle = export_network(options, console, torchscript=torchscript, force=force)
    _report_bundle(bundle.version, out)


@command(
    "prelabel train --train reviews.csv --out artifacts/films",
    "prelabel train --label-studio http://studio:8080 --project 7 \\\n    --out artifacts/films",
    "prelabel train --train tickets.jsonl --test held-out.jsonl \\\n"
    "    --text body --label queue --out artifacts/tickets",
    "prelabel train --train reviews.csv --sentence-encoder sentence-encoder \\\n    --out artifacts/films",
)
def train(
    out: cli.NewBundle,
    train_file: cli.TrainFile = None,
    test_file: cli.TestFile = None,
    text: cli.TextColumn = None,
    label: cli.LabelColumn = None,
    label_config: cli.ReadConfig = None,
    label_studio: cli.LabelledStudio = None,
    project: cli.LabelledProject = None,
    encoder: cli.EncoderChoice = "auto",
    start_from: cli.StartFrom = None,
    sentence_encoder: cli.SentenceEncoder = None,
    long_texts: cli.LongTextsChoice = TrainingOptions.long_texts,
    max_length: cli.MaxLength = None,
    quantize: cli.QuantizeSentenceEncoder = None,
    group: cli.KeptTogether = None,
    balance: cli.Balance = False,
    epochs: cli.Epochs = None,
    seed: cli.Seed = TrainingOptions.seed,
    vocabulary: cli.VocabularySize = TrainingOptions.vocabulary,
    tokenizer: cli.TokenizerChoice = TrainingOptions.tokenizer,
    ignore: cli.IgnoredTokens = TrainingOptions.ignore,
    plots: cli.CurvePlots = None,
    torchscript: cli.TorchScript = True,
    resume: cli.ResumeTraining = False,
    force: cli.Force = False,
) -> None:
    """Train a bundle on your own labelled texts.

    Fits word and character n-grams, and a sentence encoder or the encoder of another bundle if you name one,
    estimates each by cross-validation, and publishes the best. With --encoder cnn it trains the tutorial's
    network; Ctrl-C then ends the training early and publishes the best weights so far.
    """
    from export.training import command as training
    from server.offline.labelled_source import LabelledOptions

    labelled = LabelledOptions(train_file, text, label, label_config, label_studio, project)
    how = training.TrainCommand(out, test_file, encoder, start_from, resume, plots, torchscript, force)
    of_encoder = sentence_encoder, long_texts, max_length, quantize
    options = TrainingOptions(seed, epochs, vocabulary, ignore, group, balance, tokenizer, *of_encoder)
    started = time.monotonic()
    bundle = training.train(labelled, how, options, console)
    console.print(f"Trained in {time.monotonic() - started:.0f} s.", highlight=False)
    _report_bundle(bundle.version, out, label_studio, project)


@command(
    "prelabel predict reviews.csv import.json",
    "prelabel predict tickets.jsonl.gz import.jsonl \\\n"
    "    --bundle artifacts/tickets --label-config config.xml",
)
def predict(
    source: cli.InputFile,
    out: cli.OutputFile,
    bundle: cli.Bundle = None,
    text: cli.ReadText = None,
    label_config: cli.LabelConfig = None,
    engine: cli.Engine = None,
    device: cli.Device = None,
    label_map: cli.LabelMap = None,
    score: cli.Score = None,
    threshold: cli.Threshold = None,
    resume: cli.ResumeFile = False,
    on_ray: cli.OnRay = False,
    ray_address: cli.RayAddress = None,
    output_format: cli.OutputFormat = None,
    process_cpus: cli.ProcessCpus = None,
) -> None:
    """Predict the texts of a file, for Label Studio's import."""
    from server.offline.command import predict_here
    from server.offline.predict_plan import PredictOptions
    from server.on_ray.command import predict_on_cluster

    ray = RayOptions(on_ray, ray_address, process_cpus=process_cpus, format=output_format)
    model = {"bundle": bundle, "engine": engine, "device": device, "label_map": label_map}
    settings = _settings(score=score, threshold=threshold, **model)
    options = PredictOptions(label_config, text)
    if ray.on_ray:
        return predict_on_cluster(source, out, options, settings, ray, console)
    return predict_here(source, out, options, settings, console, resume=resume)


@command(
    "prelabel evaluate held-out.csv",
    "prelabel evaluate export.json --bundle artifacts/tickets \\\n    --label queue --plots pictures",
)
def evaluate(
    source: cli.LabelledFile = None,
    bundle: cli.Bundle = None,
    text: cli.TextColumn = None,
    label: cli.LabelColumn = None,
    label_config: cli.ReadConfig = None,
    label_studio: cli.LabelledStudio = None,
    project: cli.LabelledProject = None,
    by: cli.GroupColumn = None,
    plots: cli.EvaluationPlots = None,
    label_map: cli.LabelMap = None,
    engine: cli.Engine = None,
    device: cli.Device = None,
    threshold: cli.Threshold = None,
) -> None:
    """Measure a bundle on labelled texts.

    Prints accuracy, F1, calibration and the most confident mistakes.
    """
    from server.evaluate.command import evaluate_bundle
    from server.offline.labelled_source import LabelledOptions, labelled_source

    settings = _settings(
        bundle=bundle, engine=engine, device=device, label_map=label_map, threshold=threshold
    )
    options = LabelledOptions(source, text, label, label_config, label_studio, project)
    with labelled_source(options, console) as labelled:
        evaluate_bundle(labelled, settings, console, by=by, plots=plots)


@command(
    "prelabel annotate --label-studio http://studio:8080 --project 7",
    "prelabel annotate --label-studio http://studio:8080 --project 7 --view 12 \\\n"
    "    --backend http://prelabel:9090",
)
def annotate(
    label_studio: cli.LabelStudio,
    project: cli.Project,
    view: cli.View = None,
    only_unlabeled: cli.OnlyUnlabeled = False,
    backend: cli.PredictingBackend = None,
    auth: cli.BasicAuth = None,
    bundle: cli.Bundle = None,
    engine: cli.Engine = None,
    device: cli.Device = None,
    label_map: cli.LabelMap = None,
    score: cli.Score = None,
    threshold: cli.Threshold = None,
    batch: cli.Batch = BATCH,
    dry_run: cli.DryRun = False,
    accept_above: cli.AcceptAbove = None,
) -> None:
    """Store predictions for a whole Label Studio project.

    Only tasks without a prediction of this model version are predicted, so the command can be stopped with
    Ctrl-C and run again: what is stored stays.
    """
    from server.annotate.command import annotate_project

    settings = _settings(
        bundle=bundle, engine=engine, device=device, label_map=label_map, score=score, threshold=threshold
    )
    options = AnnotateOptions(project, batch, view, only_unlabeled, dry_run, accept_above)
    extra_params = {"score": score, "threshold": threshold}
    status = annotate_project(label_studio, options, settings, backend, auth, extra_params, console)
    raise typer.Exit(status)


@command(
    "prelabel serve",
    "prelabel serve --bundle artifacts/films --bundle artifacts/books \\\n"
    "    --ensemble both=films,books:2,1",
    "prelabel serve --learn http://studio:8080",
)
def serve(
    bundle: cli.Bundles = None,
    ensemble: cli.Ensembles = None,
    host: cli.Host = None,
    port: cli.Port = None,
    workers: cli.Workers = None,
    engine: cli.Engine = None,
    device: cli.Device = None,
    label_map: cli.LabelMap = None,
    score: cli.Score = None,
    threshold: cli.Threshold = None,
    log_format: cli.LogFormat = None,
    learn: cli.Learn = None,
    on_ray: cli.OnRay = False,
    ray_address: cli.RayAddress = None,
    replicas: cli.Replicas = None,
    replica_cpus: cli.ReplicaCpus = None,
) -> None:
    """Serve bundles as ML backends for Label Studio.

    Every option and more settings can also be environment variables: see docs/settings.md.
    """
    from server.launch.command import serve_here
    from server.on_ray.command import serve_on_cluster

    ray = RayOptions(on_ray, ray_address, replicas=replicas, replica_cpus=replica_cpus)
    network = {"host": host, "port": port, "workers": workers, "log_format": log_format, "learn": learn}
    model = {"bundle": bundle, "ensemble": ensemble, "engine": engine, "device": device}
    settings = load_settings(label_map=label_map, score=score, threshold=threshold, **network, **model)
    if ray.on_ray:
        return serve_on_cluster(settings, ray, console)
    return serve_here(settings, console)


@command(
    "prelabel learn --label-studio http://studio:8080 --project 7",
    "prelabel learn --label-studio http://studio:8080 --project 7 --rollback",
)
def learn(
    label_studio: cli.LabelStudio,
    project: cli.Project,
    folder: cli.LearnFolder = None,
    bundle: cli.Bundles = None,
    label_map: cli.LabelMap = None,
    order: cli.OrderChoice = None,
    freeze: cli.Freeze = False,
    unfreeze: cli.Unfreeze = False,
    rollback: cli.RollBack = False,
) -> None:
    """Learn from a project's annotations, once.

    For a project that a server with --learn knows: fetches all annotations, fits a model, and serves it if it
    is better than the one before; says why, and what more annotations would add.
    """
    from export.learning.command import LearnOptions, learn_by_hand

    settings = _settings(learn_folder=folder, bundle=bundle, label_map=label_map, order=order)
    options = LearnOptions(project, freeze, unfreeze, rollback)
    learn_by_hand(label_studio, options, settings, console)


@command("prelabel bundles", "prelabel bundles artifacts --backend http://localhost:9090")
def bundles(folder: cli.BundlesFolder = cli.BUNDLES, backend: cli.RunningServer = None) -> None:
    """List the bundles in a folder.

    Shows name, version, labels, accuracy and size, and what is wrong with a damaged bundle.
    """
    from server.offline.list_bundles import find_bundles, served_versions, show

    show(find_bundles(folder), served_versions(backend) if backend else None, Console())


@command(
    "prelabel connect --label-studio http://studio:8080 --project 7 \\\n    --backend http://prelabel:9090",
    "prelabel connect --label-studio http://studio:8080 --project 7 \\\n"
    "    --backend http://prelabel:9090 --check",
    "prelabel connect --label-studio http://studio:8080 --project 7 \\\n"
    "    --backend http://prelabel:9090 --learn",
)
def connect(
    label_studio: cli.LabelStudio,
    project: cli.Project,
    backend: cli.ConnectedBackend,
    auth: cli.BasicAuth = None,
    check: cli.Check = False,
    disconnect: cli.Disconnect = False,
    replace: cli.Replace = False,
    learn: cli.LearnFromProject = None,
) -> None:
    """Connect the server to a Label Studio project.

    Sets up live predictions, scores and the webhook, and proves them with a test prediction. Safe to run
    again.
    """
    from server.connect.command import connect_backend
    from server.connect.options import read_options

    how = {"check": check, "disconnect": disconnect, "replace": replace}
    options = read_options(label_studio, project, backend, auth, os.environ, learn=learn, **how)
    if not connect_backend(options):
        raise typer.Exit(1)


@command("prelabel forget --project 7", "prelabel forget --project 7 --folder learned --yes")
def forget(project: cli.Project, folder: cli.ForgottenFolder = None, yes: cli.Yes = False) -> None:
    """Delete all that a server has learned from a project.

    That is its annotations, the reports of all rounds, and the learned models.
    """
    from server.learning.forget import forget_project

    kept_in = _settings(learn_folder=folder).learn_folder
    forget_project(kept_in, project, lambda question: yes or typer.confirm(question), typer.echo)


@command(
    "prelabel bench",
    "prelabel bench engine --help",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def bench(context: typer.Context) -> None:
    """Run a benchmark in a source checkout; without a name, list them."""
    import runpy

    checkout = Path(__file__).parent
    if not (checkout / "benchmarks").is_dir():
        remedy = "run .venv/dev/bin/prelabel bench in a source checkout"
        raise BadSetting(f"bench: the benchmarks are not installed with Prelabel; {remedy}.")
    sys.path.insert(0, str(checkout))
    sys.argv = ["prelabel bench", *context.args]
    runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)


def _settings(**options: Any) -> Settings:
    """The settings of a command that writes no log. Raises BadSetting."""
    settings = load_settings(**options)
    if unknown := unknown_variables(os.environ):
        console.print(f"Warning: {unknown}.", markup=False, highlight=False, soft_wrap=True)
    return settings


def _report_bundle(
    version: str, out: Path, label_studio: str | None = None, project: int | None = None
) -> None:
    console.print(f"[bold]{escape(version)}[/bold] is in {escape(str(out))}.", soft_wrap=True)
    for line in next_steps(out, label_studio, project):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line; an error is printed on stderr, with exit status 1."""
    try:
        # `app()` would also replace sys.excepthook
        typer.main.get_command(app)(prog_name="prelabel")
    except PrelabelError as error:
        console.print(f"[red]Error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
