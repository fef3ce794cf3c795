"""Plain `--help` pages: types as words, ranges in words, examples at the end."""

import re
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand

WIDTH = 100
"""Columns of a help page on a wider terminal."""

NOTATION = ((r"(\d+)<=x<=(\d+)", r"\1 to \2"), (r"x>=(\d+)", r"at least \1"), (r"\]  \[", "; "))
"""Typer's notation for bounds, and two brackets in a row → words in one bracket."""


class PlainCommand(TyperCommand):
    """A command whose options name their type with `metavar`, which replaces `<path>` or `<int range>`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            if rows := list(self._rows(ctx, kind)):
                with formatter.section(title):
                    formatter.write_dl(rows)

    def _rows(self, ctx: Any, kind: str) -> Iterator[tuple[str, str]]:
        """(name and type, help) of each parameter of this kind."""
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if parameter.param_type_name == kind else None
            if record is not None:
                name, words = record
                for notation, plain in NOTATION:
                    words = re.sub(notation, plain, words)
                # Typer adds the type of an argument even where its metavar says it
                yield name.partition(" <")[0] if kind == "argument" else name, words


def examples(*commands: str) -> str:
    """The end of a help page: commands to copy. A command may span lines that end in a backslash."""
    lines = [line for command in commands for line in command.splitlines()]
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
