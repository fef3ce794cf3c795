"""The progress bars: when they are shown, and where they end."""

import io

import pytest
from rich.console import Console

from server.annotate.console import progress_bar as annotate_bar
from server.annotate.run import AnnotateResult
from server.errors import BadInput
from server.offline.progress_bar import progress_bar


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_error_of_the_input_comes_without_a_bar(console: Console) -> None:
    with pytest.raises(BadInput), progress_bar(console, 100):
        raise BadInput("no such file")
    with pytest.raises(BadInput), annotate_bar(console, dry_run=False):
        raise BadInput("no such project")
    assert shown(console) == ""


def test_a_file_of_one_chunk_has_no_rate(console: Console) -> None:
    with progress_bar(console, 100) as on_progress:
        on_progress(1200, 100)
    assert "1,200 texts " in shown(console)
    assert "/s" not in shown(console)
    with progress_bar(console, 100) as on_progress:
        on_progress(1200, 50)
        on_progress(1300, 100)
    assert "/s" in shown(console)


@pytest.mark.parametrize(("dry_run", "stored"), [(True, 0), (False, 8)])
def test_annotate_ends_at_100_percent(console: Console, dry_run: bool, stored: int) -> None:
    with annotate_bar(console, dry_run=dry_run) as on_progress:
        on_progress(
            AnnotateResult("v", 9, found=9, predicted=8, stored=stored, failed={7: "no"} if dry_run else {})
        )
        on_progress(AnnotateResult("v", 8, found=8, predicted=8, stored=stored))
    assert "100%" in shown(console)
