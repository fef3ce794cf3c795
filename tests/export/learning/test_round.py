"""Rounds of learning on small texts: what is accepted, refused and waited for, and attacks."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.classifier import publish_classifier
from export.learning.features import FeatureCache
from export.learning.project_model import probabilities
from export.learning.round import Round, learn_round
from export.learning.served_model import Served
from server.bundle import Bundle
from server.learning.annotations import Annotation, OutOfFold
from tests.encoders.fitted import published

LABELS = ("bug", "idea", "question")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return published(tmp_path_factory.mktemp("base") / "base", ["cnn"])


def text_of(number: int) -> tuple[str, str]:
    """A text of random words and one that names its label."""
    random = np.random.default_rng(number)
    label = LABELS[int(random.integers(2))]
    words = [f"w{word}" for word in random.integers(0, 40, 8)]
    return " ".join([*words, f"{label}ish", str(number)]), label


def answers(
    count: int, answer: Callable[[str, int], str], annotator: int = 1, start: int = 0
) -> list[Annotation]:
    found = []
    for number in range(start, start + count):
        text, label = text_of(number)
        found.append(Annotation(number, number, annotator, text, (answer(label, number),), "2026"))
    return found


def honest(label: str, number: int) -> str:
    return label


def constant(label: str, number: int) -> str:
    return "bug"


def at_random(label: str, number: int) -> str:
    return LABELS[int(np.random.default_rng(number + 10_000).integers(2))]


def swapped(label: str, number: int) -> str:
    return {"bug": "idea", "idea": "bug"}[label]


def learn(
    base: Bundle, annotations: Sequence[Annotation], served: Served | None = None, *, several: bool = False
) -> Round:
    found = learn_round(annotations, base, served, FeatureCache(), several=several)
    json.dumps(found.figures, allow_nan=False)
    return found


def publish(found: Round, folder: Path) -> Bundle:
    assert found.classifier is not None
    return publish_classifier(found.classifier, folder, torchscript=False)


def served_by(bundle: Bundle, found: Round | None = None) -> Served:
    return Served(bundle.version, bundle, bundle.labels, found.out_of_fold if found else {})


def test_a_model_is_learned_and_answers_as_its_bundle(base: Bundle, tmp_path: Path) -> None:
    found = learn(base, answers(60, honest))
    assert (found.decision, len(found.out_of_fold)) == ("accepted", 60)
    bundle = publish(found, tmp_path / "learned")
    texts, labels = zip(*map(text_of, range(500, 550)), strict=True)
    right = [bundle.labels[best] for best in probabilities(bundle, texts).argmax(axis=1)]
    assert np.mean([a == b for a, b in zip(right, labels, strict=True)]) > 0.9
    assert "60 answers" in found.reason
    assert found.figures["new"]["accuracy"]["value"] > 0.8


def test_the_same_annotations_give_the_same_version(base: Bundle, tmp_path: Path) -> None:
    annotations, cache = answers(40, honest), FeatureCache()
    learn_round(annotations[:20], base, None, cache, several=False)
    found = learn_round(annotations[::-1], base, None, cache, several=False)
    again = learn(base, annotations)
    versions = {publish(each, tmp_path / name / "m").version for each, name in ((found, "a"), (again, "b"))}
    assert len(versions) == 1


def test_too_few_answers_wait(base: Bundle) -> None:
    assert learn(base, []).decision == "waiting"
    assert learn(base, answers(9, honest)).decision == "waiting"
    assert learn(base, answers(40, constant)).decision == "waiting"
    one_task = [replace(each, task=1) for each in answers(40, honest)]
    assert learn(base, one_task).decision == "waiting"


def test_annotations_without_labels_are_ignored(base: Bundle) -> None:
    skipped = [replace(each, id=each.id + 1_000, labels=()) for each in answers(20, honest)]
    assert learn(base, [*answers(30, honest), *skipped]).figures["answers"] == 30


def test_a_label_of_one_text_is_not_learned_yet(base: Bundle) -> None:
    rare = Annotation(900, 900, 1, "how does this work", ("question",), "2026")
    found = learn(base, [*answers(40, honest), rare])
    assert found.figures["not_yet"] == {"question": 1}
    assert found.classifier is not None
    assert found.classifier.labels == ("bug", "idea")


def test_the_served_model_stays_if_the_new_one_is_the_same(base: Bundle, tmp_path: Path) -> None:
    found = learn(base, answers(60, honest))
    served = served_by(publish(found, tmp_path / "learned"), found)
    assert learn(base, answers(60, honest), served).decision == "refused"


def test_a_model_that_was_perfect_while_unfitted_is_not_replaced(base: Bundle) -> None:
    perfect = {number: OutOfFold(-1e-6, True) for number in range(60)}
    served = Served("perfect", base, LABELS[:2], perfect)
    assert learn(base, answers(60, honest), served).decision == "refused"


def test_the_answers_of_the_base_count(base: Bundle) -> None:
    texts = [text_of(number)[0] for number in range(20)]
    own = [LABELS[best] for best in probabilities(base, texts).argmax(axis=1)]
    annotations = [
        replace(each, labels=(label,)) for each, label in zip(answers(20, honest), own, strict=True)
    ]
    found = learn(base, annotations, Served(base.version, base, LABELS[:2], {}))
    assert len(found.figures.get("shares", [0, 0, 1])) == 3


def test_a_fitting_base_stays_until_there_are_enough_answers(base: Bundle) -> None:
    served = Served(base.version, base, LABELS[:2], {})
    few, enough = learn(base, answers(99, honest), served), learn(base, answers(130, honest), served)
    assert (few.decision, enough.decision) == ("refused", "accepted")
    assert "it stays until 100 texts have answers, and 99 have" in few.reason


def test_several_labels(base: Bundle, tmp_path: Path) -> None:
    annotations = [
        replace(
            each,
            labels=tuple(sorted({*each.labels, "question"})) if each.id % 3 == 0 else each.labels,
            text=each.text + (" why" if each.id % 3 == 0 else ""),
        )
        for each in answers(80, honest)
    ]
    found = learn(base, annotations, several=True)
    assert found.decision == "accepted"
    assert publish(found, tmp_path / "several").manifest.head == "sigmoid"


def test_a_base_of_ngrams(tmp_path: Path) -> None:
    base = published(tmp_path / "base", ["words", "characters"])
    assert learn(base, answers(60, honest)).decision == "accepted"


def aside(found: Round) -> list[str]:
    return sorted(found.figures.get("set_aside", {}))


def test_attack_constant_answers_of_one_among_honest_ones(base: Bundle) -> None:
    found = learn(base, [*answers(60, honest), *answers(300, constant, 2, start=100)])
    assert (found.decision, aside(found)) == ("accepted", ["2"])
    assert len(found.out_of_fold) == 60


def test_attack_random_answers(base: Bundle) -> None:
    found = learn(base, [*answers(60, honest), *answers(150, at_random, 2, start=100)])
    assert (found.decision, aside(found)) == ("accepted", ["2"])


def test_attack_random_answers_of_the_only_annotator(base: Bundle) -> None:
    certain = {number: OutOfFold(-7.0, False) for number in range(100)}
    found = learn(base, answers(100, at_random), Served("served", base, LABELS[:2], certain))
    assert found.decision == "refused"
    assert "do not follow from the texts" in found.reason


def test_attack_swapped_answers(base: Bundle) -> None:
    two = [*answers(60, honest), *answers(60, honest, 2, start=100)]
    found = learn(base, [*two, *answers(80, swapped, 3, start=200)])
    assert (found.decision, aside(found)) == ("accepted", ["3"])
    one = learn(base, [*answers(60, honest), *answers(80, swapped, 3, start=200)])
    assert one.decision == "refused"
    assert "contradict each other" in one.reason


def test_attack_two_that_answer_constantly(base: Bundle) -> None:
    colluding = [*answers(150, constant, 2, start=200), *answers(150, constant, 3, start=400)]
    found = learn(base, [*answers(100, honest), *colluding])
    assert (found.decision, aside(found)) == ("accepted", ["2", "3"])


def test_attack_one_text_a_thousand_times(base: Bundle) -> None:
    text, label = text_of(0)
    wrong = swapped(label, 0)
    repeated = [Annotation(1_000 + i, 1_000 + i, 2, text, (wrong,), "2026") for i in range(1_000)]
    found = learn(base, [*answers(60, honest), *repeated])
    assert found.decision == "accepted"
    assert found.classifier is not None
    texts, labels = zip(*map(text_of, range(500, 550)), strict=True)
    best = found.classifier.quick_probabilities(texts).argmax(axis=1)
    assert np.mean([found.classifier.labels[i] == each for i, each in zip(best, labels, strict=True)]) > 0.85


def test_attack_one_label_of_the_only_annotator(base: Bundle) -> None:
    certain = {number: OutOfFold(-3.0, False) for number in range(100)}
    annotations = [*answers(96, constant), *answers(4, lambda *_: "idea", start=96)]
    found = learn(base, annotations, Served("served", base, LABELS[:2], certain))
    assert found.decision == "refused"
    assert "all of one annotator, are bug" in found.reason
