"""DreamBooth: a Stable Diffusion model, or a LoRA for it, learns a subject or a style, for StyleID."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch.utils.data import Dataset

from ...common.diffusion import ForwardProcess
from ...common.state_dict import StateDict
from ..base import Base, model_file, read_weights
from ..config import Config, path
from ..data.pairs import Pairs, Sample, share_of
from ..errors import TrainingError
from ..opened import Opened
from .common import base_of, begin, metadata, pairs_of, without_samples

CLIP_L = 768
"""Text width of Stable Diffusion 1, whose text encoder has one name in all files."""


@dataclass(frozen=True)
class Model:
    base: str = path()
    """A checkpoint of Stable Diffusion 1.x or 2.x."""
    prediction: Literal["eps", "v"] = "eps"
    """What the base predicts: `v` for Stable Diffusion 2.1 at 768."""
    train_text_encoder: bool = False
    lora_rank: int = 0
    """0: the whole UNet trains. Else a LoRA of this rank beside its attention."""
    lora_alpha: float = 4.0
    """The LoRA counts alpha / rank times."""
    class_pictures: str = path()
    """Pictures of the class, made by the base from `class_prompt`; empty: no prior preservation.
    Every second picture of a batch is then one of these."""
    class_prompt: str = ""
    prior_weight: float = 1.0
    snr_gamma: float = 0.0
    """0: no weighting."""
    offset_noise: bool = False


@dataclass(frozen=True)
class WithClass(Dataset):
    """Pictures of the subject and of its class in turn."""

    subject: Pairs
    others: Pairs

    def __getitem__(self, sample: int) -> Sample:
        number, prior = divmod(sample, 2)
        return {**(self.others if prior else self.subject)[number], "prior": bool(prior)}

    def __len__(self) -> int:
        return 2 * max(len(self.subject), len(self.others))


def open_part(config: Config, base: Base | None = None) -> Opened:
    """The base with its data. base: instead of the file's."""
    from ..dreambooth.lora import LoRATrainable
    from ..dreambooth.trainable import DreamBoothSettings, DreamBoothTrainable

    without_samples(config, "DreamBooth learns a subject or a style and restores nothing")
    chosen = config.model
    pairs: Any = pairs_of(config, needs_lq=False)
    if chosen.class_pictures:
        pairs = _with_class(config, pairs)
    file = "" if base else str(model_file("checkpoints", chosen.base, "model.base"))
    base = base or base_of(config)
    whole = chosen.lora_rank == 0
    if whole and chosen.train_text_encoder and base.sizes.context_dim != CLIP_L:
        raise TrainingError(
            "model.train_text_encoder needs Stable Diffusion 1.x: the checkpoints of 2.x name their "
            "text encoder's weights otherwise, and what was trained could not be written back. A "
            "LoRA (model.lora_rank) can train it."
        )
    part = (DreamBoothTrainable if whole else LoRATrainable)(
        base.unet,
        ForwardProcess.scaled_linear(chosen.prediction),
        base.unet_config,
        DreamBoothSettings(
            bool(chosen.class_pictures),
            chosen.prior_weight,
            chosen.snr_gamma or None,
            chosen.offset_noise,
            chosen.train_text_encoder,
            chosen.lora_rank,
            chosen.lora_alpha,
        ),
        moments=base.moments,
        text=base.text,
    )
    begin(config, part)
    head = metadata(config, "dreambooth", prediction=chosen.prediction)
    if not whole:
        head["kind"] = "LoRA"
    publish = _checkpoint(part, file) if whole else None
    return Opened(part, pairs, len(pairs), head, {"base": base.digest}, publish=publish)


def _with_class(config: Config, subject: Pairs) -> WithClass:
    from accelerate.state import PartialState

    processes = PartialState().num_processes
    if share_of(config.run.batch, config.run.at_once, processes, 0).at_once % 2:
        raise TrainingError(
            "With model.class_pictures every second picture is one of the class: choose run.batch "
            "(and run.at_once) so that every process takes an even number at once."
        )
    data = replace(
        config.data,
        pictures=(config.model.class_pictures,),
        text="prompt",
        prompt=config.model.class_prompt,
    )
    return WithClass(subject, pairs_of(replace(config, data=data), needs_lq=False))


def _checkpoint(part: Any, file: str) -> Callable[[], dict[str, StateDict]]:
    """The base's own file with what was trained laid over it, for models/checkpoints."""

    def publish() -> dict[str, StateDict]:
        weights = dict(read_weights(model_file("checkpoints", file, "model.base"))) if file else {}
        trained = part.checkpoint_state()
        for key, value in part.published().get("text_encoder.", {}).items():
            trained[f"cond_stage_model.transformer.{key}"] = value.detach().float().cpu().clone()
        weights |= {k: v.to(weights[k].dtype) if k in weights else v for k, v in trained.items()}
        return {"checkpoint.safetensors": weights}

    return publish
