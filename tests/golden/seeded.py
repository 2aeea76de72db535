"""Weights drawn from their own names; see README.md beside this file."""

import functools
import hashlib
import math

import numpy as np


@functools.lru_cache(maxsize=4096)  # tests draw the same small networks again and again
def _drawn(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
    return np.random.RandomState(int(digest[:8], 16)).standard_normal(shape).astype(np.float32)


def _normal(seed: int, name: str, shape) -> np.ndarray:
    return _drawn(seed, name, tuple(shape)).copy()


def parameter(seed: int, name: str, shape) -> np.ndarray:
    """The value of the parameter with checkpoint key `name`, float32."""
    x = _normal(seed, name, shape)
    if len(shape) >= 2:
        return x / np.float32(math.sqrt(math.prod(shape[1:])))
    if name.endswith(".weight"):
        return np.float32(1) + np.float32(0.1) * x
    return np.float32(0.1) * x


def random_input(seed: int, name: str, shape) -> np.ndarray:
    """A standard normal input tensor called `name`, float32."""
    return _normal(seed, f"input:{name}", shape)


def state_dict(seed: int, parameters: dict) -> dict:
    """`{key: array}` for a case's `parameters` (`{key: shape}`)."""
    return {name: parameter(seed, name, shape) for name, shape in parameters.items()}
