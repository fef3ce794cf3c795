"""The options of every command: names, types and help texts. Defaults come from the settings."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from server.label_studio.credentials import KEY_VARIABLE, PASSWORD_VARIABLE, USER_VARIABLE
from server.offline.records import LABEL, TEXT
from server.on_ray.options import CPUS, FORMATS, LOCAL, REPLICAS
from server.settings import Settings

LABELLED = (
    "Labelled texts: .csv, .tsv, .json, .jsonl (also .xz, .gz), .parquet; also Label Studio's exports JSON, "
    "JSON_MIN, CSV and TSV."
)

BUNDLES = Settings.model_fields["bundle"].default[0].parent
"""The folder of the default bundle."""


def default_of(name: str) -> str:
    """The default of a setting, as a user writes it."""
    value = Settings.model_fields[name].default
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def choices_of(name: str) -> str:
    """The values that a setting may have, as `a, b or c`."""
    *most, last = get_args(Settings.model_fields[name].annotation)
    return f"{', '.join(most)} or {last}"


def option(flag: str, metavar: str, text: str, **more: Any) -> Any:
    """A required option, or one whose default is in the command's signature; the help shows it."""
    return typer.Option(flag, metavar=metavar, help=text, **more)


def optional(flag: str, metavar: str, text: str, default: object = None, **more: Any) -> Any:
    """An option that is None unless given. `default` says in the help what applies then."""
    shown = "" if default is None else f"  [default: {default}]"
    return typer.Option(flag, metavar=metavar, help=text + shown, show_default=False, **more)


def setting(name: str, flag: str, metavar: str, text: str) -> Any:
    """An option that overrides the setting `name`. The help shows the default of the setting."""
    return optional(flag, metavar, text, default_of(name))


def flag(name: str, text: str) -> Any:
    return typer.Option(name, help=text)


# the model, for every command that runs one

Bundle = Annotated[Path | None, setting("bundle", "--bundle", "DIR", "Folder of the bundle.")]
Engine = Annotated[str | None, setting("engine", "--engine", "NAME", f"{choices_of('engine')}.")]
Device = Annotated[
    str | None,
    setting("device", "--device", "NAME", "auto, cpu, cuda, or GPUs by number, such as cuda:0,cuda:1."),
]
LabelMap = Annotated[
    list[str] | None,
    optional(
        "--map",
        "LABEL=CHOICE",
        "The project's choice for one of the model's labels, where their names differ; repeatable.",
    ),
]
Score = Annotated[
    str | None, setting("score", "--score", "NAME", f"A prediction's score: {choices_of('score')}.")
]
Threshold = Annotated[
    float | None,
    setting(
        "threshold", "--threshold", "NUMBER", "Lowest probability of a label where a task may have several."
    ),
]
TextColumn = Annotated[
    str | None,
    optional("--text", "COLUMN", "Column with the text, or a path such as review.body.", TEXT),
]
LabelColumn = Annotated[
    str | None,
    optional(
        "--label",
        "COLUMN",
        "Column with the label; in an export of Label Studio, the name of the control.",
        f"the labeling config's control, else {LABEL}",
    ),
]
LabelledStudio = Annotated[
    str | None,
    optional(
        "--label-studio",
        "URL",
        f"Read the tasks of a project of this Label Studio, instead of a file; token: {KEY_VARIABLE}.",
    ),
]
LabelledProject = Annotated[
    int | None, optional("--project", "NUMBER", "Number of that project; its labeling config is used.")
]
ReadConfig = Annotated[
    Path | None,
    optional(
        "--label-config",
        "FILE",
        "The project's labeling config (XML): reads texts and labels as the server does, instead of --text.",
    ),
]

# making a bundle: export, train

