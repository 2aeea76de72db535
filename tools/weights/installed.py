"""Which of the pack's models lie in ComfyUI's folders, and where the others go."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from ...common.diagnosis import PICKLES, SAFETENSORS, weights_problem
from ...common.state_dict import CONTROL_PREFIX, UNET_PREFIX, CheckpointError
from ...diffbir.keys import VERSIONS as DIFFBIR_VERSIONS
from ...registry import files as published_files
from ..comfyui.find import PACK_ROOT, HostError, find_host
from ..files import files_below
from ..shipped import shipped
from .convert import PAIR, difference_sentence
from .files import read_weights
from .known import identify, other_file, with_numbers

DEFAULTS = {
    "checkpoints": ("checkpoints",),
    "controlnet": ("controlnet", "t2i_adapter"),
    "upscale_models": ("upscale_models",),
    "restoration": ("restoration",),
}
"""Kinds of models that the pack's workflows use, and ComfyUI's own folders for them."""
LOOKED_INTO = ("controlnet", "restoration")
"""Where the loaders of the pack look; other kinds, for core's loaders, are only told from what is
no file of weights at all."""
FEW_NUMBERS = 1 << 16
"""So many values of each weight are looked at: a list of many gigabytes takes seconds. `inspect`
reads all."""
DIFFBIR_STEMS = {Path(name).stem for name in DIFFBIR_VERSIONS}


@dataclass(frozen=True)
class Row:
    """One line of the list."""

    name: str
    kind: str
    what: str
    paths: tuple[str, ...]
    """Where it was found; empty: missing."""
    url: str
    """The address of the published file; empty: no workflow names it."""
    problem: str = ""
    workflows: tuple[str, ...] = ()
    """The shipped ones that name it."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def model_folders(
    comfyui: Path | None, models: Path | None = None, extra: Sequence[Path] = ()
) -> dict[str, list[Path]]:
    """Kind of model -> the folders that ComfyUI searches for it, its own first.

    comfyui: its folder; None: the one around the pack or the usual places. models: its models
    folder where that lies elsewhere. extra: files like extra_model_paths.yaml; the one in
    ComfyUI's folder counts anyway. Raises CheckpointError.
    """
    if comfyui is None:
        try:
            host = find_host(PACK_ROOT)
        except HostError as error:
            raise CheckpointError(str(error)) from error
        comfyui = host.path if host else None
    if comfyui is not None and not (comfyui / "main.py").is_file():
        raise CheckpointError(f"{comfyui} holds no ComfyUI (no main.py there): name its folder.")
    if models is None:
        if comfyui is None:
            raise CheckpointError("No ComfyUI found: name its folder with --comfyui or --models.")
        models = comfyui / "models"
    folders = {kind: [models / name for name in names] for kind, names in DEFAULTS.items()}
    usual = comfyui / "extra_model_paths.yaml" if comfyui else None
    for config in [*([usual] if usual and usual.is_file() else []), *extra]:
        for kind, folder, first in extra_folders(config):
            known = folders.get(kind)
            if known is None or (folder in known and not first):
                continue
            if folder in known:
                known.remove(folder)
            known.insert(0 if first else len(known), folder)
    return folders


def add_place_options(parser: argparse.ArgumentParser) -> None:
    """How a command line says where ComfyUI's models are."""
    parser.add_argument("--comfyui", type=Path, help="ComfyUI's folder; default: around the pack")
    parser.add_argument("--models", type=Path, help="its models folder, when it lies elsewhere")
    parser.add_argument(
        "--extra-model-paths", type=Path, action="append", default=[], metavar="YAML",
        help="as ComfyUI's --extra-model-paths-config; its own extra_model_paths.yaml counts anyway",
    )  # fmt: skip


def folders_of(options: argparse.Namespace) -> dict[str, list[Path]]:
    """The folders that a command line means. Raises CheckpointError."""
    return model_folders(options.comfyui, options.models, options.extra_model_paths)


