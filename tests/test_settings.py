"""Settings: read once, refused in words, and documented."""

import re

import pytest

from server.errors import BadSetting
from server.settings import Settings, load_settings
from tests.conftest import ROOT


def shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value == {} else str(value)


def readme_table() -> str:
    """The README's table of settings, as it must be."""
    lines = ["| environment variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = f"`{shown(field.default)}`" if shown(field.default) else "none"
        lines.append(f"| `PRELABEL_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def test_each_setting_is_documented_with_its_default() -> None:
    assert readme_table() in (ROOT / "README.md").read_text("utf-8"), f"the README's table should be:\n{readme_table()}"


def test_every_setting_named_anywhere_exists() -> None:
    names = {f"PRELABEL_{name.upper()}" for name in Settings.model_fields}
    for path in [ROOT / "README.md", *(ROOT / "server").rglob("*.py"), *(ROOT / "docs").glob("*.md")]:
        assert set(re.findall(r"PRELABEL_[A-Z_]+[A-Z]", path.read_text("utf-8"))) <= names, path


def test_the_environment_is_read_and_options_go_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELABEL_PORT", "1234")
    monkeypatch.setenv("PRELABEL_BUCKET_LENGTHS", "8,16")
    monkeypatch.setenv("PRELABEL_LABEL_MAP", "Negative=bad, Positive=so good")
    settings = load_settings(host="0.0.0.0", port=None)  # noqa: S104
    assert (settings.port, settings.host, settings.bucket_lengths) == (1234, "0.0.0.0", (8, 16))  # noqa: S104
    assert settings.label_map == {"Negative": "bad", "Positive": "so good"}
    assert load_settings(port=5).port == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", "x"), ("port", "70000"), ("engine", "tensorrt"), ("device", "tpu"), ("bucket_lengths", "8,8"), ("bucket_lengths", ""), ("bucket_lengths", "a"),
     ("label_map", "Positive"), ("max_wait", "-1"), ("score", "certainty"), ("batch_tokens", "0")],
)  # fmt: skip
def test_a_wrong_value_is_a_refusal_that_names_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"PRELABEL_{name.upper()}", value)
    with pytest.raises(BadSetting, match=f"PRELABEL_{name.upper()}"):
        load_settings()


def test_threads_follow_the_device_unless_they_are_set() -> None:
    assert load_settings().threads("cuda") == 2
    assert load_settings().threads("cpu") >= 1
    assert load_settings(engine_threads=7).threads("cuda") == 7
