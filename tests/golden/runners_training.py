"""Two AdamW steps of every trained part, and the start values of fresh ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from restoration.tests.golden import seeded
from restoration.tests.golden.runners_pasd import pasd_config
from restoration.tests.golden.suite import GoldenCase, golden

Step = tuple[dict[str, Any], dict[str, Tensor]]
"""(batch, draws)"""


def start_state(case: GoldenCase) -> dict[str, Tensor]:
    """The seeded weights with what the case changes of them before the first step."""
    weights, config = case.state_dict(), case.config
    for key, source in config.get("copied", {}).items():
        weights[key] = padded(weights[source], case.data["parameters"][key])
    for key in config.get("zero", ()):
        weights[key] = torch.zeros_like(weights[key])
    for key, (start, end) in config.get("zero_channels", {}).items():
        weights[key] = weights[key].clone()
        weights[key][:, start:end] = 0
    for key in config.get("scaled_by_3", ()):
        weights[key] = weights[key] * 3
    return weights


def padded(value: Tensor, shape: list[int]) -> Tensor:
    """With zero input channels behind, where `shape` has more."""
    found = torch.zeros(shape)
    found[tuple(slice(side) for side in value.shape)] = value
    return found


def below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}


def process_of(config: dict[str, Any]) -> Any:
    """The training table of a case in diffusers' words."""
    from restoration.common.diffusion import ForwardProcess

    table = config["scheduler"]
    return ForwardProcess.scaled_linear(
        {"epsilon": "eps", "v_prediction": "v"}[config["prediction_type"]],
        (table["beta_start"], table["beta_end"]),
        table["num_train_timesteps"],
    )


def base_unet(unet_config: dict[str, Any], weights: Mapping[str, Tensor], diffusers: bool) -> Any:
    """The host's UNet as training builds it, with a case's weights."""
    from restoration.host.trainable_unet import build_unet, diffusers_names

    unet = build_unet(unet_config, "cpu")
    names = diffusers_names(unet, unet_config) if diffusers else {k: k for k in weights}
    unet.load_state_dict({name: weights[key] for key, name in names.items()})
    return unet


def of_step(case: GoldenCase, i: int) -> dict[str, Tensor]:
    """A step's inputs, named without its number; pictures in 0..1."""
    found = {}
    for name in case.data["inputs"]:
        if name.endswith(f"_{i}"):
            value, name = case.tensors[name], name.removesuffix(f"_{i}")
            found[name.removesuffix("_u8")] = value / 255 if name.endswith("_u8") else value
    return found


def diffusion_step(case: GoldenCase, i: int) -> Step:
    """Batch and draws of a diffusion part: the recorded sample stands for a posterior without
    spread."""
    given = of_step(case, i)
    sample = given.pop("vae_sample")
    batch = {"mean": sample, "logvar": torch.zeros_like(sample)}
    draws = {"posterior": torch.zeros_like(sample)}
    for name, value in given.items():
        drawn = name in ("noise", "timesteps", "offset_noise")
        (draws if drawn else batch)[name] = value
    for ours, theirs in {"hq": "target", "lq": "image", "embeds": "image_tokens"}.items():
        if theirs in batch:
            batch[ours] = batch.pop(theirs)
    return batch, draws


def two_steps(
    case: GoldenCase,
    part: Any,
    steps: list[Step],
    terms: Any = None,
    published: Callable[[str], str] = str,
) -> None:
    """Holds losses, gradients and parameters of two AdamW steps to the case. terms: from our
    terms to the recorded ones, where a case has them. published: from recorded names to ours."""
    config, named = case.config, part.trained()
    names = config["trained"]
    assert {published(name) for name in names} == set(named)
    trained = {name: named[published(name)] for name in names}
    parameters = [trained[name] for name in names]
    assert {p for p in part.parameters() if p.requires_grad} == set(parameters)
    optimizer = torch.optim.AdamW(parameters, **config["optimizer"])
    probes: dict[str, Tensor] = {}  # the same in both steps, and slow to draw
    for i, (batch, draws) in enumerate(steps):
        optimizer.zero_grad()
        found = part(batch, draws)
        loss = torch.stack(list(found.values())).sum()
        loss.backward()
        case.check(shaped(case, f"loss_{i}", loss.detach()))
        if f"terms_{i}" in case.outputs:
            case.check({f"terms_{i}": torch.stack(terms(found)).detach()})
        check_gradients(case, i, trained, probes)
        limit = config.get("max_grad_norm")
        if limit is not None:
            total = torch.nn.utils.clip_grad_norm_(parameters, limit)
            found = shaped(case, f"total_norm_{i}", total)
            case.check(found, config["tolerance_gradients"], relative=True)
        optimizer.step()
    stepped = {f"param.{name}": p.detach() for name, p in trained.items()}
    case.check(stepped, config["tolerance_parameters"])


def shaped(case: GoldenCase, name: str, value: Tensor) -> dict[str, Tensor]:
    """A number under its name, as the case holds numbers; nothing where it holds none."""
    return {name: value.reshape(case.tensors[name].shape)} if name in case.outputs else {}


