"""Which executor the command line asks for: one server, several, or a ComfyUI on each place that Ray
assigns. All that comes before and after it is the same."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import UsageError
from .execute import Executor, OneByOne, ServerWorker
from .pool import RETRIES, Pool
from .saving import Order
from .server import USUAL, Server, check_needs, running, serving

LOCAL = "local"
"""What `--ray` alone means."""


@contextlib.contextmanager
def executing(options: argparse.Namespace, order: Order) -> Iterator[Executor]:
    """The executor, for the length of the block. Its servers have what the workflow needs.

    Raises UsageError, HostError.
    """
    if options.ray is not None:
        from .cluster import Cluster, ray_workers

        asked = Cluster(
            address=None if options.ray == LOCAL else options.ray,
            workers=options.workers or 1,
            gpus=float(not options.cpu)
            if options.gpus_per_worker is None
            else options.gpus_per_worker,
            comfyui=options.comfyui,
            arguments=tuple(options.comfyui_argument),
            cpu=options.cpu,
        )
        with ray_workers(asked, order) as workers:
            yield Pool(workers, options.retries)
        return
    with _servers(options) as servers:
        for server in servers:
            server.version()
            check_needs(server.client, order.job, order.workflow)
        workers = [ServerWorker(server) for server in servers]
        yield Pool(workers, options.retries) if workers[1:] else OneByOne(workers[0])


@contextlib.contextmanager
def _servers(options: argparse.Namespace) -> Iterator[list[Server]]:
    if options.comfyui is not None:
        with serving(options.comfyui, options.comfyui_argument, options.cpu) as server:
            yield [server]
        return
    servers = {server.client.url: server for server in map(running, options.server or [""])}
    yield list(servers.values())


def check_options(options: argparse.Namespace) -> None:
    """Raises UsageError where options contradict each other."""
    if options.ray is not None and options.server:
        raise UsageError("--ray starts its own ComfyUI: leave --server out, or --ray.")
    if options.ray is None:
        for name in ("workers", "gpus_per_worker"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} is about --ray: add --ray.")


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"expected {least} or more")
        return value

    return number


def _share(text: str) -> float:
    value = float(text)
    if not (0 <= value <= 1 or (value > 1 and value == int(value))):
        raise argparse.ArgumentTypeError("expected a part of one card, 0 to 1, or whole cards")
    return value


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where the work is done, as options of a command."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--server", metavar="URL", action="append",
        help=f"a ComfyUI that runs ({USUAL}); several times: they share the pictures",
    )  # fmt: skip
    where.add_argument("--comfyui", type=Path, metavar="DIR", help="start the one in this folder")
    parser.add_argument("--cpu", action="store_true", help="start it on the CPU")
    parser.add_argument(
        "--comfyui-argument", action="append", default=[], metavar="ARG",
        help="start it with this as well, as --comfyui-argument=--lowvram",
    )  # fmt: skip
    parser.add_argument(
        "--ray", nargs="?", const=LOCAL, metavar="ADDRESS",
        help="start one ComfyUI on each place that this Ray cluster assigns; without an address, on "
        "this machine alone (needs the package ray)",
    )  # fmt: skip
    parser.add_argument("--workers", type=_at_least(1), metavar="N", help="how many with --ray (1)")
    parser.add_argument(
        "--gpus-per-worker", type=_share, metavar="G",
        help="cards that each of them gets with --ray, or a part of one (1; with --cpu 0)",
    )  # fmt: skip
    parser.add_argument(
        "--retries", type=_at_least(0), default=RETRIES, metavar="N",
        help=f"to how many other workers a picture goes when its own has died ({RETRIES})",
    )  # fmt: skip
