"""Files made to mislead, stall or fill the memory of whoever reads them: small, and by name."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save

LEGACY = b"".join(
    pickle.dumps(part, 2)
    for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
)
"""Begins a file in the older of torch's formats."""


def safetensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def archive(
    data: bytes, storages: dict[str, bytes] | None = None, packed: int = zipfile.ZIP_STORED
) -> bytes:
    """As torch.save makes one around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as zipped:
        zipped.writestr("a/data.pkl", data)
        zipped.writestr("a/byteorder", "little")
        for key, numbers in (storages or {}).items():
            zipped.writestr(f"a/data/{key}", numbers)
        zipped.writestr("a/version", "3\n")
    return file.getvalue()


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def number(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(count: int, key: str = "0", kind: str = "FloatStorage") -> bytes:
    name = f"ctorch\n{kind}\n".encode()
    return b"(" + text("storage") + name + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(
    stored: bytes, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
) -> bytes:
    empty = b"ccollections\nOrderedDict\n)R"
    view = stored + number(offset) + numbers(*shape) + numbers(*strides) + b"\x89" + empty
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"tR"


def saved(*values: bytes) -> bytes:
    """A pickle of a dictionary with these values."""
    pairs = b"".join(text(f"w{i}") + value for i, value in enumerate(values))
    return b"\x80\x02}(" + pairs + b"u."


def called(name: str, *arguments: bytes) -> bytes:
    return f"c{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


HUGE = 1 << 45
LONG = ("many steps", "one tensor rebuilt over and over", "a long list copied over and over")
"""They take a second, in one form as in another."""
LAUGHS = b")" + b"2\x86" * 60
"""A tuple of two of itself, sixty times over."""
SMALL = archive(saved(tensor(storage(4), (2, 2), (2, 1))), {"0": bytes(16)})


def _pickles() -> Iterator[tuple[str, bytes]]:
    """Pickles, and the numbers beside them; each comes in both forms."""
    four = storage(4)
    yield "a storage of 2^45 numbers", saved(tensor(storage(HUGE), (2,), (1,)))
    yield (
        "many storages that each fit",
        saved(*(tensor(storage(4, str(i)), (4,), (1,)) for i in range(9))),
    )
    yield "a view beyond its storage", saved(tensor(four, (HUGE,), (1,)))
    yield "a view that begins beyond it", saved(tensor(four, (1,), (1,), HUGE))
    yield "huge strides", saved(tensor(four, (2, 2), (HUGE, HUGE)))
    yield "one number repeated 2^45 times", saved(tensor(four, (HUGE,), (0,)))
    yield "sizes whose product overflows", saved(tensor(four, (1 << 62, 1 << 62), (0, 0)))
    yield "sizes of 2000 bits", saved(tensor(four, (1 << 2000,), (0,)))
    yield "a negative size", saved(tensor(four, (-4,), (1,)))
    yield "a negative stride", saved(tensor(four, (2,), (-1,)))
    yield "a negative offset", saved(tensor(four, (2,), (1,), -1))
    yield "a negative storage", saved(tensor(storage(-4), (2,), (1,)))
    yield "a storage of an unknown kind", saved(tensor(storage(4, kind="EvilStorage"), (2,), (1,)))
    yield "a view of no storage", saved(tensor(b"}", (2,), (1,)))
    yield "more sizes than strides", saved(tensor(four, (2, 2), (1,)))
    yield "an array of 2^45 bytes", saved(called("__builtin__\nbytearray", number(HUGE)))
    yield "a tensor of 2^45 numbers", saved(called("torch\nTensor", number(HUGE)))
    yield "a storage called for", saved(called("torch\nFloatStorage", number(HUGE)))
    yield "a sparse tensor", saved(called("torch._utils\n_rebuild_sparse_tensor", LAUGHS, LAUGHS))
    yield (
        "a tensor with a state",
        saved(
            tensor(four, (2,), (1,)) + b"(" + four + number(0) + numbers(HUGE) + numbers(1) + b"tb"
        ),
    )
    yield "a billion laughs as a key", b"\x80\x02}" + LAUGHS + b"K\x01s."
    yield "a billion laughs in a set", saved(called("__builtin__\nset", b"](" + LAUGHS + b"e"))
    yield (
        "a billion laughs in an old dictionary",
        saved(called("collections\nOrderedDict", b"](](" + LAUGHS + b"K\x01ee")),
    )
    yield "a billion laughs as a storage", b"\x80\x02(" + LAUGHS + b"K\x01tQ."
    yield (
        "keys of equal hashes",
        (b"\x80\x02}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(20000)) + b"u."),
    )
    yield "a long text encoded over and over", (
        b"\x80\x02(c_codecs\nencode\nq\x00(" + text("x" * 100_000) + text("latin1") + b"tq\x01"
        + b"h\x00h\x01R" * 40_000 + b"l."
    )  # fmt: skip
    yield (
        "a slow codec",
        saved(called("_codecs\nencode", text("\u00e4" * 50_000), text("punycode"))),
    )
    yield "a long list copied over and over", (
        b"\x80\x02(ccollections\nOrderedDict\nq\x00(](" + b"N" * 50_000 + b"etq\x01"
        + b"h\x00h\x01R" * 40_000 + b"l."
    )  # fmt: skip
    yield "one tensor rebuilt over and over", (
        b"\x80\x02(ctorch._utils\n_rebuild_tensor_v2\nq\x00(" + four + number(0) + numbers(2)
        + numbers(1) + b"\x89}tq\x01" + b"h\x00h\x01R" * 60_000 + b"l."
    )  # fmt: skip
    yield "many steps", b"\x80\x02(" + b"]" * 1_100_000 + b"l."
    yield (
        "nested rebuilding",
        b"\x80\x02" + (b"ctorch._tensor\n_rebuild_from_type_v2\nq\x00" + b"(h\x00NNNt" * 3 + b"R."),
    )
    yield "a text beyond the end", b"\x80\x02X\xf0\xff\xff\xff" + b"x" * 50
    yield "a text of 2^45 letters", b"\x80\x02\x8d" + struct.pack("<Q", HUGE) + b"x" * 48
    yield "bytes of 2^45", b"\x80\x05\x96" + struct.pack("<Q", HUGE) + b"x" * 48
    yield "a number of 2^31 bytes", b"\x80\x02\x8b\xff\xff\xff\x7f" + b"x" * 48
    yield "a number of 100,000 figures", b"\x80\x02L" + b"9" * 100_000 + b"L\n."
    yield "no number", b"\x80\x02I\xff\xfe\n."
    yield "a text that is none", b"\x80\x02X\x02\0\0\0\xff\xfe."
    yield "a memory that is empty", b"\x80\x02h\x07."
    yield "a place in memory far away", b"\x80\x02Nr\xff\xff\xff\xff0j\xfe\xff\xff\xff."
    yield "an empty stack", b"\x80\x020000."
    yield "no end", b"\x80\x02}"
    yield "no mark", b"\x80\x02t."
    yield "a list of itself", b"\x80\x02]q\x00h\x00a."
    yield "a wrapping of itself", b"\x80\x02}q\x00" + text("state_dict") + b"h\x00s."
    yield "code", b"\x80\x02cos\nsystem\n(" + text("touch sprung") + b"tR."
    yield "a number alone", b"\x80\x02K\x01."
    yield "a tensor alone", b"\x80\x02" + tensor(four, (2, 2), (2, 1)) + b"."


def _archives() -> Iterator[tuple[str, bytes]]:
    steps = b"\x80\x02(" + b"]" * 2_000_000 + b"l."
    yield "a packed pickle", archive(steps, packed=zipfile.ZIP_DEFLATED)
    yield "packed zeros", archive(
        saved(tensor(storage(1 << 24), (1 << 24,), (1,))), {"0": bytes(1 << 26)},
        packed=zipfile.ZIP_DEFLATED,
    )  # fmt: skip
    yield "an empty archive", zipfile_of({})
    yield "an archive without a pickle", zipfile_of({"a/version": b"3"})
    yield (
        "names that lead out",
        zipfile_of({"../a/data.pkl": saved(), "/etc/passwd": b"", "a/../../b": b""}),
    )
    yield "names that are doubled", zipfile_of({"a/data.pkl": saved()}, twice=True)
    yield "a record that is missing", archive(saved(tensor(storage(4), (2,), (1,))))
    yield "a list of records beyond the end", SMALL[:-10] + b"\xff\xff\xff\x7f" + SMALL[-6:]
    yield "bytes before the archive", b"PK\x03\x04" * 9 + SMALL
    yield "the end alone", b"PK\x05\x06" + bytes(18)
    yield "the beginning alone", b"PK\x03\x04"


def zipfile_of(files: dict[str, bytes], twice: bool = False) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as zipped:
        for name, contents in files.items():
            for name_ in [name, name.replace("data", "datb")][: 1 + twice]:
                zipped.writestr(name_, contents)
    return data.getvalue().replace(b"datb", b"data")


def _safetensors() -> Iterator[tuple[str, bytes]]:
    yield "a header nested 990 deep", safetensors(b'{"a":' + b"[" * 990 + b"]" * 990 + b"}")
    yield "a header nested 200,000 deep", safetensors(b'{"a":' + b"[" * 200_000 + b"}")
    yield (
        "metadata nested 990 deep",
        safetensors(b'{"__metadata__":{"a":' + b"[" * 990 + b"]" * 990 + b"}}"),
    )
    yield "a header of empty lists", safetensors(b'{"a":[' + b"[]," * 2_000_000 + b"1]}")
    yield "a header of 2^62 bytes", (1 << 62).to_bytes(8, "little") + b'{"a":1}'
    yield (
        "a number of 100,000 figures",
        safetensors(
            b'{"a":{"dtype":"F32","shape":[' + b"9" * 100_000 + b'],"data_offsets":[0,4]}}',
            bytes(4),
        ),
    )
    yield "a size of 2^63", safetensors({"a": entry([1 << 63, 2], 0, 4)}, bytes(4))
    yield (
        "sizes whose product overflows",
        safetensors({"a": entry([1 << 32, 1 << 32], 0, 4)}, bytes(4)),
    )
    yield "a negative size", safetensors({"a": entry([-1], 0, 4)}, bytes(4))
    yield "a negative offset", safetensors({"a": entry([1], -4, 0)}, bytes(4))
    yield "offsets turned around", safetensors({"a": entry([1], 4, 0)}, bytes(4))
    yield "offsets beyond the end", safetensors({"a": entry([1], 0, 1 << 60)}, bytes(4))
    yield (
        "offsets that overlap",
        safetensors({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4)),
    )
    yield "a gap", safetensors({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12))
    yield "more numbers than bytes", safetensors({"a": entry([1 << 40], 0, 4)}, bytes(4))
    yield "a type that is none", safetensors({"a": entry([1], 0, 4, "BANANA")}, bytes(4))
    yield "a key twice", safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8),
    )  # fmt: skip
    yield "a list", safetensors([1, 2])
    yield "no table of a weight", safetensors({"a": 1})
    yield "metadata of numbers", safetensors({"__metadata__": {"a": 1}})
    yield "letters that are none", safetensors(b'{"\xff\xfe":{}}')
    yield (
        "half of a letter",
        safetensors(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    )
    yield "many empty weights", safetensors({f"w{i}": entry([0], 0, 0) for i in range(100_000)})


def hostile_files(folder: Path) -> list[Path]:
    """Writes them all."""
    cases = {f"{name}.safetensors": data for name, data in _safetensors()}
    cases |= {f"{name}.zip.pth": data for name, data in _archives()}
    for name, data in _pickles():
        cases[f"{name}.pth"] = archive(data, {"0": bytes(16)})
        if name in LONG:
            continue
        cases[f"{name}.legacy.pth"] = (
            LEGACY + data + pickle.dumps(["0"], 2) + struct.pack("<q", 4) + bytes(16)
        )
        cases[f"{name}.plain.bin"] = data
    paths = []
    for name, data in cases.items():
        path = folder / name
        path.write_bytes(data)
        paths.append(path)
    return paths


def small_files() -> dict[str, bytes]:
    """A whole one of every format."""
    weights, old, new = {"a.b": torch.ones(3, 2), "c": torch.zeros(2)}, io.BytesIO(), io.BytesIO()
    torch.save(weights, new)
    torch.save(weights, old, _use_new_zipfile_serialization=False)
    return {
        "a.safetensors": save(weights, {"about": "it"}),
        "new.pth": new.getvalue(),
        "old.pth": old.getvalue(),
    }


def damaged(data: bytes, random: object, count: int) -> Iterator[bytes]:
    """Cut anywhere, or with a few bytes changed."""
    for number_ in range(count):
        if number_ % 3 == 0:
            yield data[: random.randrange(len(data))]  # type: ignore[attr-defined]
            continue
        changed = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 8))):  # type: ignore[attr-defined]
            changed[random.randrange(len(data))] = random.randrange(256)  # type: ignore[attr-defined]
        yield bytes(changed)
