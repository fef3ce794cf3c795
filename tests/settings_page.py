"""Writes docs/settings.md from the fields of `Settings` and the options of `prelabel serve`.

    .venv/dev/bin/python -m tests.settings_page

`make docs` runs it, and tests/test_settings.py compares the committed page with what it returns.
"""

import typer
from pydantic import SecretStr

import prelabel
from server.settings import SECRETS, Settings
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "settings.md"

GROUPS: dict[str, tuple[str, ...]] = {
    "Models": ("bundle", "ensemble"),
    "Address": ("host", "port", "path_prefix", "tls_cert", "tls_key", "tls_key_password"),
    "Credentials": ("basic_auth_user", "basic_auth_pass", "api_token", "admin_token"),
    "Predictions": ("label_map", "score", "threshold"),
    "Engine and device": ("engine", "device", "gpu_mem_limit", "workers", "engine_threads"),
    "Batching": ("bucket_lengths", "batch_tokens", "max_wait", "bulk_patience"),
    "Limits": (
        "max_waiting_rows", "max_requests", "max_waiting_bytes", "max_tasks", "max_body_bytes", "max_text",
    ),
    "Timeouts": ("body_timeout", "request_timeout", "call_timeout", "drain_timeout"),
    "Learning": ("learn", "learn_folder", "learn_retention_days", "order"),
    "Log": ("log_level", "log_format"),
}  # fmt: skip
"""Headings, and the settings below each. A setting that no heading lists goes to a last one, "Other"."""

HEAD = """# Settings

The server reads its settings once, at the start: from options of `prelabel serve`, else from environment
variables, else the defaults below. Where a variable holds several values, its option is repeated, as in
`--bundle artifacts/films --bundle artifacts/books`. A wrong value, or one that contradicts another setting,
stops the start with a message that names the setting; a variable `PRELABEL_…` of another name is a warning.
`make docs` writes this page from `server/settings.py`.

`train`, `predict`, `evaluate` and `annotate` have options of their own: `prelabel COMMAND --help` lists them.
"""

SECRET_FILES = """## Secrets from files

A secret can come from a file instead, as container platforms provide it: append `_FILE` to the variable's
name and set that variable to the file's path. The file holds one line. This works for
{names};
and for `LABEL_STUDIO_API_KEY`, which `connect`, `annotate` and `serve --learn` read.
"""


def settings_page() -> str:
    """The Markdown of docs/settings.md."""
    other = tuple(name for name in Settings.model_fields if name not in sum(GROUPS.values(), ()))
    groups = GROUPS | ({"Other": other} if other else {})
    # one a line, so that the page keeps to the length of lines whatever the names are
    secrets = ",\n".join(f"`{variable(name)}`" for name in Settings.model_fields if name in SECRETS)
    parts = [HEAD, *(table(title, names) for title, names in groups.items())]
    parts.append(SECRET_FILES.format(names=secrets))
    return "\n".join(parts)


def table(title: str, names: tuple[str, ...]) -> str:
    options = serve_options()
    lines = [f"## {title}", "", "| environment variable | option | default | meaning |", "|---|---|---|---|"]
    for name in names:
        field = Settings.model_fields[name]
        default = f"`{shown(field.default)}`" if shown(field.default) else "none"
        option = f"`{options[name]}`" if name in options else ""
        meaning = (field.description or "").replace("](docs/", "](")
        lines.append(f"| `{variable(name)}` | {option} | {default} | {meaning} |")
    return "\n".join([*lines, ""])


def variable(name: str) -> str:
    return f"PRELABEL_{name.upper()}"


def shown(default: object) -> str:
    """A default as a user would write it in the environment; "" for none."""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "" if default in ({}, None) else str(default)


def serve_options() -> dict[str, str]:
    """The options of `prelabel serve`, by the setting that each one sets."""
    commands = typer.main.get_group(prelabel.app).commands
    return {
        each.name: each.opts[0] for each in commands["serve"].params if each.name in Settings.model_fields
    }


def main() -> None:
    PAGE.write_text(settings_page(), "utf-8")


if __name__ == "__main__":
    main()
