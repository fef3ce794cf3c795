"""Texts of Label Studio tasks → predictions; used for files, for projects, and on Ray."""

from dataclasses import dataclass

from server.label_studio.labeling_config import LabelingPlan
from server.label_studio.predictions import Prediction, predictions
from server.offline.classifier import Classifier
from server.scoring import DEFAULT_SCORING, Scoring, scores_of


@dataclass(frozen=True)
class Labeler:
    """Classifies texts and writes the results for one labeling config. The classifier must be open."""

    classifier: Classifier
    plan: LabelingPlan
    scoring: Scoring = DEFAULT_SCORING

    @property
    def version(self) -> str:
        """The model version of the predictions."""
        return self.scoring.version(self.classifier.bundle.version)

    def predictions(self, texts: list[tuple[str | None, ...]]) -> list[Prediction]:
        """One prediction per task, in order; it is empty for a task without a usable text.

        `texts` holds the texts of each task, as `plan.texts` returns them.
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
