"""A small transformer as a bundle. A process of its own makes it, because transformers changes settings of
the process that imports it.
"""

import subprocess
import sys

import pytest

from server.bundle import Bundle, read_bundle
from tests.conftest import ROOT

EXPORT = """
import sys
from pathlib import Path
from export.publish_transformer import TransformerOptions, export_transformer
from tests.hugging_face.tiny_models import save_classifier

folder = Path(sys.argv[1])
saved = save_classifier(folder / "saved")
export_transformer(saved, folder / "bert", TransformerOptions(), torchscript=False)
"""


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """It reads 64 tokens of a text."""
    folder = tmp_path_factory.mktemp("transformers")
    subprocess.run([sys.executable, "-c", EXPORT, folder], cwd=ROOT, check=True)
    return read_bundle(folder / "bert")
