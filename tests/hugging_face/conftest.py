"""Small random classifiers, saved once a session, and their bundles."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from export.hugging_face.eager import import_transformers
from export.publish_transformer import TransformerOptions, export_transformer
from server.bundle import Bundle
from tests.hugging_face.tiny_models import save_classifier

Saved = Callable[[str], Path]
Exported = Callable[..., Bundle]


@pytest.fixture(scope="session", autouse=True)
def _libraries() -> None:
    """What they change in the process when they are imported is no test's doing."""
    import_transformers()
    for name in (
        "transformers.modeling_utils",
        "onnxruntime.quantization",
        "onnxruntime.transformers.float16",
    ):
        import_module(name)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The directory of a classifier of this kind."""
    home = tmp_path_factory.mktemp("hugging-face")

    def of(kind: str) -> Path:
        folder = home / kind
        return folder if folder.exists() else save_classifier(folder, kind)

    return of


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, saved: Saved) -> Exported:
    """The bundle of a classifier of this kind, without TorchScript."""
    home = tmp_path_factory.mktemp("bundles")
    bundles: dict[tuple[str, TransformerOptions], Bundle] = {}

    def of(kind: str, options: TransformerOptions = TransformerOptions()) -> Bundle:  # noqa: B008 - frozen
        if (kind, options) not in bundles:
            out = home / f"{kind}-{len(bundles)}"
            bundles[kind, options] = export_transformer(saved(kind), out, options, torchscript=False)
        return bundles[kind, options]

    return of


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory, saved: Saved) -> Bundle:
    """A BERT with this name, which reads 64 tokens of a text."""
    out = tmp_path_factory.mktemp("bundles") / "bert"
    return export_transformer(saved("bert"), out, TransformerOptions(), torchscript=False)
