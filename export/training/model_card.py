"""The model card of a trained bundle: README.md, from the figures in its manifest."""

from collections.abc import Sequence
from typing import Any

from export.training.tokens import reason
from export.training.with_sentence_encoder import sentences_of

FIGURES = "accuracy", "macro_f1", "log_loss", "calibration_error"


def model_card(name: str, labels: Sequence[str], counts: Sequence[int], metrics: dict[str, Any]) -> str:
    """Markdown. `counts` are the training texts of each label; `metrics` those of `train_by_evidence`."""
    chosen, tried = metrics["chosen"], metrics["cross_validation"]
    best = tried[chosen]
    measured = (
        f"{metrics['folds']}-fold cross-validation" if metrics["folds"] > 1 else "texts that were held out"
    )
    lines = [
        f"# {_text(name)}",
        "",
        f"{_text(chosen)}, trained by `prelabel train` on {metrics['texts']['fitted']:,} texts.",
        f"Left out: {metrics['texts']['left_out']}.",
        *([f"Tokenizer of the CNN: {reason(metrics['tokenizer'])}."] if "tokenizer" in metrics else []),
        *sentences_of(metrics),
        f"Options: {_options(metrics['options'])}.",
        *(f"\n**{_text(warning)}**" for warning in metrics["warnings"]),
        "",
        f"## What was tried ({measured})",
        "",
        *_table(
            ("candidate", *(figure.replace("_", " ") for figure in FIGURES)),
            [
                (
                    f"**{_text(each)}** (kept)" if each == chosen else _text(each),
                    *(f"{figures[figure]:.3f}" for figure in FIGURES),
                )
                for each, figures in tried.items()
            ],
        ),
        "",
        *_test(metrics),
        "## Labels",
        "",
        *_table(
            ("label", "texts", "recall", "F1", "average precision"),
            [
                (_text(label), f"{count:,}", *("–" if each is None else f"{each:.3f}" for each in figures))
                for label, count, *figures in zip(
                    labels, counts, best["recall"], best["f1"], best["average_precision"], strict=True
                )
            ],
        ),
        "",
        "Accuracy of n-grams by the number of texts: "
        + ", ".join(f"{texts:,}: {accuracy:.3f}" for texts, accuracy in metrics["learning_curve"])
        + ".",
        "",
    ]
    return "\n".join(lines)


def _options(options: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {_text(str(value))}"
        for name, value in options.items()
        if value is not None and value is not False
    )


def _test(metrics: dict[str, Any]) -> list[str]:
    if "test" not in metrics:
        return []
    figures = metrics["test"]
    low, high = figures["interval_95"]
    line = (
        f"On {figures['texts']:,} test texts: accuracy {figures['accuracy']:.4f} ({low:.4f} to {high:.4f}), "
        f"macro F1 {figures['macro_f1']:.4f}, calibration error {figures['calibration_error']:.4f}."
    )
    return [line, ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _text(value: str) -> str:
    """A label or name within a line or cell."""
    escaped = "".join(f"\\{each}" if each in r"\`*_[]<>|#" else each for each in value)
    return " ".join(escaped.split())
