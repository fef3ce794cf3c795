"""`prelabel export --transformer`: a Hugging Face directory → a bundle. Needs torch and transformers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from export.classifier import FittedClassifier, publish_classifier, served_probabilities
from export.encoders.base import Numbers
from export.encoders.transformer import FittedTransformer
from export.hugging_face.directory import check_directory
from export.parity import awkward_texts
from export.publish import check_name
from export.training.labeling_config import check_labels
from server.bundle import LABELING_CONFIG, Bundle, Head
from server.encoders.library_tokenizer import library_tokenizer
from server.encoders.transformer.encoder import LONGEST, LongTexts, Precision, TransformerSpec
from server.encoders.transformer.tokenizer import check_vocabulary
from server.engines.session_pair import attention_bytes
from server.errors import BadInput, BadSetting
from server.label_studio.simple_config import simple_config
from server.offline.labelled import LabelledTexts

WORDS = 5_000
"""Tokens of the vocabulary that the texts of the parity check are made of."""

MUCH_MEMORY = 10**9
"""Bytes for one text of which export warns."""


@dataclass(frozen=True)
class TransformerOptions:
    """`max_length` in tokens, None the most that the model reads. With a `precision` below float32,
    `calibration` are labelled texts on which its cost is measured.
    """

    long_texts: LongTexts = "truncate"
    max_length: int | None = None
    precision: Precision = "float32"
    labels: tuple[str, ...] | None = None
    calibration: LabelledTexts | None = None


def export_transformer(
    folder: Path,
    out: Path,
    options: TransformerOptions,
    *,
    torchscript: bool = True,
    force: bool = False,
    on_report: Callable[[Any], None] | None = None,
) -> Bundle:
    """Publish the classifier in `folder` as the bundle `out`. Raises BadInput, BadSetting, NotProven."""
    check_name(out, force=force)
    check_directory(folder)
    check_libraries("--transformer")
    from export.reproducible import reproducible

    # on one thread: tiny calls of the parity check wait for each other on more
    with reproducible():
        return _export(folder, out, options, torchscript=torchscript, force=force, on_report=on_report)


def _export(
    folder: Path,
    out: Path,
    options: TransformerOptions,
    *,
    torchscript: bool,
    force: bool,
    on_report: Callable[[Any], None] | None,
) -> Bundle:
    from export.hugging_face.eager import load_classifier
    from export.hugging_face.tracing import to_torch_script

    eager = load_classifier(folder)
    if eager.unused and on_report is not None:
        on_report(
            f"Warning: the network of config.json does not use {len(eager.unused)} of the weights, such as "
            f"{eager.unused[0]}."
        )
    encoder, classifier = fitted_classifier(folder, eager, options)
    warning = memory_warning(check_directory(folder), encoder.spec.max_length)
    if warning and on_report is not None:
        on_report(warning)
    if options.precision == "float32":
        traced = to_torch_script(eager.encoder) if torchscript else None
        classifier = replace(classifier, encoders=[replace(encoder, traced=traced)])
    else:
        lower = replace(classifier, encoders=[reduced_transformer(encoder, options.precision)])
        cost = cost_of(classifier, lower, options)
        classifier = replace(lower, metrics={"quantization": cost})
        if on_report is not None:
            on_report(cost_sentence(cost))
    config = simple_config("$text", classifier.labels, several=eager.head == "sigmoid")
    return publish_classifier(
        classifier,
        out,
        files={LABELING_CONFIG: config.encode()},
        torchscript=torchscript,
        force=force,
        on_report=on_report,
    )


def memory_warning(config: Mapping[str, Any], max_length: int) -> str | None:
    """A sentence if a text of `max_length` tokens needs more than MUCH_MEMORY on a CPU. `config` is that of
    config.json, which has the number of attention heads under one of two names.
    """
    heads = config.get("num_attention_heads") or config.get("n_heads")
    if not isinstance(heads, int):
        return None
    needed = attention_bytes(heads, max_length)
    if needed <= MUCH_MEMORY:
        return None
    return (
        f"Warning: on a CPU, one text of {max_length:,} tokens takes about {needed / 1e9:.1f} GB of memory. "
        "A smaller --max-length takes less, by the square; with --long-texts windows all of a text is read."
    )


def fitted_classifier(
    folder: Path, eager: Any, options: TransformerOptions
) -> tuple[FittedTransformer, FittedClassifier]:
    """An eager classifier in float32: its encoder, with the tokenizer of its `folder`, and that encoder under
    its head. Raises BadInput, BadSetting, NotProven.
    """
    labels = options.labels or eager.labels
    if len(labels) != len(eager.labels):
        raise BadSetting(f"--labels names {len(labels)} labels; the model has {len(eager.labels)}.")
    if len(set(labels)) < len(labels):
        raise BadSetting("--labels names a label twice; name each class.")
    check_labels(labels, folder)
    encoder = fitted_transformer(folder, eager.encoder, eager.weights, options)
    return encoder, FittedClassifier(labels, [encoder], eager.bias, eager.head, words=words_of(encoder))


def fitted_transformer(
    folder: Path, eager: Any, weights: Any, options: TransformerOptions, longest: int | None = None
) -> FittedTransformer:
    """An eager encoder in float32 under a head of these weights float32[features, classes], with the
    tokenizer of its `folder`. `longest` is the most tokens that the encoder was made for, if it says so.
    Raises BadInput, BadSetting, NotProven.
    """
    from export.hugging_face.tokenizer import load_tokenizer
    from export.hugging_face.tracing import to_onnx

    tokenizer = load_tokenizer(folder)
    limits = [limit for limit in (eager.positions, tokenizer.longest, longest) if limit]
    most = min([*limits, LONGEST])
    if options.max_length is not None and options.max_length > most:
        raise BadSetting(f"--max-length {options.max_length}: the model reads at most {most} tokens.")
    try:
        spec = TransformerSpec(
            architecture=eager.architecture,
            features=len(weights),
            vocabulary=eager.vocabulary,
            max_length=options.max_length or most,
            prefix=tokenizer.prefix,
            suffix=tokenizer.suffix,
            pad_id=tokenizer.pad,
            long_texts=options.long_texts,
            cut=tokenizer.cut,
        )
    except ValueError as error:
        reason = _first_message(error)
        if options.max_length is not None and "max_length" in reason:
            raise BadSetting(f"--max-length {options.max_length}: {reason}.") from None
        raise BadInput(f"{folder}: {reason}.") from None
    try:
        check_vocabulary(tokenizer.content, eager.vocabulary)
    except ValueError as error:
        raise BadInput(f"{folder}/tokenizer.json: {error}; it is that of another model.") from None
    encoder = FittedTransformer(spec, tokenizer.content, to_onnx(eager), weights, definition=eager.features)
    tokenizer.check(encoder.encoder, awkward_texts(words_of(encoder), longest=400))
    return encoder


def reduced_transformer(encoder: FittedTransformer, precision: Precision) -> FittedTransformer:
    """The same in another precision. Its definition is the network itself."""
    from export.hugging_face.precision import reduced

    spec = encoder.spec.model_copy(update={"precision": precision})
    return FittedTransformer(
        spec, encoder.content, reduced(encoder.network, encoder.spec, precision), encoder.head
    )


def cost_of(full: FittedClassifier, lower: FittedClassifier, options: TransformerOptions) -> dict[str, Any]:
    """What the lower precision costs on the calibration texts. Raises BadSetting without them, BadInput."""
    if options.calibration is None:
        raise BadSetting(
            f"--quantize {options.precision} needs --calibration: a file with labelled texts, on which the "
            "accuracy that it costs is measured."
        )
    texts, classes = options.calibration.texts, _classes(options.calibration, full.labels)
    before, after = served_probabilities(full, texts), served_probabilities(lower, texts)
    accuracies = _accuracy(before, classes), _accuracy(after, classes)
    return difference_of(options.precision, (before, after), accuracies, full.head)


def difference_of(
    precision: Precision, probabilities: tuple[Numbers, Numbers], accuracies: tuple[float, float], head: Head
) -> dict[str, Any]:
    """What a lower precision changes, for the manifest: float64[texts, classes] and the accuracy in float32,
    and in this `precision`.
    """
    before, after = probabilities
    difference = np.abs(before - after)
    same = (
        before.argmax(axis=1) == after.argmax(axis=1)
        if head == "softmax"
        else ((before >= 0.5) == (after >= 0.5)).all(axis=1)
    )
    return {
        "precision": precision,
        "texts": len(before),
        "accuracy_float32": accuracies[0],
        f"accuracy_{precision}": accuracies[1],
        "same_class": float(same.mean()),
        "mean_difference": float(difference.mean()),
        "max_difference": float(difference.max()),
    }


def cost_sentence(cost: dict[str, Any]) -> str:
    """For people."""
    lower = cost[f"accuracy_{cost['precision']}"]
    return (
        f"{cost['precision']}: accuracy {lower:.4f} instead of {cost['accuracy_float32']:.4f} "
        f"({(lower - cost['accuracy_float32']) * 100:+.2f} points) on {cost['texts']:,} texts; the same "
        f"label for {cost['same_class']:.1%} of them; |Δp| {cost['mean_difference']:.4f} on average, at most "
        f"{cost['max_difference']:.3f}."
    )


def words_of(encoder: FittedTransformer) -> list[str]:
    """Words for the texts of the parity check."""
    vocabulary = library_tokenizer(encoder.content).get_vocab(with_added_tokens=False)
    words = (token.lstrip("Ġ▁#") for token in sorted(vocabulary, key=vocabulary.__getitem__))
    return [word for word in words if word.isalnum()][:WORDS] or ["word"]


def check_libraries(option: str) -> None:
    """Raises BadSetting without torch or transformers."""
    for name in ("torch", "transformers"):
        if find_spec(name) is None:
            raise BadSetting(
                f"{option} needs {name}, which is not installed: install prelabel[export,transformers]."
            )


def _classes(labelled: LabelledTexts, labels: tuple[str, ...]) -> Any:
    if strange := sorted({each for found in labelled.labels for each in found} - set(labels)):
        raise BadInput(
            f"--calibration: the label {strange[0]!r} is none of the model's: {', '.join(labels)[:500]}."
        )
    return [{labels.index(each) for each in found} for found in labelled.labels]


def _accuracy(probabilities: Numbers, classes: Any) -> float:
    best = probabilities.argmax(axis=1)
    return float(np.mean([int(one) in wanted for one, wanted in zip(best, classes, strict=True)]))


def _first_message(error: ValueError) -> str:
    details = getattr(error, "errors", None)
    return str(details()[0]["msg"]).removeprefix("Value error, ") if details else str(error)
