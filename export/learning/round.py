"""One round of learning: fits a model to a project's answers, measures it on answers that it was not fitted
on, and decides whether it replaces the served one.

answers ─▶ set annotators aside ─▶ ridge over n-grams, and over the base's features ─▶ their stack with the
base's own answers ─▶ gate ─▶ classifier
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from export.classifier import FittedClassifier, probabilities_of
from export.encoders.base import FittedEncoder, Numbers
from export.encoders.transformer import HEAD, FittedTransformer
from export.learning.annotators import LEAST_ANSWERS as JUDGED_FROM
from export.learning.annotators import SetAside, annotator_weights, one_label, set_aside
from export.learning.features import FeatureCache, NgramFeatures, ngram_features
from export.learning.gate import LEVEL, Compared, Mean, Verdict, judge, mean_of
from export.learning.ridge import EXACT, Answered, Ridge, fit_dual, fit_ridge, kernel_of, predict_dual
from export.learning.stack import Expected, Stack, fit_stack, log_odds, stacked_out_of_fold
from export.learning.stopping import advice, auto_accept
from export.training.training_data import folded, group_numbers
from server.bundle import Bundle, Head
from server.encoders.ngrams.analyzer import normalized, words_of
from server.engines.onnx_file import read_tensors
from server.learning.annotations import Annotation, OutOfFold

LEAST_ANSWERS = 10
"""Different texts with an answer from which a round learns."""

TO_REPLACE_BASE = 100
"""Texts with an answer from which the server's own model may be replaced where it has the project's labels. A
simulated project with fewer went from 0.912 to 0.879 with tasks in the order of uncertainty.
"""

LEAST_TEXTS = 2
"""Texts of a label from which it is learned."""

MOST_JUDGED = 600
"""About how many answers the models of the annotators are fitted on and measured on, evenly spaced ones."""

NEW = Expected(1.5, 0.1)
PRIOR, NEW_WITH_PRIOR = Expected(1.0, 4.0), Expected(0.0, 0.1)
"""Shares of the models in the stack without answers: with the base's answers, these alone."""

Truth = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Served:
    """What answers now for this project: `names` are its labels for the classes of the bundle. `out_of_fold`
    has, by number of the annotation, what it gave those that it was fitted on while it was not; for others,
    what it gives now is honest.
    """

    version: str
    bundle: Bundle
    names: Sequence[str]
    out_of_fold: Mapping[int, OutOfFold]


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


@dataclass(frozen=True)
class _Answers:
    """Annotations that are learned from, by number; `truth` bool[answers, classes]. `text` int[answers] is
    the index in `texts`; equal texts and those of one task have one group. `weights` float64[answers].
    """

    annotations: Sequence[Annotation]
    labels: tuple[str, ...]
    texts: Sequence[str]
    text: Indices
    truth: Truth
    groups: Indices
    annotators: Indices
    weights: Numbers
    head: Head

    def of(self, kept: Truth) -> "_Answers":
        """These answers only, with all texts."""
        return replace(
            self,
            annotations=[each for each, keep in zip(self.annotations, kept, strict=True) if keep],
            text=self.text[kept],
            truth=self.truth[kept],
            groups=self.groups[kept],
            annotators=self.annotators[kept],
            weights=self.weights[kept],
        )


@dataclass(frozen=True)
class _Base:
    """The base's own answers: `logits` float64[texts, classes] and its head for the classes."""

    logits: Numbers
    head: Numbers
    bias: Numbers


@dataclass(frozen=True)
class _Dense:
    """The standardised features of the base's network, float64[texts, features]."""

    values: Numbers
    mean: Numbers
    scale: Numbers


@dataclass(frozen=True)
class _Features:
    ngrams: NgramFeatures | None
    dense: _Dense | None
    base: _Base | None

    @property
    def matrices(self) -> list[Any]:
        found = [] if self.ngrams is None else [self.ngrams.matrix]
        return found if self.dense is None else [*found, self.dense.values]


