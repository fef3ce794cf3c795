"""What a project asks for in its ML backend's `extra_params`, which Label Studio stores unread and sends with
every set-up.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from server.errors import BadRequest
from server.scoring import SCORES, Scoring


def scoring_wanted(extra_params: object, default: Scoring) -> Scoring:
    """What an ML backend's `extra_params` ask for: `{"score": "margin", "threshold": 0.3}`, as an object or,
    from Label Studio's form, as text.

    Anything that is no JSON object asks for nothing. Raises BadRequest for a score or a threshold that does
    not exist.
    """
    if isinstance(extra_params, str):
        try:
            extra_params = msgspec.json.decode(extra_params)
        except (ValueError, RecursionError):
            return default
    wanted: Mapping[str, Any] = extra_params if isinstance(extra_params, Mapping) else {}
    score, threshold = wanted.get("score", default.score), wanted.get("threshold", default.threshold)
    if score not in SCORES:
        raise BadRequest(f"extra_params: score: expected one of {', '.join(SCORES)}, found {_shown(score)}.")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise BadRequest(
            f"extra_params: threshold: expected a number above 0 and up to 1, found {_shown(threshold)}."
        )
    return Scoring(score, float(threshold))


def _shown(value: object) -> str:
    """The start of text or a number; anything else may be endless, or nested too deeply to be written."""
    return (
        repr(str(value)[:40])
        if isinstance(value, str | int | float) or value is None
        else f"a {type(value).__name__}"
    )
