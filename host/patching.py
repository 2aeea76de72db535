"""What patches of MODEL have in common: they are shared by clones, known by a key of their own, run
around model calls, and announce the memory of their work."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..common.unet import UNetSizes
from .errors import claiming, claiming_wrapper, running_node
from .view import Options

Self = TypeVar("Self")


class SharedByClones:
    """A patch object of which all clones of a model hold the very same. The oldest host deep-copies
    what a model carries with every clone: it would duplicate networks, and what two patches of one
    call share would be two. What such an object holds beside its settings belongs to one run."""

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        return self


def unique_key(kind: str) -> str:
    """A key for one application of a patch, never used again. kind: whose. (The `id` of an object
    is not one: it returns after the object is gone, and an object may be applied twice.)"""
    return f"{kind}.{uuid.uuid4().hex}"


def has_sizes(model: Any, sizes: UNetSizes) -> bool:
    """Whether the UNet of a MODEL is one of these sizes."""
    found, wanted = getattr(model.model.model_config, "unet_config", {}), sizes.unet_config()
    names = ("context_dim", "model_channels", "channel_mult", "adm_in_channels")

    def said(of: Mapping[str, Any]) -> list[Any]:
        values = [of.get(name) for name in names]
        return [list(value) if isinstance(value, tuple | list) else value for value in values]

    return said(found) == said(wanted)


def base_words(model: Any) -> str:
    """What a MODEL is, for the error of a patch that wants another."""
    config = model.model.model_config
    width = getattr(config, "unet_config", {}).get("context_dim")
    return f"{type(config).__name__} whose text features are {width} wide"


def unet_of(base_model: Any) -> Any:
    """The network of the host's BaseModel itself, also under the compile node."""
    network = base_model.diffusion_model
    return getattr(network, "_orig_mod", network)


@dataclass(frozen=True)
class ModelCall:
    """The arguments of one APPLY_MODEL call: of `BaseModel`, with which it calls its network."""

    x: Tensor
    """Rows C h w in the host's scale, ordered by chunk (see `RowLayout`)."""
    t: Tensor
    """Rows: the noise level sigma of each."""
    c_concat: Tensor | None
    """Rows C' h w beside x: those of an inpainting checkpoint."""
    c_crossattn: Tensor
    """Rows N D: text features."""
    control: Any
    """Residuals of ControlNets: {"output": [...], "middle": [...], ...}, or None."""
    options: Options
    """The call's `transformer_options`."""
    more: dict[str, Any]
    """What else the checkpoint or a node gives, such as SDXL's `y`."""
    node: str = ""
    """Display name of the node whose patch has the call."""

    @property
    def chunks(self) -> int:
        return len(self.options["cond_or_uncond"])

    @property
    def images(self) -> int:
        """Rows a chunk."""
        return self.x.shape[0] // self.chunks

    def with_options(self, options: Options) -> ModelCall:
        """The same call, its `transformer_options` extended; the caller's own stay as they are."""
        return replace(self, options={**self.options, **options})

    def twice(self) -> ModelCall:
        """A call with all rows, and then all of them again."""

        def rows(value: Any) -> Any:
            return torch.cat([value, value]) if isinstance(value, Tensor) else value

        def more(value: Any) -> Any:  # one for each chunk, as areas are
            return value * 2 if isinstance(value, tuple) else rows(value)

        control = self.control and {k: [rows(v) for v in each] for k, each in self.control.items()}
        chunks = {k: self.options[k] * 2 for k in ("cond_or_uncond", "uuids") if k in self.options}
        return replace(
            self.with_options(chunks),
            x=rows(self.x),
            t=rows(self.t),
            c_concat=rows(self.c_concat),
            c_crossattn=rows(self.c_crossattn),
            control=control,
            more={name: more(value) for name, value in self.more.items()},
        )

    def with_patch(self, place: str, patch: Callable[..., Any], first: bool = False) -> ModelCall:
        """The same call with a patch of the network's blocks, after (or before) all that nodes and
        prompts have set there, in whichever order they are connected. place: by the host's name,
        such as `attn1_patch`."""
        known = self.options.get("patches", {})
        others, patch = known.get(place, []), claiming(patch, self.node)
        patches = [patch, *others] if first else [*others, patch]
        return self.with_options({"patches": {**known, place: patches}})

    def run(self, executor: Callable[..., Tensor]) -> Tensor:
        tensors = self.x, self.t, self.c_concat, self.c_crossattn
        return executor(*tensors, self.control, self.options, **self.more)


def around_model_calls(patched: Any, key: str, run: Callable[[Any, ModelCall], Tensor]) -> None:
    """Patches a clone: `run` takes the place of every model call. It gets the host's executor, of
    which `class_obj` is the BaseModel, and the call; `call.run(executor)` goes on. Its errors name
    the node that is running now."""
    node = running_node()

    def apply_model(
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Options | None = None,
        **more: Any,
    ) -> Tensor:
        options = transformer_options or {}
        return run(executor, ModelCall(x, t, c_concat, c_crossattn, control, options, more, node))

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, claiming_wrapper(apply_model))


def announce_memory(patched: Any, key: str, more_rows: Callable[[Any, Sequence[int]], int]) -> None:
    """Patches a clone: the host keeps more memory free for a run.

    It counts the weights of additional models, not their work. Its estimate comes from the shape
    of the noise, so more rows announce more memory. more_rows: (MODEL, shape) -> how many.
    """

    def prepare_sampling(
        executor: Callable[..., Any], model: Any, shape: Sequence[int], *args: Any, **kwargs: Any
    ) -> Any:
        rows = shape[0] + more_rows(model, shape)
        return executor(model, [rows, *shape[1:]], *args, **kwargs)

    patched.add_wrapper_with_key(
        WrappersMP.PREPARE_SAMPLING, key, claiming_wrapper(prepare_sampling)
    )


def rows_of_bytes(needed: float, model: Any, shape: Sequence[int]) -> int:
    """How many latents of this shape announce so many bytes, rounded up."""
    # The host reserves for conditional and unconditional rows.
    return math.ceil(needed / model.model.memory_required([2, *shape[1:]]))


def has_first_easycache(options: Options) -> bool:
    """Whether EasyCache is on and is that of the oldest host, which keeps what it reuses by prompt and
    takes for granted that all calls of a run have the same. options: `transformer_options`."""
    cache = options.get("easycache")
    return hasattr(cache, "uuid_cache_diffs") and not hasattr(cache, "can_apply_cache_diff")
