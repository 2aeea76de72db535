"""Schemas that use what the newest host offers and still load on the oldest, and nodes whose inputs
keep to them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from numbers import Integral, Real
from types import MethodType
from typing import Any, ClassVar

import torch
from comfy_api.latest import io
from torch import Tensor

from ..common.fidelity import AUTHORS
from .errors import claim, outer_node, running
from .report import harmless, quoted

RestoreInfoType = io.Custom("RESTORE_INFO")
KnownDegradationType = io.Custom("KNOWN_DEGRADATION")

_SCHEMA_FIELDS = inspect.signature(io.Schema).parameters
_SOCKETS = {
    "MODEL": "get_model_object",
    "CLIP": "tokenize",
    "VAE": "decode",
    "SIGMAS": "isfinite",
    "CONDITIONING": "append",
}
"""By what an object of the host is told from a value that a prompt holds in its place. Pictures,
masks, latents and this pack's own objects are looked into by who takes them."""
_LISTED = 20
"""Choices that a sentence names."""


def schema(advanced: Collection[str] = (), **fields: Any) -> io.Schema:
    """`io.Schema` without the fields this host does not know (search_aliases before 0.18).

    advanced: names of inputs that a beginner never turns; the front end folds their widgets away.
    """
    found = io.Schema(**{name: value for name, value in fields.items() if name in _SCHEMA_FIELDS})
    for part in found.inputs:
        if part.id in advanced:
            # As an option of the front end's, so that hosts without the argument hand it on.
            part.extra_dict = {**part.extra_dict, "advanced": True}
    return found


class FileInput(io.Combo.Input):
    """A dropdown of files or folders. When a prompt is queued, the name must be one that it lists; one
    that comes through a link may be any text, and the loader says what is missing and where to get
    it (see `folders.find_below` for names that lead out of the models' folders)."""


def seed_input(tooltip: str, default: int = 0) -> io.Input:
    """`seed`, any of 64 bits, which the front end can draw anew after every run."""
    return io.Int.Input(
        "seed",
        default=default,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip=tooltip,
    )


def fidelity_input(effect: str) -> io.Input:
    """`fidelity`, 0..1 (common/fidelity.py); at its default everything is as without it. effect:
    what the tooltip says of this node's own knob."""
    return io.Float.Input(
        "fidelity",
        default=AUTHORS,
        min=0.0,
        max=1.0,
        step=0.01,
        optional=True,
        tooltip=f"From 0, free, to 1, closest to the photo. 0.5 changes nothing. {effect}",
    )


def fidelity_slider(effect: str) -> io.Input:
    """The same as a dial to turn by hand, required. effect: as above."""
    return io.Float.Input(
        "fidelity",
        default=AUTHORS,
        min=0.0,
        max=1.0,
        step=0.01,
        display_mode=io.NumberDisplay.slider,
        tooltip="0: free, the model draws most. 0.5: the authors' own setting, exactly. 1: closest to "
        f"the photo. {effect}",
    )


def percent_range(start: str, end: str) -> list[io.Input]:
    """`start_percent` and `end_percent`, parts of the run in 0..1 as core's Apply ControlNet has
    them; at their defaults the whole run. start, end: tooltips."""
    ends = (("start_percent", 0.0, start), ("end_percent", 1.0, end))
    return [
        io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip)
        for name, default, tooltip in ends
    ]


def check_value(part: Any, value: object) -> None:
    """ValueError unless a value is one that an input of a schema takes: a choice of a combo, a
    finite number in its range, a text, and through a socket an object (which the node itself
    looks into). None: nothing was connected."""
    if value is None:
        if not (part.optional or part.lazy):
            raise ValueError(f"`{part.id}` is missing: connect it, or give it a value.")
    elif isinstance(part, io.Combo.Input):
        _check_choice(part, value)
    elif isinstance(part, io.Int.Input | io.Float.Input):
        _check_number(part, value)
    elif isinstance(part, io.String.Input):
        if not isinstance(value, str):
            raise ValueError(f"`{part.id}` is {quoted(value)}; it must be a text.")
    elif isinstance(part, io.Boolean.Input):
        if not isinstance(value, Real):
            raise ValueError(f"`{part.id}` is {quoted(value)}; it must be true or false.")
    elif not part.as_dict().get("rawLink") and not hasattr(
        value, _SOCKETS.get(part.io_type, "__class__")
    ):
        raise ValueError(
            f"`{part.id}` is {quoted(value)}, not a {part.io_type}. Connect an output of that type."
        )
    elif part.io_type == "CONDITIONING" and not part.as_dict().get("rawLink"):
        _check_conditioning(part, value)


def _check_conditioning(part: Any, value: Any) -> None:
    """Every entry of one is [B N C, dict], as the host's own text encoders make them."""
    advice = "Connect CLIP Text Encode or another node of conditioning."
    for entry in value:
        pair: list[Any] = list(entry) if isinstance(entry, list | tuple) else []
        features, options = pair[:2] if len(pair) > 1 else (None, None)
        if not isinstance(features, Tensor) or not isinstance(options, dict):
            raise ValueError(
                f"`{part.id}` is no CONDITIONING: an entry of it is {quoted(entry)}, not a tensor "
                f"with its options. {advice}"
            )
        if features.ndim != 3 or not features.numel():
            raise ValueError(
                f"`{part.id}` has text features of shape {tuple(features.shape)}, expected (batch, "
                f"tokens, width), none of them 0. {advice}"
            )


