"""Pictures (PNG) of an evaluation and of a training. Needs matplotlib, which serving does not install."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.errors import BadInput, BadSetting
from server.evaluate.classification_metrics import BINS, ClassificationMetrics, wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2f6db3", "#d9762b", "#8a8a8a"


def reliability(metrics: ClassificationMetrics, path: Path) -> None:
    """Reliability diagram, after Guo et al. (2017): accuracy by confidence, on the diagonal if calibrated,
    and the share of texts in each bin.
    """
    figure = new_figure(6, 6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    present = metrics.bin_rows > 0
    middles = (np.arange(BINS)[present] + 0.5) / BINS
    rows = metrics.bin_rows[present]
    shares = metrics.bin_right[present] / rows
    low, high = np.array(
        [wilson(int(right), int(n)) for right, n in zip(metrics.bin_right[present], rows, strict=True)]
    ).T
    errors = np.maximum(0, [shares - low, high - shares])
    above.bar(
        middles,
        shares,
        width=0.9 / BINS,
        color=BLUE,
        yerr=errors,
        ecolor=GREY,
        capsize=2,
        label="accuracy (95 % interval)",
    )
    above.plot(
        metrics.bin_confidence[present] / rows,
        metrics.bin_confidence[present] / rows,
        "o--",
        color=ORANGE,
        markersize=4,
        label="mean confidence",
    )
    above.set(
        ylabel="accuracy",
        ylim=(0, 1.02),
        title=f"{metrics.rows:,} texts, expected calibration error {metrics.calibration_error:.3f}",
    )
    above.legend(loc="upper left")
    below.bar(middles, rows / metrics.rows, width=0.9 / BINS, color=GREY)
    below.set(xlabel="confidence", ylabel="share of texts", xlim=(0, 1))
    save(figure, path)


def accuracy_by(groups: Mapping[str, Sequence[int]], what: str, path: Path) -> None:
    """Accuracy with its 95 % interval for each group, given as [correct rows, rows]."""
    figure = new_figure(7, 1.5 + 0.35 * len(groups))
    axes = figure.subplots()
    shares = [right / rows for right, rows in groups.values()]
    errors = np.maximum(
        0,
        [
            (share - wilson(*counts)[0], wilson(*counts)[1] - share)
            for share, counts in zip(shares, groups.values(), strict=True)
        ],
    ).T
    names = [f"{name} (n = {counts[1]:,})" for name, counts in groups.items()]
    axes.barh(names, shares, color=BLUE, xerr=errors, ecolor=GREY, capsize=3)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy (95 % interval)", xlim=(0, 1.02), title=f"by {what}")
    save(figure, path)


def learning_curve(history: Sequence[Mapping[str, Any]], best: int, path: Path) -> None:
    """Loss and accuracy by epoch, of the fitted and the held-out texts, with the kept epoch marked."""
    figure = new_figure(9, 4)
    epochs = [line["epoch"] for line in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(
            epochs, [line[name] for line in history], "o-", color=GREY, label="fitted texts (with noise)"
        )
        axes.plot(
            epochs, [line[f"validation_{name}"] for line in history], "o-", color=BLUE, label="held-out texts"
        )
        axes.axvline(best, color=ORANGE, linestyle="--", label=f"kept: epoch {best}")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    save(figure, path)


def check_available() -> None:
    """Raises BadSetting if matplotlib is not installed. Call it before long work."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BadSetting(
            "--plots needs matplotlib, which is not installed: run pip install matplotlib, or omit --plots."
        )


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, without matplotlib's global state or a display. Raises BadSetting without
    matplotlib.
    """
    check_available()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # without date and version the same data make the same file
        figure.savefig(path, dpi=110, metadata={"Software": None})
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}).") from None
