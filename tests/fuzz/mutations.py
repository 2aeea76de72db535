"""Ways to damage bytes and JSON."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

HOSTILE_TEXTS = (
    "",
    " ",
    "\x00",
    "\x1b[2J\x1b]0;owned\x07",
    "../" * 12 + "etc/passwd",
    "<img src=x onerror=alert(1)>",
    "name\nwith a line",
    "\u202egnp.exe",
    "\ud800",
    "%s%n{0}{}",
    "a" * 300,
    "grün 写真 📷",
)
HOSTILE_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    "x",
    *HOSTILE_TEXTS,
)


def mutated(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """One to three of: cut, flip, overwrite, repeat, remove, splice with `other`."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if not out:
            break
        at, length = rng.randrange(len(out)), rng.choice((1, 4, 32, 512))
        # Headers lie at the front, and most of a file is pixels or weights.
        at = at if rng.random() < 0.4 else at % min(len(out), 256)
        match rng.randrange(7):
            case 0:
                del out[at:]
            case 1:
                for each in range(at, min(len(out), at + length)):
                    out[each] ^= 1 << rng.randrange(8)
            case 2:
                out[at : at + length] = rng.randbytes(length)
            case 3:
                out[at:at] = out[at : at + length] * rng.choice((1, 50))
            case 4:
                del out[at : at + length]
            case 5:
                out[at:] = other[rng.randrange(max(1, len(other))) :]
            case _:
                out[at : at + 4] = rng.choice((b"\xff" * 4, b"\x00" * 4, b"\x7f\xff\xff\xff"))
    return bytes(out)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything in a JSON value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(entries):
        yield value, key
        if isinstance(each, dict | list):
            yield from _places(each)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def mutated_json(rng: random.Random, data: Any) -> bytes:
    """The data with one to three values replaced, removed, renamed or moved; now and then text that
    is no JSON at all."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(data)) if isinstance(data, dict | list) else []
        if not places:
            break
        container, key = rng.choice(places)
        match rng.randrange(6):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[rng.choice(HOSTILE_TEXTS)] = container.pop(key)
            case 2:
                source, name = rng.choice(places)
                if isinstance(source, dict | list) and (
                    name in source if isinstance(source, dict) else name < len(source)
                ):
                    container[key] = copy.deepcopy(source[name])
            case 3:
                container[key] = nested(rng.choice((3, 40)))
            case _:
                container[key] = rng.choice(HOSTILE_VALUES)
    try:
        text = json.dumps(data, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except RecursionError:  # moved into itself
        text = b"[" * 100000
    match rng.randrange(12):
        case 0:
            return mutated(rng, text)
        case 1:
            return b"[" * 100000
        case 2:
            return text.decode("utf-8", "replace").encode("utf-16")
        case 3:
            return b"\xef\xbb\xbf" + text
    return text
