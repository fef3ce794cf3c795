"""Mutations of real inputs. Deterministic for a given `random`, so that a seed reproduces its inputs."""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

DEPTHS = (1, 10, 100, 900, 990, 1_000, 1_010, 1_100, 10_000, 100_000)
"""Maximum nesting depth; the interpreter's own limit is 1,000."""

LENGTHS = (0, 1, 100, 4_300, 4_301, 65_536, 200_000)

LONGEST = 2_000_000
"""Maximum characters of JSON: larger inputs take too much time."""

WORDS = (
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "\ufeff",
    "\u202e",
    "\u2028",
    "\x85",
    "\x1b[31m",
    "\r\n",
    "é",
    "İ",
    "😀",
    "null",
    "-1",
    "1e999",
    "NaN",
    "../../etc/passwd",
    "file:///etc/passwd",
    "${x}",
    "{{idx}}",
    "%s%n",
    "<br />",
    "$review",
    "$a[0].b",
    "[]",
    "{}",
    "START_TRAINING",
    "margin",
    "1.1",
)
"""Texts that some parsers misinterpret."""

BYTES = (
    b"\0",
    b"\xff",
    b"\xfe\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b'"',
    b"'",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"[",
    b"]",
    b"{",
    b"}",
    b":",
    b",",
    b"1e999",
    b"-",
    b"NaN",
    b"Infinity",
    b"true",
    b"null",
    b"/*",
    b"<",
    b">",
    b"&",
    b"<!--",
    b"-->",
    b"]]>",
    b"\x80\x04",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"%00",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
)

RAW_NUMBERS = (
    "0",
    "-0",
    "-1",
    "1.5",
    "1e999",
    "-1e999",
    "1e-400",
    "NaN",
    "Infinity",
    "-Infinity",
    "9007199254740993",
    "18446744073709551616",
    "9" * 30,
    "9" * 4_300,
    "9" * 4_301,
    "1" + "0" * 20_000,
    "0." + "3" * 5_000,
)

XML_PARTS = (
    '<Choice value="Positive"/>',
    '<Choice value="Negative" alias="neg"/>',
    '<Text name="text" value="$review"/>',
    '<HyperText name="text" value="$review"/>',
    '<Paragraphs name="text" value="$review" textKey="says"/>',
    '<Choices name="c" toName="text">',
    "</Choices>",
    "<Taxonomy name='x' toName='text'>",
    "</Taxonomy>",
    '<Rating name="r" toName="text" maxRating="99999999999999999999"/>',
    '<Number name="n" toName="text" min="nan" max="inf"/>',
    "<View>",
    "</View>",
    "<View/>",
    "<!-- {} -->",
    '<!-- {"data": [',
    "<![CDATA[",
    "]]>",
    "<?xml version='1.0' encoding='utf-16'?>",
    "<?php",
    "&amp;",
    "&#0;",
    "&#x110000;",
    "&lol;",
    "&#55296;",
    '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>',
    "<!doctype html>",
    '<!ENTITY e SYSTEM "file:///etc/passwd">',
    "xmlns:a='b' a:name='c'",
    "xmlns=''",
    '<Repeater on="$x">',
    'name=""',
    'toName=""',
    'toName="text,text"',
    'toName="missing"',
    'value=""',
    'value="$"',
    'value="$a[99999999999999999999]"',
    'value="$a[' + "9" * 5_000 + ']"',
    'choice="multiple"',
    'alias=""',
    'perRegion="true"',
    'apiUrl="http://127.0.0.1:9/"',
    'valueType="url"',
    'indexFlag="{{i}}"',
    '<Chat name="chat" value="$review"/>',
    '<ReactCode name="rc" toName="rc"/>',
    '<Label value="x"/>',
    "<Style>.a{}</Style>",
    "\0",
    "\ud800",
    "\ufeff",
    "\x0c",
)


