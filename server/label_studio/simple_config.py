"""A labeling config for given labels: one text, one control."""

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

INDENT = "    "


def simple_config(value: str, labels: Sequence[str], *, several: bool) -> str:
    """XML in which people choose one or several of `labels` for a text; `value` is that of the text tag, such
    as `$review`.
    """
    choice = "multiple" if several else "single"
    choices = "".join(f"\n{INDENT * 2}<Choice value={quoteattr(label)}/>" for label in labels)
    return (
        f'<View>\n{INDENT}<Text name="text" value={quoteattr(value)}/>\n'
        f'{INDENT}<Choices name="label" toName="text" choice="{choice}" showInLine="true">{choices}\n'
        f"{INDENT}</Choices>\n</View>\n"
    )
