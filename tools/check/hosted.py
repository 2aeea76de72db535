"""The cases of networks that stand on ComfyUI's layers, in a process of its own, since it imports
ComfyUI: the control networks of DiffBIR, PASD and SeeSR, as their loaders build them."""

# ruff: noqa: T201
from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...common.hint_encoder import HintEncoder, hint_encoder_config
from ...diffbir.config import ControlConfig
from ...seesr.config import SeeSRConfig
from ..comfyui.find import PACK_ROOT
from ..comfyui.inprocess import import_comfyui
from .cases import Case
from .golden import Outcome, run_cases
from .runners import Place, Runner

START = (
    f"import runpy; runpy.run_path({str(PACK_ROOT / 'tools' / 'package.py')!r})['register_pack']();"
    f"from restoration.tools.check.hosted import main; main()"
)
"""Not a module of the pack's folder: that may have any name."""


def ask(
    comfyui: Path, cpu: bool, half: torch.dtype | None = None, timeout: float = 600.0
) -> list[Outcome]:
    """`run_cases` for `RUNNERS` in that ComfyUI, on its device. Raises OSError with the end of what
    the process said."""
    words = [str(comfyui), "cpu" if cpu else "own", str(half).removeprefix("torch.")]
    command = [sys.executable, "-c", START, *words]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"The cases in ComfyUI took more than {timeout:.0f} s.") from error
    try:
        return [_outcome(**each) for each in json.loads(done.stdout)]
    except ValueError as error:
        said = " ".join(done.stderr.strip().splitlines()[-3:])
        raise OSError(f"The cases in ComfyUI ended with: {said}") from error


def _outcome(difference: float | None, passed: bool, **rest: Any) -> Outcome:
    return Outcome(difference=math.inf if difference is None else difference, **rest)


def main() -> None:
    """What `ask` starts."""
    comfyui, device, half = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):  # ComfyUI may print while it is imported
        import_comfyui(Path(comfyui), cpu=device == "cpu")
        from comfy.model_management import get_torch_device

        found = run_cases(get_torch_device(), getattr(torch, half, None), RUNNERS)
    print(json.dumps([each.as_dict() for each in found]))


def control_config(config: Mapping[str, Any]) -> ControlConfig:
    """DiffBIR's sizes from a case's, which are in the words of its reference."""
    lists = ("channel_mult", "attention_resolutions")
    names = ("model_channels", "num_res_blocks", "transformer_depth", "num_head_channels")
    names += ("context_dim", "in_channels", "hint_channels")
    return ControlConfig(
        **{name: tuple(config[name]) for name in lists}, **{name: config[name] for name in names}
    )


def seesr_config(config: Mapping[str, Any]) -> SeeSRConfig:
    """SeeSR's sizes from a case's, in diffusers' words: attention_head_dim is the number of heads."""
    widths, heads = config["block_out_channels"], config["attention_head_dim"]
    heads = [heads] * len(widths) if isinstance(heads, int) else heads
    (per_head,) = {width // number for width, number in zip(widths, heads, strict=True)}
    return SeeSRConfig(
        channels=tuple(widths),
        num_res_blocks=config["layers_per_block"],
        transformers=tuple(kind.startswith("Cross") for kind in config["down_block_types"]),
        context_dim=config["cross_attention_dim"],
        num_head_channels=per_head,
        in_channels=config["in_channels"],
    )


def pasd_heads(config: Mapping[str, Any]) -> dict[str, int]:
    """PASD's heads, which no file tells: an integer is their number at every level, a list the number
    by level, whose width is then one."""
    number = config["attention_head_dim"]
    if isinstance(number, int):
        return {"num_heads": number, "num_head_channels": -1}
    (width,) = {c // n for c, n in zip(config["block_out_channels"], number, strict=True)}
    return {"num_heads": -1, "num_head_channels": width}


def diffbir_control(case: Case, place: Place) -> dict[str, Tensor]:
    """IRControlNet: one call."""
    from ...diffbir.keys import convert
    from ...diffbir.networks import DiffBIRControlNet

    config = control_config(case.config)
    network = DiffBIRControlNet(config)
    network.load_state_dict(convert(case.weights(), case.name, config))
    place.ready(network)
    x, hint, text = (place.put(case.tensors[name]) for name in ("x", "c_img", "context"))
    maps = network(torch.cat([x, hint], 1), _times(case.tensors["timesteps"], x), text)
    return _named("control_{:02}", "control_{:02}", maps)


def pasd_control(case: Case, place: Place) -> dict[str, Tensor]:
    """PASD's control network with its image encoder, and the pictures that its heads see."""
    import comfy.ops

    from ...host.control_encoder import ControlEncoder, control_weights
    from ...pasd.keys import config_from, control_part

    weights, encoder = control_part(case.weights(), case.name)
    config = config_from(weights, case.name)
    unet = {**config.unet_config(), **pasd_heads(case.config)}
    hints = HintEncoder(**hint_encoder_config(encoder))
    hints.load_state_dict(encoder)
    network = ControlEncoder(unet, comfy.ops.manual_cast)
    network.load_state_dict(control_weights(weights, unet))
    for each in (hints, network):
        place.ready(each)
    names = ("sample", "image", "encoder_hidden_states")
    x, image, text = (place.put(case.tensors[name]) for name in names)
    maps = network(x, _times(case.tensors["timestep"], x), text, hints(image))
    return {
        **_named("residual_{:02}", "mid", maps),
        **{f"rgb_{i}": rgb for i, rgb in enumerate(hints.rgbs(image))},
    }


def seesr_control(case: Case, place: Place) -> dict[str, Tensor]:
    """SeeSR's control network with its representation attention."""
    import comfy.ops

    from ...seesr.keys import control_part
    from ...seesr.load import branch_weights
    from ...seesr.networks import SeeSRControlNet

    config = seesr_config(case.config)
    network = SeeSRControlNet(config, operations=comfy.ops.manual_cast)
    network.load_state_dict(branch_weights(control_part(case.weights(), case.name), config))
    place.ready(network)
    names = ("x", "hint", "text", "image_tokens")
    x, image, text, tokens = (place.put(case.tensors[name]) for name in names)
    times = _times(torch.tensor([case.config["timestep"]]), x)
    maps = network(x, times, text, network.hint(image), tokens, {})
    return _named("down_{:02}", "mid", maps)


def _times(timesteps: Tensor, x: Tensor) -> Tensor:
    """One a row. Always float32: 999 is no number of bfloat16."""
    return timesteps.to(x.device, torch.float32).expand(len(x))


def _named(residual: str, middle: str, maps: tuple[list[Tensor], Tensor]) -> dict[str, Tensor]:
    residuals, last = maps
    found = {residual.format(i): each for i, each in enumerate(residuals)}
    return {**found, middle.format(len(residuals)): last}


RUNNERS = {
    ("diffbir", "ControlNet (IRControlNet)"): Runner(diffbir_control),
    ("pasd", "ControlNet branch"): Runner(pasd_control),
    ("seesr", "ControlNet"): Runner(seesr_control),
}
