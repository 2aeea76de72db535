"""A network of ours learns a little more inside ComfyUI: a short loop without accelerate, on copies, so that
whatever stops it leaves everything as it was."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import comfy.utils
import torch
from comfy import model_management as mm
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ..common.crops import Crops
from ..common.draws import Draws, rows_of
from .memory import is_out_of_memory
from .report import announce, show, size_text
from .trainable import Trainable
from .trainable_base import Moments
from .trainable_unet import DiffusionTrainable

Batch = dict[str, Any]
Round = tuple[Batch, Draws]
"""What a part is called with."""
EVERYTHING = 1e20
"""Bytes to ask the host for: training keeps gradients, moments and activations beside weights, so
whatever else is loaded has to go."""
HIGHEST = torch.float32
BYTES_PER_PARAMETER = 16
"""Weight, gradient and AdamW's two moments, in float32."""


@dataclass(frozen=True)
class Rule:
    """How AdamW moves the weights."""

    learning_rate: float
    weight_decay: float = 0.01
    clip: float = math.inf
    """Of the gradients' joint norm."""
    rounds: int = 1
    """Whose mean gradient makes a step."""
    dtype: torch.dtype = HIGHEST
    """What is computed in; weights stay float32."""


@dataclass(frozen=True)
class Settings:
    """A fine-tuning in the words of core's Train LoRA."""

    steps: int
    batch_size: int
    grad_accumulation_steps: int
    learning_rate: float
    seed: int
    training_dtype: Literal["bf16", "fp32"]
    gradient_checkpointing: bool

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.training_dtype == "bf16" else HIGHEST


@dataclass(frozen=True)
class Tuning:
    """What a method hands over: a copy of its network that trains, and the way back."""

    title: str
    part: Trainable
    result: Callable[[], object]
    """The network as its loader would give it, from what the copy has become."""
    degradation: str
    """Name of the preset that the authors damaged their pictures with."""
    weight_decay: float = 0.01
    clip: float = math.inf
    text_width: int = 0
    """Of the texts that it learns with; 0: it reads none."""
    complete: Callable[[Batch], Batch] = dict
    """Adds what the part reads beside `lq` and `hq`, on the device of these."""
    beside: Sequence[Any] = ()
    """Patchers of the networks that `complete` runs."""
    own: Sequence[nn.Module] = ()
    """Further networks that it runs, which no patcher holds."""


@dataclass(frozen=True)
class Beside:
    """What is connected besides the network that learns; None: nothing is."""

    model: Any | None = None
    vae: Any | None = None
    positive: Any | None = None
    cleaner: Callable[[], nn.Module] | None = None
    """Makes the stage 1 that cleans pictures before a network sees them; see `Tuning.own`."""
    seed: int = 0

    def needed(self, name: str, title: str) -> Any:
        """One of them. Raises ValueError where it is not connected. title: of what needs it."""
        found = getattr(self, name)
        if found is None:
            raise ValueError(f"`{name}` is not connected; {title} learns with {NEEDED[name]}.")
        return found


NEEDED = {
    "model": "the MODEL that it restores with: connect Load Checkpoint",
    "vae": "the VAE that it restores with: connect Load Checkpoint",
    "positive": "what the pictures show in words: connect CLIP Text Encode, which may be empty",
}


def with_latents(moments: Moments) -> Callable[[Batch], Batch]:
    """For `Tuning.complete`: the posterior of the clean picture."""

    @torch.no_grad()
    def complete(batch: Batch) -> Batch:
        mean, logvar = moments(batch["hq"] * 2 - 1)
        return batch | {"mean": mean, "logvar": logvar}

    return complete