@dataclass(frozen=True)
class _Fit:
    """Of all answers: `probabilities` float64[answers, classes] are out of fold."""

    probabilities: Numbers
    ridges: Sequence[Ridge]
    stack: Stack
    earlier: Sequence[tuple[int, Truth]]
    """(number of answers, right bool[answers]) of models of fewer answers."""


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
    answers, figures = _answers_of(given, base_names, head)
    if answers is None:
        return _waiting(figures)
    texts = answers.texts
    found = _features_of(texts, base, base_names, answers.labels, head, cache)
    kernels = [kernel_of(matrix) for matrix in found.matrices] if len(texts) <= EXACT else []
    cases = _set_aside(answers, found, kernels, served, cache)
    gone = [each for each in cases if each.certain]
    if gone:
        left_out = {each.annotator for each in gone}
        kept = [each for each in given if each.annotator not in left_out]
        remaining, figures = _answers_of(kept, base_names, head)
        figures |= {"set_aside": {str(each.annotator): each.reason for each in gone}}
        if remaining is None:
            return _waiting(figures)
        answers = remaining
        # the features of the texts that are left; n-grams of all
        index = {text: i for i, text in enumerate(texts)}
        rows = np.array([index[text] for text in answers.texts])
        found = _features_at(found, rows, base_names, answers.labels)
        kernels = [kernel[np.ix_(rows, rows)] for kernel in kernels]
    answers = replace(answers, weights=annotator_weights(answers.annotators, answers.weights))
    fit = _fit(answers, found, kernels, seed)
    out_of_fold = _out_of_fold(fit.probabilities, answers)
    frequencies = _out_of_fold(_frequencies(answers), answers)
    before = frequencies if served is None else _served_out_of_fold(answers, served, cache)
    compared = _compared(out_of_fold, before, answers)
    verdict = judge(compared, np.array([each.log_probability for each in frequencies]))
    figures |= _figures(answers, fit, compared, verdict, gone, served)
    cache.keep([base.version, *([served.bundle.version] if served else [])], [each.text for each in given])
    reason = (
        _dispute(cases)
        or _refused_for_one_label(answers, compared, served)
        or _too_early(answers, compared, served)
        or _too_few_to_replace(answers, base, served)
    )
    if reason is None and verdict.accepted:
        classifier = _classifier(answers, found, fit, base, cache)
        classifier = replace(classifier, metrics={"learning": figures}, words=_some_words(answers.texts))
        numbers = {each.id: row for each, row in zip(answers.annotations, out_of_fold, strict=True)}
        return Round("accepted", _reason(compared, verdict, served), classifier, numbers, figures)
    return Round("refused", reason or _reason(compared, verdict, served), None, {}, figures)


def _waiting(figures: dict[str, Any]) -> Round:
    learned, needed = figures["labels"], figures["not_yet"]
    reason = f"{figures['texts']} different texts have answers"
    if len(learned) < 2:
        reason += f", and {len(learned)} of their labels {'has' if len(learned) == 1 else 'have'} two texts"
    reason += f"; a model needs {LEAST_ANSWERS} texts and two labels with two texts each"
    if needed:
        reason += f" (too few yet: {', '.join(needed)})"
    return Round("waiting", f"{reason}.", None, {}, figures)


