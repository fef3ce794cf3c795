"""When a round of learning is due."""

import pytest

from server.learning.triggers import Progress, due


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (Progress(changed=0, learned=0, quiet=1e9), None),
        (Progress(changed=9, learned=0, quiet=5), None),
        (Progress(changed=10, learned=0, quiet=5), "new annotations"),
        (Progress(changed=49, learned=500, quiet=5), None),
        (Progress(changed=50, learned=500, quiet=5), "new annotations"),
        (Progress(changed=1, learned=500, quiet=59.9), None),
        (Progress(changed=1, learned=500, quiet=60), "a quiet minute"),
        (Progress(changed=0, learned=500, quiet=60), None),
        (Progress(changed=0, learned=500, quiet=0, requested=True), "requested"),
        (Progress(changed=50, learned=0, quiet=60, frozen=True), None),
        (Progress(changed=50, learned=0, quiet=60, frozen=True, requested=True), "requested"),
    ],
)
def test_when_a_round_is_due(progress: Progress, expected: str | None) -> None:
    assert due(progress) == expected
