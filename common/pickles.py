"""What a pickle of weights would rebuild, told without rebuilding it.

Its steps are followed with stand-ins in place of objects: nothing of the file runs, and no size that
it claims is allocated. What torch's own safe reader then does is bounded by what was counted here.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from .state_dict import CheckpointError

MAX_STEPS = 700_000
"""The most steps that a pickle may take. A published file of 2,000 tensors takes 190,000."""
CALL_STEPS = 10
TENSOR_STEPS = 40
"""What a call costs torch's reader, and what a tensor does beyond that, in steps."""
TEXT_PER_STEP = 64
"""Letters of an argument that cost as much as a step."""
MAX_DIMENSIONS = 64
LARGEST = 2**63
"""Sizes end below it."""
HASH_RANGE = 2**61 - 1
"""Whole numbers beyond it may share a hash, and a dictionary of many such never ends."""

REBUILD = re.compile(r"torch\._utils\._rebuild_tensor(_v2|_v3)?")
PARAMETER = re.compile(r"torch\._utils\._rebuild_parameter(_with_state)?")
WITH_STATE = "torch._tensor._rebuild_from_type_v2"
DTYPE = re.compile(r"torch\.((?:b?float|u?int|complex)\d\w*|bool)")
STORAGE = re.compile(r"torch\.(?:storage\.)?(\w+)Storage")
DICTIONARY, ENCODE = "collections.OrderedDict", "_codecs.encode"
PLAIN = re.compile(rf"{re.escape(DICTIONARY)}|torch\.(Size|device)|{re.escape(ENCODE)}")
TORCHS = re.compile(r"(torch|builtins|__builtin__|collections|_codecs)\..*")
"""Where everything lives that torch's safe reader calls by itself."""
ITEM_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "ComplexDouble": 16, "ComplexFloat": 8,
    "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1, "Untyped": 1,
}  # fmt: skip


SAFER = (
    "Look for a safetensors version at its authors. If you trust them, load it with "
    "torch.load(..., weights_only=False) on a machine without your data, save its state_dict with "
    "torch.save, and convert that."
)


class UnreadableError(ValueError):
    """A pickle that does not parse."""


@dataclass(frozen=True)
class Name:
    """`module.name` of something that a pickle asks for."""

    text: str


@dataclass(frozen=True)
class Storage:
    """A persistent id: numbers that lie elsewhere in the file."""

    key: str
    size: int
    item: int


class Rebuilt:
    """A tensor."""


class Thing:
    """Any other object, and what was put into it."""

    __slots__ = ("items",)  # there may be a million

    def __init__(self) -> None:
        self.items: list[Any] | None = None


@dataclass
class Claims:
    """What one or several pickles would rebuild."""

    storages: dict[str, int] = field(default_factory=dict)
    """Bytes of each storage."""
    rebuilt: int = 0
    """Bytes of all tensors."""
    names: list[str] = field(default_factory=list)
    """Everything asked for, in order."""
    steps: int = 0
    protocol: int = 0

    @property
    def wish(self) -> str:
        """The first thing asked for beyond what torch.save itself needs for tensors; may be empty."""
        return next((name for name in self.names if not _is_own(name)), "")


def _is_own(name: str) -> bool:
    patterns = (REBUILD, PARAMETER, STORAGE, DTYPE, PLAIN)
    return name == WITH_STATE or any(each.fullmatch(name) for each in patterns)


def read_claims(stream: IO[bytes], file: str, claims: Claims) -> object:
    """Follows one pickle from a stream's position to its end, adding to `claims`; the stand-in of
    what it makes. file: its name, for errors.

    Raises UnreadableError, and CheckpointError for one that asks for more than weights need.
    """
    machine = _Machine(file, claims)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            claims.steps += 1
            machine.step(opcode, argument)
            if claims.steps > MAX_STEPS:
                raise CheckpointError(
                    f"{file} takes more than {MAX_STEPS:,} steps to rebuild what is in it, as no "
                    "weights do: look for a safetensors version at its authors."
                )
        return machine.stack.pop()
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise UnreadableError(str(error)) from error


