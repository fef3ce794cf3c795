"""What people compare, as pictures (PNG). The one place that needs matplotlib, which serving does not
install.
"""

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


def reliability(figures: ClassificationMetrics, path: Path) -> None:
    """Accuracy by confidence (on the diagonal when calibrated), and how many rows stand behind each bar;
    after Guo et al. (2017).
    """
    canvas = _canvas(6, 6)
    above, below = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    present = figures.bin_rows > 0
    middles = (np.arange(BINS)[present] + 0.5) / BINS
    rows = figures.bin_rows[present]
    shares = figures.bin_right[present] / rows
    low, high = np.array(
        [wilson(int(right), int(n)) for right, n in zip(figures.bin_right[present], rows, strict=True)]
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
        figures.bin_confidence[present] / rows,
        figures.bin_confidence[present] / rows,
        "o--",
        color=ORANGE,
        markersize=4,
        label="mean confidence",
    )
    above.set(
        ylabel="accuracy",
        ylim=(0, 1.02),
        title=f"{figures.rows:,} texts, expected calibration error {figures.calibration_error:.3f}",
    )
    above.legend(loc="upper left")
    below.bar(middles, rows / figures.rows, width=0.9 / BINS, color=GREY)
    below.set(xlabel="confidence", ylabel="share of texts", xlim=(0, 1))
    _save(canvas, path)


def accuracy_by(groups: Mapping[str, Sequence[int]], what: str, path: Path) -> None:
    """Accuracy with its 95 % interval for each group [right rows, rows]."""
    canvas = _canvas(7, 1.5 + 0.35 * len(groups))
    axes = canvas.subplots()
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
    _save(canvas, path)


def learning_curve(history: Sequence[Mapping[str, Any]], best: int, path: Path) -> None:
    """Loss and accuracy by epoch, of what was fitted and of what was held out; the epoch that was kept is
    marked.
    """
    canvas = _canvas(9, 4)
    epochs = [line["epoch"] for line in history]
    for axes, name in zip(canvas.subplots(1, 2), ("loss", "accuracy"), strict=True):
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
    _save(canvas, path)


def check_available() -> None:
    """For long work to ask before it begins. Raises BadSetting where there is no matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BadSetting(
            "plots need matplotlib, which is not installed: install prelabel[plots], or leave --plots out."
        )


def _canvas(width: float, height: float) -> "Figure":
    """A drawing of its own, without matplotlib's global state or a screen. Raises BadSetting where there is
    no matplotlib.
    """
    check_available()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(canvas: "Figure", path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # without its date and version the same figures make the same file
        canvas.savefig(path, dpi=110, metadata={"Software": None})
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}).") from None
