"""Word list of the lint: reports words and phrases for which plain technical English has better ones.

    make lint, or: python -m tests.lint.words [FILE …]

`words.txt`, in the same folder, has one entry per line, `pattern -> replacement`, in three sections: [names]
applies to identifiers, [text] to comments, strings and documents, [both] to both. A pattern is a regular
expression that matches whole words; a space in it matches any white space, and it ignores case if it has no
capitals. Identifiers are split into their words first. Matches of [allowed], such as names of metrics, are
ignored.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("words.txt")

CHECKED = ("*.py", "*.md", "*.yml", "*.yaml", "*.toml", "*.sh", "Makefile", "Dockerfile*")

IGNORED = ("CHANGELOG.md", "tests/lint/")
"""The changelog's history keeps its words, and this folder has to name them."""

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
"""The words of a snake_case or CamelCase identifier."""


@dataclass(frozen=True)
class Entry:
    pattern: re.Pattern[str]
    replacement: str


@dataclass(frozen=True)
class WordList:
    names: Sequence[Entry]
    text: Sequence[Entry]
    allowed: Sequence[re.Pattern[str]]


@dataclass(frozen=True)
class Finding:
    """`line` counts from 1."""

    line: int
    found: str
    replacement: str


def read_list(path: Path = LIST) -> WordList:
    names, text, allowed = list[Entry](), list[Entry](), list[re.Pattern[str]]()
    section = ""
    for line in map(str.strip, path.read_text("utf-8").splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif section == "allowed" and line and not line.startswith("#"):
            allowed.append(re.compile(line))
        elif line and not line.startswith("#"):
            pattern, _, replacement = line.partition(" -> ")
            entry = Entry(_compile(pattern.strip()), replacement.strip())
            names += [entry] if section in ("names", "both") else []
            text += [entry] if section in ("text", "both") else []
    return WordList(names, text, allowed)


def find(source: str, is_python: bool, words: WordList) -> list[Finding]:
    """All findings in `source`, by line."""
    found = _find(source if not is_python else _prose(source), words.text, words.allowed)
    if is_python:
        for token in _tokens(source):
            if token.type == tokenize.NAME:
                name = " ".join(WORD.findall(token.string))
                for each in _find(name, words.names, ()):
                    found.append(Finding(token.start[0], token.string, each.replacement))
    return sorted(set(found), key=lambda each: (each.line, each.found))


def _find(text: str, entries: Sequence[Entry], allowed: Sequence[re.Pattern[str]]) -> list[Finding]:
    for pattern in allowed:
        text = pattern.sub(lambda match: re.sub(r"\S", " ", match[0]), text)
    return [
        Finding(text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), entry.replacement)
        for entry in entries
        for match in entry.pattern.finditer(text)
    ]


def _prose(source: str) -> str:
    """Comments and strings at their places, everything else blank."""
    lines = source.splitlines()
    kept = [" " * len(line) for line in lines]
    for token in _tokens(source):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            (first, begin), (last, end) = token.start, token.end
            for number in range(first, last + 1):
                line, blank = lines[number - 1], kept[number - 1]
                left, right = begin if number == first else 0, end if number == last else len(line)
                kept[number - 1] = blank[:left] + line[left:right] + blank[right:]
    return "\n".join(kept)


def _tokens(source: str) -> Iterator[tokenize.TokenInfo]:
    return tokenize.generate_tokens(io.StringIO(source).readline)


def _compile(pattern: str) -> re.Pattern[str]:
    spaced = pattern.replace(" ", r"[\s#]+")
    case = re.NOFLAG if pattern != pattern.lower() else re.IGNORECASE
    return re.compile(rf"(?<![A-Za-z])(?:{spaced})(?![A-Za-z])", case)


def checked_files() -> list[Path]:
    """The files under version control, and new ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *CHECKED]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [Path(name) for name in listed if not name.startswith(IGNORED) and Path(name).is_file()]


def main() -> int:
    words, count = read_list(), 0
    for path in [Path(name) for name in sys.argv[1:]] or checked_files():
        for each in find(path.read_text("utf-8"), path.suffix == ".py", words):
            sys.stdout.write(f'{path}:{each.line}: "{each.found}" → "{each.replacement}"\n')
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
