"""Settings: where they come from, errors for wrong values, and their documentation."""

import os
import re

import pytest

from server.errors import BadSetting
from server.settings import (
    SECRETS,
    EnsembleSetting,
    Settings,
    load_settings,
    unknown_labels,
    unknown_variables,
)
from tests.conftest import ROOT
from tests.settings_page import PAGE, settings_page


def test_the_page_of_settings_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == settings_page(), "docs/settings.md is out of date: run make docs"


def test_the_page_lists_each_setting_once() -> None:
    listed = re.findall(r"^\| `PRELABEL_(\w+)` \|", settings_page(), re.MULTILINE)
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)
    assert "## Other" not in settings_page(), "tests/settings_page.py: add the setting to a group"


def test_the_readme_states_the_defaults() -> None:
    """The README lists ten settings with its own descriptions."""
    rows = re.findall(r"^\| `PRELABEL_.*", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) == 10
    for row in rows:
        name, default = re.match(r"\| `(PRELABEL_\w+)` \| ([^|]*) \|", row).groups()  # type: ignore[union-attr]
        assert re.search(
            rf"^\| `{name}` \| [^|]*\| {re.escape(default)} \|", settings_page(), re.MULTILINE
        ), row


def test_every_setting_named_in_docs_and_code_exists() -> None:
    names = {f"PRELABEL_{name.upper()}" for name in Settings.model_fields} | {
        f"PRELABEL_{name.upper()}_FILE" for name in SECRETS
    }
    for path in [*ROOT.glob("*.md"), *(ROOT / "server").rglob("*.py"), *(ROOT / "docs").glob("*.md")]:
        assert set(re.findall(r"PRELABEL_[A-Z_]+[A-Z]", path.read_text("utf-8"))) <= names, path


def test_options_take_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELABEL_PORT", "1234")
    monkeypatch.setenv("PRELABEL_BUCKET_LENGTHS", "8,16")
    monkeypatch.setenv("PRELABEL_LABEL_MAP", "Negative=bad, Positive=so good")
    settings = load_settings(host="0.0.0.0", port=None)  # noqa: S104
    assert (settings.port, settings.host, settings.bucket_lengths) == (1234, "0.0.0.0", (8, 16))  # noqa: S104
    assert settings.label_map == {"Negative": "bad", "Positive": "so good"}
    assert load_settings(port=5).port == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "x"),
        ("port", "70000"),
        ("engine", "tensorrt"),
        ("device", "tpu"),
        ("device", "cuda:0,cuda:0"),
        ("gpu_mem_limit", "8GiB"),
        ("bucket_lengths", "8,8"),
        ("bucket_lengths", ""),
        ("bucket_lengths", "a"),
        ("path_prefix", "prelabel"),
        ("path_prefix", "/a/"),
        ("bundle", ""),
        ("bundle", "x/a,y/a"),
        ("bundle", "a,predict"),
        ("bundle", "a,b c"),
        ("ensemble", "both"),
        ("ensemble", "both=a"),
        ("ensemble", "both=a,b:1"),
        ("ensemble", "both=a,b:1,-1"),
        ("ensemble", "both=a,b:1,x"),
        ("ensemble", "both=a,b,a"),
        ("ensemble", "setup=a,b"),
        ("threshold", "0"),
        ("label_map", "Positive"),
        ("max_wait", "-1"),
        ("score", "certainty"),
        ("batch_tokens", "-1"),
        ("learn", "studio:8080"),
        ("learn", "http://me:secret@studio:8080"),
        ("learn_retention_days", "-1"),
    ],
)
def test_the_error_of_a_wrong_value_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"PRELABEL_{name.upper()}", value)
    with pytest.raises(BadSetting, match=f"PRELABEL_{name.upper()}"):
        load_settings()


def test_threads_follow_the_device_unless_they_are_set() -> None:
    assert load_settings().threads("cuda") == 2
    assert load_settings().threads("cpu") >= 1
    assert load_settings().threads("cuda:0,cuda:3") == 4
    assert load_settings(engine_threads=7).threads("cuda") == 7


def test_a_lone_call_has_the_cores_of_its_process_but_no_more_than_its_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert [load_settings(workers=n).cores for n in (1, 3, 16, 17)] == [16, 5, 1, 1]
    assert [load_settings(engine_threads=n).cores for n in (1, 4, 100)] == [1, 4, 16]
    assert load_settings(engine_threads=100, workers=4).cores == 4


def test_limits_of_sizes_may_be_equal() -> None:
    load_settings(max_tasks=10, max_waiting_rows=10, max_body_bytes=9999, max_waiting_bytes=9999)


def test_limits_that_only_look_contradictory_are_accepted() -> None:
    """A request may end before its model call does, and a row longer than a batch is run alone."""
    load_settings(request_timeout=30)
    load_settings(batch_tokens=99)
    load_settings(bucket_lengths="70000")


