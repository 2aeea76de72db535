"""The loop: one module, one optimizer, accelerate around them.

Every number of a step follows from the seed, the step and a sample's place in it, so several cards,
accumulation and a run that went on give what one uninterrupted card gives.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.draws import Row
from .average import Average
from .checkpoint import Checkpoints, keep_only_trained, writing
from .config import Config, to_toml
from .data.pairs import Share, load, share_of
from .errors import TrainingError
from .export import export, metadata_of
from .log import Log
from .opened import Opened
from .rate import rate
from .run_folder import RunFolder, whole
from .sharded import check_sharding, gathered, joined
from .stopping import StopRequest

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)
SAID_EVERY = 30.0
"""Seconds between lines about the progress."""


def make_accelerator(config: Config, some_idle: bool = False, cpu: bool = False) -> Accelerator:
    """accelerate as its own launcher set it up, in the run's precision. TrainingError: that
    precision is not to be had here."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = cpu or parse_flag_from_env("ACCELERATE_USE_CPU")
    processes = PartialState(cpu=cpu).num_processes
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if processes != started:
        raise TrainingError(
            f"{started} processes were started, and each of them sees {processes}: they would train "
            "apart. Without cards, set ACCELERATE_USE_CPU=true."
        )
    share = share_of(config.run.batch, config.run.at_once, processes, 0)
    parallel = DistributedDataParallelKwargs(
        broadcast_buffers=False, find_unused_parameters=some_idle
    )
    try:
        accelerator = Accelerator(
            cpu=cpu,
            mixed_precision=config.run.precision,
            gradient_accumulation_steps=share.accumulation,
            kwargs_handlers=[parallel],
        )
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f"run.precision = {config.run.precision!r}: {error}.") from error
    check_sharding(accelerator)
    if plugin := accelerator.state.deepspeed_plugin:
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = share.at_once
    return accelerator


@dataclass
class Step:
    """What one step came to, the same in every process."""

    terms: dict[str, float]
    norm: float
    rate: float
    seconds: float
    asked_to_stop: bool

    @property
    def loss(self) -> float:
        return sum(self.terms.values())

    def values(self) -> dict[str, float]:
        return {
            "loss": self.loss,
            **self.terms,
            "gradient_norm": self.norm,
            "rate": self.rate,
            "seconds": self.seconds,
        }


class Trainer:
    """A part, its optimizer and its share of the data in this process."""

    def __init__(self, config: Config, opened: Opened, accelerator: Accelerator) -> None:
        self.config, self.opened, self.accelerator = config, opened, accelerator
        self.part = opened.part
        self.share: Share = share_of(
            config.run.batch,
            config.run.at_once,
            accelerator.num_processes,
            accelerator.process_index,
        )
        chosen = config.optimizer
        if accelerator.is_fsdp2 and (chosen.average or (opened.restore and config.samples.every)):
            raise TrainingError(
                "FSDP splits the network over the cards, but averaged weights and samples need it "
                "whole: set optimizer.average and samples.every to 0, or choose plain data "
                "parallelism with `accelerate config`."
            )
        optimizer = torch.optim.AdamW(
            self.part.trained().values(),
            chosen.lr,
            (chosen.betas[0], chosen.betas[1]),
            chosen.eps,
            chosen.weight_decay,
        )
        keep_only_trained(accelerator, self.part)
        self.module, self.optimizer = accelerator.prepare(self.part, optimizer)
        self.parameters = list(self.part.trained().values())  # FSDP has put others in their place
        self.average = Average(self.part.trained(), chosen.average) if chosen.average else None
        if self.average:
            accelerator.register_for_checkpointing(self.average)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Within it the part is what is exported: the averaged weights, where there are such."""
        return self.average.in_place() if self.average else contextlib.nullcontext()

    def batches(self, start: int, end: int) -> Iterator[Any]:
        """This process's batches from step `start` to before `end`."""
        return load(self.opened.dataset, self.share, start, end, self.config.data.workers)

    def step(self, number: int, batches: Iterator[Any], stop: object = False) -> Step:
        """One step of the optimizer, counted from 0. TrainingError, and nothing of it is kept,
        where the loss or its gradient is no number."""
        began = time.perf_counter()
        speed = rate(self.config.optimizer, number)
        for group in self.optimizer.param_groups:
            group["lr"] = speed
        sums: dict[str, Tensor] = {}
        bad: list[str] = []
        means: dict[str, float] = {}
        norm: Any = None
        for _ in range(self.share.accumulation):
            batch = self._placed(next(batches))
            with self.accelerator.accumulate(self.module):
                terms = self._terms(batch, number)
                loss = torch.stack(list(terms.values())).sum()
                self.accelerator.backward(loss)
                if not math.isfinite(loss.item()):
                    bad += batch["names"]
                for name, term in terms.items():
                    sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach()
                if self.accelerator.sync_gradients:
                    means = self._means(sums, bool(stop))
                    if not all(map(math.isfinite, means.values())):
                        raise self._no_number("loss", number, bad)
                    norm = self.accelerator.clip_grad_norm_(
                        self.parameters, self.config.optimizer.clip or math.inf
                    )
                    norm = None if norm is None else joined(norm)
                    if self.accelerator.scaler is None and norm is not None and not norm.isfinite():
                        raise self._no_number("gradient", number, batch["names"])
                self.optimizer.step()
                self.optimizer.zero_grad()
        if self.average:
            self.average.update(number)
        asked = means.pop(ASKED) > 0
        return Step(
            means,
            math.nan if norm is None else float(norm),
            speed,
            time.perf_counter() - began,
            asked,
        )

    def _terms(self, batch: Any, number: int) -> dict[str, Tensor]:
        first, seed = number * self.share.batch, self.config.run.seed
        rows = [Row(seed, number, sample - first) for sample in batch["sample"]]
        return self.module(batch, self.part.draw(batch, rows))

    def _placed(self, batch: Any) -> Any:
        device = self.accelerator.device
        return {
            key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }

    def _means(self, sums: dict[str, Tensor], stop: bool) -> dict[str, float]:
        """Over the rounds of accumulation and the processes; and whether any process was asked
        to stop."""
        values = [each.float() / self.share.accumulation for each in sums.values()]
        values.append(torch.tensor(float(stop), device=self.accelerator.device))
        mean = self.accelerator.reduce(torch.stack(values), "mean")
        return dict(zip([*sums, ASKED], mean.tolist(), strict=True))  # type: ignore[union-attr]

    def _no_number(self, what: str, number: int, names: list[str]) -> TrainingError:
        from accelerate.utils import gather_object

        found = sorted(set(gather_object(list(names))))
        return TrainingError(
            f"The {what} of step {number + 1} is not a finite number, with the batch "
            f"{', '.join(found) or 'of this step'}. The step was not taken. Lower optimizer.lr, "
            'choose run.precision = "bf16" or "no", or take these pictures out; then go on with '
            "--resume latest."
        )