def check_gradients(
    case: GoldenCase, i: int, parameters: dict[str, Tensor], probes: dict[str, Tensor]
) -> None:
    """Whole gradients of the recorded ones; norm and probe of all. probes: those drawn so far."""
    tolerance = case.config["tolerance_gradients"]
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in parameters.items()
    }
    for name, gradient in gradients.items():
        recorded = f"grad_{i}.{name}"
        if recorded in case.outputs:
            largest = float(case.tensors[recorded].abs().max())
            case.check({recorded: gradient}, tolerance * largest)

    def dot(name: str, gradient: Tensor) -> Tensor:
        if name not in probes:
            probe = seeded.random_input(case.seed, f"probe:{name}", tuple(gradient.shape))
            probes[name] = torch.from_numpy(probe)
        return (gradient.double() * probes[name]).sum()

    norms = torch.stack([gradient.double().norm() for gradient in gradients.values()])
    accepted = tolerance * norms + 1e-6 * norms.max()
    measured = {f"grad_norms_{i}": lambda: norms}
    measured[f"grad_probes_{i}"] = lambda: torch.stack([dot(*each) for each in gradients.items()])
    for output, measure in measured.items():
        if output not in case.outputs:
            continue
        case.compared.add(output)
        difference = (measure() - case.tensors[output].double()).abs()
        wrong = (~(difference <= accepted)).nonzero().flatten().tolist()
        assert not wrong, (
            f"{case.name}\n{output}: largest difference {difference.max():.3g}, "
            f"too much for {[list(parameters)[n] for n in wrong[:5]]}"
        )


def pasd_part(case: GoldenCase) -> Any:
    """The trained part of a PASD case, with its weights."""
    from restoration.pasd.trainable import PASDTrainable

    config, weights = case.config, start_state(case)
    sizes = pasd_config(config)
    part = PASDTrainable(
        base_unet(sizes.unet_config(), below(weights, "unet."), diffusers=True),
        process_of(config),
        sizes,
        config["variant"],
        config["use_rrdb"],
        config["control_type"] == "grayscale",
        scale_factor=config["scaling_factor"],
    )
    load(part, weights)
    return part


@golden("training", "PASD training step, pasd", "PASD training step, pasd_light", needs_host=True)
def pasd_steps(case: GoldenCase, get) -> None:
    get("comfy")
    part = pasd_part(case)

    def terms(found: dict[str, Tensor]) -> list[Tensor]:
        return [value for name, value in found.items() if name != "color"]

    two_steps(case, part, [diffusion_step(case, i) for i in range(2)], terms)


def load(part: Any, weights: Mapping[str, Tensor]) -> None:
    """A case's weights as a release's files: those of the part's layout. Back they come as they
    were."""
    trained = part.trained()
    files = {
        file: {k: v for k, v in below(weights, prefix).items() if f"{prefix}{k}" in trained}
        for prefix, file in part.files.items()
    }
    part.load_published(files)
    saved = part.published_state()
    for file, contents in files.items():
        assert all(torch.equal(saved[file][key], value) for key, value in contents.items())


@golden("training", "PASD start values")
def pasd_start(case: GoldenCase, get) -> None:
    from restoration.pasd.start import origins

    config = case.config
    for variant in ("pasd", "light"):
        control, added = origins(config["controlnet"], config[f"unet_added_{variant}"])
        assert control == config["controlnet"]
        assert added == config[f"unet_added_{variant}"]


@golden("training", "SeeSR training step", needs_host=True)
def seesr_steps(case: GoldenCase, get) -> None:
    get("comfy")
    from restoration.seesr.trainable import SeeSRTrainable
    from restoration.tests.golden.runners_seesr import seesr_config

    config, weights = case.config, start_state(case)
    sizes = seesr_config(config)
    part = SeeSRTrainable(
        base_unet(sizes.unet_config(), below(weights, "unet."), diffusers=True),
        process_of(config),
        sizes,
        scale_factor=config["scaling_factor"],
    )
    load(part, weights)
    two_steps(case, part, [diffusion_step(case, i) for i in range(2)])


@golden("training", "SeeSR start values")
def seesr_start(case: GoldenCase, get) -> None:
    from restoration.seesr.start import origins

    config = case.config
    control, added = origins(config["controlnet"], config["unet_added"])
    assert control == config["controlnet"]
    assert added == config["unet_added"]


@golden("training", "DiffBIR stage 2 training step", needs_host=True)
def diffbir_steps(case: GoldenCase, get) -> None:
    get("comfy")
    from restoration.common.diffusion import ForwardProcess
    from restoration.diffbir.trainable import DiffBIRTrainable
    from restoration.host.trainable_unet import SCALE_FACTOR
    from restoration.tests.golden.runners_diffbir import control_config

    config, weights = case.config, start_state(case)
    sizes = control_config(config)
    process = ForwardProcess.scaled_linear(
        config["parameterization"],
        (config["linear_start"], config["linear_end"]),
        dtype=torch.float64,
        zero_snr=config["zero_snr"],
    )
    unet = base_unet(
        sizes.sizes.unet_config(), below(weights, "model.diffusion_model."), diffusers=False
    )
    part = DiffBIRTrainable(unet, process, sizes, augmentation=config["noise_aug_timestep"])
    load(part, weights)

    def step(i: int) -> Step:
        given = of_step(case, i)
        mean = given.pop("z") / SCALE_FACTOR
        batch = {"mean": mean, "logvar": torch.zeros_like(mean), "condition": given.pop("c_img")}
        batch["text"] = given.pop("text")
        return batch, {"posterior": torch.zeros_like(mean), **given}

    two_steps(case, part, [step(i) for i in range(2)])


@golden("training", "DiffBIR stage 2 start values")
def diffbir_start(case: GoldenCase, get) -> None:
    from restoration.diffbir.start import origins

    table = case.config["controlnet"]
    assert origins(table, case.config["in_channels"]) == table
