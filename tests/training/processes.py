"""Runs of the toy in processes of their own, forked from one that has imported torch once.

python tests/training/processes.py FOLDER
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()
sys.path.remove(str(Path(__file__).resolve().parent))

import accelerate  # noqa: E402
import torch._dynamo  # noqa: E402  (the optimizer imports it, which takes seconds)
import torch.utils.tensorboard  # noqa: E402

from restoration.tests.training.toy import run_toy, toy_config  # noqa: E402
from restoration.training import checkpoint  # noqa: E402


def two(run: Callable[[], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    children = []
    for rank in "01":
        if not (child := os.fork()):
            os.environ.update(common, RANK=rank, LOCAL_RANK=rank)
            run()
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0, "a process failed"


def replicated(folder: Path) -> None:
    run_toy(toy_config(folder), cpu=False)


def sharded(folder: Path) -> None:
    """By FSDP 2, with a break. accelerate sets it up for cards only, so its state is told."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    class Sharding(accelerate.Accelerator):
        def __init__(self, **options: object) -> None:
            super().__init__(**options)
            for state in (PartialState, AcceleratorState):
                state._shared_state["distributed_type"] = DistributedType.FSDP
            self.state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2)

    accelerate.Accelerator = Sharding
    run_toy(toy_config(folder, run={"steps": 3}), cpu=False)
    part = run_toy(toy_config(folder), resume="2", cpu=False)
    assert part.last.weight.to_local().numel() < part.last.weight.numel(), "it is not split"


def killed(folder: Path) -> None:
    def die_at_the_second(place: Path) -> None:
        if place.name == "00000004":
            os.kill(os.getpid(), signal.SIGKILL)
        finish(place)

    if not (child := os.fork()):
        finish, checkpoint.finish = checkpoint.finish, die_at_the_second
        run_toy(toy_config(folder))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    two(partial(replicated, place / "two"))
    two(partial(sharded, place / "sharded"))
    killed(place / "killed")
