"""What the commands say of texts that were longer than a transformer reads."""

from dataclasses import dataclass
from typing import Literal, Self

from server.bundle import Bundle
from server.encoders.transformer.encoder import transformer_of


@dataclass(frozen=True)
class Truncation:
    """Of a text with more than `max_length` tokens, only what is `kept` counts."""

    max_length: int
    kept: Literal["beginning", "end"]

    @classmethod
    def of(cls, bundle: Bundle) -> Self | None:
        """None for a bundle that truncates no text."""
        transformer = transformer_of(bundle.encoders)
        if transformer is None or transformer.spec.long_texts != "truncate":
            return None
        return cls(transformer.max_length, "end" if transformer.spec.cut == "left" else "beginning")


def truncation_sentence(texts: int, truncation: Truncation | None) -> str:
    """`truncation` is None for a model of which nothing more is known."""
    words, their, them = (
        ("1 text was", "its", "it") if texts == 1 else (f"{texts:,} texts were", "their", "them")
    )
    longer = f"the {truncation.max_length} tokens that the model reads" if truncation else "the model reads"
    kept = truncation.kept if truncation else "beginning or end"
    return (
        f"{words} longer than {longer}; only {their} {kept} counted (export with --long-texts windows to "
        f"read all of {them})."
    )