Checkpoint = Annotated[Path | None, optional("--checkpoint", "FILE", "cnn.pt: the tutorial's state_dict.")]
VocabularyFile = Annotated[
    Path | None,
    optional("--vocab", "FILE", "vocab_obj.pt of torchtext, or a text file with one token per line."),
]
TransformerDirectory = Annotated[
    Path | None,
    optional(
        "--transformer",
        "DIR",
        "Hugging Face directory of a text classifier: config.json, model.safetensors, tokenizer.json.",
    ),
]
LongTextsChoice = Annotated[
    Literal["truncate", "windows"],
    option(
        "--long-texts",
        "HOW",
        "Texts that are longer than a transformer reads: truncate them, or read them in overlapping windows.",
    ),
]
MaxLength = Annotated[
    int | None,
    optional("--max-length", "TOKENS", "Most tokens that a transformer reads.", "the model's own", min=1),
]
Quantize = Annotated[
    Literal["int8", "float16"] | None,
    optional(
        "--quantize",
        "PRECISION",
        "Lower precision of a transformer: int8 for CPUs, float16 for GPUs. Needs --calibration.",
        "float32",
    ),
]
Calibration = Annotated[
    Path | None,
    optional("--calibration", "FILE", "Labelled texts on which the cost of --quantize is measured."),
]
NewBundle = Annotated[Path, option("--out", "DIR", "Folder of the new bundle, such as artifacts/NAME.")]
Labels = Annotated[
    str | None,
    optional(
        "--labels",
        "LABEL,LABEL",
        "Labels in class order, separated by commas.",
        "Negative,Positive; those of a transformer",
    ),
]
TorchScript = Annotated[
    bool, typer.Option("--torchscript/--no-torchscript", help="Also keep model.ts in the bundle.")
]
Force = Annotated[bool, flag("--force", "Replace an existing bundle.")]
TrainFile = Annotated[Path | None, optional("--train", "FILE", LABELLED)]
TestFile = Annotated[
    Path | None, optional("--test", "FILE", "Labelled texts that the final figures are measured on.")
]
EncoderChoice = Annotated[
    Literal["auto", "ngrams", "cnn"],
    option(
        "--encoder",
        "KIND",
        "auto chooses by cross-validation; ngrams: words and characters, in seconds; cnn: the tutorial's "
        "network, which needs torch.",
    ),
]
StartFrom = Annotated[
    Path | None,
    optional("--start-from", "BUNDLE", "A bundle whose encoder is a candidate, such as artifacts/imdb-cnn."),
]
SentenceEncoder = Annotated[
    Path | None,
    optional(
        "--sentence-encoder",
        "DIR",
        "Hugging Face directory of a sentence encoder, which becomes a candidate; needs "
        "prelabel[export,transformers].",
    ),
]
QuantizeSentenceEncoder = Annotated[
    Literal["int8", "float16"] | None,
    optional(
        "--quantize",
        "PRECISION",
        "Lower precision of the sentence encoder: int8 for CPUs, float16 for GPUs; says what it costs.",
        "float32",
    ),
]
Balance = Annotated[
    bool,
    flag("--balance", "Answer as if all labels were equally frequent: finds more texts of rare labels."),
]
KeptTogether = Annotated[
    str | None,
    optional(
        "--group",
        "COLUMN",
        "Texts with the same value here, such as those of one customer, are never both learned from and "
        "measured.",
    ),
]
Epochs = Annotated[
    int | None,
    optional("--epochs", "NUMBER", "Passes over the texts.", "chosen by the number of texts", min=1),
]
Seed = Annotated[
    int, option("--seed", "NUMBER", "Random seed: the same seed gives the same network on one machine.")
]
VocabularySize = Annotated[
    int,
    option("--vocabulary", "NUMBER", "Maximum number of tokens in the vocabulary.", min=10, max=1_000_000),
]
TokenizerChoice = Annotated[
    Literal["auto", "basic_english", "learned"],
    option(
        "--tokenizer",
        "KIND",
        "basic_english: the words between spaces; learned: pieces of words, learned from the texts, for "
        "languages without spaces or with long words; auto measures both.",
    ),
]
IgnoredTokens = Annotated[
    str,
    optional(
        "--ignore",
        "REGEX",
        "Tokens to hide from the network: a regular expression that matches the whole token.",
    ),
]
CurvePlots = Annotated[Path | None, optional("--plots", "DIR", "Folder for a picture of the learning curve.")]
ResumeTraining = Annotated[bool, flag("--resume", "Continue a run that was stopped or killed.")]

# files: predict, evaluate, bundles

InputFile = Annotated[
    Path,
    typer.Argument(
        metavar="IN",
        help=(
            "Texts: .csv, .tsv, .json, .jsonl (also .xz, .gz) or .parquet; with --on-ray a folder of such "
            "files too."
        ),
    ),
]
OutputFile = Annotated[
    Path,
    typer.Argument(
        metavar="OUT", help="File for Label Studio's import: .json or .jsonl; with --on-ray a folder."
    ),
]
LabelConfig = Annotated[
    Path | None,
    optional(
        "--label-config",
        "FILE",
        "The project's labeling config (XML).",
        "the bundle's own, else the tutorial's",
    ),
]
ReadText = Annotated[
    str | None,
    optional(
        "--text",
        "COLUMN",
        "Column with the text, a path such as review.body, or a value such as '$title: $body'.",
        "what that config reads",
    ),
]
ResumeFile = Annotated[bool, flag("--resume", "Continue a killed run; --on-ray always does.")]
LabelledFile = Annotated[Path | None, typer.Argument(metavar="IN", help=LABELLED, show_default=False)]
GroupColumn = Annotated[
    str | None, optional("--by", "COLUMN", "Also show the accuracy for each value of this column.")
]
EvaluationPlots = Annotated[
    Path | None,
    optional("--plots", "DIR", "Folder for pictures: reliability diagram, accuracy by length."),
]
BundlesFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds bundles.")]
RunningServer = Annotated[
    str | None, optional("--backend", "URL", "Running server; marks the bundles that it serves.")
]

# Label Studio: annotate, connect

