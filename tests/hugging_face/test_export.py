"""`prelabel export --transformer`: answers as transformers, whatever the architecture and padding."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export import parity
from export.hugging_face.eager import import_transformers
from export.hugging_face.tokenizer import load_tokenizer
from export.options import ExportOptions
from export.parity import NotProven
from export.publish_transformer import TransformerOptions, export_transformer
from export.reproducible import reproducible
from server.bundle import Bundle, read_bundle
from server.encoders.rows import windows_of
from server.encoders.transformer.encoder import TransformerSpec
from server.engines.base import pad
from server.engines.factory import open_engine
from server.errors import BadInput, BadSetting, EngineFailed
from server.label_studio.labeling_config import read_plan
from server.models.tokenizer import Tokenizer
from server.offline.classifier import Classifier
from server.offline.labelled import LabelledTexts, LeftOut
from tests.conftest import random_texts
from tests.hugging_face.conftest import Exported, Saved
from tests.hugging_face.tiny_models import LABELS, MODELS, TEXTS, save_classifier

AWKWARD = [
    "",
    " ",
    "a",
    "\n\t",
    "[SEP] </s> <pad>",
    "x" * 300,
    "日本語のテキスト",
    "ﬁne Ａ ß İ 😀👍🏽",
    "e\u0301",
    "\0",
    *TEXTS[:30],
    " ".join(TEXTS),
]


@reproducible()
def by_transformers(folder: Path, texts: list[str]) -> Any:
    """float32[texts, classes], text by text, by transformers itself."""
    transformers = import_transformers()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = [model(**tokenizer(text, truncation=True, return_tensors="pt")).logits[0] for text in texts]
    return torch.stack(logits).softmax(dim=1).numpy()


def classify(bundle: Bundle, texts: list[str], engine: str = "auto") -> Any:
    with Classifier(bundle, open_engine(bundle, engine=engine, device="cpu"), threads=2) as classifier:
        return classifier.probabilities(classifier.encode(texts))


@pytest.mark.parametrize("kind", MODELS)
def test_every_architecture_answers_as_transformers(kind: str, saved: Saved, exported: Exported) -> None:
    bundle = exported(kind)
    assert bundle.labels == LABELS
    assert isinstance(bundle.manifest.encoders[0], TransformerSpec)
    assert bundle.manifest.encoders[0].architecture == kind
    assert bundle.manifest.encoders[0].max_length == 64
    expected = by_transformers(saved(kind), AWKWARD)
    assert np.ptp(expected, axis=0).max() > 0.05, "the texts have different answers"
    assert np.abs(classify(bundle, AWKWARD) - expected).max() <= 1e-4


@pytest.mark.parametrize("kind", MODELS)
def test_answers_do_not_depend_on_padding(kind: str, exported: Exported) -> None:
    bundle = exported(kind)
    engine = open_engine(bundle, engine="onnx", device="cpu")
    rows = [windows_of(row, bundle.encoders)[0] for row in Tokenizer.of(bundle).encode_all(AWKWARD)]
    alone = np.concatenate([engine.run(*pad([row], len(row))) for row in rows])
    padded = np.concatenate([engine.run(*pad([row], 64)) for row in rows])
    together = engine.run(*pad(rows, 64))
    assert np.abs(alone - padded).max() <= 1e-4
    assert np.abs(alone - together).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_the_trace_is_proven_too(kind: str, saved: Saved, tmp_path: Path) -> None:
    bundle = export_transformer(saved(kind), tmp_path / "traced", TransformerOptions())
    engines = {entry["engine"]: entry["max_difference"] for entry in bundle.manifest.parity["engines"]}
    assert set(engines) == {"onnx", "torchscript"}
    assert max(engines.values()) <= bundle.manifest.parity["tolerance"] == 1e-4
    difference = classify(bundle, AWKWARD, "torchscript") - classify(bundle, AWKWARD, "onnx")
    assert np.abs(difference).max() <= 1e-4


def test_the_same_directory_gives_the_same_version(saved: Saved, tmp_path: Path) -> None:
    versions = [
        export_transformer(
            saved("bert"), tmp_path / f"{i}" / "same", TransformerOptions(), torchscript=False
        ).version
        for i in range(2)
    ]
    assert versions[0] == versions[1]


def test_several_labels_at_once(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "several", problem_type="multi_label_classification")
    bundle = export_transformer(folder, tmp_path / "out", TransformerOptions(labels=("a", "b", "c")))
    assert (bundle.manifest.head, bundle.labels) == ("sigmoid", ("a", "b", "c"))
    logits = np.log(by_transformers(folder, AWKWARD[:5]))
    found = classify(bundle, AWKWARD[:5]).astype(np.float64)
    odds = np.log(found / (1 - found))
    assert np.allclose(odds - odds[:, :1], logits - logits[:, :1], atol=1e-3)


@reproducible()
def test_windows_of_a_long_text_count_by_their_tokens(saved: Saved, exported: Exported) -> None:
    bundle = exported("bert", TransformerOptions(long_texts="windows", max_length=20))
    long = " ".join(random_texts(3))
    found = classify(bundle, ["good film", long, "bad"])
    assert np.abs(found[[0, 2]] - by_transformers(saved("bert"), ["good film", "bad"])).max() <= 1e-4

    transformers = import_transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(saved("bert"))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(saved("bert")).eval()
    windows = tokenizer(long, truncation=True, max_length=20, stride=4, return_overflowing_tokens=True)
    windows = windows["input_ids"]
    assert len(windows) > 5
    with torch.inference_mode():
        logits = torch.cat([model(torch.tensor([ids])).logits for ids in windows])
    weights = torch.tensor([float(len(ids)) for ids in windows])
    expected = ((logits * weights[:, None]).sum(dim=0) / weights.sum()).softmax(dim=0).numpy()
    assert np.abs(found[1] - expected).max() <= 1e-4


def test_the_side_that_the_tokenizer_truncates(saved: Saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("bert"), tmp_path / "left")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"truncation_side": "left"}))
    bundle = export_transformer(folder, tmp_path / "out", TransformerOptions(), torchscript=False)
    in_windows = TransformerOptions(long_texts="windows")
    export_transformer(folder, tmp_path / "in_windows", in_windows, torchscript=False)  # cuts nothing
    texts = [" ".join(random_texts(4, seed)) for seed in range(3)]
    expected = by_transformers(folder, texts)
    assert np.abs(classify(bundle, texts) - expected).max() <= 1e-4
    assert np.abs(expected - by_transformers(saved("bert"), texts)).max() > 1e-2


def test_weights_in_half_precision_and_in_shards(saved: Saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("bert"), tmp_path / "shards")
    weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file(
            {name: weights[name] for name in names if files[name] == file}, folder / file, {"format": "pt"}
        )
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    bundle = export_transformer(folder, tmp_path / "out", TransformerOptions(), torchscript=False)
    assert np.abs(classify(bundle, AWKWARD) - by_transformers(saved("bert"), AWKWARD)).max() < 0.05


def test_weights_that_are_not_used_are_a_warning(saved: Saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("bert"), tmp_path / "shallow")
    changed("config.json", num_hidden_layers=1)(folder)
    said: list[Any] = []
    export_transformer(
        folder, tmp_path / "out", TransformerOptions(), torchscript=False, on_report=said.append
    )
    assert str(said[0]).startswith("Warning: the network of config.json does not use 16 of the weights")


def labelled(texts: list[str], labels: list[str]) -> LabelledTexts:
    return LabelledTexts(texts, [(label,) for label in labels], False, LeftOut())


@pytest.mark.parametrize(("precision", "most"), [("int8", 0.5), ("float16", 0.02)])
def test_a_lower_precision_says_what_it_costs(
    precision: Any, most: float, saved: Saved, tmp_path: Path
) -> None:
    texts = random_texts(30)
    full = by_transformers(saved("bert"), texts)
    labels = [LABELS[i] for i in full.argmax(axis=1)]
    said: list[Any] = []
    bundle = export_transformer(
        saved("bert"),
        tmp_path / "low",
        TransformerOptions(precision=precision, calibration=labelled(texts, labels)),
        on_report=said.append,
    )
    cost = bundle.manifest.metrics["quantization"]
    found = classify(bundle, texts)
    assert cost["accuracy_float32"] == 1.0
    assert cost[f"accuracy_{precision}"] == np.mean(found.argmax(axis=1) == full.argmax(axis=1))
    assert np.isclose(cost["max_difference"], np.abs(found - full).max(), atol=1e-3)
    assert 0 < cost["max_difference"] < most
    assert f"{precision}: accuracy" in str(said[0])


def test_the_cost_for_several_labels_compares_all_of_them(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "several", problem_type="multi_label_classification")
    texts = random_texts(30)
    options = TransformerOptions(precision="int8", calibration=labelled(texts, ["good"] * 30))
    bundle = export_transformer(folder, tmp_path / "low", options)
    full = classify(export_transformer(folder, tmp_path / "full", TransformerOptions()), texts) >= 0.5
    same = (full == (classify(bundle, texts) >= 0.5)).all(axis=1)
    assert bundle.manifest.metrics["quantization"]["same_class"] == same.mean()


def test_an_int8_answer_does_not_depend_on_other_texts(saved: Saved, tmp_path: Path) -> None:
    options = TransformerOptions(precision="int8", calibration=labelled(["a", "b"], ["good", "bad"]))
    bundle = export_transformer(saved("bert"), tmp_path / "low", options)
    texts = random_texts(20)
    alone = np.concatenate([classify(bundle, [text]) for text in texts])
    assert np.array_equal(classify(bundle, texts), alone)


def changed(file: str, **entries: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | entries))

    return change


def split_at(pattern: str, folder: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    changed("tokenizer.json", pre_tokenizer=split)(folder)


def without(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_head(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {n: t for n, t in weights.items() if "classifier" not in n},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def cut_off(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def written(file: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / file).write_text(text)

    return write


def larger_tokenizer(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"].append(content["added_tokens"][-1] | {"id": 5000, "content": "<more>"})
    content["model"]["vocab"]["<more>"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(content))


def not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"][-1, 0] = float("inf")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def endless(folder: Path) -> None:
    """The library panics on the "xxx…" of the parity check."""
    split_at(r"(x+x+)+y", folder)


CODE = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}

REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no directory": (lambda folder: shutil.rmtree(folder), "there is no such directory"),
    "no config": (without("config.json"), "config.json: cannot be read"),
    "config is no JSON": (written("config.json", "{"), "config.json: not JSON"),
    "config is a list": (written("config.json", "[]"), "config.json: expected an object"),
    "a pickle": (pickled, "only pytorch_model.bin, which is a pickle and is not read"),
    "no weights": (without("model.safetensors"), "expected model.safetensors, found none"),
    "no tokenizer": (without("tokenizer.json"), "no tokenizer.json"),
    "tokenizer is no JSON": (written("tokenizer.json", "{"), "tokenizer.json: transformers cannot load it"),
    "another task": (changed("config.json", architectures=["BertForMaskedLM"]), "found BertForMaskedLM"),
    "no head": (without_head, "the weights lack classifier.bias"),
    "weights cut off": (cut_off, "transformers cannot load it"),
    "a regression": (changed("config.json", problem_type="regression"), "a network for regression"),
    "a label twice": (changed("config.json", id2label={"0": "a", "1": "a", "2": "b"}), "has a label twice"),
    "an unknown architecture": (changed("config.json", model_type="nonesuch"), "transformers cannot load it"),
    "code of its own": (
        changed("config.json", model_type="nonesuch", auto_map=CODE),
        "transformers cannot load it",
    ),
    "another tokenizer": (
        larger_tokenizer,
        "tokenizer.json: it has ids up to 5000, .* that of another model",
    ),
    "other shapes": (
        changed("config.json", hidden_size=64),
        "the weights have other shapes than config.json",
    ),
    "an adapter": (written("adapter_config.json", "{}"), "its adapter .* merge it first"),
    "a number for the task": (changed("config.json", architectures=5), "found none"),
    "a gap between labels": (
        changed("config.json", id2label={"0": "a", "2": "b", "3": "c"}),
        "id2label must number its labels from 0 on",
    ),
    "weights that are not finite": (not_finite, "word_embeddings.weight has values that are not finite"),
    "a regular expression that gives up": (endless, "the model's tokenizer fails on a text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_directory_that_cannot_be_exported_is_refused_in_a_sentence(
    case: str, saved: Saved, tmp_path: Path
) -> None:
    change, message = REFUSED[case]
    folder = shutil.copytree(saved("bert"), tmp_path / "broken")
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')")
    change(folder)
    with pytest.raises((BadInput, EngineFailed), match=message) as error:
        export_transformer(folder, tmp_path / "out", TransformerOptions())
    assert "\n" not in str(error.value)
    assert not ran.exists()
    assert not (tmp_path / "out").exists()


UNSUITED: dict[str, tuple[str, str, dict[str, Any], type[Exception], str]] = {
    "longformer": (
        "LongformerConfig",
        "ByteLevelBPE",
        {"max_position_embeddings": 66, "attention_window": 16},
        NotProven,
        r"onnx fails on a text of \d+ tokens \(InvalidArgument\); nothing was published",
    ),
    "big_bird": (
        "BigBirdConfig",
        "Unigram",
        {"max_position_embeddings": 64, "block_size": 2, "num_random_blocks": 1},
        BadInput,
        "set attention_type to original_full in config.json",
    ),
    "fnet": (
        "FNetConfig",
        "Unigram",
        {"max_position_embeddings": 64},
        BadInput,
        r"a network of type fnet cannot become ONNX \(UnsupportedOperatorError\)",
    ),
    "mra": (
        "MraConfig",
        "WordPiece",
        {"max_position_embeddings": 64},
        BadInput,
        "a network of type mra does not attend to its tokens here",
    ),
    "ibert": (
        "IBertConfig",
        "ByteLevelBPE",
        {"max_position_embeddings": 64},  # of which transformers uses two less
        BadInput,
        r"fails on a text of 64 tokens \(IndexError\); give a smaller --max-length",
    ),
}


@pytest.mark.parametrize("kind", UNSUITED)
def test_a_network_that_cannot_become_a_bundle_is_refused_in_a_sentence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    *model, error, message = UNSUITED[kind]
    monkeypatch.setitem(MODELS, kind, (model[0], model[1], model[2]))
    folder = save_classifier(tmp_path / kind, kind)
    capfd.readouterr()
    with pytest.raises(error, match=message):
        export_transformer(folder, tmp_path / "out", TransformerOptions())
    assert len(capfd.readouterr().out) < 1000
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("longest", ["32", -5, 0, None, [3], float("nan"), 10**30])
def test_a_limit_of_the_tokenizer_that_is_none(longest: object, saved: Saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("bert"), tmp_path / "odd")
    changed("tokenizer_config.json", model_max_length=longest)(folder)
    assert load_tokenizer(folder).longest is None


def test_a_difference_that_is_no_number_is_not_proven(
    saved: Saved, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = exported("bert")
    rows = Tokenizer.of(bundle).encode_all(TEXTS[:8])
    expected = classify(bundle, TEXTS[:8])
    in_batches = parity._in_batches
    monkeypatch.setattr(
        parity, "_in_batches", lambda *run: np.where(expected < 0.3, np.nan, in_batches(*run))
    )
    assert not parity.prove(bundle, rows, expected, ["onnx"])[0].proven


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TransformerOptions(max_length=65), "--max-length 65: the model reads at most 64 tokens"),
        (TransformerOptions(max_length=5), "--max-length 5: max_length must .* at least 6"),
        (TransformerOptions(labels=("a", "b", "a")), "--labels names a label twice"),
        (TransformerOptions(labels=("a", "b")), "--labels names 2 labels; the model has 3"),
        (TransformerOptions(precision="int8"), "--quantize int8 needs --calibration"),
    ],
)
def test_options_that_the_model_cannot_have(
    options: TransformerOptions, message: str, saved: Saved, tmp_path: Path
) -> None:
    with pytest.raises(BadSetting, match=message):
        export_transformer(saved("bert"), tmp_path / "out", options)


def test_columns_without_a_calibration_are_refused(tmp_path: Path) -> None:
    options = ExportOptions(tmp_path / "out", transformer=tmp_path)
    for wrong in (replace(options, text="review"), replace(options, label="stars")):
        with pytest.raises(BadSetting, match="--text and --label are the columns of --calibration"):
            wrong.check()


@pytest.mark.parametrize("kind", ["deberta-v2", "modernbert"])
def test_without_position_embeddings_a_text_is_as_long_as_the_network_was_made_for(
    kind: str, saved: Saved, tmp_path: Path
) -> None:
    """The tokenizer of DeBERTa-v3 names no limit."""
    folder = shutil.copytree(saved(kind), tmp_path / kind)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 10**30}))
    bundle = export_transformer(folder, tmp_path / "out", TransformerOptions(), torchscript=False)
    assert bundle.encoders[0].max_length == 64


def test_labels_of_the_calibration_must_be_those_of_the_model(saved: Saved, tmp_path: Path) -> None:
    options = TransformerOptions(precision="int8", calibration=labelled(["a", "b"], ["good", "awful"]))
    with pytest.raises(BadInput, match="the label 'awful' is none of the model's: bad, fair, good"):
        export_transformer(saved("bert"), tmp_path / "out", options)


def test_a_bundle_is_read_again_and_has_a_labeling_config(exported: Exported) -> None:
    bundle = read_bundle(exported("bert").path)
    assert bundle.manifest == exported("bert").manifest
    assert bundle.labeling_config is not None
    assert "label" in read_plan(bundle.labeling_config, bundle.labels, {}).summary
    assert 'value="$text"' in bundle.labeling_config
