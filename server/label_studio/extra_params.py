"""What a project requests in its ML backend's `extra_params`: its scoring, and to learn from its annotations.
Label Studio stores them as they are and sends them with every set-up.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from server.errors import BadRequest, json_type
from server.scoring import SCORES, Scoring

MAX_EXTRA_PARAMS = 10_000
"""Characters of `extra_params` as text."""

MAX_QUOTED = 40
"""Characters of a wrong value that an error quotes."""


def requested_scoring(extra_params: object, default: Scoring) -> Scoring:
    """The scoring in `extra_params`, such as `{"score": "margin", "threshold": 0.3}`: an object, or the text
    of one as Label Studio's form sends it. Any other value requests nothing.

    Raises BadRequest for a score or a threshold that does not exist, and for a text that is too long.
    """
    params = read_params(extra_params)
    score, threshold = params.get("score", default.score), params.get("threshold", default.threshold)
    if score not in SCORES:
        raise BadRequest(f"extra_params: score: expected one of {', '.join(SCORES)}, found {_quoted(score)}.")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise BadRequest(
            f"extra_params: threshold: expected a number above 0 and up to 1, found {_quoted(threshold)}."
        )
    return Scoring(score, float(threshold))


def requested_learning(extra_params: object) -> str | bool:
    """Whether to learn, from `{"learn": true}`, or the name of the control to learn, from
    `{"learn": "sentiment"}`. Raises BadRequest for another value of `learn`, and for a text that is too long.
    """
    learn = read_params(extra_params).get("learn")
    if learn is None:
        return False
    if not isinstance(learn, bool) and not (isinstance(learn, str) and learn.strip()):
        raise BadRequest(
            f"extra_params: learn: expected true, false or the name of a control, found {_quoted(learn)}."
        )
    return learn


def read_params(extra_params: object) -> Mapping[str, Any]:
    """The object in `extra_params`, or in the text of one; empty for any other value. Raises BadRequest for a
    text that is too long.
    """
    if isinstance(extra_params, str):
        if len(extra_params) > MAX_EXTRA_PARAMS:
            raise BadRequest(
                f"extra_params: {len(extra_params):,} characters; the maximum is {MAX_EXTRA_PARAMS:,}."
            )
        try:
            extra_params = msgspec.json.decode(extra_params)
        except (ValueError, RecursionError):
            return {}
    return extra_params if isinstance(extra_params, Mapping) else {}


def _quoted(value: object) -> str:
    """A text or a number itself, cut; of any other value the type, since it may be nested too deeply to
    print.
    """
    return repr(str(value)[:MAX_QUOTED]) if isinstance(value, str | int | float) else json_type(value)
