"""Reads a pickled torchtext Vocab without executing it.

Unpickling imports and calls whatever the file names. This reader interprets the opcodes (documented in
Python's `pickletools`) itself: it builds lists, tuples and dicts, and a `Symbol` instead of every class. It
imports nothing, calls nothing, and rejects every name that a Vocab does not need.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

from server.errors import BadInput

MAX_STEPS = 4_000_000
"""Maximum opcodes of a pickled vocabulary; a token takes two or three, and each may create an object."""

VOCAB, NATIVE_VOCAB = "torchtext.vocab.vocab Vocab", "torchtext._torchtext Vocab"
CONTAINERS = frozenset({"collections OrderedDict", "__builtin__ set", "builtins set"})
"""Containers of a torch module's internal state, whose content is ignored."""


@dataclass(eq=False)
class Symbol:
    """A class or an instance of it; `state` is the argument of BUILD."""

    name: str
    state: Any = None


class PickleReader:
    """A pickle machine without calls. `run` raises BadInput for an opcode or a name that a Vocab does not
    need.
    """

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        """The stack before each mark."""
        self.memo: dict[int, Any] = {}
        self.symbols: list[Symbol] = []

    def run(self, data: bytes) -> list[Symbol]:
        """Every instance that unpickling would create."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number == MAX_STEPS:
                raise BadInput(f"more than {MAX_STEPS} opcodes")
            self.step(opcode.name, argument)
        return self.symbols

    def step(self, name: str, argument: Any) -> None:  # noqa: C901 - one case for each opcode
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "GLOBAL":
                stack.append(self.symbol(argument))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                # formatting anything but text may never end
                stack.append(
                    self.symbol(
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
                    self.since_mark()  # internal state of a module; `symbols` has its instances
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

    def symbol(self, name: str) -> Symbol:
        if name not in CONTAINERS and name not in (VOCAB, NATIVE_VOCAB):
            raise BadInput(f'the name "{name.replace(" ", ".")}"')
        return Symbol(name)

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items
