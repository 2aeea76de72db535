"""The fidelity dial: one number in 0..1 onto the knobs that each method already has.

0.5 is the authors' own setting, exactly. Higher is closer to the photo, lower freer. Every mapping
is monotone in the knob; what the picture does with a knob is only claimed where it can be proved
(docs/fidelity.md).
"""

from __future__ import annotations

AUTHORS = 0.5
"""The neutral value: every mapping gives back the knob as it was set."""


def check_fidelity(fidelity: float) -> float:
    """`fidelity` itself; ValueError outside 0..1, where a linked number may lie."""
    if not 0 <= fidelity <= 1:
        raise ValueError(
            f"`fidelity` is {fidelity:g}; it goes from 0 (free) over {AUTHORS} (the authors' "
            "setting) to 1 (closest to the photo). Connect a number in that range."
        )
    return fidelity


def control_strength(strength: float, fidelity: float) -> float:
    """Strength of a control branch: times 0.5 to 1.5, the range of PASD's demo."""
    return strength * (0.5 + check_fidelity(fidelity))


def guidance_scale(scale: float, fidelity: float) -> float:
    """Scale of restoration guidance: times 0 (off) to 2."""
    return scale * 2 * check_fidelity(fidelity)


def detail_scale(scale: float, fidelity: float) -> float:
    """Scale of a part that only draws detail: times 1.5, as free as a control gets, to 0 (none)."""
    return between(1.5 * scale, scale, 0.0, fidelity)


def between(low: float, knob: float, high: float, fidelity: float) -> float:
    """`low` at 0, `knob` at 0.5, `high` at 1, straight lines between; low may exceed high."""
    if check_fidelity(fidelity) < AUTHORS:
        return low + (knob - low) * 2 * fidelity
    return knob + (high - knob) * (2 * fidelity - 1)


def noise_level(timestep: int, highest: int, fidelity: float) -> int:
    """Timestep of the noise that a start point is hidden under: `highest` (the photo hardly
    shows), `timestep`, 0 (hardly any)."""
    return round(between(highest, timestep, 0, fidelity))


def blend_weight(fidelity: float) -> float:
    """Share of the picture from before the diffusion in the final blend: 0 up to the authors'
    setting, then rising to 1."""
    return between(0, 0, 1, fidelity)
