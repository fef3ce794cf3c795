"""The mark of annotations that a model made, in the `meta` of each region.

Label Studio keeps the `meta` of a region, and shows its `text` next to the region. What an editor leaves as
the pre-annotation was has no mark: a person has looked at it.
"""

from collections.abc import Iterable
from typing import Any

KEY = "prelabel_model"


def marked(result: Iterable[Any], version: str) -> list[dict[str, Any]]:
    """The regions of a result with the mark, and with a text that says the same to people."""
    meta = {KEY: version, "text": [f"accepted from {version}"]}
    return [{**region, "meta": meta} for region in result]


def is_made_by_model(result: object) -> bool:
    """Whether each region of an annotation's result has the mark: a person changed none."""
    regions = [region for region in result if isinstance(region, dict)] if isinstance(result, list) else []
    return bool(regions) and all(
        isinstance(region.get("meta"), dict) and KEY in region["meta"] for region in regions
    )
