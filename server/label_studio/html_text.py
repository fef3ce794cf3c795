"""HTML → the text that a reader sees.

A scanner of its own, because a page may be hostile: each character is looked at once, whatever is not closed
goes on to the end (as in the HTML standard), nothing nests, and no single call keeps the interpreter's lock
for long.
"""

import html
import re

BLOCKS = re.compile(
    r"address|article|aside|blockquote|br|d[dlt]|div|fig(ure|caption)|footer|form|h[1-6r]|header|li|main|nav|[ou]l|p|pre|section|t(able|[dhr])"
)
"""HTML elements that a browser puts on lines of their own."""
UNSEEN = ("script", "style", "title")
"""Elements whose text a reader does not see."""
VALUE = r"""(?:=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^\s>]*+)[^>=]*+)"""
"""An attribute's value and the next attribute's name. A quoted value may contain `>`."""
VALUES = VALUE + "{0,1000}+"
"""As many as one call reads: one tag may be the whole page."""
MARKUP = re.compile(
    rf"""<(?:
      (?P<comment>!--)(?:-?>)?+
    | (?: (?P<unseen>{"|".join(UNSEEN)})(?=[\s/>]) | /?(?P<tag>[a-z][^\s/>]*+) )
      [^>=]*+{VALUES}(?:>|\Z|(?P<more>))
    | [!?/][^>]*+(?:>|\Z)
    )?+""",
    re.VERBOSE | re.IGNORECASE,
)
"""A tag (or, with `more`, its beginning), a declaration, the start of a comment, or a `<` that is text. All
begin with a literal `<`, which makes the search between them fast.
"""
MORE_VALUES = re.compile(VALUES + r"(>|\Z)?")
COMMENT_END = re.compile("--!?>")
UNSEEN_END = {name: re.compile(rf"</(?i:{name})[^>]*+(?:>|\Z)") for name in UNSEEN}
ENDLESS = re.compile(r"&#[0-9]{1000,}+;?")
"""References to characters that cannot exist; Python refuses to read such long numbers."""
WINDOW = 65_536
"""Characters whose references are replaced in one call."""


def visible_text(page: str) -> str:
    """The text of an HTML page without its markup, one line for each block, references replaced."""
    parts: list[str] = []
    at: int | None = 0
    seen = 0
    while at is not None:
        start, at = at, None
        for found in MARKUP.finditer(page, start):
            begin, end = found.span()
            if end - begin == 1:
                continue  # a `<` that is text
            parts.append(page[seen:begin])
            seen = end
            tag, unseen = found["tag"], found["unseen"]
            if found["more"] is not None:
                seen = end = at = _tag_end(page, end)
            if tag:
                if BLOCKS.fullmatch(tag.lower()):
                    parts.append("\n")
            elif unseen or found[0] == "<!--":
                closing = (UNSEEN_END[unseen.lower()] if unseen else COMMENT_END).search(page, end)
                seen = at = closing.end() if closing else len(page)
            if at is not None:
                break
    parts.append(page[seen:])
    return _unescape("".join(parts))


def _tag_end(page: str, at: int) -> int:
    """The end of a tag that has more values from `at` on."""
    while (found := MORE_VALUES.match(page, at)) and found[1] is None:
        at = found.end()
    return found.end() if found else len(page)


def _unescape(text: str) -> str:
    """`html.unescape`, a window at a time. A window ends before an `&`, which no reference contains."""
    parts = []
    begin = 0
    while begin < len(text):
        end = begin + WINDOW
        if end < len(text):
            cut = text.rfind("&", begin + 1, end)
            if cut < 0:
                cut = text.find("&", end)
            end = cut if cut >= 0 else len(text)
        part = text[begin:end]
        parts.append(html.unescape(ENDLESS.sub("\ufffd", part)))
        begin = end
    return "".join(parts)
