"""What a run is: one TOML file over an author's preset over the defaults here.

Every value has one home. A part's own values (`model`) are a dataclass of its file in `parts/`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import TrainingError

Table = dict[str, Any]
FREE = {"free": True}
"""Metadata of paths and lengths: what a run that goes on may have changed."""


def path(default: Any = "") -> Any:
    """A field for where something lies."""
    return field(default=default, metadata={**FREE, "path": True})


def length(default: int) -> Any:
    """A field for how long or how often, which changes no step."""
    return field(default=default, metadata=FREE)


@dataclass(frozen=True)
class Data:
    pictures: tuple[str, ...] = path(())
    """Folders, searched below, and tar shards: `shards/*.tar`, `shards/{0000..0099}.tar`."""
    lq: tuple[str, ...] = path(())
    """Damaged partners by name, instead of damage made while training."""
    texts: str = path()
    """A folder with NAME.txt for every picture; empty: beside the picture, in its shard."""
    size: int = 512
    crop: Literal["random", "center", "halving", "halving_random", "shorter_side"] = "random"
    flip: float = 0.0
    """How often a picture is mirrored."""
    degradation: str = "none"
    """A preset of the pack; `gray`: the picture's luma; `none`: no damaged partner is needed."""
    text: Literal["none", "file", "prompt"] = "none"
    prompt: str = ""
    """The one text of all pictures where `text` is `prompt`."""
    null_text: float = 0.0
    """How often a text gives way to the empty one."""
    long_text: float = 0.0
    """How often NAME.long.txt is taken instead, where there is one."""
    workers: int = length(4)
    """Processes for every card that read and damage pictures."""


@dataclass(frozen=True)
class Optimizer:
    lr: float = 1e-4
    betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 1e-2
    eps: float = 1e-8
    clip: float = 0.0
    """Limit of the joint norm of all gradients; 0: none."""
    warmup: int = 0
    """Steps in which the rate grows linearly from nothing."""
    milestones: tuple[int, ...] = ()
    """Steps at which the rate is multiplied by `factor`."""
    factor: float = 1.0
    cosine: int = length(0)
    """The step at which a cosine has taken the rate to nothing; 0: none. It may change with
    `run.steps`, and then changes the rate of the steps to come."""
    average: float = 0.0
    """Decay of the averaged weights, which are exported and sampled instead of the last ones; 0: none."""


@dataclass(frozen=True)
class Run:
    folder: str = path()
    steps: int = length(100_000)
    batch: int = 4
    """Pictures of one step, over all cards."""
    at_once: int = length(0)
    """Pictures that a card holds at once; the rest of its share is accumulated. 0: all of them."""
    precision: Literal["no", "fp16", "bf16"] = "no"
    checkpointing: bool = False
    """Computes activations twice instead of keeping them: less memory, the same numbers."""
    seed: int = 0


@dataclass(frozen=True)
class Save:
    every: int = length(10_000)
    keep: int = length(3)
    """The last so many checkpoints stay."""
    export_every: int = length(10_000)


@dataclass(frozen=True)
class Samples:
    pictures: str = path()
    """A folder of pictures of which the first `count` are restored; empty: no samples."""
    every: int = length(1000)
    count: int = length(4)
    steps: int = length(20)
    """Of a diffusion part's restorations."""
    seed: int = length(0)


@dataclass(frozen=True)
class NoModel:
    """Of a part that has no values of its own."""


@dataclass(frozen=True)
class Config:
    part: str
    authors: str
    model: Any
    data: Data
    optimizer: Optimizer
    run: Run
    save: Save
    samples: Samples

    def table(self) -> Table:
        """As nested tables, complete: what config.toml of a run folder holds."""
        return {name: _plain(getattr(self, name)) for name in (*HEAD, *self.sections())}

    @classmethod
    def sections(cls) -> tuple[str, ...]:
        return tuple(each.name for each in fields(cls) if each.name not in HEAD)


HEAD = ("part", "authors")
SECTIONS = {
    "data": Data,
    "optimizer": Optimizer,
    "run": Run,
    "save": Save,
    "samples": Samples,
}


def read_toml(file: Path) -> Table:
    """A TOML file's tables. Raises TrainingError."""
    reader = _toml_reader()
    try:
        return reader.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{file} cannot be read: {error}.") from error
    except reader.TOMLDecodeError as error:
        raise TrainingError(f"{file} is no TOML: {error}.") from error


def _toml_reader() -> Any:
    for name in ("tomllib", "tomli"):  # the first one came with Python 3.11
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise TrainingError(
        "This Python has no reader for TOML: use Python 3.11 or newer, or pip install tomli."
    )


