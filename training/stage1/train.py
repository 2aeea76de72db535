# ruff: noqa: T201
"""Trains the bundled light restoration model from nothing but a seed.

    python training/stage1/train.py                  # picture pool, training, weights.safetensors
    python training/stage1/train.py --minutes 240    # longer is better
    python training/stage1/train.py --resume         # goes on after an interruption

Needs torch, numpy, Pillow, scipy and spandrel, whose own NAFNet class is the network. Runs on a CPU
(bfloat16 where it has it) or on the first CUDA device. State is kept in `.cache/` beside this file.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import runpy
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from spandrel.architectures.NAFNet import NAFNet
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "package.py"))["register_pack"]()

from restoration.common import metrics  # noqa: E402
from restoration.stage1.keys import TRAINED_ON  # noqa: E402
from restoration.training.stage1.degrade import MODES, training_pair  # noqa: E402
from restoration.training.stage1.generate import generate  # noqa: E402

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
NETWORKS = {
    "small": {
        "width": 16,
        "enc_blk_nums": [1, 2, 2],
        "middle_blk_num": 3,
        "dec_blk_nums": [1, 2, 1],
    },
    "large": {
        "width": 32,
        "enc_blk_nums": [1, 2, 3],
        "middle_blk_num": 4,
        "dec_blk_nums": [2, 1, 1],
    },
}
PICTURE = 320  # side of the pool's pictures
CHUNK = 100
VALIDATION_SEED = 10**9
LONGEST_STEP = 60  # seconds that a step counts at most: a stopped program spends no budget
BLOCK = re.compile(r"(encoders\.\d+|decoders\.\d+|middle_blks)\.\d+\.")


class FusedNorm(nn.Module):
    """Layer norm over the channels, as NAFNet's own LayerNorm2d, in a form that compilers fuse."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """BCHW -> BCHW."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        x = functional.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, self.eps)
        return x.permute(0, 3, 1, 2)


def make_network(size: str = "small") -> NAFNet:
    """A NAFNet of spandrel; "small" is the one of the bundled weights. BCHW [0, 1] -> same."""
    network = NAFNet(img_channel=3, **NETWORKS[size])
    for block in list(network.modules()):
        for name, child in block.named_children():
            if type(child).__name__ == "LayerNorm2d":
                setattr(block, name, FusedNorm(child.get_parameter("weight").numel()))
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def picture(seed: int) -> np.ndarray:
    """One picture of the pool."""
    return generate(seed, PICTURE)


def picture_pool(count: int, first_seed: int, workers: int) -> np.ndarray:
    """`count` pictures, N x PICTURE x PICTURE x 3 uint8, read from the cache or made now."""
    CACHE.mkdir(parents=True, exist_ok=True)
    chunks, start = [], time.time()
    for seed in range(first_seed, first_seed + count, CHUNK):
        end = min(seed + CHUNK, first_seed + count)
        path = CACHE / f"pictures-{PICTURE}-{seed}-{end}.npy"
        if not path.exists():
            with Pool(workers) as pool:
                made = pool.map(picture, range(seed, end), chunksize=5)
            half = path.with_suffix(".part")
            with open(half, "wb") as file:
                np.save(file, np.stack(made))
            os.replace(half, path)
            print(f"pictures {end - first_seed}/{count}, {time.time() - start:.0f} s", flush=True)
        chunks.append(np.load(path))
    return np.concatenate(chunks)


class Pairs(IterableDataset):
    """Endless batches of (degraded, clean), B x P x P x 3 uint8.

    Every few batches one picture of the pool gives way to a new one, so no picture stays for long.
    """

    REFRESH = 12

    def __init__(self, pool: np.ndarray, batch: int, patch: int, seed: int) -> None:
        self.pool, self.batch, self.patch, self.seed = pool, batch, patch, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = torch.utils.data.get_worker_info()
        torch.set_num_threads(1)
        rng = np.random.default_rng([self.seed, info.id if info else 0])
        made = 0
        while True:
            made += 1
            if made % self.REFRESH == 0:
                self.pool[rng.integers(len(self.pool))] = picture(int(rng.integers(10**10, 10**15)))
            bad, clean = [], []
            for index in rng.integers(0, len(self.pool), self.batch):
                pair = training_pair(rng, self.pool[index], self.patch)
                bad.append(pair[0])
                clean.append(pair[1])
            yield torch.from_numpy(np.stack(bad)), torch.from_numpy(np.stack(clean))


