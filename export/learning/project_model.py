"""What a project asks, and the bundles that answer for it: that of the server, and the learned one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.encoders.base import Numbers
from export.learning.model_folder import learned_bundle
from server.bundle import Bundle, read_bundle
from server.engines.factory import open_engine
from server.errors import BadInput, BadLabelConfig
from server.label_studio.labeling_config import Question, read_plan, read_question
from server.learning.store import LearningProject
from server.offline.classifier import Classifier
from server.settings import Settings


@dataclass(frozen=True)
class ProjectModel:
    """`base` is the bundle that learning starts from, and `base_fits` whether it has the labels of the
    project; `served` is what answers now, None if nothing does. `question` says which text and control.
    """

    question: Question
    base: Bundle
    base_fits: bool
    served: Bundle | None
    label_map: Mapping[str, str]

    def labels_of(self, bundle: Bundle, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """What the bundle gives each text, as labels of the project's control."""
        values = probabilities(bundle, texts)
        names = self.names_of(bundle)
        if bundle.manifest.head == "softmax":
            return [(names[best],) for best in values.argmax(axis=1)]
        return [tuple(sorted(names[index] for index in np.flatnonzero(row >= 0.5))) for row in values]

    def names_of(self, bundle: Bundle) -> list[str]:
        """The label of the control that each class of the bundle stands for."""
        mapped = [self.label_map.get(label, label) for label in bundle.labels]
        return [self.question.answers.label(label) or label for label in mapped]


def read_project_model(project: LearningProject, settings: Settings, learn_folder: Path) -> ProjectModel:
    """Raises BadLabelConfig, BadBundle, BadInput."""
    question = read_question(project.config, project.control)
    base = read_base(project, settings)
    base_fits = _fits(base, project.config, settings)
    served = learned_bundle(learn_folder, project.id, project.served)
    if served is None and base_fits:
        served = base
    return ProjectModel(question, base, base_fits, served, settings.label_map)


def read_base(project: LearningProject, settings: Settings) -> Bundle:
    """The bundle that the project is connected to. Raises BadBundle, and BadInput for an ensemble."""
    path = settings.bundles.get(project.model)
    if path is None:
        raise BadInput(
            f"it is connected to {project.model}, which is no bundle of this server; learning starts from a "
            "bundle, so connect the project to one."
        )
    return read_bundle(path)


def probabilities(bundle: Bundle, texts: Sequence[str]) -> Numbers:
    """float64[texts, classes], by the server's engine on one thread of the CPU."""
    with Classifier(bundle, open_engine(bundle, device="cpu"), threads=1) as classifier:
        return classifier.probabilities(classifier.encode(texts)).astype(np.float64)


def _fits(base: Bundle, config: str, settings: Settings) -> bool:
    try:
        read_plan(config, base.labels, settings.label_map)
    except BadLabelConfig:
        return False
    return True