def cut(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """A few changes of bytes: flips, deletions, insertions, repetitions, parts of `others`."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        index = random.randrange(len(found) + 1)
        end = min(len(found), index + random.choice((1, 1, 2, 8, 64, 1024)))
        match random.randrange(8):
            case 0 if index < len(found):
                found[index] ^= 1 << random.randrange(8)
            case 1 if index < len(found):
                found[index] = random.randrange(256)
            case 2:
                found[index:index] = random.choice(BYTES)
            case 3:
                del found[index:end]
            case 4:
                found[index:index] = found[index:end] * random.choice((1, 2, 100))
            case 5:
                del found[index:]
            case 6 if others:
                other = random.choice(others)
                begin = random.randrange(len(other) + 1)
                found[index:end] = other[begin : begin + random.choice((8, 64, 512))]
            case _:
                found[index:end] = random.choice(BYTES)
    return bytes(found)


class Raw:
    """JSON for which Python has no value: placeholders in the text, replaced when it is written."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def __call__(self, text: str) -> str:
        self._texts.append(text)
        return f"@raw{len(self._texts) - 1}@"

    def written(self, value: Any) -> bytes:
        text = json.dumps(value)
        for index, raw in enumerate(self._texts):
            text = text.replace(f'"@raw{index}@"', raw)
        return text[:LONGEST].encode("utf-8", "surrogatepass")


def odd(random: Random, raw: Raw) -> Any:
    """An unexpected JSON value."""
    match random.randrange(8):
        case 0:
            return random.choice((None, True, False, 0, -1, 1.5, [], {}, [None], [[]], {"": ""}, [{}], ""))
        case 1 | 2:
            return random.choice(WORDS)
        case 3:
            return raw(random.choice(RAW_NUMBERS))
        case 4:
            return random.choice(
                ("x", "é", "\ud800", "<", "<!--", "a ", "[", "&#", "\\", "'")
            ) * random.choice(LENGTHS)
        case 5:
            depth = random.choice(DEPTHS)
            begin, end = random.choice((("[", "]"), ('{"a":', "}"), ('[{"data":', "}]")))
            return raw(begin * depth + "1" + end * random.choice((depth, depth, depth - 1, 0)))
        case 6:
            return raw(
                random.choice(
                    (
                        '"\\u12"',
                        '"\\x"',
                        "'a'",
                        "tru",
                        "01",
                        "+1",
                        ".5",
                        "1.",
                        "/**/1",
                        '"\t"',
                        '"\\ud83d"',
                        "1 2",
                        '"\\u0000"',
                    )
                )
            )
        case _:
            return [random.choice(WORDS)] * random.choice((1, 10, 1000))


def changed_json(value: Any, random: Random, text: Callable[[str, Random], str] | None = None) -> bytes:
    """`value` as JSON after a few changes: other types, dropped, duplicated and renamed keys, invalid values.
    `text` mutates strings that are XML.
    """
    raw = Raw()
    root = {"": json.loads(json.dumps(value))}
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        slots = list(_slots(root))
        holder, key = random.choice(slots)
        found = holder[key]
        match random.randrange(9):
            case 0 | 1 | 2:
                holder[key] = odd(random, raw)
            case 3 if isinstance(holder, dict) and holder is not root:
                del holder[key]
            case 4 if isinstance(holder, dict) and holder is not root:
                holder[random.choice((key.upper(), key + " ", *WORDS))] = holder.pop(key)
            case 5 if isinstance(holder, dict) and holder is not root:
                holder[raw(json.dumps(key))] = odd(random, raw)  # duplicate key
            case 6 if isinstance(holder, list):
                holder[key:key] = [found] * random.choice((1, 2, 300))
            case 7:
                other, name = random.choice(slots)
                holder[key] = json.loads(json.dumps(other[name]))
            case _ if text is not None and isinstance(found, str) and found.startswith("<"):
                holder[key] = text(found, random)
            case _:
                holder[key] = [found]
    return raw.written(root[""])


def _slots(value: Any) -> Any:
    """Every position in a JSON value, as its container and key."""
    todo = [value]
    while todo:
        holder = todo.pop()
        for key in list(holder if isinstance(holder, dict) else range(len(holder))):
            yield holder, key
            if isinstance(holder[key], dict | list):
                todo.append(holder[key])


def changed_xml(config: str, random: Random) -> str:
    """A labeling config after a few changes of its parts."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        index = random.randrange(len(config) + 1)
        end = min(len(config), index + random.choice((1, 4, 16, 64)))
        match random.randrange(9):
            case 0 | 1:
                config = config[:index] + random.choice(XML_PARTS) + config[index:]
            case 2:
                config = config[:index] + config[end:]
            case 3:
                config = config[:index] + random.choice(WORDS) + config[end:]
            case 4:
                # an attribute's value
                first = config.find('"', index) + 1
                to = config.find('"', first)
                if 0 < first <= to:
                    config = (
                        config[:first]
                        + random.choice((*WORDS, "$" * 500, "x" * 5_000, "$a" * 500))
                        + config[to:]
                    )
            case 5:
                part = config[index : index + random.choice((20, 100, 400))]
                config = config[:index] + part * random.choice((2, 3, 30)) + config[index:]
            case 6:
                depth = random.choice(DEPTHS)
                begin, close = random.choice(
                    (
                        ("<View>", "</View>"),
                        ('<Choice value="x">', "</Choice>"),
                        ('<Taxonomy name="t" toName="text">', "</Taxonomy>"),
                    )
                )
                config = (
                    config[:index] + begin * depth + close * random.choice((depth, depth, 0)) + config[index:]
                )
            case 7:
                config = config.replace(
                    *random.choice(
                        (
                            ("name", "Name"),
                            ("Choice", "choice"),
                            ("toName", "name"),
                            ('"', "'"),
                            ("<", "<a:"),
                            ("Choices", "Taxonomy"),
                        )
                    )
                )
            case _:
                config = (
                    random.choice(
                        (
                            '<?xml version="1.0"?>',
                            '<?xml version="1.0" encoding="utf-7"?>',
                            "\ufeff",
                            " ",
                            "<!-- -->",
                            *XML_PARTS,
                        )
                    )
                    + config
                )
    return config