def to_float(batch: Tensor, device: torch.device) -> Tensor:
    """BHWC uint8 to BCHW float [0, 1], channels last in memory."""
    return batch.to(device).movedim(3, 1).float().div_(255)


def log_mse(output: Tensor, clean: Tensor, floor: float = 2e-5) -> Tensor:
    """Mean over the batch of each sample's log mean squared error: PSNR but for a factor.

    Every sample counts by its decibels, so nearly clean ones are not drowned by noisy ones. `floor`
    ends the reward at 47 dB, an error of one level, else untouched samples would rule.
    """
    error = (output.float() - clean).square().mean((1, 2, 3))
    return torch.log(error + floor).mean()


def psnr(output: Tensor, clean: Tensor) -> Tensor:
    """Per sample, after clipping and rounding to 8 bits. BCHW [0, 1] -> B.

    At most 60 dB: untouched samples are infinitely good and would rule the mean.
    """
    output = output.float().clamp(0, 1).mul(255).round().div(255)
    return metrics.psnr(output, clean, peak=1).clamp(max=60)


def validation_set(count: int, workers: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Fixed pairs of pictures that training never sees, for each degradation mode."""
    pictures = picture_pool(count, VALIDATION_SEED, workers)
    sets = {}
    for number, mode in enumerate(MODES):
        rng = np.random.default_rng(number)
        pairs = [training_pair(rng, image, 256, mode) for image in pictures]
        sets[mode] = (np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs]))
    return sets


@torch.no_grad()
def validate(network: nn.Module, sets: dict, device: torch.device, amp: bool) -> str:
    """Mean PSNR of input and output for each mode, as one line."""
    words = []
    for mode, (bad, clean) in sets.items():
        before, after = [], []
        for i in range(0, len(bad), 8):
            x = to_float(torch.from_numpy(bad[i : i + 8]), device)
            y = to_float(torch.from_numpy(clean[i : i + 8]), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=amp):
                output = network(x)
            before.append(psnr(x, y))
            after.append(psnr(output, y))
        words.append(f"{mode} {torch.cat(before).mean():.2f}->{torch.cat(after).mean():.2f}")
    return ", ".join(words)


def save_atomically(save: Callable[[Path], object], path: Path) -> None:
    """Calls save(temporary path), then moves the file into place."""
    half = path.with_name(path.name + ".part")
    save(half)
    half.chmod(0o644)  # safetensors writes for the owner alone
    os.replace(half, path)


def export(state: dict[str, Tensor], path: Path) -> None:
    """Writes the averaged weights as fp16 safetensors."""
    half = {k: v.detach().half().cpu().contiguous() for k, v in state.items()}
    note = {"architecture": "NAFNet", "trained_on": TRAINED_ON}
    save_atomically(lambda p: save_file(half, p, metadata=note), path)


def learning_rate(done: float, peak: float) -> float:
    """Short linear warm-up, then a cosine down to nearly nothing. `done` is the share of the run."""
    if done < 0.01:
        return peak * max(done / 0.01, 0.02)
    return peak * (0.5 + 0.5 * math.cos(math.pi * min(done, 1.0))) + 1e-6


def computes_in_bfloat16() -> bool:
    """True where bfloat16 has instructions of its own; imitated, it takes ten times as long."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return "BF16" in torch.backends.cpu.get_cpu_capability() or (
        torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]
    )


def loader_of(pool: np.ndarray, batch: int, patch: int, seed: int, workers: int) -> Iterator:
    """An endless iterator over training batches, made in worker processes or (0) in this one."""
    data = Pairs(pool, batch, patch, seed)
    ahead = 4 if workers else None
    return iter(DataLoader(data, batch_size=None, num_workers=workers, prefetch_factor=ahead))