def _check_choice(part: Any, value: object) -> None:
    # Other kinds may compare in ways of their own (a tensor does).
    if isinstance(value, str | int | float) and value in part.options:
        return
    named = ", ".join(str(option) for option in part.options[:_LISTED]) or "nothing yet"
    more = len(part.options) - _LISTED
    raise ValueError(
        f"`{part.id}` is {quoted(value)}, which is none of its choices: {named}"
        f"{f' and {more} more' if more > 0 else ''}. {part.tooltip}"
    )


def _check_number(part: Any, value: object) -> None:
    whole = isinstance(part, io.Int.Input)
    kind, fits = ("a whole number", Integral) if whole else ("a number", Real)
    if not isinstance(value, fits) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"`{part.id}` is {quoted(value)}; it must be {kind}, {_range(part)}.")
    low, high = part.min, part.max
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"`{part.id}` is {_digits(value)}; it goes {_range(part)}.")


def _range(part: Any) -> str:
    low = "" if part.min is None else f"from {_digits(part.min)} "
    return f"{low}to {'any finite one' if part.max is None else _digits(part.max)}"


def _digits(number: Any) -> str:
    return str(number) if isinstance(number, Integral) else f"{number:g}"


class _Validation:
    """`validate_inputs` of a `CheckedNode`, as the host calls it before a prompt is queued.

    The host leaves its own checks out for every input that the function names, and hands over
    None for what is linked. So it names what the host cannot judge alone, found in the schema:
    combos, which 0.3.64 takes as they come, and what `check_together` compares.
    """

    def __get__(self, instance: object, owner: type[CheckedNode]) -> MethodType:
        def validate_inputs(cls: type[CheckedNode], *args: Any, **kwargs: Any) -> bool | str:
            values = signature.bind_partial(cls, *args, **kwargs).arguments
            schema = cls.define_schema()
            if schema.is_input_list:  # each a constant or None, alone in a list or tuple
                values = {name: v[0] for name, v in values.items() if isinstance(v, list | tuple)}
            given = {name: value for name, value in values.items() if value is not None}
            try:
                for part in schema.inputs:
                    if part.id in given:
                        check_value(part, given[part.id])
                _check_together(cls, given)
            except ValueError as error:
                return harmless(str(error))
            return True

        names = ["cls"]
        if owner is not CheckedNode:
            parts = owner.define_schema().inputs
            together = inspect.signature(owner.check_together).parameters
            names += [p.id for p in parts if isinstance(p, io.Combo.Input) or p.id in together]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(name, kind) for name in names])
        validate_inputs.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
        return MethodType(validate_inputs, owner)


class CheckedNode(io.ComfyNode):
    """What every node of the pack is: `execute` gets no value that its schema does not take, and
    the global random state is the same after it.

    The host checks what stands in a prompt, but not NaN, and nothing that comes through a link.
    """

    validate_inputs = _Validation()  # pyright: ignore

    check_together: ClassVar[Callable[..., None]] = staticmethod(lambda: None)
    """To be overridden where inputs must fit each other: takes these by name, when all of them are
    known, and raises ValueError."""

    lists: ClassVar[Collection[str]] = ()
    """Of a node with `is_input_list`, which the host gives a list for every input: those that it
    takes so. Of the others it gets the one value."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        execute = vars(cls).get("execute")
        # The host runs clones of a class, whose `execute` is wrapped already.
        if execute is not None and not hasattr(execute.__func__, "__wrapped__"):
            cls.execute = classmethod(_checking(execute.__func__))  # pyright: ignore


def _many(values: Any) -> list[Any] | None:
    """The values of an input that is a list to the node; None where nothing came at all."""
    values = values if isinstance(values, list) else [values]
    found = [value for value in values if value is not None]
    return found if found or not values else None


def _only(key: str, values: Any) -> Any:
    """The value of an input that is no list to the node, from the list that the host gives."""
    if not isinstance(values, list):
        return values
    if len(values) != 1:
        raise ValueError(
            f"`{key}` comes as a list of {len(values)} values; it takes one. Connect a node that "
            "gives one, or pick one out of the list."
        )
    return values[0]


def _check_together(cls: type[CheckedNode], values: Mapping[str, Any]) -> None:
    compared = inspect.signature(cls.check_together).parameters
    if all(values.get(name) is not None for name in compared):
        cls.check_together(**{name: values[name] for name in compared})


def _checking(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    """An `execute` that checks its inputs first. It names them, or takes all as keywords."""
    signature = inspect.signature(execute)
    kind = inspect.Parameter.VAR_KEYWORD
    every = next((p.name for p in signature.parameters.values() if p.kind is kind), None)

    @wraps(execute)
    def checked(cls: type[CheckedNode], *args: Any, **kwargs: Any) -> io.NodeOutput:
        given = signature.bind(cls, *args, **kwargs)
        schema = cls.define_schema()
        parts, name = schema.inputs, schema.display_name or schema.node_id
        try:
            values = given.arguments if every is None else given.arguments.setdefault(every, {})
            if schema.is_input_list:
                for key, value in values.items():
                    values[key] = _many(value) if key in cls.lists else _only(key, value)
            for part in parts:  # None through a link is as nothing connected
                if part.optional and values.get(part.id, part) is None:
                    del values[part.id]
            given.apply_defaults()
            for part in parts:
                value = values.get(part.id)
                if not (isinstance(part, FileInput) and isinstance(value, str)):
                    for each in value if part.id in cls.lists and value else [value]:
                        check_value(part, each)
            _check_together(cls, values)
            # Building a network draws its first weights, even when a file's replace them next.
            with torch.random.fork_rng(devices=[]), running(name):
                return execute(*given.args, **given.kwargs)
        except Exception as error:
            error.args = tuple(harmless(a) if isinstance(a, str) else a for a in error.args)
            if outer_node():  # else the host names this one, which the user sees
                claim(error, name)
            raise

    return checked
