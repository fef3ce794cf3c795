"""Texts out of tasks: fields, paths, words with several of them, lists, paragraphs and HTML."""

from typing import Any

import pytest

from server.label_studio.object_tags import TextField, text_of


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"review": "good"}, "good"),
        ({"review": ""}, ""),
        ({"review": 10}, "10"),
        ({"review": 2.5}, "2.5"),
        ({"review": ["good", 10]}, "good\n10"),
        ({"review": []}, ""),
        ({"review": None}, None),
        ({"review": {"text": "good"}}, None),
        ({"review": [{"text": "good"}]}, None),
        ({"review": True}, None),
        ({}, None),
        (None, None),
        ("review", None),
    ],
)
def test_the_text_of_a_task(data: Any, expected: str | None) -> None:
    assert text_of(data, "review") == expected


@pytest.mark.parametrize(
    ("value", "data", "expected"),
    [
        ("$a.b", {"a": {"b": "deep"}}, "deep"),
        ("$a.b", {"a.b": "flat", "a": {"b": "deep"}}, "flat"),
        ("$a[1].b", {"a": [{}, {"b": "second"}]}, "second"),
        ("$a[7]", {"a": ["one"]}, None),
        ("$a[" + "9" * 5_000 + "]", {"a": ["one"]}, None),
        ("$a.b.c", {"a": {"b": "text"}}, None),
        ("$title: $body", {"title": "Film", "body": "Good."}, "Film: Good."),
        ("$title: $body", {"body": "Good."}, ": Good."),
        ("$title: $body", {}, None),
        ("Review of $film.name.", {"film": {"name": "It"}}, "Review of It."),
        ("$größe", {"größe": 4}, "4"),
    ],
)
def test_paths_and_words(value: str, data: Any, expected: str | None) -> None:
    assert TextField("t", "text", value).text(data) == expected


def test_the_columns_a_value_may_begin_with() -> None:
    assert TextField("t", "text", "$a.b[0]").columns == ("a.b[0]", "a")
    assert TextField("t", "text", "$title: $body").columns == ("title", "body")


def test_paragraphs_are_read_line_by_line() -> None:
    source = TextField("t", "paragraphs", "$talk", text_key="says")
    assert (
        source.text({"talk": [{"who": "A", "says": "Hello."}, {"who": "B", "says": "Bye."}]})
        == "Hello.\nBye."
    )
    assert source.text({"talk": [{"who": "A"}]}) is None
    assert source.text({"talk": "plain"}) == "plain"


@pytest.mark.parametrize(
    ("html", "words"),
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
    ],
)
def test_of_html_what_a_reader_sees(html: str, words: str) -> None:
    assert " ".join((TextField("t", "hypertext", "$page").text({"page": html}) or "").split()) == words


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
def test_html_of_unclosed_parts_is_read_in_one_go(part: str) -> None:
    """One that looks again at what it has seen takes hours for these."""
    assert TextField("t", "hypertext", "$page").text({"page": part * 500_000}) is not None