def _answers_of(
    given: Sequence[Annotation], base_names: Sequence[str], head: Head
) -> tuple[_Answers | None, dict[str, Any]]:
    """The answers with labels that can be learned, None for too few, and first figures."""
    texts_of = defaultdict[str, set[str]](set)
    same = {each.text: folded(each.text) for each in given}
    for each in given:
        for label in each.labels:
            texts_of[label].add(same[each.text])
    learned = {label for label, texts in texts_of.items() if len(texts) >= LEAST_TEXTS}
    usable = [each for each in given if learned.issuperset(each.labels)]
    tasks: Indices = np.zeros(0, dtype=np.intp)
    if usable:
        tasks = group_numbers([each.text for each in usable], [str(each.task) for each in usable])
    different = len(np.unique(tasks))
    counts = Counter(label for each in given for label in each.labels)
    figures: dict[str, Any] = {
        "answers": len(usable),
        "texts": different,
        "labels": {label: counts[label] for label in sorted(learned)},
        "not_yet": {label: counts[label] for label in sorted(set(counts) - learned)},
    }
    if different < LEAST_ANSWERS or len(learned) < 2:
        return None, figures
    labels = tuple(dict.fromkeys(base_names)) if learned.issubset(base_names) else tuple(sorted(learned))
    number = {label: i for i, label in enumerate(labels)}
    truth = np.zeros((len(usable), len(labels)), dtype=bool)
    for row, each in enumerate(usable):
        truth[row, [number[label] for label in each.labels]] = True
    texts = list(dict.fromkeys(each.text for each in usable))
    index = {text: i for i, text in enumerate(texts)}
    repeated = Counter((each.annotator, same[each.text]) for each in usable)
    answers = _Answers(
        usable,
        labels,
        texts,
        np.array([index[each.text] for each in usable], dtype=np.intp),
        truth,
        tasks,
        np.array([each.annotator for each in usable], dtype=np.intp),
        # an annotator's answers to equal texts count as one
        np.array([1 / repeated[each.annotator, same[each.text]] for each in usable]),
        head,
    )
    disagreeing = defaultdict[str, set[tuple[str, ...]]](set)
    for each in usable:
        disagreeing[same[each.text]].add(each.labels)
    return answers, figures | {"contradictions": sum(len(each) > 1 for each in disagreeing.values())}


def _features_of(
    texts: Sequence[str],
    base: Bundle,
    base_names: Sequence[str],
    labels: tuple[str, ...],
    head: Head,
    cache: FeatureCache,
) -> _Features:
    network = cache.network(base)
    if network is None:
        return _Features(ngram_features(texts), None, None)
    values = cache.features(base, texts)
    spread = values.std(axis=0)
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 1e-6) / np.sqrt(len(spread))
    mean = values.mean(axis=0)
    dense = _Dense((values - mean) * scale, mean, scale)
    own = None
    if len(base.encoders) == 1 and base.manifest.head == head and labels == tuple(base_names):
        tensors = read_tensors(base)
        own_head = tensors[HEAD if isinstance(network, FittedTransformer) else "head"].astype(np.float64)
        bias = tensors["head_bias"].astype(np.float64)
        own = _Base(values @ own_head + bias, own_head, bias)
    return _Features(ngram_features(texts), dense, own)


def _features_at(
    found: _Features, rows: Indices, base_names: Sequence[str], labels: tuple[str, ...]
) -> _Features:
    """Of some of the texts."""
    ngrams, dense, base = found.ngrams, found.dense, found.base
    if ngrams is not None:
        ngrams = replace(ngrams, parts=[replace(part, matrix=part.matrix[rows]) for part in ngrams.parts])
    if dense is not None:
        dense = replace(dense, values=dense.values[rows])
    if base is not None:
        base = replace(base, logits=base.logits[rows]) if labels == tuple(base_names) else None
    return _Features(ngrams, dense, base)


