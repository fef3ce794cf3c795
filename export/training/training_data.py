"""The labelled texts of a training run as targets, and which of them belong together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from export.training.evidence import Labelled
from export.training.labeling_config import check_labels
from export.training.linear_head import Targets
from server.bundle import Head
from server.encoders.ngrams.analyzer import normalized
from server.errors import BadInput
from server.offline.labelled import LabelledSource, LabelledTexts, LeftOut, read_labelled


@dataclass(frozen=True)
class TestData:
    """Texts for the final figures only: targets ±1 [texts, classes]."""

    texts: Sequence[str]
    targets: Targets


@dataclass(frozen=True)
class TrainingData:
    """`labels` in class order; `labelled` has the targets of `texts`; `left_out` counts tasks that have no
    text or label.
    """

    texts: Sequence[str]
    labels: tuple[str, ...]
    labelled: Labelled
    left_out: LeftOut = field(default_factory=LeftOut)
    test: TestData | None = None

    @property
    def contradictions(self) -> int:
        """Different texts that have other labels where they occur again."""
        texts = map(folded, self.texts)
        pairs = {(text, tuple(row)) for text, row in zip(texts, self.labelled.targets, strict=True)}
        return sum(times > 1 for times in Counter(text for text, _ in pairs).values())

    @property
    def counts(self) -> npt.NDArray[np.intp]:
        """Texts of each label."""
        counts: npt.NDArray[np.intp] = (self.labelled.targets > 0).sum(axis=0)
        return counts


def read_training_data(
    source: LabelledSource, test: Path | None, *, group: str | None, balance: bool
) -> TrainingData:
    """The labelled texts of `source`, and those of the file `test`, which is read in the same way. `group`
    is a column whose equal values belong together. Raises BadInput.
    """
    texts = read_labelled(source, group)
    if texts.multi_label and balance:
        raise BadInput(f"{source.path}: texts have several labels; --balance is for texts with one each.")
    data = training_data(texts, _labels(texts, source.path), balance=balance)
    if test is None:
        return data
    return replace(data, test=_test_data(replace(source, path=test), data))


def training_data(texts: LabelledTexts, labels: tuple[str, ...], *, balance: bool) -> TrainingData:
    """Equal texts and texts of one group stay on one side of every split; otherwise the model would be
    measured on texts that it has seen. Raises BadInput for texts that nothing can be measured on.
    """
    head: Head = "sigmoid" if texts.multi_label else "softmax"
    groups = group_numbers(texts.texts, texts.groups or texts.texts)
    if len(np.unique(groups)) < 2:
        same = "the same" if texts.groups is None else "the same, or of one group (--group)"
        raise BadInput(f"All labelled texts are {same}; give texts that differ.")
    targets = targets_of(texts, labels)
    if (targets > 0).sum(axis=0).max() == 1:
        raise BadInput("Every label has one text only; label more texts.")
    return TrainingData(texts.texts, labels, Labelled(targets, groups, head, balance), texts.left_out)


def targets_of(texts: LabelledTexts, labels: Sequence[str]) -> Targets:
    """±1, float32[texts, classes]."""
    number = {label: i for i, label in enumerate(labels)}
    targets = np.full((len(texts.texts), len(labels)), -1, dtype=np.float32)
    for row, several in enumerate(texts.labels):
        for label in several:
            targets[row, number[label]] = 1
    return targets


def folded(text: str) -> str:
    """Equal for texts that n-grams cannot tell apart: by case, white space or Unicode's compatible forms."""
    return " ".join(normalized(text).split())


def group_numbers(texts: Sequence[str], groups: Sequence[str]) -> npt.NDArray[np.intp]:
    """int[texts]: a number for each text, the same for equal texts and for texts of one group."""
    _, by_text = np.unique(np.array([*map(folded, texts)], dtype=object), return_inverse=True)
    _, by_group = np.unique(np.array(groups, dtype=object), return_inverse=True)
    nodes = int(by_text.max()) + 1
    size = nodes + int(by_group.max()) + 1
    edges = coo_array((np.ones(len(texts)), (by_text, nodes + by_group)), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    numbers: npt.NDArray[np.intp] = component[by_text].astype(np.intp)
    return numbers


def _labels(texts: LabelledTexts, path: Path) -> tuple[str, ...]:
    """In class order. Raises BadInput for fewer than two."""
    labels = tuple(sorted({label for several in texts.labels for label in several}))
    check_labels(labels, path)
    if len(labels) < 2:
        found = f"one label only ({labels[0]})" if labels else "no labelled texts"
        left_out = f" Left out: {texts.left_out}." if texts.left_out.total else ""
        raise BadInput(f"{path}: {found}; expected two labels or more.{left_out}")
    return labels


def _test_data(source: LabelledSource, data: TrainingData) -> TestData:
    """Raises BadInput, also for labels, or several labels of a text, that the training texts do not have."""
    tested = read_labelled(source)
    if tested.multi_label and data.labelled.head == "softmax":
        raise BadInput(f"{source.path}: texts have several labels; the training texts have one each.")
    unseen = sorted({label for several in tested.labels for label in several} - set(data.labels))
    if unseen:
        raise BadInput(f"{source.path}: labels that the training texts do not have: {', '.join(unseen)}.")
    return TestData(tested.texts, targets_of(tested, data.labels))
