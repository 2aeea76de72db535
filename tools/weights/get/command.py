"""The commands `get` and `addresses`."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .... import registry
from ....common.state_dict import CheckpointError
from ....common.text import printable
from ..choose import chosen, counted, gigabytes
from ..installed import add_place_options, folders_of
from ..slim import slim
from .addresses import Hosts, all_of
from .download import Progress
from .errors import DiskError, FetchError, InTheWayError
from .fetch import Fetcher
from .place import as_it_came
from .plan import Plan, plan
from .probe import checked, checked_page

AT_ONCE = 8
"""Addresses that are asked at the same time."""
WHOLE = (
    "Base checkpoints stay whole, for SeeSR too, which reads their text encoder and VAE alone: Load "
    "Checkpoint opens none without its UNet, and other methods take the same file."
)


def _say(*lines: str) -> None:
    for line in lines:
        print(printable(line), flush=True)


def _complain(*lines: str) -> None:
    for line in lines:
        print(printable(line), file=sys.stderr, flush=True)


def get_command(options: argparse.Namespace) -> int:
    """0: all is there, or would be fetched; 1: something could not be fetched; 2: it cannot run."""
    try:
        hosts = Hosts.of(options.mirror)
        choices = [chosen(name) for name in options.names]
        folders = folders_of(options)
    except ValueError as error:  # a CheckpointError is one
        _complain(str(error))
        return 2
    wanted = plan([file for choice in choices for file in choice.files], folders)
    for choice in choices:
        _say(f"{choice.title}: {counted(len(choice.files))}, {choice.total}", *_if(choice.more))
    _say(*wanted.lines)
    if options.slim and any(each.file.folder == "checkpoints" for each in wanted.missing):
        _say(WHOLE)
    if shortage := wanted.shortage():
        _complain(shortage)
        return 1
    if options.dry_run:
        return 0
    failed = _fetch_all(wanted, Fetcher(hosts, _complain, _slimmer if options.slim else as_it_came))
    blocked = [each for each in wanted.every if each.blocked]
    return int(bool(failed or blocked))


def _slimmer(came: Path) -> None:
    try:
        saved = slim(came)
    except CheckpointError as error:
        _complain(f"{error} It stays as it came.")
        return
    if saved:
        _say(f"  {gigabytes(saved)} that inference does not read are left out")


def _if(line: str) -> list[str]:
    return [line] if line else []


def _fetch_all(wanted: Plan, fetcher: Fetcher) -> int:
    """How many files did not come."""
    failed, missing = 0, wanted.missing
    for number, each in enumerate(missing, 1):
        _say(f"[{number}/{len(missing)}] {each.file.name}, {each.file.size_text}")
        try:
            with _bar(each.target.name) as progress:
                digest = fetcher.fetch(each.file, each.target, progress)
        except DiskError as error:
            _complain(str(error))
            return len(missing) - number + 1 + failed
        except FetchError as error:
            failed += 1
            if isinstance(error, InTheWayError):  # all else has been said, address by address
                _complain(str(error))
        else:
            _say(f"{each.target}", f"  sha256 {digest}")
    if failed:
        _complain(
            f"{counted(failed)} did not come. Run the command again, and it goes on from there."
        )
    return failed


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Progress]:
    """A bar on a terminal; elsewhere nothing moves."""
    tqdm: Any = None
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from tqdm import tqdm
    if tqdm is None:
        yield lambda done, total: None
        return
    with tqdm(desc=printable(name)[:30], unit="B", unit_scale=True, dynamic_ncols=True) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def addresses_command(options: argparse.Namespace) -> int:
    """Asks every address of the table whether it is alive; 1 when any is not."""
    try:
        hosts = Hosts.of(options.mirror)
        files = [file for name in options.names for file in chosen(name).files]
    except ValueError as error:
        _complain(str(error))
        return 2
    pairs = all_of(files or list(registry.files().values()), hosts)
    pages = [] if files else registry.pages()
    dead = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda pair: checked(*pair), pairs)
        for (file, url), (alive, words) in zip(pairs, answers, strict=True):
            dead += not alive
            _say(f"[{'x' if alive else '!'}] {file.name}", f"      {url}", f"      {words}")
        for page, (alive, words) in zip(pages, pool.map(checked_page, pages), strict=True):
            dead += not alive
            _say(f"[{'x' if alive else '!'}] {page}", f"      {words}")
    count = len(pairs) + len(pages)
    _say(f"{count - dead} of {count} addresses have what the table says.")
    by_hand = [file for file in files or registry.files().values() if file.how]
    _say(*(f"Not asked: {file.name}. {file.how}" for file in by_hand))
    return int(bool(dead))


def add_commands(commands: Any) -> None:
    """Adds both to a parser's subparsers."""
    names = "a shipped workflow, a method, a file, or a release's folder"
    mirror = (
        "a host to ask for the same paths where the first address fails; HF_ENDPOINT names one to "
        "ask in place of huggingface.co"
    )
    parser = commands.add_parser("get", help="fetches the files of a workflow or method")
    parser.add_argument("names", nargs="+", metavar="NAME", help=names)
    parser.add_argument(
        "--slim", action="store_true", help="keep of each file only what inference reads"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be fetched")
    parser.add_argument("--mirror", metavar="URL", default="", help=mirror)
    add_place_options(parser)
    parser.set_defaults(run=get_command)

    parser = commands.add_parser("addresses", help="whether every published address is alive")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{names}; default: all")
    parser.add_argument("--mirror", metavar="URL", default="", help=mirror)
    parser.set_defaults(run=addresses_command)