def start_from(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Loads weights of the same width. Blocks that they lack begin as they are made: they do nothing.

    Raises ValueError where the weights belong to another network.
    """
    have = network.state_dict()
    other = [
        key for key, value in weights.items() if key not in have or have[key].shape != value.shape
    ]
    lacking = [key for key in have.keys() - weights.keys() if not BLOCK.match(key)]
    if other or lacking:
        raise ValueError(
            f"The weights to start from are of another network: {sorted(other + lacking)[0]!r} does "
            "not fit. Choose the --network they were trained as, or leave --start-from out."
        )
    network.load_state_dict({key: value.float() for key, value in weights.items()}, strict=False)


def train(args: argparse.Namespace) -> None:
    """Runs until the minutes are spent."""
    global CACHE
    CACHE = args.cache
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = CACHE / args.run
    run.mkdir(parents=True, exist_ok=True)
    pool = picture_pool(args.pictures, args.seed * 10**6, args.threads)
    sets = validation_set(args.validate, args.threads)

    network = make_network(args.network).to(device)
    if args.start_from:
        start_from(network, load_file(args.start_from))
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, (0.9, 0.95), weight_decay=1e-4)
    step, spent = 0, 0.0
    checkpoint = run / "last.pt"
    if args.resume and checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step, spent = saved["average"], saved["step"], saved["spent"]
        print(f"resumed at step {step}, {spent / 60:.1f} min")
    count = sum(p.numel() for p in network.parameters())
    print(
        f"{count} parameters, {len(pool)} pictures, {device}, budget {args.minutes} min", flush=True
    )

    def keep() -> None:
        saved = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average,
            "step": step,
            "spent": spent,
        }
        save_atomically(lambda p: torch.save(saved, p), checkpoint)
        export(average, run / "weights.safetensors")

    judged = make_network(args.network).to(device)
    asked_to_end = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_end.append(number))
    fast = torch.compile(network, dynamic=False) if args.compile else network
    batches = loader_of(pool, args.batch, args.patch, args.seed + step + 1, args.workers)
    budget, tick = args.minutes * 60, time.time()
    last_kept = last_judged = spent
    losses: list[float] = []
    while spent < budget and not asked_to_end:
        bad, clean = (to_float(t, device) for t in next(batches))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spent / budget, args.lr)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
            output = fast(bad)
        loss = log_mse(output, clean)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), args.clip)
        optimizer.step()
        step += 1
        decay = min(args.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for key, value in network.state_dict().items():
                average[key].lerp_(value, 1 - decay)
        losses.append(loss.item())
        now = time.time()
        spent, tick = spent + min(now - tick, LONGEST_STEP), now
        if step % 50 == 0:
            print(
                f"step {step}, {spent / 60:.1f} min, loss {np.mean(losses):.4f}, "
                f"{-10 / math.log(10) * np.mean(losses):.2f} dB",
                flush=True,
            )
            losses.clear()
        if spent - last_kept > 60:
            keep()
            last_kept = spent
        if spent - last_judged > args.judge_minutes * 60 or spent >= budget:
            judged.load_state_dict(average)
            print(
                f"validation at {spent / 60:.1f} min: {validate(judged, sets, device, args.amp)}",
                flush=True,
            )
            last_judged = spent
            tick = time.time()  # the budget is for training
    keep()
    if asked_to_end:
        print(f"stopped at step {step}; --resume goes on", flush=True)
        return
    export(average, Path(args.output))
    print(f"wrote {args.output} after {step} steps, {spent / 60:.1f} min")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Trains the light restoration model.")
    flag = argparse.BooleanOptionalAction
    parser.add_argument("--network", choices=NETWORKS, default="small")
    parser.add_argument("--minutes", type=float, default=60, help="training time")
    parser.add_argument("--pictures", type=int, default=600, help="pictures to start with")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=128, help="side of a training patch")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--average", type=float, default=0.998, help="decay of averaged weights")
    parser.add_argument("--clip", type=float, default=0.5, help="limit of the gradient's norm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 2)
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes that degrade patches; 0: none beside this one",
    )
    parser.add_argument(
        "--amp", action=flag, default=computes_in_bfloat16(), help="bfloat16 autocast"
    )
    compiler = bool(shutil.which("c++") or shutil.which("cl"))
    parser.add_argument("--compile", action=flag, default=compiler, help="torch.compile (faster)")
    parser.add_argument("--judge-minutes", type=float, default=15, help="between validations")
    parser.add_argument("--validate", type=int, default=24, help="pictures of the validation")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of state and pictures")
    parser.add_argument("--run", default="run", help="name of the state's folder in .cache")
    parser.add_argument("--resume", action="store_true", help="go on with the run of that name")
    parser.add_argument("--start-from", help="weights to start from instead of random ones")
    parser.add_argument("--output", default=str(HERE / "weights.safetensors"))
    return parser


def main() -> None:
    """Trains as the command line says."""
    train(parser().parse_args())


if __name__ == "__main__":
    main()
