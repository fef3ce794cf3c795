"""The word list: what it finds, where, and what it leaves alone."""

from pathlib import Path

import pytest

from tests.lint.words import Finding, find, main, read_list

LIST = """
[allowed]
"lane"

[names]
door -> guard
Held -> Ticket
places? -> index

[text]
is answered \\d+ -> gets NNN

[both]
anew -> again
lanes? -> priority
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(LIST)
    return path


def found(path: Path, source: str, is_python: bool = True) -> list[tuple[int, str, str]]:
    return [(each.line, each.found, each.replacement) for each in find(source, is_python, read_list(path))]


def test_identifiers_are_split_into_words(path: Path) -> None:
    assert found(path, "class OpenDoor:\n    first_place = 1\n    indoor = replace = doorway = 2\n") == [
        (1, "OpenDoor", "guard"),
        (2, "first_place", "index"),
    ]


def test_a_pattern_with_a_capital_is_for_names_with_one(path: Path) -> None:
    assert found(path, "class Held: held = 1\nDOOR = Door = 1\n") == [
        (1, "Held", "Ticket"),
        (2, "DOOR", "guard"),
        (2, "Door", "guard"),
    ]


def test_names_are_free_in_text_and_text_in_names(path: Path) -> None:
    assert found(path, "# the door of a place\nis_answered_429 = 'door'\n") == []


def test_a_phrase_is_found_across_lines_of_a_comment_or_docstring(path: Path) -> None:
    source = '"""A request\n    Is\n  answered 429."""\nx = 1  # it is\n# answered 503\n'
    assert found(path, source) == [(2, "Is answered 429", "gets NNN"), (4, "is # answered 503", "gets NNN")]


def test_what_is_allowed_is_ignored_and_only_that(path: Path) -> None:
    assert found(path, "labels = ['lane', \"lane\"]\nlanes = 1\n") == [
        (1, "lane", "priority"),
        (2, "lanes", "priority"),
    ]


def test_a_document_is_all_text(path: Path) -> None:
    assert found(path, "a door, built\nanew in no place\n", is_python=False) == [(2, "anew", "again")]


def test_the_command_names_file_line_word_and_replacement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text("Plain words.\n\nIt is built anew.\n")
    monkeypatch.setattr("sys.argv", ["words", str(guide)])
    assert main() == 1
    assert capsys.readouterr().out == f'{guide}:3: "anew" → "again"\n'
    guide.write_text("It is built again.\n")
    assert main() == 0
    assert capsys.readouterr().out == ""


def test_each_entry_of_the_real_list_has_a_replacement() -> None:
    words = read_list()
    assert len(words.names) > 10
    assert len(words.text) > 10
    assert all(entry.replacement for entry in (*words.names, *words.text))
    assert find("told anew", False, words) == [
        Finding(1, "anew", "again"),
        Finding(1, "told", "reported, shown, returned"),
    ]
