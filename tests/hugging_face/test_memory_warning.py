"""Export says how much memory the attention of a long text takes."""

from pathlib import Path

import pytest

from export import publish_transformer
from export.publish_transformer import TransformerOptions, export_transformer, memory_warning
from tests.hugging_face.conftest import Saved


@pytest.mark.parametrize("name", ["num_attention_heads", "n_heads"])
def test_export_warns_of_texts_that_take_gigabytes(name: str) -> None:
    found = memory_warning({name: 12}, 8192)
    assert found is not None
    assert "one text of 8,192 tokens takes about 8.1 GB of memory. A smaller --max-length" in found


@pytest.mark.parametrize("config", [{"num_attention_heads": 12}, {}, {"num_attention_heads": "12"}])
def test_export_says_nothing_of_usual_lengths(config: dict[str, object]) -> None:
    assert memory_warning(config, 512) is None


def test_the_warning_is_reported(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_transformer, "MUCH_MEMORY", 10_000)
    said: list[object] = []
    options = TransformerOptions(max_length=32)
    export_transformer(saved("bert"), tmp_path / "out", options, torchscript=False, on_report=said.append)
    assert str(said[0]).startswith("Warning: on a CPU, one text of 32 tokens takes")
