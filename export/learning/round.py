"""One round of learning: fits a model to a project's answers, measures it on answers that it was not fitted
on, and decides whether it replaces the served one.

answers ─▶ set annotators aside ─▶ ridge over n-grams, and over the base's features ─▶ their stack with the
base's own answers ─▶ gate ─▶ classifier
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from export.classifier import FittedClassifier
from export.encoders.base import FittedEncoder, Numbers
from export.learning.annotators import LEAST_ANSWERS as JUDGED_FROM
from export.learning.annotators import SetAside, annotator_weights, set_aside
from export.learning.answers import (
    LEAST_ANSWERS,
    Answers,
    Indices,
    Truth,
    answers_of,
    balances,
    frequencies_of,
    out_of_fold_of,
)
from export.learning.features import FeatureCache
from export.learning.figures import figures_of
from export.learning.fitted_models import FittedModels, fit_models
from export.learning.gate import Compared, judge
from export.learning.reasons import (
    dispute,
    one_label_only,
    reason_of,
    too_early,
    too_few_to_replace,
)
from export.learning.ridge import EXACT, Answered, fit_dual, kernel_of, predict_dual
from export.learning.served_model import Served, by_label, served_out_of_fold
from export.learning.text_features import TextFeatures, features_at, text_features
from server.bundle import Bundle, Head
from server.encoders.ngrams.analyzer import normalized, words_of
from server.learning.annotations import Annotation, OutOfFold

MOST_JUDGED = 600
"""About how many answers the models of the annotators are fitted on and measured on, evenly spaced ones."""


@dataclass(frozen=True)
class Round:
    """What came out: `reason` is one sentence. `classifier` is calibrated, and None unless accepted;
    `out_of_fold` is what the new model gives all annotations that it was fitted on. `figures` are for JSON.
    """

    decision: Literal["accepted", "refused", "waiting"]
    reason: str
    classifier: FittedClassifier | None
    out_of_fold: Mapping[int, OutOfFold]
    figures: dict[str, Any]


def learn_round(
    annotations: Sequence[Annotation],
    base: Bundle,
    served: Served | None,
    features: FeatureCache,
    *,
    several: bool,
    seed: int = 1,
    base_names: Sequence[str] | None = None,
) -> Round:
    """Learn from the latest version of each annotation of a project; `several` labels may be chosen. The same
    annotations give the same classifier, in any order. `base_names` are the project's labels for the classes
    of `base`; without them, those of `served` if it is the base, or else the base's own. Raises BadBundle.
    """
    started = time.monotonic()
    # threads that wait for each other on busy cores take longer than one
    with threadpool_limits(1):
        result = _learn(
            annotations, base, served, features, base_names, "sigmoid" if several else "softmax", seed
        )
    figures = result.figures | {"seed": seed, "seconds": round(time.monotonic() - started, 3)}
    return replace(result, figures=figures)


def _learn(
    annotations: Sequence[Annotation],
    base: Bundle,
    served: Served | None,
    cache: FeatureCache,
    base_names: Sequence[str] | None,
    head: Head,
    seed: int,
) -> Round:
    if base_names is None:
        is_base = served is not None and served.bundle.version == base.version
        base_names = served.names if served is not None and is_base else base.labels
    given = sorted((each for each in annotations if each.labels), key=lambda each: each.id)
    if head == "softmax":
        given = [each for each in given if len(each.labels) == 1]
    answers, figures = answers_of(given, base_names, head)
    if answers is None:
        return _waiting(figures)
    texts = answers.texts
    found = text_features(texts, base, base_names, answers.labels, head, cache)
    kernels = [kernel_of(matrix) for matrix in found.matrices] if len(texts) <= EXACT else []
    cases = _set_aside(answers, found, kernels, served, cache)
    gone = [each for each in cases if each.certain]
    if gone:
        left_out = {each.annotator for each in gone}
        kept = [each for each in given if each.annotator not in left_out]
        remaining, figures = answers_of(kept, base_names, head)
        figures |= {"set_aside": {str(each.annotator): each.reason for each in gone}}
        if remaining is None:
            return _waiting(figures)
        answers = remaining
        # the features of the texts that are left; n-grams of all
        index = {text: i for i, text in enumerate(texts)}
        rows = np.array([index[text] for text in answers.texts])
        found = features_at(found, rows, base_names, answers.labels)
        kernels = [kernel[np.ix_(rows, rows)] for kernel in kernels]
    answers = replace(answers, weights=annotator_weights(answers.annotators, answers.weights))
    fit = fit_models(answers, found, kernels, seed)
    out_of_fold = out_of_fold_of(fit.probabilities, answers)
    frequencies = out_of_fold_of(frequencies_of(answers), answers)
    before = frequencies if served is None else served_out_of_fold(answers, served, cache)
    compared = _compared(out_of_fold, before, answers)
    verdict = judge(compared, np.array([each.log_probability for each in frequencies]))
    figures |= figures_of(answers, fit, compared, verdict, gone, served)
    cache.keep([base.version, *([served.bundle.version] if served else [])], [each.text for each in given])
    reason = (
        dispute(cases)
        or one_label_only(answers, compared, served)
        or too_early(answers, compared, served)
        or too_few_to_replace(answers, base, served)
    )
    if reason is None and verdict.accepted:
        classifier = _classifier(answers, found, fit, base, cache)
        classifier = replace(classifier, metrics={"learning": figures}, words=_some_words(answers.texts))
        numbers = {each.id: row for each, row in zip(answers.annotations, out_of_fold, strict=True)}
        return Round("accepted", reason_of(compared, verdict, served), classifier, numbers, figures)
    return Round("refused", reason or reason_of(compared, verdict, served), None, {}, figures)


def _waiting(figures: dict[str, Any]) -> Round:
    learned, needed = figures["labels"], figures["not_yet"]
    reason = f"{figures['texts']} different texts have answers"
    if len(learned) < 2:
        reason += f", and {len(learned)} of their labels {'has' if len(learned) == 1 else 'have'} two texts"
    reason += f"; a model needs {LEAST_ANSWERS} texts and two labels with two texts each"
    if needed:
        reason += f" (too few yet: {', '.join(needed)})"
    return Round("waiting", f"{reason}.", None, {}, figures)


def _set_aside(
    answers: Answers,
    found: TextFeatures,
    kernels: Sequence[Numbers],
    served: Served | None,
    cache: FeatureCache,
) -> list[SetAside]:
    """By ridge regressions over all features, each fitted on some answers and measured on others."""
    annotators = np.unique(answers.annotators)
    if len(annotators) < 2:
        return []
    most = max(2 * JUDGED_FROM, MOST_JUDGED // len(annotators))
    pairs = np.stack([answers.annotators, answers.groups])
    first = np.unique(pairs, axis=1, return_index=True)[1]  # one answer of each annotator for equal texts
    own = [first[answers.annotators[first] == each] for each in annotators]
    chosen = np.sort(np.concatenate([np.sort(rows)[:: -(-len(rows) // most)] for rows in own]))
    part, text = answers.of(np.isin(np.arange(len(answers.text)), chosen)), answers.text[chosen]
    if kernels:
        kernel: Numbers = np.sum(kernels, axis=0)[np.ix_(text, text)]
    else:
        kernel = np.sum([kernel_of(matrix[text]) for matrix in found.matrices], axis=0)
    answered = Answered(np.where(part.truth, 1.0, -1.0), np.ones(len(text)), part.groups, balances(part))

    def predict(fitted: Truth, measured: Truth) -> Indices:
        rows, others = np.flatnonzero(fitted), np.flatnonzero(measured)
        weights = answered.weights.copy()
        weights[rows] = annotator_weights(part.annotators[rows], weights[rows])
        weighted = replace(answered, weights=weights)
        if (fitted == measured).all():
            logits = fit_dual(kernel[np.ix_(rows, rows)], weighted.of(rows))[2]
        else:
            logits = predict_dual(kernel, weighted, rows, others)
        classes: Indices = logits.argmax(axis=1)
        return classes

    given = None
    if served is not None:
        values = cache.answers(served.bundle, [each.text for each in part.annotations])
        given = by_label(values, served.names, answers.labels).argmax(axis=1)
    return set_aside(part.annotators, part.truth.argmax(axis=1), predict, given)


def _compared(new: Sequence[OutOfFold], served: Sequence[OutOfFold], answers: Answers) -> Compared:
    return Compared(
        np.array([each.log_probability for each in new]),
        np.array([each.right for each in new]),
        np.array([each.log_probability for each in served]),
        np.array([each.right for each in served]),
        answers.weights,
        answers.groups,
        answers.annotators,
    )


def _classifier(
    answers: Answers, found: TextFeatures, fit: FittedModels, base: Bundle, cache: FeatureCache
) -> FittedClassifier:
    """The ridges of all answers and the base's head, each by its share. An encoder without a share is left
    out.
    """
    shares, ridges = list(fit.stack.shares), list(fit.ridges)
    bias = fit.stack.bias.copy()
    encoders = list[FittedEncoder]()
    head: Numbers = np.zeros((0, len(answers.labels)))
    if found.dense is not None:
        position = len(found.matrices) - 1
        coefficients = found.dense.scale[:, None] * ridges[position].coefficients
        head = shares[position] * coefficients
        bias += shares[position] * (ridges[position].bias - found.dense.mean @ coefficients)
        if found.base is not None:
            head = head + shares[-1] * found.base.head
            bias += shares[-1] * found.base.bias
        network = cache.network(base)
        if network is not None and head.any():
            encoders.append(network.with_head(head.astype(np.float32)))
    if found.ngrams is not None and (shares[0] > 0 or not encoders):
        encoders += found.ngrams.encoders(shares[0] * ridges[0].coefficients)
        bias += shares[0] * ridges[0].bias
    return FittedClassifier(answers.labels, encoders, bias.astype(np.float32), answers.head)


def _some_words(texts: Sequence[str]) -> list[str]:
    """Words for the texts of the parity check."""
    return list(dict.fromkeys(word for text in texts[:200] for word in words_of(normalized(text))))
