"""What a ComfyUI would do on this machine: device, memory, attention and precisions, as JSON.

`python tools/comfyui/facts.py FOLDER [--cpu]`, a process of its own, since it imports ComfyUI.
"""

# ruff: noqa: T201
from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SD_UNET = 865_910_724
"""Parameters of the UNet of Stable Diffusion 2: core chooses precisions by size."""
ATTENTIONS = ("sage", "flash", "xformers", "pytorch")
"""In the order in which core prefers them."""


def ask(comfyui: Path, cpu: bool, timeout: float = 300.0) -> dict[str, Any]:
    """What `facts` says, from a process of its own. Raises OSError with the end of what it said."""
    command = [sys.executable, str(Path(__file__).resolve()), str(comfyui), *["--cpu"] * cpu]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"ComfyUI could not be imported within {timeout:.0f} s.") from error
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        said = " ".join(done.stderr.strip().splitlines()[-3:])
        raise OSError(f"ComfyUI could not be imported: {said}") from error


def facts(comfyui: Path, cpu: bool) -> dict[str, Any]:
    """Imports that ComfyUI into this process and asks it. Byte counts are numbers of bytes."""
    sys.path.insert(0, str(comfyui))
    import comfy.options  # noqa: F401  (so that it does not read our arguments)
    from comfy.cli_args import args

    args.cpu = cpu
    from comfy import model_management as mm

    device = mm.get_torch_device()
    enabled = (name for name in ATTENTIONS if getattr(mm, f"{name}_attention_enabled", _no)())
    attention = "xformers" if mm.xformers_enabled() else next(enabled, "split or sub-quadratic")
    vae = mm.vae_dtype(device, [mm.torch.bfloat16, mm.torch.float32])
    return {
        "device": mm.get_torch_device_name(device),
        "type": device.type,
        "memory": mm.get_total_memory(device),
        "memory_free": mm.get_free_memory(device),
        "memory_state": mm.vram_state.name.lower(),
        "attention": attention,
        "unet": _name(mm.unet_dtype(device=device, model_params=SD_UNET)),
        "vae": _name(vae),
        "text_encoder": _name(mm.text_encoder_dtype(device)),
    }


def _no() -> bool:
    return False


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # ComfyUI may print while it is imported
        found = facts(Path(sys.argv[1]), "--cpu" in sys.argv[2:])
    print(json.dumps(found))
