"""What a project asks for in its ML backend's `extra_params`, which Label Studio stores unread and sends with every set-up."""

from collections.abc import Mapping
from typing import Any

import orjson

from server.errors import BadRequest
from server.scores import SCORES, Score


def score_wanted(extra_params: object, default: Score) -> Score:
    """What an ML backend's `extra_params` ask for: `{"score": "margin"}`, as an object or, from Label Studio's form, as text.

    Anything that is no JSON object asks for nothing. Raises BadRequest for a score that does not exist.
    """
    if isinstance(extra_params, str):
        try:
            extra_params = orjson.loads(extra_params)
        except orjson.JSONDecodeError:
            return default
    wanted: Any = extra_params.get("score", default) if isinstance(extra_params, Mapping) else default
    if wanted not in SCORES:
        raise BadRequest(f"extra_params: score: expected one of {', '.join(SCORES)}, found {str(wanted)[:40]!r}.")
    chosen: Score = wanted
    return chosen