def finetune(tuning: Tuning, crops: Crops, settings: Settings) -> tuple[object, list[float]]:
    """(the network afterwards, the mean loss of every step). To be called outside of inference mode.

    Raises ValueError where a loss is no number, and the host's own error when somebody cancels it
    or memory runs out: nothing but the copy has changed then.
    """
    _check_dtype(settings.dtype)
    size, number_of_rounds = settings.batch_size, settings.grad_accumulation_steps
    rule = Rule(
        settings.learning_rate, tuning.weight_decay, tuning.clip, number_of_rounds, settings.dtype
    )
    part, progress = tuning.part, comfy.utils.ProgressBar(settings.steps)
    count = sum(p.numel() for p in part.trained().values())
    announce(
        f"Fine-tuning {tuning.title}: {count / 1e6:.4g} million weights, for which training keeps "
        f"{size_text(count * BYTES_PER_PARAMETER)}, and activations."
    )
    if settings.gradient_checkpointing and isinstance(part, DiffusionTrainable):
        part.checkpointed()

    def after(step: int, loss: float) -> None:
        show(f"step {step + 1} of {settings.steps}, loss {loss:.4g}")
        progress.update(1)

    with on_card([part, *tuning.own], tuning.beside) as device:

        def rounds(step: int, number: int) -> Round:
            rows = rows_of(settings.seed, step, number * size, size)
            batch = crops.batch(rows, size * number_of_rounds)
            batch = tuning.complete(
                {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            )
            return batch, part.draw(batch, rows)

        losses = optimize(part, rounds, rule, settings.steps, after)
    return tuning.result(), losses


def _check_dtype(dtype: torch.dtype) -> None:
    device = mm.get_torch_device()
    if dtype == HIGHEST or mm.is_device_cpu(device) or mm.should_use_bf16(device):
        return
    raise ValueError("`training_dtype` is bf16, which this card does not compute in: choose fp32.")


@contextmanager
def on_card(own: Sequence[nn.Module], beside: Sequence[Any]) -> Iterator[torch.device]:
    """Within it, networks lie whole where the host computes; own ones leave again. beside: patchers
    of others."""
    # Plain ones, for the newest host's own kind may keep weights elsewhere and move them by layer.
    patchers = [
        ModelPatcher(each, load_device=mm.get_torch_device(), offload_device=torch.device("cpu"))
        for each in own
    ]
    try:
        mm.load_models_gpu([*patchers, *beside], memory_required=EVERYTHING, force_full_load=True)
        yield mm.get_torch_device()
    except Exception as error:
        if is_out_of_memory(error):
            text = (
                "Out of memory while training: lower crop_size or batch_size (and raise "
                "grad_accumulation_steps), and leave gradient_checkpointing on."
            )
            announce(text, level=logging.WARNING)
        raise
    finally:
        for each in own:
            each.zero_grad(set_to_none=True)
        for patcher in patchers:
            patcher.detach()
        mm.soft_empty_cache()


def optimize(
    part: Trainable,
    rounds: Callable[[int, int], Round],
    rule: Rule,
    steps: int,
    after: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """AdamW's steps; the mean loss of each. rounds: (step, its round), both counted from 0, to what
    the part is called with. after: hears of every step and its loss.

    Raises ValueError where a loss or gradient is no number, before the step is taken, with the
    names of the pictures.
    """
    trained = list(part.trained().values())
    optimizer = torch.optim.AdamW(trained, rule.learning_rate, weight_decay=rule.weight_decay)
    losses = []
    for step in range(steps):
        total, names = 0.0, []
        for number in range(rule.rounds):
            mm.throw_exception_if_processing_interrupted()
            batch, draws = rounds(step, number)
            names += batch.get("names", [])
            with torch.autocast(mm.get_torch_device().type, rule.dtype, rule.dtype != HIGHEST):
                loss = torch.stack(list(part(batch, draws).values())).sum() / rule.rounds
            total += float(loss.detach())
            if not math.isfinite(total):
                raise _no_number("loss", step, batch.get("names", []))
            loss.backward()
        if not torch.nn.utils.clip_grad_norm_(trained, rule.clip).isfinite():
            raise _no_number("gradient", step, names)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
        after(step, total)
    return losses


def _no_number(what: str, step: int, names: Sequence[str]) -> ValueError:
    shown = ", ".join(dict.fromkeys(names)) or "the batch of this step"
    return ValueError(
        f"The {what} of step {step + 1} is not a finite number, with {shown}. Nothing was changed. "
        "Lower `learning_rate`, set `training_dtype` to fp32, or take that picture out."
    )
