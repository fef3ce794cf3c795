"""Writes the import graph of `server/` into docs/architecture.md, between two comments.

    .venv/dev/bin/python -m tests.import_graph

`make docs` runs it, and tests/test_docs.py compares the committed page with what it returns.
"""

import re

from tests.conftest import ROOT
from tests.test_imports import ORDER, folder_of, imported

PAGE = ROOT / "docs" / "architecture.md"
BLOCK = re.compile(r"(<!-- imports[^>]*-->\n).*?(<!-- end -->)", re.DOTALL)


def import_graph() -> dict[str, list[str]]:
    """Each folder of `server/`, or module next to them, and the ones that it imports."""
    graph: dict[str, set[str]] = {}
    for path in (ROOT / "server").rglob("*.py"):
        folder = folder_of(path)
        if folder == "__init__":
            continue
        others = {name.split(".")[1] for name in imported(path) if name.startswith("server.")}
        graph.setdefault(folder, set()).update(others - {folder})
    return {folder: sorted(others) for folder, others in graph.items()}


def page_with_graph(page: str) -> str:
    """The page with the graph of today: one line a folder, in the order of imports."""
    graph = import_graph()
    names = [name for folders in ORDER for name in sorted(folders)]
    width = max(map(len, names))
    lines = [f"{name:<{width}}  ◀─  {'  '.join(graph[name]) or '–'}" for name in names]
    block = "```\n" + "\n".join(lines) + "\n```\n"
    return BLOCK.sub(lambda found: found[1] + block + found[2], page)


def main() -> None:
    PAGE.write_text(page_with_graph(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
