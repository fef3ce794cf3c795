"""`--help` of every command: real defaults, types as words, examples that work."""

import ast
import re
import shlex
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import prelabel
from server.cli import options
from server.settings import Settings
from tests.conftest import ROOT

COMMANDS = {
    name: command
    for name, command in typer.main.get_command(prelabel.app).commands.items()  # type: ignore[attr-defined]
    if name != "bench"  # shows the help of the benchmarks
}

TYPE = re.compile(r"[A-Z][A-Z:=,\[\]-]*")
"""FILE, USER:PASSWORD, NAME=A,B[:W,W]."""


def help_of(name: str, columns: int) -> str:
    shown = CliRunner().invoke(prelabel.app, [name, "--help"], env={"COLUMNS": str(columns)})
    assert shown.exit_code == 0
    return shown.output


def parameters(name: str) -> list[Any]:
    return [parameter for parameter in COMMANDS[name].params if parameter.name != "help"]


def examples_of(name: str) -> list[str]:
    _, _, examples = help_of(name, 80).partition("Examples:\n")
    return [line.strip() for line in examples.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_fits_and_holds_no_notation_of_a_library(name: str, columns: int) -> None:
    page = help_of(name, columns)
    assert max(map(len, page.splitlines())) <= min(columns, 100)
    for notation in ("<", ">", "{", "[[", "[default: [", "[default: (", "x>=", "\x1b", "TEXT", "None"):
        assert notation not in page


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_has_a_help_text_and_a_type_in_words(name: str) -> None:
    page = help_of(name, 120)
    assert parameters(name)
    for parameter in parameters(name):
        assert re.match(r".+\.(  \[default|$)", parameter.help), f"{name} {parameter.name}: {parameter.help}"
        if parameter.param_type_name == "argument" or not parameter.is_flag:
            assert TYPE.fullmatch(parameter.metavar), f"{name} {parameter.name}: {parameter.metavar}"
            assert parameter.metavar in page


@pytest.mark.parametrize("name", COMMANDS)
def test_the_defaults_are_those_of_the_settings(name: str) -> None:
    page = "".join(help_of(name, 80).split())
    for parameter in parameters(name):
        if parameter.name not in Settings.model_fields:
            continue
        assert not parameter.default, "a default here would go before the environment variable"
        value = Settings.model_fields[parameter.name].default
        shown = re.findall(r"\[default: (.*)\]", parameter.help)
        expected = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert shown == ([expected] if value not in ((), {}, "") else [])
        assert all(f"[default:{default}]" in page for default in shown)


def test_most_settings_that_are_options_are_found_by_that_test() -> None:
    found = {
        parameter.name
        for name in COMMANDS
        for parameter in parameters(name)
        if parameter.name in Settings.model_fields
    }
    assert len(found) == 13


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_are_commands_that_would_run(name: str) -> None:
    examples = examples_of(name)
    assert examples
    for example in examples:
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("prelabel", name)
        COMMANDS[name].make_context(name, arguments)


def test_an_extra_in_square_brackets_is_shown() -> None:
    for name in ("predict", "serve"):
        assert "prelabel[ray]" in help_of(name, 120)


def test_the_default_of_a_setting_is_written_as_a_user_writes_it() -> None:
    assert options.default_of("bundle") == "artifacts/imdb-cnn"
    assert options.default_of("threshold") == "0.5"
    assert options.choices_of("log_format") == "auto, json or text"


def test_a_command_is_at_most_ten_lines() -> None:
    """What it does lies in the package of its name."""
    source = (ROOT / "prelabel.py").read_text("utf-8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    assert {function.name for function in functions} > set(COMMANDS)
    for function in functions:
        docstring = isinstance(function.body[0], ast.Expr) and ast.get_docstring(function) is not None
        body = function.body[1:] if docstring else function.body
        lines = source.splitlines()[body[0].lineno - 1 : function.end_lineno]
        assert sum(bool(line.strip()) for line in lines) <= 10, function.name
