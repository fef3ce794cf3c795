"""Small random transformers with tokenizers of their families, as save_pretrained writes them."""

from pathlib import Path
from typing import Any

from export.hugging_face.eager import import_transformers
from tests.conftest import random_texts

LABELS = ("bad", "fair", "good")
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
OF_BERT = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
TEXTS = [*random_texts(40), "日本語のテキスト、中文。" * 5, "Ça va très bien, naïve café!", "10/10 😀 <br>"]

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "cls_token_id": 0,
    "eos_token_id": 2,
    "sep_token_id": 2,
    "initializer_range": 0.4,
}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "WordPiece", {"max_position_embeddings": 64}),
    "distilbert": (
        "DistilBertConfig",
        "WordPiece",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
    ),
    "roberta": ("RobertaConfig", "ByteLevelBPE", {"max_position_embeddings": 66}),
    "xlm-roberta": ("XLMRobertaConfig", "Unigram", {"max_position_embeddings": 66}),
    "deberta-v2": (
        "DebertaV2Config",
        "Unigram",
        {
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "max_position_embeddings": 64,
        },
    ),
    "electra": ("ElectraConfig", "WordPiece", {"embedding_size": 16, "max_position_embeddings": 64}),
    "mpnet": ("MPNetConfig", "WordPiece", {"max_position_embeddings": 66}),
    "modernbert": (
        "ModernBertConfig",
        "ByteLevelBPE",
        {"max_position_embeddings": 64, "global_attn_every_n_layers": 2, "local_attention": 16},
    ),
}
"""By model_type: the class of its configuration, its kind of tokenizer, its settings."""


def save_classifier(folder: Path, kind: str = "bert", seed: int = 0, **settings: Any) -> Path:
    """A classifier with LABELS."""
    import torch

    transformers, config = import_transformers(), _config(folder, kind, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def save_sentence_encoder(folder: Path, kind: str = "bert", seed: int = 0) -> Path:
    """An encoder without head, with the modules of sentence-transformers: mean pooling, length 1."""
    import json

    import torch

    transformers, config = import_transformers(), _config(folder, kind, {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2", "Normalize")])
    ]
    (folder / "1_Pooling").mkdir()
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
    return folder


def _config(folder: Path, kind: str, settings: dict[str, Any]) -> Any:
    """Write the tokenizer; return the configuration of a network for it."""
    transformers = import_transformers()
    folder.mkdir(parents=True, exist_ok=True)
    name, family, own = MODELS[kind]
    tokens = _write_tokenizer(folder, family, own["max_position_embeddings"] - (2 if "66" in str(own) else 0))
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {each: i for i, each in enumerate(LABELS)}}
    return getattr(transformers, name)(**SIZES | own | labels | {"vocab_size": tokens} | settings)


def _write_tokenizer(folder: Path, family: str, longest: int) -> int:
    """The number of its tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    transformers = import_transformers()
    special = OF_BERT if family == "WordPiece" else SPECIAL
    unknown = special[3]
    tokenizer: Any
    if family == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    elif family == "ByteLevelBPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token=unknown, show_progress=False
        )
    tokenizer.train_from_iterator(TEXTS, trainer)
    begin, _, end = special[:3]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B {end}",
        special_tokens=[(begin, 0), (end, 2)],
    )
    # as many published models: what the file says of truncation and padding is not what transformers does
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    kinds = "cls_token", "pad_token", "sep_token", "unk_token", "mask_token"
    names = dict(zip(kinds, special, strict=True))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=longest, **names
    ).save_pretrained(folder)
    return int(tokenizer.get_vocab_size())
