"""Tokenizers of the library `tokenizers`, from the content of a tokenizer.json."""

from typing import Any


def library_tokenizer(content: str) -> Any:
    """A `tokenizers.Tokenizer` that neither truncates nor pads. Raises ValueError."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the library raises no other type
        raise ValueError(f"the library tokenizers cannot read it ({error})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
