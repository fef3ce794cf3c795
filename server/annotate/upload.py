"""Predictions into Label Studio in few large requests, so that each is stored once and a bad one costs only
itself.

Label Studio refuses a whole list for one bad prediction, or leaves the bad ones out without a word; it may
also have stored a list whose answer was lost. So what a request did is asked back, not assumed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from server.annotate.bisect_batch import BatchRefused, bisect
from server.errors import LabelStudioRefused, LabelStudioUnreachable

Item = dict[str, Any]
"""`{"task": id, "model_version", "score", "result"}`."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a repeat."""

REPEATS_OF_500 = 2
"""Of an error inside Label Studio: a locked database has passed by then, one bad prediction has not."""

LEFT_OUT = (
    "Label Studio left the prediction out; its log says why (most likely the labeling config was changed "
    "meanwhile)"
)
GONE = "the task is no longer in the project, or has this version meanwhile"


@dataclass(frozen=True)
class Uploader:
    """`post` sends a list and gives how many were stored; `lacking` tells which of these task ids exist and
    lack the version; `wait` takes seconds.
    """

    post: Callable[[list[Item]], int]
    lacking: Callable[[list[int]], set[int]]
    wait: Callable[[float], None]

    def __call__(self, items: list[Item]) -> dict[int, str]:
        """Store the items; task id → reason for those that cannot be. Raises LabelStudioRefused,
        LabelStudioUnreachable.
        """
        failed: dict[int, str] = {}
        for item, reason in bisect(items, lambda part: self._attempt(part, failed)):
            failed[item["task"]] = reason
        return failed

    def _attempt(self, items: list[Item], failed: dict[int, str]) -> None:
        for pause in (*PAUSES, None):
            try:
                created = self.post(items)
            except (LabelStudioRefused, LabelStudioUnreachable) as error:
                status = error.http_status if isinstance(error, LabelStudioRefused) else None
                if status == 400:
                    self._without_the_gone(items, failed, str(error))
                    return
                if status == 413 or (status == 500 and pause not in PAUSES[:REPEATS_OF_500]):
                    raise BatchRefused(str(error)) from None
                if pause is None or (status is not None and status < 500 and status not in (408, 429)):
                    raise
                self.wait(pause)
                items = self._still_lacking(items)
                if not items:
                    return
            else:
                if created < len(items):
                    failed |= {item["task"]: LEFT_OUT for item in self._still_lacking(items)}
                return

    def _without_the_gone(self, items: list[Item], failed: dict[int, str], reason: str) -> None:
        """Repeat a refused list without the tasks that are gone; when none is, the list is refused for
        something else.
        """
        kept = self._still_lacking(items)
        if len(kept) == len(items):
            raise BatchRefused(reason)
        failed |= dict.fromkeys({item["task"] for item in items} - {item["task"] for item in kept}, GONE)
        if kept:
            self._attempt(kept, failed)

    def _still_lacking(self, items: list[Item]) -> list[Item]:
        lacking = self.lacking([item["task"] for item in items])
        return [item for item in items if item["task"] in lacking]
