"""The authors' noise levels, samplers and start points, and guidance over a part of the run."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import registry
from ..common.fidelity import AUTHORS, noise_level
from ..common.schedule import LAST
from ..diffbir.sampling import growing_cfg
from ..host.cfg_range import guide_only
from ..host.sampling import (
    SeededNoise,
    embedded_start,
    restoration_sampler,
    restoration_sigmas,
)
from ..host.schema import CheckedNode, fidelity_input, percent_range, schema, seed_input

CATEGORY = "restoration/sampling"


class RestorationSigmas(CheckedNode):
    """Each author's own noise levels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationSigmas",
            display_name="Restoration Sigmas (Noise Levels)",
            category=CATEGORY,
            description="The noise levels at which the authors of a restoration method run their "
            "model, exactly. Core's schedulers give similar pictures, not the same ones.",
            search_aliases=[
                "scheduler",
                "basic scheduler",
                "diffbir",
                "pasd",
                "seesr",
                "timesteps",
            ],
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion 1.x or 2.x: its noise levels."),
                io.Combo.Input(
                    "schedule",
                    options=list(registry.schedules()),
                    default="diffbir_spaced",
                    tooltip="Whose steps. diffbir_spaced: v1 and v2 (50 steps). diffbir_edm: v2.1 "
                    "(10 steps; sampler dpmpp_3m_sde). diffbir_ddim: with sampler euler. "
                    "diffbir_dpmpp_m2: with the sampler of that name. pasd_unipc: PASD (20 steps). "
                    "pasd_unipc_original: the same, ending at the lowest noise level as when PASD "
                    "was developed. seesr_ddpm: SeeSR (50 steps). seesr_turbo: SeeSR-Turbo "
                    "(2 steps).",
                ),
                io.Int.Input(
                    "steps",
                    default=50,
                    min=1,
                    max=1000,
                    tooltip="More steps take longer and bring out more detail. Counts that a "
                    "schedule cannot take are refused with the reason. diffbir_ddim may add one "
                    "or more when the count does not divide 1000.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1, only the last steps of a finer schedule: the result stays "
                    "closer to the latent that goes in. 1 is a whole run, the authors' setting.",
                ),
            ],
            outputs=[io.Sigmas.Output(tooltip="For SamplerCustom or SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model: Any, schedule: str, steps: int, denoise: float) -> io.NodeOutput:
        return io.NodeOutput(
            restoration_sigmas(model, registry.schedules()[schedule], steps, denoise)
        )


class RestorationSampler(CheckedNode):
    """The samplers of the authors that core does not have."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationSampler",
            display_name="Restoration Sampler",
            category=CATEGORY,
            description="The samplers that the authors run and core does not have, to the last "
            "digit. For DiffBIR's EDM and DDIM schedules use core's KSamplerSelect "
            "(dpmpp_3m_sde and the like, or euler).",
            search_aliases=["ksampler select", "ddpm", "unipc", "dpm-solver", "diffbir", "pasd"],
            advanced=("same_noise",),
            inputs=[
                io.Combo.Input(
                    "sampler_name",
                    options=list(registry.samplers()),
                    default="diffbir_spaced",
                    tooltip="diffbir_spaced: DiffBIR's DDPM, exact also for v2.1, where core's "
                    "ddpm is not; adds noise at every step. diffbir_dpmpp_m2: DPM-Solver, adds "
                    "no noise. pasd_unipc: PASD's UniPC, adds no noise; core's uni_pc is another "
                    "one. seesr_ddpm: SeeSR's DDPM, the same rule as diffbir_spaced. Use the "
                    "schedule of the same name.",
                ),
                io.Boolean.Input(
                    "same_noise",
                    default=False,
                    optional=True,
                    tooltip="On: every image of a batch gets the noise of the first at each step, "
                    "so frames of a video flicker less. Off: each has its own. "
                    "Without effect for samplers that add none.",
                ),
            ],
            outputs=[io.Sampler.Output(tooltip="For SamplerCustom or SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, sampler_name: str, same_noise: bool = False) -> io.NodeOutput:
        return io.NodeOutput(
            restoration_sampler(registry.samplers()[sampler_name], same_noise=same_noise)
        )


class RestorationCFG(CheckedNode):
    """Classifier-free guidance where it pays, and DiffBIR's growing scale."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationCFG",
            display_name="Restoration CFG (Guidance Range)",
            category=CATEGORY,
            description="Uses the sampler's cfg only in a part of the run. Outside it the "
            "negative prompt is not computed at all, which saves up to half of the time of those "
            "steps. Can also let the scale grow as DiffBIR's rescale_cfg does. At cfg 1 there is "
            "nothing to limit, unless the sampler is one of the CFG++ kind.",
            search_aliases=["rescale cfg", "limited interval guidance", "cfg range", "speed"],
            inputs=[
                io.Model.Input("model", tooltip="Any model with eps or v prediction."),
                io.Boolean.Input(
                    "rescale",
                    default=False,
                    tooltip="Off: the cfg as it is. On: DiffBIR's growing guidance, from 1 at "
                    "pure noise to cfg + 1 at the end, so structure follows the picture and only "
                    "texture follows the prompt. Off by default, as in DiffBIR.",
                ),
                *percent_range(
                    start="Where guidance begins, as in Apply ControlNet. 0: from the first step.",
                    end="Where guidance ends. 1: with the last step. With 0 and 1 every step "
                    "is guided, as by the authors.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, guided only there.")],
        )

    @classmethod
    def execute(
        cls, model: Any, rescale: bool, start_percent: float, end_percent: float
    ) -> io.NodeOutput:
        patched = model.clone()
        guide_only(patched, (start_percent, end_percent), growing_cfg if rescale else None)
        return io.NodeOutput(patched)


class LREmbeddedNoise(CheckedNode):
    """A start that already holds the low-quality picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LREmbeddedNoise",
            display_name="LR Embedded Noise (Start from the Photo)",
            category=CATEGORY,
            description="Starts the run from the low-quality picture under noise, as its authors "
            "do (SeeSR calls it LR embedding), instead of from noise alone: colors and large "
            "shapes stay closer to the picture. Right for whichever latent is wired to the "
            "sampler; every image of a batch starts from itself.",
            search_aliases=["lre", "lr embedding", "start point", "random noise", "img2img"],
            advanced=("added_noise_level", "same_noise"),
            inputs=[
                io.Model.Input("model", tooltip="The model that is sampled, with all its patches."),
                io.Latent.Input(
                    "latent",
                    tooltip="The encoded low-quality picture (SeeSR, PASD) or the degradation "
                    "remover's output (DiffBIR).",
                ),
                seed_input("Of the noise. With start noise it is that of RandomNoise."),
                io.Sigmas.Input(
                    "sigmas",
                    tooltip="The same SIGMAS that go to the sampler: the first decides how "
                    "strong the noise is.",
                ),
                io.Combo.Input(
                    "start",
                    options=list(registry.starts()),
                    default="seesr",
                    tooltip="seesr: SeeSR's LR embedding. pasd: noised twice, see "
                    "added_noise_level. diffbir: DiffBIR's option cond, for v1 and v2; with v2.1 "
                    "it is plain noise, because that model starts from nothing else. noise: plain "
                    "noise, the neutral choice and DiffBIR's default.",
                ),
                io.Int.Input(
                    "added_noise_level",
                    default=900,
                    min=0,
                    max=999,
                    optional=True,
                    tooltip="Only for pasd: timestep of the second noise. Lower keeps more of the "
                    "picture, higher lets the model invent more. 900 is PASD's default. "
                    "Without effect at fidelity 0 and 1, which set it.",
                ),
                io.Boolean.Input(
                    "same_noise",
                    default=False,
                    optional=True,
                    tooltip="On: every image of the batch starts from the noise of the first, so "
                    "frames of a video flicker less. Off: each has its own.",
                ),
                fidelity_input(
                    "Only for pasd: moves added_noise_level to 999 (free) or to 0; the other "
                    "starts have no such knob."
                ),
            ],
            outputs=[
                io.Noise.Output(tooltip="For SamplerCustomAdvanced."),
                io.Latent.Output(
                    tooltip="The start point itself, for KSampler (Advanced) with add_noise "
                    "disabled and the same first sigma. It carries no noise mask: to inpaint, "
                    "use NOISE and the clean latent."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        latent: dict[str, Any],
        seed: int,
        sigmas: Tensor,
        start: str,
        added_noise_level: int = 900,
        same_noise: bool = False,
        fidelity: float = AUTHORS,
    ) -> io.NodeOutput:
        level = noise_level(added_noise_level, LAST, fidelity)
        begin = registry.starts()[start]
        noise = SeededNoise(seed, same_noise)
        return io.NodeOutput(*embedded_start(model, latent, noise, sigmas, begin, level))


NODES: list[type[io.ComfyNode]] = [
    RestorationSigmas,
    RestorationSampler,
    RestorationCFG,
    LREmbeddedNoise,
]
