"""ComfyUI inside this process, without its program."""

from __future__ import annotations

import sys
from pathlib import Path


def import_comfyui(
    path: Path, base: Path | None = None, pytorch_attention: bool = False, cpu: bool = True
) -> None:
    """Makes the modules of the ComfyUI in `path` importable, on the CPU or on its own device.

    base: the folder of its models, inputs and outputs; None: its own. pytorch_attention: not the
    CPU's default, which is up to a quarter slower.
    """
    sys.path.insert(0, str(path))
    import comfy.options  # noqa: F401  (from here on, the command line's arguments are not the host's)
    from comfy.cli_args import args

    args.cpu = cpu
    args.use_pytorch_cross_attention = pytorch_attention
    if base is not None:
        args.base_directory = str(base)