LabelStudio = Annotated[
    str, option("--label-studio", "URL", f"Label Studio. Its API token is read from {KEY_VARIABLE}.")
]
Project = Annotated[
    int, option("--project", "NUMBER", "Project number, as in its address: …/projects/NUMBER/data.")
]
BasicAuth = Annotated[
    str | None,
    optional(
        "--basic-auth",
        "USER:PASSWORD",
        "The ML backend's credentials.",
        f"{USER_VARIABLE}, {PASSWORD_VARIABLE}",
    ),
]
View = Annotated[
    int | None,
    optional(
        "--view", "NUMBER", "Only the tasks of this Data Manager tab: the number after tab= in its URL."
    ),
]
OnlyUnlabeled = Annotated[bool, flag("--only-unlabeled", "Only tasks without an annotation.")]
PredictingBackend = Annotated[
    str | None, optional("--backend", "URL", "Get predictions from this ML backend instead of a bundle.")
]
Batch = Annotated[int, option("--batch", "NUMBER", "Predictions stored per request.", min=1)]
DryRun = Annotated[bool, flag("--dry-run", "Predict, but store nothing.")]
AcceptAbove = Annotated[
    float | None,
    optional(
        "--accept-above",
        "CONFIDENCE",
        "Make annotations of predictions of at least this confidence, marked as made by a model, in tasks "
        "without any; store no predictions.",
        min=0.5,
        max=1.0,
    ),
]
ConnectedBackend = Annotated[
    str, option("--backend", "URL", "This server's address, as Label Studio reaches it.")
]
Check = Annotated[bool, flag("--check", "Only check; change nothing.")]
Disconnect = Annotated[bool, flag("--disconnect", "Undo what connect changed; predictions stay.")]
Replace = Annotated[bool, flag("--replace", "Remove the project's other ML backends and their webhooks.")]

LearnFromProject = Annotated[
    bool | None,
    typer.Option(
        "--learn/--no-learn",
        help="Whether the server learns from the project's annotations; it needs serve --learn.",
        show_default=False,
    ),
]
ForgottenFolder = Annotated[
    Path | None,
    setting("learn_folder", "--folder", "DIR", "Folder of what the server has learned."),
]
Yes = Annotated[bool, flag("--yes", "Do not ask.")]

# serving

Bundles = Annotated[
    list[Path] | None,
    setting(
        "bundle",
        "--bundle",
        "DIR",
        "Folder of a bundle; repeatable: each bundle is served at a path with its name.",
    ),
]
Ensembles = Annotated[
    list[str] | None,
    optional(
        "--ensemble",
        "NAME=A,B[:W,W]",
        "Bundles A and B as one model, with weights W if given; repeatable.",
    ),
]
Host = Annotated[str | None, setting("host", "--host", "ADDRESS", "Address to listen on.")]
Port = Annotated[int | None, setting("port", "--port", "NUMBER", "Port to listen on.")]
Workers = Annotated[
    int | None, setting("workers", "--workers", "NUMBER", "Server processes that share the port.")
]
Learn = Annotated[
    str | None,
    optional(
        "--learn",
        "URL",
        "Learn from annotations: address of the Label Studio (token: " + f"{KEY_VARIABLE}); see "
        "docs/learning.md.",
    ),
]
LogFormat = Annotated[
    str | None,
    setting(
        "log_format",
        "--log-format",
        "NAME",
        f"{choices_of('log_format')}; auto is text on a terminal, else json.",
    ),
]
# learning

LearnFolder = Annotated[
    Path | None,
    setting("learn_folder", "--folder", "DIR", "Folder in which the server keeps annotations and models."),
]
OrderChoice = Annotated[
    str | None,
    setting("order", "--order", "NAME", f"Which tasks come first afterwards: {choices_of('order')}."),
]
Freeze = Annotated[bool, flag("--freeze", "Keep the model as it is from now on.")]
Unfreeze = Annotated[bool, flag("--unfreeze", "Learn again.")]
RollBack = Annotated[bool, flag("--rollback", "Serve the model before, and keep it.")]

# a Ray cluster

OnRay = Annotated[bool, flag("--on-ray", "Run on a Ray cluster (needs prelabel[ray]); see docs/ray.md.")]
RayAddress = Annotated[
    str | None,
    optional(
        "--ray-address",
        "HOST:PORT",
        f"The cluster: HOST:PORT, auto, or {LOCAL} for a cluster that lives as long as this command.",
        f"RAY_ADDRESS, else {LOCAL}",
    ),
]
OutputFormat = Annotated[
    str | None,
    optional("--format", "NAME", f"Files written by --on-ray: {' or '.join(FORMATS)}.", FORMATS[0]),
]
ProcessCpus = Annotated[
    int | None, optional("--process-cpus", "NUMBER", "CPU cores per process of --on-ray.", CPUS, min=1)
]
Replicas = Annotated[
    str | None,
    optional(
        "--replicas", "NUMBER", "Replicas of --on-ray; a range such as 1-8 scales with the load.", REPLICAS
    ),
]
ReplicaCpus = Annotated[
    int | None, optional("--replica-cpus", "NUMBER", "CPU cores per replica of --on-ray.", CPUS, min=1)
]
