"""Checks of the source text beyond ruff and mypy."""
