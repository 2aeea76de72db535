"""`data pack|check|caption|tag|preview`: looks at a run's pictures and prepares them."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..config import Config
from ..errors import TrainingError
from .pictures import UnreadablePictureError, read_picture, to_picture, to_tensor
from .sources import LONG, LQ, Item, Survey, survey

SHOWN = 5
SHARD = 10_000
"""Samples in a shard, as the authors' tools pack them."""


def add_commands(commands: Any) -> None:
    """`data` and what is below it."""
    from ..commands import add_config

    top = commands.add_parser("data", help="looks at a run's pictures and prepares them")
    below = top.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], about: str) -> Any:
        parser = below.add_parser(name, help=about, description=about)
        add_config(parser)
        parser.set_defaults(run=run)
        return parser

    add("check", run_check, "reads every picture and says what is missing or broken")
    pack = add("pack", run_pack, "writes the pictures with partners and texts as tar shards")
    pack.add_argument("output", type=Path, help="a new folder for the shards")
    pack.add_argument("--samples", type=int, default=SHARD, help="in one shard")
    preview = add("preview", run_preview, "a sheet of targets beside what the network will see")
    preview.add_argument("output", type=Path, help="a new PNG file")
    preview.add_argument("--count", type=int, default=8, help="pairs on the sheet")
    for name, run, about in (
        ("tag", run_tag, "writes NAME.txt with the tagger's words for every picture without"),
        (
            "caption",
            run_caption,
            "writes NAME.txt with a captioner's words for every picture without",
        ),
    ):
        one = add(name, run, about)
        one.add_argument("--overwrite", action="store_true", help="also where there is a text")
        if name == "caption":
            one.add_argument("model", help="a captioner's folder below models/restoration")
        else:
            one.add_argument("--ram", default="ram_swin_large_14m.pth", help="the tagger's file")


def _config(options: argparse.Namespace) -> Config:
    from ..commands import read_config

    return read_config(options.config, options.settings)


# -- check -----------------------------------------------------------------------------------------


def run_check(options: argparse.Namespace) -> int:
    """0 where all is well."""
    config = _config(options)
    found = survey(config.data)
    problems = [*found.broken, *_unpaired(found, config)]
    small = 0
    for item in found.items:
        try:
            picture = read_picture(item.picture.read())
        except (UnreadablePictureError, OSError) as error:
            problems.append(f"{item.name} in {item.picture.file} cannot be read: {error}")
            continue
        small += min(picture.size) < config.data.size
    print(
        f"{len(found.items)} pictures, {len(found.items) - len(found.without('text'))} with text."
    )
    if small:
        print(f"{small} are smaller than the crop of {config.data.size}: they are enlarged.")
    for problem in problems:
        print(problem)
    return 1 if problems or not found.items else 0


def _unpaired(found: Survey, config: Config) -> Iterator[str]:
    lists = [
        ("texts have no picture of their name", found.lone_texts),
        ("damaged partners have no picture of their name", found.lone_lq),
    ]
    if config.data.text == "file":
        lists.append(("pictures have no text of their name", found.without("text")))
    if config.data.lq:
        lists.append(("pictures have no damaged partner of their name", found.without("lq")))
    for words, names in lists:
        if names:
            shown = ", ".join(names[:SHOWN])
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"{len(names)} {words}: {shown}{more}."


# -- pack ------------------------------------------------------------------------------------------


def run_pack(options: argparse.Namespace) -> int:
    """Shards of a new folder."""
    from webdataset.writer import TarWriter

    from ..run_folder import whole

    config, output = _config(options), options.output
    if output.exists():
        raise TrainingError(f"{output} is there already: name a new folder for the shards.")
    found = survey(config.data)
    if found.broken or not found.items:
        raise TrainingError(found.broken[0] if found.broken else "There are no pictures to pack.")
    _check_names(found.items)
    with whole(output.resolve()) as folder:
        for number, first in enumerate(range(0, len(found.items), options.samples)):
            with TarWriter(str(folder / f"{number:06}.tar"), encoder=False) as shard:
                for item in found.items[first : first + options.samples]:
                    shard.write(_sample(item))
    print(f'{len(found.items)} samples in {output}: data.pictures = "{output}/*.tar".')
    return 0


