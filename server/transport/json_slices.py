"""Cuts a long list out of a large JSON body, so that it can be decoded in slices.

A decoder keeps the interpreter's lock until it is done, and meanwhile the event loop stands still: for 30 MB
of tasks 50 ms. Here a compiled pass, which releases the lock, finds where the list and its elements begin and
end. Each slice then takes a moment to decode, and so does the rest of the body.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from server.errors import BadRequest, RequestTooLarge
from server.jit import compiled

MAX_PARTS, MAX_VALUES = 50_000, 100_000
"""Parts (lists, objects, and fields of objects), and values of any kind, that are decoded in one call: about
10 ms. An empty list takes three bytes of a body and seventy of memory; a name that is new, four times as long
as a value. A task of Label Studio's has about fifty of each.
"""

MAX_REST = 2 * 2**20
"""Bytes of a body without the list that is cut out."""

MAX_CHARACTER, MAX_UNREAD = 6, 2**20
"""Bytes of an element for each character that a text may have (`\\u00e9`), and for all else in it. A longer
element is not decoded: escapes take 2.5 ms per megabyte.
"""

MAX_FIELDS_SEARCHED = 1_000
"""Fields of an object among which a field of the path is looked for."""

SLICE = 65_536
"""Bytes of a slice, unless a single element has more."""

_QUOTE, _BACKSLASH = b'"\\'
_OTHER, _SPACE, _TEXT, _BEGIN, _END, _COMMA, _COLON = range(7)
_KINDS = np.full(256, _OTHER, dtype=np.uint8)
_KINDS[[*b" \t\n\r"]] = _SPACE
_KINDS[[*b'"']] = _TEXT
_KINDS[[*b"[{"]] = _BEGIN
_KINDS[[*b"]}"]] = _END
_KINDS[[*b","]] = _COMMA
_KINDS[[*b":"]] = _COLON


@dataclass(frozen=True)
class SlicedList:
    """A list of `length` elements in `body`.

    `edges` are indices of its brackets and of the commas between its slices; `counts` int64[slices, 2] the
    parts and the commas in each slice.
    """

    body: bytearray | memoryview
    length: int
    edges: Sequence[int]
    counts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return self.length

    @property
    def parts(self) -> int:
        """Lists, objects and fields in it, and it itself."""
        return int(self.counts[:, 0].sum())

    @property
    def values(self) -> int:
        """Numbers or texts in it, if it holds these or lists of these, none of which is empty."""
        return int(self.counts[:, 1].sum()) + 1 if self.length else 0

    def slices(self) -> Iterator[bytes]:
        """JSON lists of consecutive elements, none of them empty. Raises BadRequest for an element that is
        missing, RequestTooLarge for one with too many values.
        """
        begin, data = self.edges[0], np.frombuffer(self.body, np.uint8)
        with memoryview(self.body) as view:
            for end, (parts, commas) in zip(self.edges[1:], self.counts.tolist(), strict=True):
                _check_counts(parts, commas)
                if self.length and _skip_spaces(data, begin + 1) == end:
                    raise BadRequest("The body is not JSON: an element of a list is missing.")
                yield b"".join((b"[", view[begin + 1 : end], b"]"))
                begin = end


def cut_list(
    body: bytearray | memoryview, path: Sequence[str], *, stand_in: bytes, max_text: int, least: int = SLICE
) -> tuple[bytearray, SlicedList | None]:
    """As `cut_lists`, for one list."""
    rest, (found,) = cut_lists(body, [path], stand_in=stand_in, max_text=max_text, least=least)
    return rest, found


def cut_lists(
    body: bytearray | memoryview,
    paths: Sequence[Sequence[str | int]],
    *,
    stand_in: bytes,
    max_text: int,
    least: int = SLICE,
) -> tuple[bytearray, list[SlicedList | None]]:
    """The body with `stand_in` instead of the list under each of `paths`, and these lists; None for a path
    that does not lead to a list. A step of a path is the number of an element of a list, or a field of an
    object or of the first object in a list; it leads to the first of several fields with that name, and the
    last of them has the value. So a caller looks for `stand_in`, which no client knows, in the decoded body;
    the lists must be JSON anyway. No list lies in another.

    `max_text` is the maximum of characters in a text. A slice has at least `least` bytes.

    Raises BadRequest if brackets or quotes do not match, RequestTooLarge if an element or the rest of the
    body is too large.
    """
    longest = MAX_CHARACTER * max_text + MAX_UNREAD
    found: list[SlicedList | None] = [None] * len(paths)
    kept, at = list[memoryview | bytes](), 0
    view = memoryview(body)
    begins = [(begin, index) for index, path in enumerate(paths) if (begin := _find(body, path)) is not None]
    for begin, index in sorted(begins):
        if _byte(body, begin) != b"[":
            continue
        edges, counts, length = _cut(body, begin, least)
        if np.diff(edges).max() > longest + least:
            raise RequestTooLarge(
                f"A task, or a text, has more than {longest:,} bytes: {MAX_CHARACTER} for each character "
                f"that PRELABEL_MAX_TEXT allows, and {MAX_UNREAD:,}. Send shorter texts, and leave out "
                "columns that hold files."
            )
        found[index] = SlicedList(body, length, edges, counts)
        kept += view[at:begin], stand_in
        at = edges[-1] + 1
    kept.append(view[at:])
    _check_size(sum(map(len, kept)))
    rest = bytearray().join(kept)
    check_body(rest)
    return rest, found


def warm_up() -> None:
    """Compiles the passes, or loads their machine code, which takes a second or a tenth of one."""
    cut_list(bytearray(b'{"a":[]}'), ("a",), stand_in=b"[]", max_text=1)


def check_body(body: bytearray | memoryview) -> None:
    """Raises RequestTooLarge for more than one call should decode, BadRequest if brackets or quotes do not
    match.
    """
    _check_size(len(body))
    begin = _skip_spaces(np.frombuffer(body, np.uint8), 0)
    if _byte(body, begin) in (b"[", b"{"):
        _, counts, _ = _cut(body, begin, len(body))
        _check_counts(*counts.sum(axis=0).tolist())


def _check_size(rest: int) -> None:
    if rest > MAX_REST:
        raise RequestTooLarge(
            f"The body has {rest:,} bytes besides its texts; the maximum is {MAX_REST:,}. Send fewer fields."
        )


def _check_counts(parts: int, commas: int) -> None:
    if parts > MAX_PARTS or commas > MAX_VALUES:
        raise RequestTooLarge(
            f"A task, or the body without its tasks, holds {parts:,} lists, objects and fields, and "
            f"{commas:,} values; the maximum is {MAX_PARTS:,} and {MAX_VALUES:,}. Send smaller tasks."
        )


def _find(body: bytearray | memoryview, path: Sequence[str | int]) -> int | None:
    """The index where the value under `path` begins; None where there is none."""
    data = np.frombuffer(body, np.uint8)
    at: int | None = _skip_spaces(data, 0)
    for step in path:
        if at is None:
            return None
        if isinstance(step, int):
            at = _find_element(body, data, at, step)
            continue
        if _byte(body, at) == b"[":
            at = _skip_spaces(data, at + 1)
        if _byte(body, at) != b"{":
            return None
        at = _find_field(body, data, at, step)
    return at


def _find_element(
    body: bytearray | memoryview, data: npt.NDArray[np.uint8], begin: int, number: int
) -> int | None:
    """The index where the element `number` begins, in the list at `begin`."""
    if _byte(body, begin) != b"[":
        return None
    at = _skip_spaces(data, begin + 1)
    for _ in range(number):
        comma = _skip_spaces(data, _value_end(data, at))
        if _byte(body, comma) != b",":
            return None
        at = _skip_spaces(data, comma + 1)
    return int(at)


def _byte(body: bytearray | memoryview, at: int) -> bytes:
    return bytes(body[at : at + 1])


def _find_field(
    body: bytearray | memoryview, data: npt.NDArray[np.uint8], begin: int, name: str
) -> int | None:
    """The index where the value of the field `name` begins, in the object at `begin`."""
    end = begin
    for _ in range(MAX_FIELDS_SEARCHED):
        if end != begin and _byte(body, end) != b",":
            break
        key = _skip_spaces(data, end + 1)
        key_end = _value_end(data, key)
        colon = _skip_spaces(data, key_end)
        if _byte(body, colon) != b":":
            return None
        value = _skip_spaces(data, colon + 1)
        if key_end - key <= MAX_CHARACTER * len(name) + 2 and _is_name(body[key:key_end], name):
            return int(value)
        end = _skip_spaces(data, _value_end(data, value))
    return None


def _is_name(key: bytearray | memoryview, name: str) -> bool:
    try:
        return bool(msgspec.json.decode(key) == name)
    except ValueError:
        return False  # whatever decodes the rest says what is wrong


def _cut(
    body: bytearray | memoryview, begin: int, least: int
) -> tuple[list[int], npt.NDArray[np.int64], int]:
    """The edges, the counts and the length of the list or object at `begin`. Raises BadRequest."""
    data, most = np.frombuffer(body, np.uint8), len(body) // least + 1
    commas, counts = np.zeros(most, np.int64), np.zeros((most + 1, 2), np.int64)
    found, end, length = _outline(data, begin, least, commas, counts)
    if end < 0 or bytes((data[begin], data[end])) not in (b"[]", b"{}"):
        raise BadRequest("The body is not JSON: its brackets or quotes do not match.")
    if _skip_spaces(data, begin + 1) == end:
        length = 0
    return [begin, *commas[:found].tolist(), end], counts[: found + 1], length


@compiled
def _skip_spaces(data, at):  # type: ignore[no-untyped-def]  # numba infers the types
    """The index of the first byte from data[at] on that is no white space, data uint8[bytes]."""
    while at < len(data) and _KINDS[data[at]] == _SPACE:
        at += 1
    return at


@compiled
def _text_end(data, at):  # type: ignore[no-untyped-def]  # numba infers the types
    """The index of the quote that ends the text which begins at data[at], data uint8[bytes]."""
    at += 1
    while at < len(data):
        byte = data[at]
        if byte == _QUOTE:
            break
        at += 2 if byte == _BACKSLASH else 1
    return at


@compiled
def _value_end(data, at):  # type: ignore[no-untyped-def]  # numba infers the types
    """The index behind the value that begins at data[at], data uint8[bytes]."""
    depth = 0
    while at < len(data):
        kind = _KINDS[data[at]]
        if kind == _TEXT:
            at = _text_end(data, at)
            if depth == 0:
                return at + 1
        elif kind == _BEGIN:
            depth += 1
        elif kind == _END:
            depth -= 1
            if depth == 0:
                return at + 1
        if depth <= 0 and kind in (_COMMA, _END):
            return at
        at += 1
    return at


@compiled
def _outline(data, begin, least, commas, counts):  # type: ignore[no-untyped-def]  # numba infers the types
    """The list or object that begins at data[begin], data uint8[bytes] → (commas found, index of its last
    bracket or -1, number of elements).

    Fills commas int64[most] with indices of commas between its elements, at least `least` bytes apart, and
    counts int64[most + 1, 2] with the parts and the commas before the first, between the others, …
    """
    depth = found = parts = separators = 0
    length = 1
    last = at = begin
    while at < len(data):
        kind = _KINDS[data[at]]
        if kind == _TEXT:
            at = _text_end(data, at)
        elif kind == _BEGIN:
            depth += 1
            parts += 1
        elif kind == _COLON:
            parts += 1
        elif kind == _COMMA:
            separators += 1
            if depth == 1:
                length += 1
                if at - last >= least:
                    counts[found, 0], counts[found, 1] = parts, separators
                    commas[found] = last = at
                    found += 1
                    parts = separators = 0
        elif kind == _END:
            depth -= 1
            if depth == 0:
                counts[found, 0], counts[found, 1] = parts, separators
                return found, at, length
        at += 1
    return found, -1, length
