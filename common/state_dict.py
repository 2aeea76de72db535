"""Checkpoints as dictionaries: unwrapping, what a file looks like, and one strict check."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .text import few, printable

StateDict = dict[str, Tensor]
Value = TypeVar("Value")
Layout = Mapping[str, tuple[int, ...]]
"""Every key of a network and the shape of its tensor."""

WRAPPINGS = ("state_dict", "module", "model", "params_ema", "params")
"""Keys under which training scripts put the weights, with other things beside them."""
MAX_WRAPPINGS = 8
"""One in the other; a hostile file may be its own."""
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What PyTorch's wrappers of networks (DataParallel, DDP, averaging; compile; sharding;
checkpointing) put between the names of a key, at any depth; no network of ours has such a part."""


AVERAGED = "n_averaged"
"""What PyTorch's AveragedModel counts, beside the weights it wraps."""


@dataclass(frozen=True)
class Signature:
    """What gives a kind of file away."""

    marks: tuple[str, ...]
    """Each occurs in a key."""
    what: str
    """In words that go after "this is"."""
    without: tuple[str, ...] = ()
    """None occurs in any key."""
    expected: str = ""
    """What a loader of such files calls them in its errors; empty: there is none."""

    def fits(self, keys: Iterable[str]) -> bool:
        keys = list(keys)

        def occurs(mark: str) -> bool:
            return any(mark in key for key in keys)

        return all(map(occurs, self.marks)) and not any(map(occurs, self.without))


GENERIC = (
    Signature(("input_hint_block.",), "a Stable Diffusion ControlNet with a hint encoder"),
    Signature(("controlnet_cond_embedding.",), "a Stable Diffusion ControlNet in diffusers form"),
    Signature(("model.diffusion_model.",), "a Stable Diffusion checkpoint"),
    Signature(("input_blocks.", "output_blocks."), "a Stable Diffusion UNet"),
    Signature(
        ("down_blocks.", "up_blocks.", "time_embedding."),
        "a Stable Diffusion UNet in diffusers form",
    ),
    Signature((".lora_",), "a LoRA"),
    Signature(("quant_conv.", "decoder.up"), "a VAE"),
    Signature(("resblocks.",), "a CLIP text encoder"),
    Signature(("text_model.encoder.",), "a CLIP text encoder"),
)
"""What belongs to no method, specific before broad."""