def with_settings(table: Table, settings: Sequence[str]) -> Table:
    """`section.key=value` over a table; the value as TOML writes it, or bare words."""
    table = json.loads(json.dumps(table))
    for setting in settings:
        name, equals, value = setting.partition("=")
        section, dot, key = name.strip().partition(".")
        if not equals or not dot or not isinstance(table.setdefault(section, {}), dict):
            raise TrainingError(
                f"--set {setting}: expected section.key=value, such as optimizer.lr=1e-5."
            )
        table[section][key] = _value(value.strip())
    return table


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith("[") or text.startswith('"'):
        try:
            return json.loads(text)
        except ValueError as error:
            raise TrainingError(f"{text} in --set cannot be read: {error}.") from error
    for kind in (int, float):
        try:
            return kind(text.replace("_", ""))
        except ValueError:
            continue
    return text


def make_config(part: str, model: type, preset: Table, table: Table, origin: str) -> Config:
    """The values of a file over those of its preset over the defaults.

    model: the part's own dataclass. origin: what the file is called in messages. Raises
    TrainingError for a name or value that there is not.
    """
    kinds = {"model": model, **SECTIONS}
    for name, found in table.items():
        if name in HEAD:
            continue
        if name not in kinds:
            raise TrainingError(f"{origin}: {_unknown(f'[{name}]', name, kinds)}")
        if not isinstance(found, dict):
            raise TrainingError(f"{origin}: {name} is a section, not a value: write [{name}].")
    authors = str(table.get("authors", ""))
    made = {
        name: _section(kind, {**preset.get(name, {}), **table.get(name, {})}, f"{origin}, [{name}]")
        for name, kind in kinds.items()
    }
    return Config(part=part, authors=authors, **made)


def _section(kind: type, table: Table, where: str) -> Any:
    known = {each.name for each in fields(kind)}
    for name in table:
        if name not in known:
            raise TrainingError(f"{where}: {_unknown(name, name, known)}")
    types_of = typing.get_type_hints(kind)
    return kind(
        **{
            name: _checked(types_of[name], value, f"{where} {name}")
            for name, value in table.items()
        }
    )


def _unknown(shown: str, name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}."
    return f"there is no {shown}; {hint}"


def _checked(kind: Any, value: Any, where: str) -> Any:
    """The value as the type has it; a single value where a list is meant is a list of one."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in inner:
            raise TrainingError(f"{where} is {value!r}; expected one of {', '.join(inner)}.")
        return value
    if origin is tuple:
        many = value if isinstance(value, list | tuple) else [value]
        return tuple(_checked(inner[0], each, where) for each in many)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise TrainingError(f"{where} is {value!r}; expected {WORDS[kind]}.")
    if kind in (int, float) and value < 0:
        raise TrainingError(f"{where} is {value}; expected 0 or more.")
    return value


WORDS = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}


def different(ours: Config, theirs: Mapping[str, Any]) -> Iterator[str]:
    """What differs between this configuration and a checkpoint's table but paths and lengths, as
    `section.key: theirs there, ours here`."""
    for name in ("part", *ours.sections()):
        mine, found = getattr(ours, name), theirs.get(name, {})
        if not is_dataclass(mine):
            pairs = [(name, mine, found)]
        else:
            # A value that a checkpoint does not know yet was what is its default now.
            kept = [each for each in fields(mine) if not each.metadata.get("free")]
            pairs = [
                (f"{name}.{key.name}", getattr(mine, key.name), found.get(key.name, key.default))
                for key in kept
            ]
        for key, here, there in pairs:
            if _plain(here) != _plain(there):
                yield f"{key}: {_plain(there)} there, {_plain(here)} here"


def absolute(config: Config, folder: Path) -> Config:
    """The same with every path that is relative taken from `folder`, where the file lies."""
    return _with_paths(config, lambda each: str(folder / Path(each).expanduser()))


def without_folders(config: Config) -> Config:
    """The same with the last name of every path alone, for files that are shared: whose machine they
    come from is nobody's business."""
    return _with_paths(config, lambda each: Path(each).name)


def _with_paths(config: Config, change: Callable[[str], str]) -> Config:
    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(changed(each) for each in value)
        return change(value) if value else value

    sections = {}
    for name in config.sections():
        section = getattr(config, name)
        paths = [each.name for each in fields(section) if each.metadata.get("path")]
        new = {path: changed(getattr(section, path)) for path in paths}
        sections[name] = type(section)(**{**_fields(section), **new})
    return Config(config.part, config.authors, **sections)


def _fields(section: Any) -> Table:
    return {each.name: getattr(section, each.name) for each in fields(section)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    return list(value) if isinstance(value, tuple) else value


def to_toml(table: Table) -> str:
    """Two levels of tables as TOML; what `read_toml` reads back."""
    lines = [f"{key} = {_toml(value)}" for key, value in table.items() if key in HEAD]
    for name, section in table.items():
        if name not in HEAD:
            lines += ["", f"[{name}]", *(f"{key} = {_toml(v)}" for key, v in section.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value)
    # JSON's strings, whole numbers and truth values are TOML's, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