def _check_names(items: Iterable[Item]) -> None:
    seen: dict[str, Item] = {}
    for item in items:
        other = seen.setdefault(_key(item), item)
        if other is not item:
            raise TrainingError(
                f"{item.picture.file} and {other.picture.file} would be one sample: rename one."
            )


def _key(item: Item) -> str:
    """A sample's name: in a shard all behind the first dot is its suffix."""
    folder, slash, name = item.name.rpartition("/")
    return folder + slash + name.replace(".", "_")


def _sample(item: Item) -> dict[str, Any]:
    sample: dict[str, Any] = {"__key__": _key(item)}
    sample[item.picture.suffix] = item.picture.read()
    if item.lq:
        sample[f"{LQ[1:]}.{item.lq.suffix}"] = item.lq.read()
    if item.text:
        sample["txt"] = item.text.read()
    if item.long_text:
        sample[f"{LONG[1:]}.txt"] = item.long_text.read()
    return sample


# -- preview ---------------------------------------------------------------------------------------


def run_preview(options: argparse.Namespace) -> int:
    """Pairs as the network will see them, target above hint."""
    import torch
    from torchvision.utils import make_grid

    from ...common.resample import resize
    from ..parts.common import pairs_of

    if options.output.exists():
        raise TrainingError(f"{options.output} is there already: name a new file.")
    config = _config(options)
    pairs = pairs_of(config, needs_lq=False)
    columns = []
    for number in range(options.count):
        sample = pairs[number]
        shown = [sample["hq"]]
        if "lq" in sample:  # smaller where the part enlarges
            shown.append(resize(sample["lq"][None], *sample["hq"].shape[-2:])[0])
        columns.append(torch.cat(shown, 1))
        print(f"{number + 1}: {sample['names']}: {sample['captions']!r}")
    to_picture(make_grid(columns, nrow=4, padding=4)).save(options.output, "PNG")
    return 0


# -- caption, tag ----------------------------------------------------------------------------------


def run_tag(options: argparse.Namespace) -> int:
    """Tags of the undamaged pictures by plain RAM, "a, b, c," as SeeSR's script writes them."""
    config = _config(options)
    _open_host()
    from ...tagger.load import NO_LORA, load_tagger
    from ...tagger.run import run_tagger

    with _loading():
        tagger = load_tagger(options.ram, NO_LORA, 1.0)

    def text(tags: Any, logits: Any) -> str:
        rows = tags.seen(logits).nonzero().flatten().tolist()
        return "".join(f"{tags.names[row]}, " for row in rows).rstrip()

    return _write_texts(
        config, lambda pixels: run_tagger(tagger, pixels, text, False)[0][0], options.overwrite
    )


def run_caption(options: argparse.Namespace) -> int:
    """Captions by any captioner of transformers, such as BLIP."""
    config = _config(options)
    _open_host()
    from ...tagger.load import load_captioner

    with _loading():
        describe = load_captioner(options.model)
    return _write_texts(config, lambda pixels: describe(pixels[0]), options.overwrite)


def _open_host() -> None:
    import torch

    from ..base import open_comfyui

    open_comfyui(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """A missing file of weights is a sentence."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise TrainingError(str(error)) from error


def _write_texts(config: Config, words: Callable[[Any], str], overwrite: bool) -> int:
    """NAME.txt beside every picture, or in `data.texts`; what is there stays unless told."""
    items = survey(config.data).items
    if any(item.picture.size >= 0 for item in items):
        raise TrainingError(
            "data.pictures names tar shards, in which nothing can be written: unpack them, or "
            "name the folders they were packed from."
        )
    written = 0
    for item in items:
        place = _text_place(item, config)
        if place.exists() and not overwrite:
            continue
        try:
            picture = read_picture(item.picture.read())
        except (UnreadablePictureError, OSError) as error:
            print(f"{item.picture.file} is skipped: it cannot be read ({error}).")
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        half = place.with_name(f".{place.name}.part")
        half.write_text(words(to_tensor(picture)[None]) + "\n", "utf-8")
        os.replace(half, place)
        written += 1
    print(f"{written} texts written; {len(items) - written} pictures were left as they are.")
    return 0


def _text_place(item: Item, config: Config) -> Path:
    if config.data.texts:
        return Path(config.data.texts) / f"{item.name}.txt"
    return Path(item.picture.file).with_suffix(".txt")