class _Machine:
    """The stack machine of a pickle, over stand-ins."""

    def __init__(self, file: str, claims: Claims) -> None:
        self.file = file
        self.claims = claims
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        """Stacks below the marks."""
        self.memo: dict[int, Any] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        name = opcode.name
        if (special := STEPS.get(name)) is not None:
            special(self, argument)
            return
        # Of the others only the stack matters. torch's reader knows few of them; they are followed
        # to tell what else a pickle asks for.
        marked, takes, leaves = STACK[name]
        if marked:
            self._marked()
        if takes > len(self.stack):
            raise UnreadableError(f"nothing for {name} to take")
        if takes:
            del self.stack[-takes:]
        for _ in range(leaves):
            self.stack.append(Thing() if argument is None else argument)

    def _get(self, argument: Any) -> None:
        self.stack.append(self.memo[int(argument)])

    def _put(self, argument: Any) -> None:
        self.memo[int(argument)] = self.stack[-1]

    def _proto(self, argument: Any) -> None:
        self.claims.protocol = argument

    def _mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def _marked(self) -> list[Any]:
        marked, self.stack = self.stack, self.outer.pop()
        return marked

    def _tuple(self, _: Any) -> None:
        marked = self._marked()  # which puts the stack below the mark in place
        self.stack.append(tuple(marked))

    def _last(self, count: int) -> None:
        if len(self.stack) < count:
            raise UnreadableError("nothing to make a tuple of")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _fill(self, items: Sequence[Any]) -> None:
        if isinstance(target := self.stack[-1], Thing):
            target.items = target.items or []
            target.items += items

    def _entries(self, items: Sequence[Any]) -> None:
        for key in items[::2]:
            number = isinstance(key, int) and abs(key) < HASH_RANGE
            if not number and not isinstance(key, str | bytes | float | Thing | Name):
                raise CheckpointError(
                    f"{self.file} has a dictionary with other keys than names and numbers, as no "
                    "weights do: look for a safetensors version at its authors."
                )
        self._fill(items)

    def _append(self, _: Any) -> None:
        self._fill([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._fill(self._marked())

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._entries([key, value])

    def _set_items(self, _: Any) -> None:
        self._entries(self._marked())

    def _global(self, argument: Any) -> None:
        text = str(argument).replace(" ", ".")
        self.claims.names.append(text)
        self.stack.append(Name(text))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise UnreadableError("no name")
        self._global(f"{module}.{name}")

    def _reduce(self, _: Any) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._called(self.stack[-1], arguments)

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Rebuilt):  # old pickles gave a tensor its numbers so
            raise self._more("a tensor's state")
        self._charge((state,))

    def _persistent(self, _: Any) -> None:
        match self.stack.pop():
            case ("storage" | b"storage", Name(text=kind), str() as key, _, int() as count, *_):
                match = STORAGE.fullmatch(kind)
                if not match or match[1] not in ITEM_BYTES:
                    raise self._more(kind)
                if not 0 <= count < LARGEST:
                    raise UnreadableError("no storage")
                item = ITEM_BYTES[match[1]]
            case (_, Name(text=kind), *_):  # torch once saved the source of a module like that
                raise self._more(kind)
            case _:
                raise UnreadableError("no storage")
        size = max(count * item, self.claims.storages.get(key, 0))
        self.claims.storages[key] = size
        self.stack.append(Storage(key, size, item))

    def _charge(self, arguments: Sequence[Any]) -> None:
        """A call may copy what it is given, and a pickle may name one thing many times."""
        for each in arguments:
            if isinstance(each, str | bytes | bytearray):
                self.claims.steps += len(each) // TEXT_PER_STEP
            elif isinstance(each, tuple):
                self.claims.steps += len(each)
            elif isinstance(each, Thing):
                self.claims.steps += len(_items(each))

    def _called(self, function: Any, arguments: Any) -> Any:
        self.claims.steps += CALL_STEPS
        self._charge(arguments if isinstance(arguments, tuple) else (arguments,))
        if not isinstance(function, Name):
            return Thing()
        name = function.text
        if match := REBUILD.fullmatch(name):
            return self._tensor(arguments[:4], arguments[6] if match[1] == "_v3" else None)
        if PARAMETER.fullmatch(name):
            return arguments[0] if isinstance(arguments[0], Rebuilt) else Thing()
        if name == WITH_STATE and isinstance(arguments[0], Name):
            inner = arguments[0].text
            if REBUILD.fullmatch(inner) or PARAMETER.fullmatch(inner):
                return self._called(arguments[0], arguments[2])
        if TORCHS.fullmatch(name) and not PLAIN.fullmatch(name):
            raise self._more(name)
        if name == DICTIONARY:  # of Python 2: with its pairs as argument
            pairs = [pair for each in arguments for pair in _items(each)]
            self._entries([part for pair in pairs for part in _items(pair)])
        if name == ENCODE and arguments[1:] not in ((), ("latin1",), ("latin-1",)):
            raise self._more(name)  # some codecs take forever
        return Thing()

    def _tensor(self, view: Sequence[Any], dtype: Any) -> Rebuilt:
        """A view of a storage must lie within it."""
        self.claims.steps += TENSOR_STEPS
        storage, offset, shape, strides = view
        numbers = (offset, *shape, *strides)
        if (
            not isinstance(storage, Storage)
            or len(shape) != len(strides)
            or len(shape) > MAX_DIMENSIONS
            or not all(isinstance(each, int) and 0 <= each < LARGEST for each in numbers)
        ):
            raise UnreadableError("no tensor")
        item, count = storage.item if dtype is None else _item_bytes(dtype), 1
        for each in shape:
            count *= each
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if count and (last + 1) * item > storage.size:
            raise CheckpointError(
                f"{self.file} claims a tensor of {(last + 1) * item:,} bytes where it lists "
                f"{storage.size:,}, so it is damaged or made to mislead: download it again."
            )
        if count >= LARGEST:
            raise UnreadableError("no tensor")
        self.claims.rebuilt += count * item
        return Rebuilt()

    def _more(self, what: str) -> CheckpointError:
        return more_than_tensors(self.file, what)


def _items(thing: Any) -> Sequence[Any]:
    if isinstance(thing, Thing):
        return thing.items or ()
    return thing if isinstance(thing, tuple) else ()


def _item_bytes(dtype: Any) -> int:
    """Bytes of a number in newer pickles, which name its type apart from its storage's."""
    import torch

    match = DTYPE.fullmatch(dtype.text) if isinstance(dtype, Name) else None
    if not match or not isinstance(found := getattr(torch, match[1], None), torch.dtype):
        raise UnreadableError("no type of numbers")
    return found.itemsize


STEPS: Mapping[str, Any] = {
    "MARK": _Machine._mark,
    "TUPLE": _Machine._tuple,
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE1": lambda machine, _: machine._last(1),
    "TUPLE2": lambda machine, _: machine._last(2),
    "TUPLE3": lambda machine, _: machine._last(3),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine._put),
    "MEMOIZE": _Machine._memoize,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "GLOBAL": _Machine._global,
    "INST": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._persistent,
    "PROTO": _Machine._proto,
    "STOP": lambda machine, _: None,
}
"""What opcodes do that matter here."""


def _stack_effect(opcode: pickletools.OpcodeInfo) -> tuple[bool, int, int]:
    """(whether it takes all down to the mark, how many it takes then, how many it leaves)."""
    before = list(opcode.stack_before)
    marked = pickletools.markobject in before
    takes = before.index(pickletools.markobject) if marked else len(before)
    return marked, takes, len(opcode.stack_after)


STACK = {opcode.name: _stack_effect(opcode) for opcode in pickletools.opcodes}


def more_than_tensors(file: str, wish: str) -> CheckpointError:
    """The refusal of a pickle that asks for something that no weights need."""
    return CheckpointError(
        f"{file} needs more than tensors: it asks for {wish}. Loading it would let the file run "
        f"code, so it is refused. {SAFER}"
    )


def newer_protocol(file: str) -> CheckpointError:
    """The refusal of a pickle in which only the protocol is in the way."""
    return CheckpointError(
        f"{file} is written with a pickle protocol that torch's safe reader does not take: "
        f"expected protocol 2, torch.save's own. {SAFER}"
    )