class CheckpointError(ValueError):
    """A file that holds something else, or not all, of what a loader expects.

    The message is a sentence or two. Names in it come out of files and off disks, so it is made
    printable here, where all such messages pass.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UnknownWeightsError(CheckpointError):
    """Weights that are not what a loader expects. A method knows no signatures but its own, so
    whoever knows them all (registry.py) says what the file is instead."""

    def __init__(
        self,
        keys: Iterable[str],
        file: str,
        expected: str,
        advice: str,
        signatures: Sequence[Signature] = GENERIC,
    ) -> None:
        self.parts = (tuple(keys), file, expected, advice)
        match = recognized(self.parts[0], signatures)
        if match and match.expected == expected:  # no contradiction, please
            said = unlike(self.parts[0], file, match)
        else:
            said = f"{file} is not {expected}: this is {describe(self.parts[0], signatures)}."
        super().__init__(f"{said} {advice}")

    def named(self, signatures: Sequence[Signature]) -> UnknownWeightsError:
        """The same, told by these signatures."""
        return UnknownWeightsError(*self.parts, signatures=signatures)


def recognized(keys: Iterable[str], signatures: Sequence[Signature] = GENERIC) -> Signature | None:
    """The first signature that fits."""
    keys = list(keys)
    return next((signature for signature in signatures if signature.fits(keys)), None)


def unlike(keys: Iterable[str], file: str, signature: Signature) -> str:
    """What is wrong with weights that a signature fits and no loader of theirs takes."""
    keys = list(keys)
    return (
        f"{file} looks like {signature.what}, but its names or shapes are not those of the "
        f"published file (first of {len(keys)} names: {few(keys)})."
    )


def describe(keys: Iterable[str], signatures: Sequence[Signature] = GENERIC) -> str:
    """What a state dict is, in words that go after "this is"."""
    keys = list(keys)
    if match := recognized(keys, signatures):
        return match.what
    if not keys:
        return "a file without any weights"
    return f"an unknown model (first of {len(keys)} keys: {few(keys)})"


def unwrapped(contents: object) -> StateDict:
    """The tensors of a checkpoint, out of its wrapping and under the names that they had before
    PyTorch's wrappers (`module.`, `_orig_mod.`) were around the network or parts of it. A file of
    tables, beside which there may be some more tensors, gives all of theirs under the table's name
    and a dot."""
    for _ in range(MAX_WRAPPINGS):
        if not isinstance(contents, Mapping):
            return {}
        inside = next((w for w in WRAPPINGS if isinstance(contents.get(w), Mapping)), None)
        if inside is None:
            break
        contents = contents[inside]
    assert isinstance(contents, Mapping)
    weights = _tensors(contents)
    tables = {str(name): found for name, each in contents.items() if (found := _tensors(each))}
    if not weights or len(tables) > 1:
        weights |= {
            f"{name}.{k}": value for name, each in tables.items() for k, value in each.items()
        }
    bare = {_bare(key): value for key, value in weights.items()}
    if len(bare) != len(weights):  # wrapped and not, side by side: not ours to choose
        return weights
    if bare.keys() != weights.keys():
        bare.pop(AVERAGED, None)
    return bare


def _tensors(contents: object) -> StateDict:
    if not isinstance(contents, Mapping):
        return {}
    return {str(key): value for key, value in contents.items() if isinstance(value, Tensor)}


def _bare(key: str) -> str:
    parts = key.split(".")
    if WRAPPERS.isdisjoint(parts):
        return key
    return ".".join(part for part in parts if part not in WRAPPERS)


UNET_PREFIX, CONTROL_PREFIX = "unet.", "controlnet."
"""Prefixes in a converted file, which holds the two networks of a method."""


def is_pair(weights: Mapping[str, object]) -> bool:
    """Whether a file holds both networks of a method, as `tools convert` writes them."""
    return all(
        any(k.startswith(prefix) for k in weights) for prefix in (UNET_PREFIX, CONTROL_PREFIX)
    )


def network_of(contents: object, prefix: str) -> StateDict:
    """The weights of one network, out of its own file or of a converted one."""
    weights = unwrapped(contents)
    return with_prefix(weights, prefix) if is_pair(weights) else weights


def with_prefix(weights: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    """The entries below `prefix`, named without it."""
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}


def check_layout(weights: StateDict, layout: Layout, file: str, expected: str, advice: str) -> None:
    """Raises CheckpointError, one sentence with what was found, unless keys and shapes agree and
    every number is one."""
    missing = layout.keys() - weights.keys()
    unexpected = weights.keys() - layout.keys()
    reshaped = [
        key for key in layout if key in weights and tuple(weights[key].shape) != layout[key]
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(layout)} weights are missing ({few(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} do not belong to it ({few(unexpected)})")
    if reshaped:
        key = reshaped[0]
        problems.append(
            f"{len(reshaped)} have another shape ({key} is {tuple(weights[key].shape)}, "
            f"expected {layout[key]})"
        )
    if not problems and (broken := not_finite(weights)):
        problems.append(not_finite_words(broken, len(weights)))
    if problems:
        raise CheckpointError(f"{file} is not {expected}: {', '.join(problems)}. {advice}")


def not_finite(weights: Mapping[str, Tensor], sample: int | None = None) -> list[str]:
    """Keys of the weights that hold NaN or infinity, sorted. sample: look only at so many numbers at
    the beginning of each."""
    return [key for key in sorted(weights) if not _is_finite(weights[key], sample)]


def not_finite_words(keys: Sequence[str], count: int) -> str:
    """A finding of `not_finite` in words. count: of all weights."""
    return f"{len(keys)} of {count} weights are not finite (first: {few(keys[:1])})"


def _is_finite(value: Tensor, sample: int | None) -> bool:
    if value.is_meta or not value.numel() or not (value.is_floating_point() or value.is_complex()):
        return True
    value = value.detach()
    for dimension, stride in enumerate(value.stride()):
        if stride == 0:  # the same numbers over and over, which would be laid out to be looked at
            value = value.narrow(dimension, 0, 1)
    numbers = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    if sample is not None and value.is_contiguous():
        numbers = numbers.flatten()[:sample]
    if numbers.element_size() == 1:  # float8 knows no minimum
        numbers = numbers.float()
    # One pass without a mask of the same size, and NaN is passed on.
    return all(math.isfinite(bound) for bound in map(float, torch.aminmax(numbers)))
