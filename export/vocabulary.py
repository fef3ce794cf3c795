"""Vocabularies: a text file with one token a line, or torchtext's pickled `vocab_obj.pt`, read as data.

`torch.save` of a `torchtext.vocab.Vocab` is a zip with one pickle. Unpickling would import and call whatever
the file names, so its opcodes (Python's `pickletools` documents each) are read by a small machine that builds
lists, tuples and dicts, and stands a `Symbol` in for every class. Nothing is imported, nothing is called, and
any name that a Vocab does not need is refused.
"""

import pickletools
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.bundle import read_vocabulary
from server.errors import BadBundle, BadInput

UNKNOWN, PAD = "<unk>", "<pad>"

MAX_PICKLE = 64 * 2**20
"""Bytes of a pickled vocabulary."""

MAX_STEPS = 4_000_000
"""Opcodes of a pickled vocabulary: each token takes two or three, and each may make an object."""

VOCAB, NATIVE_VOCAB = "torchtext.vocab.vocab Vocab", "torchtext._torchtext Vocab"
CONTAINERS = frozenset({"collections OrderedDict", "__builtin__ set", "builtins set"})
"""What a torch module's own bookkeeping is made of; its content is of no interest."""


@dataclass(frozen=True)
class Vocabulary:
    """`tokens` in order of their ids."""

    tokens: tuple[str, ...]
    unknown_id: int
    pad_id: int


@dataclass(eq=False)
class Symbol:
    """Stands for a class or an instance of it; `state` is what BUILD gave it."""

    name: str
    state: Any = None


def read_vocab(path: Path) -> Vocabulary:
    """Raises BadInput."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None
    if start.startswith((b"PK", b"\x80")):
        tokens, unknown = _from_pickle(path, _pickle_of(path))
    elif start.lstrip().startswith(b"<!") or start.lstrip().lower().startswith(b"<html"):
        raise BadInput(f"{path}: expected a vocabulary, found an HTML page (a failed download?).")
    else:
        try:
            tokens, unknown = read_vocabulary(path), None
        except BadBundle as error:
            raise BadInput(str(error)) from None
    ids = {token: i for i, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        raise BadInput(f"{path}: expected every token once, found {len(tokens) - len(ids)} repeated.")
    if any(not token or "\n" in token for token in tokens):
        raise BadInput(f"{path}: expected tokens of at least one character without a line end.")
    unknown = ids.get(UNKNOWN) if unknown is None else unknown
    if unknown is None or PAD not in ids or not 0 <= unknown < len(tokens):
        raise BadInput(
            f"{path}: expected the tokens {UNKNOWN} and {PAD}, found neither or one of them among "
            f"{len(tokens)} tokens."
        )
    return Vocabulary(tuple(tokens), unknown, ids[PAD])


def _pickle_of(path: Path) -> bytes:
    """The one pickle inside torch's zip format, or the file itself in its older, bare form."""
    try:
        if not zipfile.is_zipfile(path):
            _check_size(path, path.stat().st_size)
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise BadInput(
                    f"{path}: expected a torch archive with one data.pkl, found a zip with {len(pickles)}."
                )
            _check_size(path, pickles[0].file_size)
            return archive.read(pickles[0])
    except BadInput:
        raise
    except Exception as error:  # zipfile raises a dozen unrelated types for archives that are damaged
        raise BadInput(
            f"{path}: expected a torch archive, found a damaged zip ({type(error).__name__}: {error})."
        ) from None


def _check_size(path: Path, size: int) -> None:
    if size > MAX_PICKLE:
        raise BadInput(
            f"{path}: expected a vocabulary of at most {MAX_PICKLE // 2**20} MB, found {size} bytes of one."
        )


def _from_pickle(path: Path, data: bytes) -> tuple[list[str], int | None]:
    """(tokens, default index) of a torchtext Vocab: its state is (version, [default index], [tokens], [])."""
    expected = f"{path}: expected a torchtext Vocab"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools warns of what it finds strange
            native = [
                symbol
                for symbol in _Machine().run(data)
                if symbol.name == NATIVE_VOCAB and symbol.state is not None
            ]
    except BadInput as error:
        raise BadInput(f"{expected}, found a pickle with {error}; it is not opened.") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{expected}, found a damaged pickle ({type(error).__name__}).") from None
    state = native[0].state if len(native) == 1 else None
    if not (
        isinstance(state, tuple)
        and len(state) == 4
        and isinstance(state[1], list)
        and isinstance(state[2], list)
    ):
        raise BadInput(f"{expected}, found a pickle of something else.")
    _, indices, tokens, _ = state
    if not all(isinstance(token, str) for token in tokens) or not all(
        type(index) is int for index in indices
    ):
        raise BadInput(f"{expected} of text tokens, found tokens of other types.")
    return tokens, indices[0] if indices else None


class _Machine:
    """Reads pickle opcodes as data. Raises BadInput for an opcode or a name that a Vocab does not need."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        """What was on the stack before each mark."""
        self.memo: dict[int, Any] = {}
        self.symbols: list[Symbol] = []

    def run(self, data: bytes) -> list[Symbol]:
        """Every instance that the pickle would have made."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number == MAX_STEPS:
                raise BadInput(f"more than {MAX_STEPS} opcodes")
            self.step(opcode.name, argument)
        return self.symbols

    def step(self, name: str, argument: Any) -> None:  # noqa: C901  one case an opcode
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "GLOBAL":
                stack.append(self.known(argument))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                # only text has a form that cannot be endless
                stack.append(
                    self.known(
                        f"{module} {attribute}"
                        if isinstance(attribute, str) and isinstance(module, str)
                        else "? ?"
                    )
                )
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case (
                "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "BININT" | "BININT1" | "BININT2" | "LONG1"
            ):
                stack.append(argument)
            case "MARK":
                self.marked.append(stack)
                self.stack = []
            case "TUPLE":
                items = self.since_mark()
                self.stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items = self.since_mark()
                self.stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                if name == "SETITEMS":
                    self.since_mark()  # a module's bookkeeping: its instances are kept in `symbols` anyway
                else:
                    del stack[-2:]
            case "NEWOBJ" | "REDUCE":
                stack.pop()
                stack[-1] = Symbol(stack[-1].name)
                self.symbols.append(stack[-1])
            case "BUILD":
                state = stack.pop()
                stack[-1].state = state
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case _:
                raise BadInput(f"the opcode {name}")

    def known(self, name: str) -> Symbol:
        if name not in CONTAINERS and name not in (VOCAB, NATIVE_VOCAB):
            raise BadInput(f'the name "{name.replace(" ", ".")}"')
        return Symbol(name)

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items
