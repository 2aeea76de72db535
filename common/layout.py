"""Names and shapes of the weights of common layers, under a name: what a checkpoint must hold."""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]


def linear_shapes(name: str, inputs: int, outputs: int, bias: bool = True) -> Shapes:
    """A fully connected layer."""
    return {f"{name}.weight": (outputs, inputs), **({f"{name}.bias": (outputs,)} if bias else {})}


def conv_shapes(name: str, inputs: int, outputs: int, side: int = 3) -> Shapes:
    """A square convolution with a bias; side: of its kernel."""
    return {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}


def norm_shapes(name: str, width: int) -> Shapes:
    """A normalization with weight and bias."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def attention_shapes(name: str, width: int, context: int) -> Shapes:
    """An attention's four projections; context: width of keys and values."""
    return {
        **linear_shapes(f"{name}.to_q", width, width, bias=False),
        **linear_shapes(f"{name}.to_k", context, width, bias=False),
        **linear_shapes(f"{name}.to_v", context, width, bias=False),
        **linear_shapes(f"{name}.to_out.0", width, width),
    }