ASKED = "asked to stop"


def train(config: Config, opened: Opened, accelerator: Accelerator, resume: str = "") -> int:
    """Runs to `run.steps`, or until somebody asks it to stop; the steps done.

    resume: `latest`, a step, or nothing for a new run. TrainingError in one sentence, with the
    last checkpoint whole.
    """
    folder = RunFolder(config.run.folder)
    trainer = Trainer(config, opened, accelerator)
    checkpoints = Checkpoints(accelerator, config, folder, opened.digests)
    start = 0
    if resume:
        start = checkpoints.load(folder.checkpoint(resume))
        log.info("Going on after step %d.", start)
    elif accelerator.is_main_process:
        folder.begin()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        folder.sweep()
        folder.config.write_text(to_toml(config.table()), "utf-8")
    rows = Log(folder.log, start) if accelerator.is_main_process else None
    batches = trainer.batches(start, config.run.steps)
    done, said = start, time.monotonic()
    try:
        with StopRequest() as stop:
            while done < config.run.steps:
                step = trainer.step(done, batches, stop)
                done += 1
                if rows:
                    rows.write(done, step.values())
                if time.monotonic() - said > SAID_EVERY:
                    said = time.monotonic()
                    log.info("Step %d, loss %.5g, %.2f s a step.", done, step.loss, step.seconds)
                ended = step.asked_to_stop or done == config.run.steps
                _keep(trainer, checkpoints, done, ended)
                if step.asked_to_stop:
                    log.info(
                        "Stopped after step %d, which is saved: go on with --resume latest.", done
                    )
                    break
    finally:
        if rows:
            rows.close()
    return done


def _keep(trainer: Trainer, checkpoints: Checkpoints, done: int, ended: bool) -> None:
    """Saves, exports and samples what is due after `done` steps; at the end everything but
    samples."""
    config, opened, accelerator = trainer.config, trainer.opened, trainer.accelerator
    folder, save = checkpoints.folder, config.save
    if ended or _due(done, save.every):
        checkpoints.save(done)
    if done == config.run.steps or _due(done, save.export_every):
        with gathered(trainer.module, accelerator.is_main_process):
            if accelerator.is_main_process:
                _export(trainer, folder, done)
    if accelerator.is_main_process and opened.restore and _due(done, config.samples.every):
        with (
            writing(folder, f"the samples of step {done}"),
            whole(folder.place("samples", done)) as place,
            trainer.averaged(),
        ):
            log.info("Samples of step %d: %s", done, opened.restore(place))
    accelerator.wait_for_everyone()


def _export(trainer: Trainer, folder: RunFolder, done: int) -> None:
    config, opened = trainer.config, trainer.opened
    with (
        writing(folder, f"the export of step {done}"),
        whole(folder.place("export", done)) as place,
        trainer.averaged(),
    ):
        export(
            (opened.publish or trainer.part.published_state)(),
            place,
            metadata_of(config, done, opened.metadata, opened.digests),
        )


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0
