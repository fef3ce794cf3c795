"""Texts of Label Studio tasks → predictions; used for files, for projects, and on Ray."""

from dataclasses import dataclass
from typing import Any

from server.label_studio.exported_labels import is_annotation_row, is_exported
from server.label_studio.labeling_config import LabelingPlan, Texts
from server.label_studio.predictions import Prediction, predictions
from server.offline.classifier import Classifier
from server.offline.records import columns_of
from server.offline.row_texts import RowText
from server.scoring import DEFAULT_SCORING, Scoring, scores_of


@dataclass(frozen=True)
class Labeler:
    """Classifies texts and writes the results for one labeling config. The classifier must be open. `text` is
    read instead of the plan's only field.
    """

    classifier: Classifier
    plan: LabelingPlan
    scoring: Scoring = DEFAULT_SCORING
    text: RowText | None = None

    @property
    def version(self) -> str:
        """The model version of the predictions."""
        return self.scoring.version(self.classifier.bundle.version)

    @property
    def columns(self) -> list[str]:
        """Columns of a table of which it reads at least one."""
        readers = self.plan.fields if self.text is None else [self.text]
        return list(dict.fromkeys(column for reader in readers for column in reader.columns))

    def texts(self, row: Any) -> Texts:
        """The texts of a row of a file. Raises ValueError with a sentence, as `RowText` does."""
        if self.text is None:
            return self.plan.texts(columns_of(row))
        return (self.text.read(columns_of(row), exported=is_exported(row) or is_annotation_row(row)),)

    def predictions(self, texts: list[tuple[str | None, ...]]) -> list[Prediction]:
        """One prediction per task, in order; it is empty for a task without a usable text.

        `texts` holds the texts of each task, as `texts` returns them.
        """
        present = [text for task_texts in texts for text in task_texts if text is not None]
        probabilities = self.classifier.probabilities(self.classifier.encode(present))
        return predictions(
            self.plan,
            self.version,
            texts,
            probabilities,
            scores_of(probabilities, self.scoring.score),
            self.scoring.threshold,
        )