def _set_aside(
    answers: _Answers,
    found: _Features,
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
    answered = Answered(np.where(part.truth, 1.0, -1.0), np.ones(len(text)), part.groups, _balances(part))

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
        given = _by_label(values, served.names, answers.labels).argmax(axis=1)
    return set_aside(part.annotators, part.truth.argmax(axis=1), predict, given)


def _balances(answers: _Answers) -> bool:
    """Whether all labels get the same weight in a fit, as in `export/training/linear_head.py`."""
    return bool((answers.truth.sum(axis=1) == 1).all())


def _fit(answers: _Answers, found: _Features, kernels: Sequence[Numbers], seed: int) -> _Fit:
    """Ridges per text: the answers of a text have the sum of their weights and the mean of their targets."""
    weights, texts = answers.weights, len(answers.texts)
    of_texts: Numbers = np.bincount(answers.text, weights, minlength=texts).astype(np.float64)
    targets = np.zeros((texts, len(answers.labels)))
    np.add.at(targets, answers.text, np.where(answers.truth, 1.0, -1.0) * weights[:, None])
    targets /= of_texts[:, None]
    groups = np.zeros(texts, dtype=np.intp)
    groups[answers.text] = answers.groups
    answered = Answered(targets, of_texts, groups, _balances(answers), seed)
    ridges = [
        fit_ridge(matrix, answered, kernels[i] if kernels else None)
        for i, matrix in enumerate(found.matrices)
    ]
    expected = [NEW if found.base is None else NEW_WITH_PRIOR] * len(ridges)
    logits = [ridge.left_out[answers.text] for ridge in ridges]
    if found.base is not None:
        expected.append(PRIOR)
        logits.append(found.base.logits[answers.text])
    direction = log_odds(answers.truth, answers.weights, answers.head)
    stack = fit_stack(logits, answers.truth, answers.weights, answers.head, expected, direction)
    probabilities = stacked_out_of_fold(
        logits, answers.truth, answers.weights, answers.head, expected, answers.groups
    )
    earlier = []
    for share in (4, 2):
        if texts // share < LEAST_ANSWERS or texts // share > EXACT // 2:
            continue
        # every second or fourth group; the others are predicted
        chosen = groups % share == 0
        if len(np.unique(groups[chosen])) < LEAST_TEXTS:
            continue
        parts = []
        for i, matrix in enumerate(found.matrices):
            parts.append(_from_part(matrix, kernels[i] if kernels else None, answered, chosen))
        if found.base is not None:
            parts.append(found.base.logits)
        values = probabilities_of(stack.apply(parts)[answers.text], answers.head)
        earlier.append((texts // share, _right(values, answers)))
    return _Fit(probabilities, ridges, stack, earlier)


def _from_part(matrix: Any, kernel: Numbers | None, answered: Answered, chosen: Truth) -> Numbers:
    """float64[texts, classes]: logits from the chosen texts, of these without their own group."""
    rows, others = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    kernel = kernel_of(matrix[rows]) if kernel is None else kernel[np.ix_(rows, rows)]
    dual, bias, left_out = fit_dual(kernel, answered.of(rows))
    logits = np.zeros(answered.targets.shape)
    logits[rows] = left_out
    logits[others] = matrix[others] @ (matrix[rows].T @ dual) + bias
    return logits


def _right(values: Numbers, answers: _Answers) -> Truth:
    """bool[answers] from probabilities, or logits, float64[answers, classes]."""
    if answers.head == "softmax":
        right: Truth = answers.truth[np.arange(len(values)), values.argmax(axis=1)]
        return right
    same: Truth = ((values >= 0.5) == answers.truth).all(axis=1)
    return same


def _out_of_fold(probabilities: Numbers, answers: _Answers) -> list[OutOfFold]:
    """What these probabilities float64[answers, classes] give each answer."""
    likelihood = np.where(
        answers.truth, probabilities, 1 - probabilities if answers.head == "sigmoid" else 1.0
    )
    logarithms = np.log(np.maximum(likelihood, 1e-12)).sum(axis=1)
    right = _right(probabilities, answers)
    return [OutOfFold(float(each), bool(is_right)) for each, is_right in zip(logarithms, right, strict=True)]


def _by_label(values: Numbers, names: Sequence[str], labels: Sequence[str]) -> Numbers:
    """Probabilities float64[rows, labels] from those of classes with these names; 0 for other labels."""
    found = np.zeros((len(values), len(labels)))
    for column, name in enumerate(names):
        if name in labels:
            found[:, labels.index(name)] += values[:, column]
    return found


def _frequencies(answers: _Answers) -> Numbers:
    """float64[answers, classes]: the frequencies of the labels in all other groups."""
    counts = np.zeros((answers.groups.max() + 1, len(answers.labels)))
    np.add.at(counts, answers.groups, answers.truth * answers.weights[:, None])
    totals = np.bincount(answers.groups, answers.weights)
    others = counts.sum(axis=0) - counts[answers.groups] + 0.5
    number = (totals.sum() - totals[answers.groups])[:, None]
    frequencies: Numbers = others / (number + 0.5 * (others.shape[1] if answers.head == "softmax" else 2))
    return frequencies


def _served_out_of_fold(answers: _Answers, served: Served, cache: FeatureCache) -> list[OutOfFold]:
    """What the served model gives each answer that it was not fitted on, or gave it while it was not."""
    direct = [each for each in answers.annotations if each.id not in served.out_of_fold]
    values = cache.answers(served.bundle, [each.text for each in direct])
    unknown = answers.of(np.array([each.id not in served.out_of_fold for each in answers.annotations]))
    own = iter(_out_of_fold(_by_label(values, served.names, answers.labels), unknown))
    return [served.out_of_fold.get(each.id) or next(own) for each in answers.annotations]


def _compared(new: Sequence[OutOfFold], served: Sequence[OutOfFold], answers: _Answers) -> Compared:
    return Compared(
        np.array([each.log_probability for each in new]),
        np.array([each.right for each in new]),
        np.array([each.log_probability for each in served]),
        np.array([each.right for each in served]),
        answers.weights,
        answers.groups,
        answers.annotators,
    )


def _figures(
    answers: _Answers,
    fit: _Fit,
    compared: Compared,
    verdict: Verdict,
    gone: Sequence[SetAside],
    served: Served | None,
) -> dict[str, Any]:
    weights, groups = answers.weights, answers.groups

    def figure(values: npt.NDArray[Any], least: float, most: float) -> dict[str, Any]:
        return _mean_figure(mean_of(values.astype(np.float64), weights, groups), least, most)

    accepted = auto_accept(_confidences(fit.probabilities, answers.head), compared.new_right)
    gain = None
    if fit.earlier:
        halves = compared.new_right.astype(np.float64) - fit.earlier[-1][1]
        gain = mean_of(halves, weights, groups)
    plateau, sentence = advice(len(answers.texts), gain, accepted)
    annotators: dict[str, Any] = {
        str(each): {
            "answers": int((answers.annotators == each).sum()),
            "accuracy": float(compared.new_right[answers.annotators == each].mean()),
            "served_accuracy": float(compared.served_right[answers.annotators == each].mean()),
            "set_aside": None,
        }
        for each in np.unique(answers.annotators)
    }
    annotators |= {
        str(each.annotator): {
            "answers": None,
            "accuracy": None,
            "served_accuracy": None,
            "set_aside": each.reason,
        }
        for each in gone
    }
    return {
        "served": served.version if served else None,
        "new": {
            "accuracy": figure(compared.new_right, 0, 1),
            "log_loss": figure(-compared.new, 0, np.inf),
        },
        "served_model": {
            "accuracy": figure(compared.served_right, 0, 1),
            "log_loss": figure(-compared.served, 0, np.inf),
        },
        "gain": _mean_figure(verdict.gain, -np.inf, np.inf)
        | {"at_least": _finite(verdict.gain.lower(LEVEL)), "level": LEVEL},
        "accuracy_gain": _mean_figure(verdict.accuracy_gain, -1, 1),
        "worse_for": [*verdict.worse_for],
        "annotators": annotators,
        "shares": [*fit.stack.shares],
        "learning_curve": [
            *(
                (texts, mean_of(right.astype(np.float64), weights, groups).value)
                for texts, right in fit.earlier
            ),
            (len(answers.texts), mean_of(compared.new_right.astype(np.float64), weights, groups).value),
        ],
        "plateau": plateau,
        "advice": sentence,
        "auto_accept": {
            "errors": 0.05,
            "share": accepted.share,
            "confidence": accepted.confidence,
            "errors_at_most": accepted.errors_at_most,
        },
    }


def _confidences(probabilities: Numbers, head: Head) -> Numbers:
    """float64[answers]: the probability of the chosen labels; of several, that all are right."""
    if head == "softmax":
        highest: Numbers = probabilities.max(axis=1)
        return highest
    product: Numbers = np.maximum(probabilities, 1 - probabilities).prod(axis=1)
    return product


def _mean_figure(mean: Mean, least: float, most: float) -> dict[str, Any]:
    low, high = np.clip(mean.interval_95, least, most)
    return {"value": mean.value, "interval_95": [_finite(low), _finite(high)]}


def _finite(value: float) -> float | None:
    """For JSON."""
    return float(value) if np.isfinite(value) else None


def _reason(compared: Compared, verdict: Verdict, served: Served | None) -> str:
    new, old = (
        mean_of(right.astype(np.float64), compared.weights, compared.groups).value
        for right in (compared.new_right, compared.served_right)
    )
    unseen = (
        "that neither has seen" if served else "that it has not seen, compared with the most frequent label"
    )
    gain = verdict.gain
    sentence = (
        f"{new:.2f} instead of {old:.2f} of {len(compared.new)} answers {unseen}; "
        f"gain in log loss {gain.value:.2f}, at least {gain.lower(LEVEL):.2f}"
    )
    if not verdict.informed and served is not None:
        sentence += (
            "; but no better than the frequencies of the labels: the answers do not follow from the texts"
        )
    elif verdict.worse_for:
        sentence += f"; worse for annotator {', '.join(map(str, verdict.worse_for))}"
    elif not verdict.accepted and gain.lower(LEVEL) > 0:
        sentence += f"; the accuracy is lower by {-verdict.accuracy_gain.value:.2f}"
    return f"{sentence}."


def _dispute(cases: Sequence[SetAside]) -> str | None:
    for each in cases:
        if not each.certain:
            return (
                f"the answers of annotator {each.annotator} and of the others contradict each other, and no "
                f"third annotator and no served model shows who is right: {each.reason}."
            )
    return None


def _refused_for_one_label(answers: _Answers, compared: Compared, served: Served | None) -> str | None:
    if served is None or len(np.unique(answers.annotators)) > 1:
        return None
    label = one_label([each.labels for each in answers.annotations], compared.served_right)
    if label is None:
        return None
    return (
        f"nearly all of the {len(answers.annotations)} answers, all of one annotator, are {label}, and the "
        "served model disagrees with most of them; a second annotator would show who is right."
    )


def _too_few_to_replace(answers: _Answers, base: Bundle, served: Served | None) -> str | None:
    """The answers are to chosen tasks, those that the served model is unsure of: few of them are no sample of
    the project, by which a model that was trained on far more may be replaced.
    """
    if served is None or served.bundle.version != base.version or len(answers.texts) >= TO_REPLACE_BASE:
        return None
    return (
        f"the server's model has the labels of the project and was trained on more: it stays until "
        f"{TO_REPLACE_BASE} texts have answers, and {len(answers.texts)} have."
    )


def _too_early(answers: _Answers, compared: Compared, served: Served | None) -> str | None:
    """A first model must surely be right more often than one that always gives the most frequent labels: no
    prediction is better than such a one.
    """
    if served is not None:
        return None
    counts = Counter[tuple[str, ...]]()
    for each, weight in zip(answers.annotations, answers.weights, strict=True):
        counts[each.labels] += weight
    always = counts.most_common(1)[0][1] / answers.weights.sum()
    right = mean_of(compared.new_right.astype(np.float64), answers.weights, answers.groups)
    if right.lower(0.975) > always:
        return None
    return (
        f"too early for predictions: {right.value:.2f} of {len(compared.new)} answers are right (at least "
        f"{max(right.lower(0.975), 0):.2f}), and always giving the most frequent label is right for "
        f"{always:.2f}."
    )


def _classifier(
    answers: _Answers, found: _Features, fit: _Fit, base: Bundle, cache: FeatureCache
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