def extra_folders(config: Path) -> Iterator[tuple[str, Path, bool]]:
    """(kind, folder, whether it comes first) of every line of an extra_model_paths.yaml, read as
    ComfyUI reads it. Raises CheckpointError."""
    try:
        import yaml
    except ImportError as error:
        raise CheckpointError(
            f"Reading {config} takes PyYAML: run this with ComfyUI's Python, or pip install pyyaml."
        ) from error
    try:
        sections = yaml.safe_load(config.read_text("utf-8")) or {}
        tables = [dict(section) for section in sections.values() if section]
    except (OSError, AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{config} cannot be read as model paths: {error}") from error
    for table in tables:
        base = Path(os.path.expandvars(os.path.expanduser(table.pop("base_path", ""))))
        first = bool(table.pop("is_default", False))
        for kind, places in table.items():
            for place in filter(None, str(places).split("\n")):
                folder = Path(os.path.normpath(config.absolute().parent / base / place))
                yield kind, folder, first


def _is(path: Path, name: str) -> bool:
    """Whether a path is the file, or the same in another format: authors offer several, and a
    conversion is one."""
    published = PurePosixPath(name)
    formats = (*SAFETENSORS, *PICKLES)
    suffixes = formats if published.suffix in formats else (published.suffix,)
    place = path.as_posix()
    if any(place.endswith(f"/{published.with_suffix(suffix)}") for suffix in suffixes):
        return True
    release = published.parent.parent
    if published.parent.name not in PAIR or not path.parent.as_posix().endswith(f"/{release}"):
        return False
    method = _converted_pair(path)  # lies where `convert` puts it
    return bool(method) and str(release).lower().startswith(method)


def _converted_pair(path: Path) -> str:
    """The method of a file that `convert` made of a UNet and its control network; empty: it is
    another one."""
    try:
        with safe_open(path, "pt") as file:
            names, said = file.keys(), file.metadata() or {}
    except (SafetensorError, OSError):
        return ""
    both = all(
        any(name.startswith(prefix) for name in names) for prefix in (UNET_PREFIX, CONTROL_PREFIX)
    )
    return said.get("restoration.method", "") if both else ""


@dataclass(frozen=True)
class Look:
    """What looking into a file has shown."""

    what: str = ""
    problem: str = ""
    foreign: bool = False
    """A whole file of somebody else's."""


def looked_into(path: Path, kind: str) -> Look:
    """What a file is, and what is wrong with it. kind: of models, whose loader decides how much is
    looked at."""
    try:
        if found := other_file(path):
            return Look(found.what, found.problem)
        if path.suffix.lower() not in (*SAFETENSORS, *PICKLES):
            return Look(foreign=True)
        if kind not in LOOKED_INTO:
            return Look(problem=weights_problem(path))
        source = read_weights(path)
    except (CheckpointError, OSError) as error:
        return Look(problem=str(error))
    try:
        found = identify(source.contents, source.name, source.metadata)
    except CheckpointError as error:
        return Look(problem=str(error), foreign=True)
    found, what = with_numbers(found, FEW_NUMBERS), f"{found.what}, version {found.version}"
    if found.complete:
        return Look(what)
    wrong = found.problem or difference_sentence(found)
    return Look(what, f"{path.name} is not whole: {wrong}. See inspect {path}")


def installed(
    folders: Mapping[str, Sequence[Path]], names: Container[str] | None = None
) -> list[Row]:
    """Every model that the shipped workflows name and where it is, kind by kind; then what else
    of the methods, or what unreadable file, lies in `restoration`, and in `controlnet` under a
    published name. names: only of these files."""
    rows, look = [], functools.cache(looked_into)
    for kind in DEFAULTS:
        files = [path for folder in folders.get(kind, ()) for path in files_below(folder)]
        hits: set[Path] = set()
        for name, file in published_files().items():
            if file.folder != kind or (names is not None and name not in names):
                continue
            paths = [path for path in files if _is(path, name)]
            seen = [look(path, kind) for path in paths]
            what = "; ".join(dict.fromkeys(each.what for each in seen if each.what))
            problem = " ".join(each.problem for each in seen if each.problem)
            users = tuple(each.name for each in shipped() if name in each.models)
            rows.append(Row(name, kind, what, tuple(map(str, paths)), file.url, problem, users))
            hits.update(paths)
        if names is not None:
            continue
        for path in (path for path in files if path not in hits and _may_be_ours(path, kind)):
            seen = look(path, kind)
            if not seen.foreign:
                rows.append(Row(path.name, kind, seen.what, (str(path),), "", seen.problem))
    return rows


def _may_be_ours(path: Path, kind: str) -> bool:
    """`controlnet` may hold many files of others: there, only names that we know are opened."""
    return kind == "restoration" or (kind == "controlnet" and path.stem in DIFFBIR_STEMS)
