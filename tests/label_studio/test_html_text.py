"""HTML → text: what a reader sees, one line for each block, in linear time."""

import html

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.label_studio.html_text import WINDOW, visible_text
from server.label_studio.object_tags import TextField


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<p>A <b>g</b>ood film.</p><p>Really.</p>", "A good film. Really."),
        ("one<br>two<br/>three", "one two three"),
        (
            "<style>p {}</style><script>bad()</script><title>x</title>seen &amp; read &eacute;",
            "seen & read é",
        ),
        ("</script>still there", "still there"),
        ("1 < 2 &lt; 3", "1 < 2 < 3"),
        ("plain", "plain"),
        ("a<!-- b --> c<!-- > -->d<!-->e<!-- f", "a cde"),
        ("a<!doctype html><?xml x?>b</>c<![CDATA[d]]>e", "abce"),
        ("""<p title="a > b" class='"'>c</p><a href=x>d</a><br/ >e<x y="z""", "c d e"),
        ("<STYLE media=a>b</STYLE >c<scripted>d</scripted><style>e", "cd"),
        ("a < b <3 <é> &lt;b&gt; &#65;&#x42; &amp;amp; &nix;", "a < b <3 <é> <b> AB &amp; &nix;"),
        ("&#" + "9" * 5_000 + ";", "\ufffd"),
        ('<a b=="c>d">e', 'd">e'),
        ("<b>" * 3_000 + "deep", "deep"),
        ("\ud800 \0", "\ud800 \0"),
        ("a<b " + "c='>' " * 3_500 + ">d<p " + "e=f " * 999 + "g=h>i", "ad i"),
        ("<script " + "c=d " * 1_001 + ">e</script>f<a " + "g=h " * 2_000, "f"),
    ],
)
def test_the_text_that_a_reader_sees(page: str, words: str) -> None:
    assert " ".join(visible_text(page).split()) == words


@pytest.mark.parametrize(
    "part",
    [
        "<!--",
        "<!",
        "<?",
        "<a ",
        "</a",
        "<a b='",
        '<a b="',
        "<a b=",
        "<script>",
        "</script",
        "<",
        "<![CDATA[",
        "&#",
        "&",
        "-->",
        "<title></titl",
    ],
)
def test_a_page_of_unclosed_parts_is_read_in_one_pass(part: str) -> None:
    """A parser that rescans takes hours for these."""
    assert isinstance(visible_text(part * 500_000), str)


def test_only_hypertext_with_a_single_field_is_html() -> None:
    data = {"page": "<b>good</b>"}
    assert TextField("t", "hypertext", "$page").text(data) == "good"
    assert TextField("t", "hypertext", "$page !").text(data) == "<b>good</b> !"
    assert TextField("t", "text", "$page").text(data) == "<b>good</b>"
    assert TextField("t", "paragraphs", "$page").text(data) == "<b>good</b>"


PARTS = st.sampled_from(["&", "&amp;", "&#65;", "&#x41;", "&eacute", "&nGt;", "&notit;", "&#", "a", " ", "é"])


@settings(max_examples=30)
@given(st.lists(PARTS, min_size=1, max_size=12).map("".join), st.integers(0, 40))
def test_references_of_a_long_text_are_replaced_as_by_the_standard_library(part: str, shift: int) -> None:
    text = "x" * shift + part * (2 * WINDOW // len(part))
    assert visible_text(text) == html.unescape(text)


def test_a_reference_after_a_long_text_without_any() -> None:
    for length in (WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW):
        assert visible_text("&amp;" + "x" * length + "&amp;y") == "&" + "x" * length + "&y"
