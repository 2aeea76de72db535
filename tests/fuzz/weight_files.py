"""Weight files: damaged, hostile and lying ones, through the doctor's commands and the loaders."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save

from restoration.tests.fuzz.campaign import (
    Campaign,
    Fault,
    checked_sentence,
    command_sentence,
    run_command,
    snapshot,
    unchanged,
)
from restoration.tests.fuzz.mutations import HOSTILE_TEXTS, HOSTILE_VALUES, mutated, nested
from restoration.tests.host.onestep_networks import contents_of
from restoration.tests.tools.weights import tiny


class Runs:
    """Pickles into a call that leaves a file behind."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


class WeightFiles(Campaign):
    name: ClassVar[str] = "weights"

    def __init__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        tiny.use_tiny_sizes(self.patch)
        torch.manual_seed(0)
        makers = (
            tiny.diffbir, tiny.pasd_unet, tiny.pasd_control, tiny.ram, tiny.dape, tiny.osediff,
        )  # fmt: skip
        self.weights = [{k: v.clone() for k, v in make().items()} for make in makers]
        self.tensors = [save(each) for each in self.weights]
        tables = contents_of("pisasr")  # several in one file
        self.pickles = [self.pickled(each) for each in (*self.weights, tables)]

    def close(self) -> None:
        self.patch.undo()

    @staticmethod
    def pickled(value: Any, **options: Any) -> bytes:
        out = io.BytesIO()
        torch.save(value, out, **options)
        return out.getvalue()

    def safetensors(self, rng: random.Random) -> bytes:
        data, other = rng.sample(self.tensors, 2)
        if rng.random() < 0.4:
            return mutated(rng, data, other)
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        key = rng.choice(list(header))
        match rng.randrange(8):
            case 0:
                header[key] = rng.choice(HOSTILE_VALUES)
            case 1:
                header[key]["shape"] = rng.choice(([-1], [2**62, 4], [0], [[]], "x", [1e9], None))
            case 2:
                header[key]["data_offsets"] = rng.choice(([0, 0], [9, 3], [-8, 8], [0, 2**63], []))
            case 3:
                header[rng.choice(HOSTILE_TEXTS)] = header.pop(key)
            case 4:
                header["__metadata__"] = rng.choice((*HOSTILE_VALUES, {"a": HOSTILE_TEXTS[3]}))
            case 5:
                header[key]["dtype"] = rng.choice(("F4", "F8_E4M3", "I128", "", None, "BOOL"))
            case 6:
                return self._with_header(b'{"a":' + b"[" * rng.choice((60, 990, 200000)))
            case _:
                header = nested(rng.choice((5, 200)))
        text = json.dumps(header).encode()
        return self._with_header(text, data[8 + length :], rng.choice((0, 0, 0, 1, -2, 2**60)))

    @staticmethod
    def _with_header(text: bytes, rest: bytes = b"", lie: int = 0) -> bytes:
        return struct.pack("<Q", max(0, len(text) + lie)) + text + rest

    def pickle(self, rng: random.Random, folder: Path) -> bytes:
        data, other = rng.sample(self.pickles, 2)
        canary, weights = folder / "canary", rng.choice(self.weights)
        match rng.randrange(8):
            case 0:
                return self.pickled({**weights, "run": Runs(canary)})
            case 1:
                return pickle.dumps(Runs(canary), protocol=rng.randrange(6))
            case 2:  # claims far more than is there
                size = struct.pack("<q", rng.choice((2**31, 2**45, -1)))
                return b"\x80\x02" + rng.choice((b"\x8e", b"\x8d", b"\x96")) + size + b"x"
            case 3:
                deep = rng.choice((900, 100000))
                return b"\x80\x02" + b"]" * deep + b"a" * (deep - 1) + b"."
            case 4:
                return self.pickled(rng.choice((1, "x", [weights], (), {1: 2}, {"a": nested(90)})))
            case 5:
                return self._repacked(rng, data)
            case _:
                return mutated(rng, data, other)

    def _repacked(self, rng: random.Random, data: bytes) -> bytes:
        """The archive with one entry's bytes damaged, left out, or under another name."""
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
            chosen = rng.choice(source.namelist())
            for name in source.namelist():
                entry = source.read(name)
                if name != chosen:
                    target.writestr(name, entry)
                elif rng.random() < 0.6:
                    target.writestr(name, mutated(rng, entry))
                elif rng.random() < 0.5:
                    target.writestr("../" + name, entry)
        return out.getvalue()

    def case(self, rng: random.Random, folder: Path) -> str:
        if rng.random() < 0.5:
            path, data = folder / "w.safetensors", self.safetensors(rng)
        else:
            path, data = (
                folder / f"w.{rng.choice(('pth', 'bin', 'ckpt', 'pkl'))}",
                self.pickle(rng, folder),
            )
        if rng.random() < 0.05:  # the ending lies
            path = path.with_suffix(rng.choice((".safetensors", ".pth")))
        path.write_bytes(data)
        before = snapshot(folder)
        said = self.commands(rng, path, folder)
        unchanged(before)
        if (folder / "canary").exists():
            raise Fault("the file was executed")
        return said

    def commands(self, rng: random.Random, path: Path, folder: Path) -> str:
        match rng.randrange(3):
            case 0:
                return command_sentence("inspect", *rng.choice(((), ("--keys",))), path)
            case 1:
                target = folder / "out.safetensors"
                said = command_sentence("convert", path, "-o", target)
                left = [each for each in folder.glob("out*") if said]
                if left:
                    raise Fault(f"refused, and yet wrote {', '.join(each.name for each in left)}")
                return said
            case _:
                models = folder / "models" / "restoration"
                models.mkdir(parents=True)
                (models / path.name).write_bytes(path.read_bytes())
                code, text = run_command("list", "--models", folder / "models")
                checked_sentence(text, longest=20_000)  # it lists every published file, too
                if "controlnet" not in text:
                    raise Fault(f"one file ended the list: {text[-300:]}")
                return text if code else ""


class Loaders(WeightFiles):
    """The same files through what the loader nodes call."""

    name: ClassVar[str] = "loaders"
    needs_host: ClassVar[bool] = True

    def commands(self, rng: random.Random, path: Path, folder: Path) -> str:
        import folder_paths

        from restoration.host.folders import KIND, register_folders
        from restoration.nodes.diffbir import DiffBIRControlLoader
        from restoration.nodes.onestep import OneStepLoader
        from restoration.nodes.pasd import PASDLoader
        from restoration.nodes.seesr import DAPELoader, SeeSRLoader

        register_folders()
        calls = {
            "controlnet": lambda: DiffBIRControlLoader.execute(path.name),
            KIND: rng.choice(
                (
                    lambda: PASDLoader.execute(path.name, path.name),
                    lambda: SeeSRLoader.execute(path.name, path.name),
                    lambda: DAPELoader.execute(path.name, "none", 1.0),
                    lambda: OneStepLoader.execute(path.name),
                )
            ),
        }
        kind = rng.choice(list(calls))
        endings = folder_paths.folder_names_and_paths[kind][1]
        with pytest.MonkeyPatch.context() as patch:
            entry = ([str(folder)], endings)
            patch.setitem(folder_paths.folder_names_and_paths, kind, entry)
            folder_paths.filename_list_cache.pop(kind, None)
            try:
                calls[kind]()
            except (ValueError, FileNotFoundError) as error:
                return checked_sentence(str(error))
            finally:
                folder_paths.filename_list_cache.pop(kind, None)
        return ""
