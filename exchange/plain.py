"""Pickles that hold nothing but dicts, lists, strings and numbers, read without running them.

A pickle is a program for a small machine with a stack. This is that machine without the
instructions that find or call something: whoever wrote the file, it can only make plain values.
"""

import pickletools
from typing import Any

VALUES = {  # instructions whose argument is pushed as it is
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
SILENT = {"PROTO", "FRAME"}


class Machine:
    """What the instructions work on: a stack, with marks in it, and a memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        """What was pushed since the last mark, taken off the stack."""
        start = self.marks.pop()
        items, self.stack[start:] = self.stack[start:], []
        return items

    def update(self, items: list[Any]) -> None:
        """Put keys and values, in turn, into the dict on top."""
        found = self.stack[-1]
        if not isinstance(found, dict):
            raise ValueError("there is no dict to put a value into")
        found.update(zip(items[::2], items[1::2], strict=True))

    def extend(self, items: list[Any]) -> None:
        """Put `items` into the list on top."""
        found = self.stack[-1]
        if not isinstance(found, list):
            raise ValueError("there is no list to put a value into")
        found.extend(items)

    def step(self, name: str, arg: Any) -> None:
        """Follow one instruction."""
        stack = self.stack
        if name in VALUES:
            stack.append(arg)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "DICT":
            items = self.since_mark()
            stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif name == "LIST":
            stack.append(self.since_mark())
        elif name == "SETITEMS":
            self.update(self.since_mark())
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self.update([key, value])
        elif name == "APPENDS":
            self.extend(self.since_mark())
        elif name == "APPEND":
            value = stack.pop()
            self.extend([value])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else arg] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[arg])
        elif name not in SILENT:
            raise ValueError(f"it asks for {name}")


def loads(raw: bytes) -> Any:
    """The value in the pickle `raw`. Raises whatever, if that is damaged or holds anything else."""
    machine = Machine()
    for opcode, arg, _ in pickletools.genops(raw):
        if opcode.name == "STOP":
            [value] = machine.stack
            return value
        machine.step(opcode.name, arg)
    raise ValueError("it has no end")
