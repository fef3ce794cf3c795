"""`prelabel bench`: runs one benchmark by its name, with its own options; without a name it lists them.

.venv/dev/bin/python -m benchmarks [NAME …]
"""

import ast
import runpy
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.everything import MODULES, SOAK
from benchmarks.results import ROOT

OTHERS = {
    "active_learning": "benchmarks.active_learning",
    "annotate": "benchmarks.annotate",
    "capacity": "benchmarks.capacity",
    "gpu_transformer": "benchmarks.gpu_transformer",
    "guard": "benchmarks.guard",
    "label_efficiency": "benchmarks.label_efficiency",
    "report": "benchmarks.report",
    "all": "benchmarks.everything",
}
"""Commands that are not part of `all`, and `all`."""

PIP = f"{sys.executable} -m pip install --editable '.[export,plots,bench,dev]'"
"""Installs what the benchmarks need, apart from ONNX Runtime."""


def main() -> None:
    modules = all_modules()
    name, options = sys.argv[1] if len(sys.argv) > 1 else "--help", sys.argv[2:]
    if name in modules:
        sys.argv = [f"prelabel bench {name}", *options]
        sys.modules.pop(modules[name], None)  # runpy warns of a module that is imported already
        try:
            runpy.run_module(modules[name], run_name="__main__", alter_sys=True)
        except ModuleNotFoundError as missing:
            raise SystemExit(
                f"prelabel bench {name} needs the package {missing.name}, which serving does not install: "
                f"run {PIP} in {ROOT}."
            ) from None
        return
    Console(stderr=name != "--help").print(listed(modules))
    if name != "--help":
        raise SystemExit(f"There is no benchmark {name!r}: choose one of those above.")


def all_modules() -> dict[str, str]:
    return MODULES | SOAK | OTHERS


def listed(modules: dict[str, str]) -> Table:
    table = Table("prelabel bench …", "what it measures")
    for name, module in modules.items():
        table.add_row(name, first_line(module))
    return table


def first_line(module: str) -> str:
    """The first line of the module's docstring, without importing it."""
    path = (ROOT / module.replace(".", "/")).with_suffix(".py")
    source = path.read_text("utf-8") if path.exists() else '"""Not in this checkout."""'
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