def test_a_gpu_gets_larger_batches_unless_their_size_is_set() -> None:
    assert load_settings().budget("cuda:0") > load_settings().budget("cpu")
    settings = load_settings(batch_tokens=5000)
    assert settings.budget("cuda:0") == settings.budget("cpu") == settings.cuda.grid.budget == 5000


def test_bundles_and_ensembles_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELABEL_BUNDLE", "artifacts/a, artifacts/b")
    monkeypatch.setenv("PRELABEL_ENSEMBLE", "both=a,b:2,1; even=b,a")
    settings = load_settings()
    assert list(settings.bundles) == ["a", "b"]
    assert settings.ensemble == (
        EnsembleSetting("both", ("a", "b"), (2.0, 1.0)),
        EnsembleSetting("even", ("b", "a"), (1.0, 1.0)),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": "x=a,b"}, "ensemble: x names a, b; the bundles are imdb-cnn"),
        ({"bundle": "a,b", "ensemble": "b=a,b"}, "the name b is taken"),
        ({"bundle": "a,b", "ensemble": "x=a,b;x=b,a"}, "the name x is taken"),
        ({"label_map": "good"}, "label_map .PRELABEL_LABEL_MAP. = 'good': must be Label=choice"),
        ({"basic_auth_user": "me"}, "PRELABEL_BASIC_AUTH_PASS both"),
        ({"basic_auth_pass": "secret"}, "PRELABEL_BASIC_AUTH_PASS both"),
        ({"basic_auth_user": "a:b", "basic_auth_pass": "secret"}, "cannot hold a colon"),
        (
            {"max_waiting_rows": 9, "max_tasks": 10},
            "MAX_TASKS. = 10 exceeds .*PRELABEL_MAX_WAITING_ROWS. = 9: .* lower the first or",
        ),
        ({"max_waiting_bytes": 2**20}, "PRELABEL_MAX_BODY_BYTES. = .* exceeds .*PRELABEL_MAX_WAITING_BYTES"),
        (
            {"max_wait": 9, "request_timeout": 8},
            "MAX_WAIT. = 9 is not below .*PRELABEL_REQUEST_TIMEOUT",
        ),
        (
            {"max_wait": 8, "request_timeout": 8},
            "MAX_WAIT. = 8 is not below .*PRELABEL_REQUEST_TIMEOUT. = 8: .* lower the first or",
        ),
    ],
)
def test_contradictory_settings_are_an_error(options: dict[str, str], message: str) -> None:
    with pytest.raises(BadSetting, match=message) as error:
        load_settings(**options)
    assert "secret" not in str(error.value)


def test_learning_needs_the_address_of_a_label_studio() -> None:
    settings = load_settings(learn="http://studio:8080/", bundle="a,b", ensemble="x=a,b")
    assert (settings.learn, str(settings.learn_folder)) == ("http://studio:8080", "learned")
    assert not load_settings().learn


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELABEL_ADMIN_TOKEN", "hush")
    assert "hush" not in repr(load_settings())


def test_a_misspelt_variable_is_named_with_the_closest_real_one() -> None:
    said = unknown_variables(
        {
            "PRELABEL_PROT": "1",
            "PRELABEL_QQQQ": "2",
            "PRELABEL_MY_PORT": "9",
            "PRELABEL_PORT": "3",
            "PATH": "4",
        }
    )
    assert "PRELABEL_MY_PORT (did you" in said
    assert "PRELABEL_PROT (did you mean PRELABEL_PORT?), PRELABEL_QQQQ" in said
    assert "PATH" not in said


@pytest.mark.parametrize(
    "name",
    [
        "PRELABEL_API_TOKEN_FILE",
        "PRELABEL_LABEL_MAP",
        "PRELABEL_SERVICE_HOST",
        "PRELABEL_SERVICE_PORT_HTTP",
        "PRELABEL_PORT_9090_TCP_ADDR",
        "PRELABEL_GPU_PORT",
        "PRELABEL_E2E_BUNDLE",
    ],
)
def test_variables_that_others_read_or_set_are_not_unknown(name: str) -> None:
    assert not unknown_variables({name: "tcp://192.0.2.7:9090"})


def test_a_key_of_the_label_map_that_is_no_label_is_named_with_the_closest_label() -> None:
    settings = load_settings(label_map="negativ=bad,Positive=good,Spam=junk")
    said = unknown_labels(settings, ["Negative", "Positive"])
    assert "no model has the label negativ (did you mean Negative?), Spam; " in said
    assert said.endswith("the labels are Negative, Positive")


def test_a_label_map_may_be_for_one_of_several_models() -> None:
    assert not unknown_labels(load_settings(label_map="Spam=junk"), ["Negative", "Positive", "Spam", "Ham"])
