"""Stores predictions in Label Studio in large requests: each prediction once, and an invalid one costs only
itself.

Label Studio refuses a whole list for one invalid prediction, or skips invalid ones silently. It may also have
stored a list whose response was lost. So after every failure this module asks which tasks still lack the
version, instead of assuming it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from server.annotate.bisect_batch import BatchRefused, bisect
from server.errors import LabelStudioRefused, LabelStudioUnreachable

Item = dict[str, Any]
"""`{"task": id, "model_version", "score", "result"}`."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each retry."""

RETRIES_OF_500 = 2
"""Retries after an internal error of Label Studio: enough for a locked database, wasted on an invalid item.
"""

SKIPPED = (
    "Label Studio skipped the prediction; its log has the reason (most likely the labeling config changed "
    "during the run)"
)
GONE = "the task was deleted, or got a prediction of this version, during the run"


@dataclass(frozen=True)
class Uploader:
    """`post` stores a list and returns how many predictions were created; `missing` returns the subset of
    task ids that exist and lack the version; `wait` sleeps for the given seconds.
    """

    post: Callable[[list[Item]], int]
    missing: Callable[[list[int]], set[int]]
    wait: Callable[[float], None]

    def __call__(self, items: list[Item]) -> dict[int, str]:
        """Store the items. Returns task id → reason for those that failed. Raises LabelStudioRefused,
        LabelStudioUnreachable.
        """
        failed: dict[int, str] = {}
        for item, reason in bisect(items, lambda part: self._attempt(part, failed)):
            failed[item["task"]] = reason
        return failed

    def _attempt(self, items: list[Item], failed: dict[int, str]) -> None:
        """Store a list, with retries. Raises BatchRefused if it holds an invalid item."""
        retries_of_500 = 0
        for pause in (*PAUSES, None):
            try:
                created = self.post(items)
            except (LabelStudioRefused, LabelStudioUnreachable) as error:
                status = error.http_status if isinstance(error, LabelStudioRefused) else None
                if status == 400:
                    self._without_deleted_tasks(items, failed, str(error))
                    return
                if status == 413 or (status == 500 and retries_of_500 == RETRIES_OF_500):
                    raise BatchRefused(str(error)) from None
                retries_of_500 += status == 500
                if pause is None or (status is not None and status < 500 and status not in (408, 429)):
                    raise
                self.wait(pause)
                items = self._still_missing(items)
                if not items:
                    return
            else:
                if created < len(items):
                    failed |= {item["task"]: SKIPPED for item in self._still_missing(items)}
                return

    def _without_deleted_tasks(self, items: list[Item], failed: dict[int, str], reason: str) -> None:
        """Retry a refused list without the tasks that are gone. Raises BatchRefused if none is: then the list
        was refused for another reason.
        """
        kept = self._still_missing(items)
        if len(kept) == len(items):
            raise BatchRefused(reason)
        failed |= dict.fromkeys({item["task"] for item in items} - {item["task"] for item in kept}, GONE)
        if kept:
            self._attempt(kept, failed)

    def _still_missing(self, items: list[Item]) -> list[Item]:
        missing = self.missing([item["task"] for item in items])
        return [item for item in items if item["task"] in missing]
