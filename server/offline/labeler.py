"""Rows of text to Label Studio tasks with predictions; shared by files, projects and Ray."""

from dataclasses import dataclass

from server.label_studio.labeling_config import LabelingPlan
from server.label_studio.predictions import Prediction, predictions
from server.offline.classifier import Classifier
from server.scoring import DEFAULT_SCORING, Scoring, scores_of


@dataclass(frozen=True)
class Labeler:
    """Tasks' texts → predictions. Its classifier must be in use (`with classifier:`)."""

    classifier: Classifier
    plan: LabelingPlan
    scoring: Scoring = DEFAULT_SCORING

    @property
    def version(self) -> str:
        return self.scoring.version(self.classifier.bundle.version)

    def predictions(self, texts: list[tuple[str | None, ...]]) -> list[Prediction]:
        """One prediction for each task's texts as the plan takes them, in order; an empty one where none is
        usable.
        """
        present = [text for each in texts for text in each if text is not None]
        probabilities = self.classifier.probabilities(self.classifier.encode(present))
        return predictions(
            self.plan,
            self.version,
            texts,
            probabilities,
            scores_of(probabilities, self.scoring.score),
            self.scoring.threshold,
        )
