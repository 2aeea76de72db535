"""One rule for the noise schedules of models: what everything of ours reads, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.common.diffusion import q_sample
from restoration.tests.golden import seeded
from restoration.tests.golden.runners_diffbir import control_config
from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    ldm_unet_config,
    sample,
    seeded_input,
    unet_model,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 12, 10
SCALE = 0.18215
REFUSED = "restoration needs eps or v prediction at Stable Diffusion's 1000 training timesteps"


@pytest.fixture(scope="module")
def host(comfy) -> SimpleNamespace:
    return comfy


@pytest.fixture(scope="module")
def model(host) -> Any:
    return unet_model(ldm_unet_config(SMALL))


@pytest.fixture(scope="module")
def control(host) -> Any:
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control

    values = seeded.state_dict(11, layout(control_config(SMALL)))
    weights = {key: torch.from_numpy(value) for key, value in values.items()}
    return diffbir_control(weights, control_config(SMALL))


def latent() -> dict[str, Tensor]:
    return {"samples": seeded_input(3, "lq", 1, 4, HEIGHT, WIDTH) / SCALE}


def texts() -> tuple[list, list]:
    good, bad = (seeded_input(3, f"text {n}", 1, 7, SMALL["context_dim"]) for n in ("good", "bad"))
    return conditioning(good), conditioning(bad)


def on_schedule(model: Any, kind: str) -> Any:
    """A clone with a sampling patch of the host, or with one as other packs make them."""
    import comfy.model_sampling as ms
    from comfy_extras import nodes_model_advanced as core

    def other(*bases: type, sigmas: Callable[[Tensor], Tensor] | None = None) -> Any:
        patched, sampling = model.clone(), type("Other", bases, {})()
        if sigmas is not None:
            sampling.set_sigmas(sigmas(sampling.sigmas))
        patched.add_object_patch("model_sampling", sampling)
        return (patched,)

    discrete, continuous = core.ModelSamplingDiscrete(), core.ModelSamplingContinuousEDM()
    made: dict[str, Callable[[], Any]] = {
        "eps": lambda: discrete.patch(model, "eps", False),
        "v with zero SNR": lambda: discrete.patch(model, "v_prediction", True),
        "LCM": lambda: discrete.patch(model, "lcm", False),
        "LCM with zero SNR": lambda: discrete.patch(model, "lcm", True),
        "x0": lambda: discrete.patch(model, "x0", False),
        "continuous eps": lambda: continuous.patch(model, "eps", 120.0, 0.002),
        "EDM": lambda: continuous.patch(model, "edm", 120.0, 0.002),
        "continuous v": lambda: core.ModelSamplingContinuousV().patch(
            model, "v_prediction", 500.0, 0.03
        ),
        "flow": lambda: core.ModelSamplingSD3().patch(model, 3.0),
        "discrete EDM": lambda: other(ms.ModelSamplingDiscreteEDM, ms.EPS),
        "shortened": lambda: other(ms.ModelSamplingDiscrete, ms.EPS, sigmas=lambda s: s[::20]),
    }
    return made[kind]()[0]


def sigmas_for(model: Any) -> Tensor:
    from restoration.nodes.sampling import RestorationSigmas

    return RestorationSigmas.execute(model, "pasd_unipc", 4, 1.0).result[0]


def start_for(model: Any, sigmas: Tensor) -> dict[str, Tensor]:
    from restoration.nodes.sampling import LREmbeddedNoise

    return LREmbeddedNoise.execute(model, latent(), 9, sigmas, "seesr").result[1]


def guided(model: Any) -> Any:
    from restoration.nodes.guidance import LatentImageGuidance

    return LatentImageGuidance.execute(model, "latent_mse", 1.0, 1, 0.0, 1.0, latent()).result[0]


def projected(model: Any) -> Any:
    from restoration.nodes.guidance import DDNMGuidance

    return DDNMGuidance.execute(model, "average_pool", 2, 1.0, 0.0, 1.0, latent()).result[0]


def diffbir_levels(model: Any) -> Any:
    from restoration.nodes.guidance import DiffBIRModelSampling

    return DiffBIRModelSampling.execute(model, "eps").result[0]


def branched(model: Any, heard: list[float] | None = None) -> Any:
    """The mechanism of PASD and SeeSR with a branch that adds nothing."""
    from restoration.host.branch import BranchCall, BranchResult, ImageBranch, apply_branch

    class Listening(ImageBranch):
        patchers, residuals_per_cell = (), 0.0

        def embed(self, pixels: Tensor) -> Tensor:
            return pixels[..., ::8, ::8]

        def run(self, call: BranchCall) -> BranchResult:
            if heard is not None:
                heard.append(float(call.timesteps[0]))
            return BranchResult([], torch.zeros(()))

    image = torch.zeros(1, 8 * HEIGHT, 8 * WIDTH, 3)
    return apply_branch(model, Listening(), image, 0.0, 1.0)[0]


def controlled(control: Any, **inputs: Any) -> tuple[list, list]:
    from restoration.nodes.diffbir import LAControlApply

    return LAControlApply.execute(*texts(), control, latent(), 1.0, 0.0, 1.0, **inputs).result


def run(host: Any, model: Any, conds: tuple[list, list] | None = None, **how: Any) -> Tensor:
    how = {"steps": 2, "cfg": 1.0, **how}
    return sample(host, model, *(conds or texts()), torch.zeros(1, 4, HEIGHT, WIDTH), **how)


def sampled(model: Any, sigmas: Tensor) -> Tensor:
    """Through our own sampler."""
    import comfy.sample

    from restoration.nodes.sampling import RestorationSampler

    noise = seeded_input(3, "noise", 1, 4, HEIGHT, WIDTH)
    sampler, conds = RestorationSampler.execute("pasd_unipc").result[0], texts()
    with torch.inference_mode():
        return comfy.sample.sample_custom(
            model, noise, 1.0, sampler, sigmas, *conds, torch.zeros_like(noise)
        )


@pytest.mark.parametrize(
    ("kind", "named"),
    {
        "x0": "X0 does, on the schedule ModelSamplingDiscrete with 1000",
        "continuous eps": "EPS does, on the schedule ModelSamplingContinuousEDM",
        "continuous v": "V_PREDICTION does, on the schedule ModelSamplingContinuousV",
        "EDM": "EDM does",
        "discrete EDM": "EPS does, on the schedule ModelSamplingDiscreteEDM",
        "flow": "CONST does",
        "shortened": "with 50 noise levels",
    }.items(),
)
def test_schedules_without_training_timesteps_are_refused_by_name(model, kind, named) -> None:
    for reads in (sigmas_for, guided):
        with pytest.raises(ValueError, match=REFUSED) as refused:
            reads(on_schedule(model, kind))
        assert named in str(refused.value)


def test_whoever_reads_the_schedule_says_the_same_sentence(host, model, control) -> None:
    """When it is applied or, where another node changes the schedule later, when the run begins."""

    def later(patched: Any) -> Any:
        return on_schedule(patched, "continuous eps")

    changed, sigmas, sentences = later(model), sigmas_for(model), set()
    reading: dict[str, Callable[[], Any]] = {
        "sigmas": lambda: sigmas_for(changed),
        "start": lambda: start_for(changed, sigmas),
        "levels": lambda: diffbir_levels(changed),
        "guidance": lambda: guided(changed),
        "projection": lambda: projected(changed),
        "branch": lambda: branched(changed),
        "guidance, in the run": lambda: run(host, later(guided(model))),
        "projection, in the run": lambda: run(host, later(projected(model))),
        "branch, in the run": lambda: run(host, later(branched(model))),
        "control": lambda: run(host, changed, controlled(control)),
        "sampler": lambda: sampled(changed, sigmas),
    }
    for name, read in reading.items():
        with pytest.raises(ValueError, match=REFUSED) as refused:
            read()
            pytest.fail(f"{name} does not read the schedule")
        _, begins, sentence = str(refused.value).partition("This model predicts")
        sentences.add(begins + sentence)  # after the node's name, where a patch says it
    assert len(sentences) == 1


@pytest.mark.parametrize(
    ("part", "whole"), [("LCM", "eps"), ("LCM with zero SNR", "v with zero SNR")]
)
def test_lcm_sampling_is_read_through_the_table_it_is_a_part_of(model, part, whole) -> None:
    from restoration.host.sampling import training_table

    lcm, plain = on_schedule(model, part), on_schedule(model, whole)
    one, other = (training_table(m.get_model_object("model_sampling")) for m in (lcm, plain))
    assert torch.equal(one, other) and len(one) == 1000
    sigmas = sigmas_for(lcm)
    assert torch.equal(sigmas, sigmas_for(plain))
    assert torch.equal(start_for(lcm, sigmas)["samples"], start_for(plain, sigmas)["samples"])
    assert torch.isfinite(sampled(lcm, sigmas)).all()


def test_a_branch_hears_the_timesteps_that_lcm_sampling_counts_in(host, model) -> None:
    heard: list[float] = []
    run(host, branched(on_schedule(model, "LCM"), heard), sampler="lcm", steps=4)
    assert heard[0] == 999 and len(heard) == 4
    assert all(timestep % 20 == 19 for timestep in heard)


@pytest.mark.parametrize("kind", ["eps", "LCM", "v with zero SNR"])
def test_noise_augmentation_counts_in_training_timesteps_on_every_schedule(
    host, model, control, kind
) -> None:
    import comfy.sample

    from restoration.host.sampling import training_table

    whole = on_schedule(model, "eps" if kind == "LCM" else kind)
    table = training_table(whole.get_model_object("model_sampling"))
    noise = comfy.sample.prepare_noise(latent()["samples"], 5)
    for level in (40, 200):
        hints: list[Tensor] = []
        handle = control.control_model.register_forward_pre_hook(
            lambda module, args, inputs, hints=hints: hints.append(inputs["x"][:, 4:]),
            with_kwargs=True,
        )
        try:
            conds = controlled(control, noise_aug=level, noise_aug_seed=5)
            run(host, on_schedule(model, kind), conds, steps=1)
        finally:
            handle.remove()
        alpha_bar = 1 / (1 + float(table[level]) ** 2)
        expected = q_sample(latent()["samples"] * SCALE, noise, alpha_bar)
        torch.testing.assert_close(hints[0], expected)


def test_a_schedule_is_read_once_and_again_when_its_levels_change(host, model, monkeypatch) -> None:
    from restoration.host import sampling

    schedule = type(model.get_model_object("model_sampling"))(model.model.model_config)
    read: list[Any] = []
    table_of = sampling._table_of
    monkeypatch.setattr(sampling, "_table_of", lambda each: read.append(each) or table_of(each))
    for _ in range(3):
        sampling.check_schedule(schedule)
    assert len(read) == 1
    doubled = schedule.sigmas * 2
    schedule.set_sigmas(doubled)
    assert torch.equal(sampling.training_table(schedule), doubled)
    assert len(read) == 2
