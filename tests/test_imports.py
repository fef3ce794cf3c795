"""The import graph: one direction, no circles, and a server without torch."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from tests.conftest import ROOT

ORDER = [
    {"arrays", "errors", "interpreter", "jit", "log_setup"},
    {"encoders"},
    {"batching", "bundle", "files", "scoring", "threads"},
    {"engines", "label_studio"},
    {"learning"},
    {"connect"},
    {"settings"},
    {"models"},
    {"observability", "offline"},
    {"annotate", "evaluate", "prediction", "transport"},
    {"api"},
    {"app"},
    {"launch"},
    {"on_ray"},
    {"cli"},
]
"""The folders and top modules of `server/`: each may import from itself and from earlier lines."""


def imported(path: Path) -> set[str]:
    """Names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer(folder: str) -> int:
    return next(i for i, folders in enumerate(ORDER) if folder in folders)


def folder_of(path: Path) -> str:
    """The folder of `server/` that a file lies in, or the top module that it is."""
    return path.relative_to(ROOT / "server").parts[0].removesuffix(".py")


def test_server_imports_run_one_way() -> None:
    wrong = []
    for path in (ROOT / "server").rglob("*.py"):
        folder = folder_of(path)
        if folder == "__init__":
            continue
        for name in imported(path):
            assert not name.startswith("export"), f"{path} imports {name}: the server never imports export"
            if name.startswith("server."):
                other = name.split(".")[1]
                if other != folder and layer(other) >= layer(folder):
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others() -> None:
    files = [path for top in ("server", "export") for path in (ROOT / top).rglob("*.py")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    TopologicalSorter({name: imported(path) & modules.keys() for name, path in modules.items()}).prepare()


def test_batching_does_not_know_engines() -> None:
    for path in (ROOT / "server" / "batching").glob("*.py"):
        assert not any(name.startswith("server.engines") for name in imported(path))


def test_only_the_engines_of_torch_and_export_import_torch() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "server").rglob("*.py")
        if "torch" in imported(path)
    }
    assert users == {f"server/engines/{name}.py" for name in ("torch_script", "torch_device")}
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


WITHOUT_TORCH = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *others: None if name == "torch" else find(name, *others)
"""


def test_training_n_grams_needs_no_torch_and_serving_no_scikit_learn(tmp_path: Path) -> None:
    """As in an environment for serving: torch cannot be imported."""
    (tmp_path / "in.csv").write_text("review,sentiment\n" + "good,a\nbad,b\nfine,a\npoor,b\n" * 3)
    options = "train", "--train", str(tmp_path / "in.csv"), "--out", str(tmp_path / "made")
    code = WITHOUT_TORCH + "import prelabel; prelabel.main()"
    made = subprocess.run([sys.executable, "-c", code, *options], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    cnn = (*options, "--force", "--encoder", "cnn")
    refused = subprocess.run([sys.executable, "-c", code, *cnn], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "--encoder cnn needs torch, which is not installed: install prelabel[export]" in refused.stderr
    assert "Traceback" not in refused.stderr
    code = "import sys, server.app, server.launch.command; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_only_reported_times_come_from_the_wall_clock() -> None:
    """It jumps; waits and timeouts use one that does not."""
    users = {
        path.name
        for path in (ROOT / "server").rglob("*.py")
        if re.search(r"\btime\.time(_ns)?\(|datetime\.(now|utcnow|today)", path.read_text("utf-8"))
    }
    assert users == {"project_activity.py", "store.py", "tracing.py"}


def test_no_module_is_named_like_a_library() -> None:
    taken = sys.stdlib_module_names | {"onnx", "torch", "locust", "starlette", "uvicorn", "numpy"}
    for folder in ("server", "export"):
        assert not {path.stem for path in (ROOT / folder).rglob("*.py")} & taken
