"""The import graph: one direction, no circles, and a server without torch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

LAYERS = [
    {
        "errors",
        "fairness",
        "arrays",
        "devices",
        "figures",
        "compiled",
        "logs",
        "private_files",
        "connections",
        "model_thread",
        "gpu_memory",
        "process_files",
    },
    {"buckets", "scores", "token_table", "secret_files", "admission"},
    {
        "settings",
        "bundle",
        "label_studio",
        "records",
        "journal",
        "auth",
        "bodies",
        "inference_protocol",
        "tally",
        "inside",
    },
    {"labelled", "connect", "request_log", "tls", "refusals", "operations"},
    {"tokenizer", "batcher", "engines"},
    {"models", "classifier", "catalogue", "project_scorings", "metrics"},
    {"registry", "predictor", "exposition"},
    {"bulk", "evaluation", "envelope", "protocol", "tracing"},
    {"annotate", "plots", "routes", "summary", "watch"},
    {"report", "v2_routes", "openapi"},
    {"app"},
    {"workers", "on_ray"},
]


def imported(path: Path) -> set[str]:
    """Names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
    return names


def layer(part: str) -> int:
    return next(i for i, parts in enumerate(LAYERS) if part in parts)


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "server").parts[0].removesuffix(".py")


def test_server_imports_run_one_way() -> None:
    for path in (ROOT / "server").rglob("*.py"):
        part = part_of(path)
        if part == "__init__":
            continue
        for name in imported(path):
            assert not name.startswith("export"), f"{path} imports {name}: the server never imports export"
            if name.startswith("server."):
                other = name.split(".")[1]
                assert other == part or layer(other) < layer(part) or other == "arrays", (
                    f"{path} imports {name}"
                )


def test_the_batcher_does_not_know_engines() -> None:
    assert not any("engine" in name for name in imported(ROOT / "server" / "batcher.py"))


def test_only_the_engines_of_torch_and_export_import_torch() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "server").rglob("*.py")
        if "torch" in imported(path)
    }
    assert users == {f"server/engines/{name}.py" for name in ("torch_script", "torch_device", "fused")}
    assert "torch" not in imported(ROOT / "prelabel.py")


def test_only_what_talks_to_a_cluster_imports_ray() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "server").rglob("*.py")
        if any(name.split(".")[0] == "ray" for name in imported(path))
    }
    assert users == {f"server/on_ray/{name}.py" for name in ("cluster", "application", "serve", "predict")}
    assert "ray" not in imported(ROOT / "prelabel.py")


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, prelabel, server.app, server.engines.onnx_runtime; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_only_what_is_told_uses_the_clock_on_the_wall() -> None:
    """It jumps; waits and timeouts use one that does not."""
    users = {
        path.name
        for path in (ROOT / "server").rglob("*.py")
        if re.search(r"\btime\.time(_ns)?\(|datetime\.(now|utcnow|today)", path.read_text("utf-8"))
    }
    assert users == {"journal.py", "tracing.py"}


def test_no_module_is_named_like_a_library() -> None:
    taken = sys.stdlib_module_names | {"onnx", "torch", "locust", "starlette", "uvicorn", "numpy"}
    for folder in ("server", "export"):
        assert not {path.stem for path in (ROOT / folder).rglob("*.py")} & taken
