"""StyleID and DDIM inversion in the real host: attention by hand, memory modes, batches, limits."""

from __future__ import annotations

import copy
import logging
import math
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear

from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    core_controlnet,
    is_v,
    ldm_unet_config,
    seeded_input,
    unet_model,
)
from restoration.tests.host.styleid_runs import (
    HEIGHT,
    MODES,
    SD2_LIKE,
    STEPS,
    WIDTH,
    apply,
    close,
    invert,
    invert_now,
    inverted,
    latent,
    run,
    stylized,
    text,
)

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def host(comfy):
    return comfy


@pytest.fixture(scope="module")
def eps(host):
    return unet_model(ldm_unet_config(SD2_LIKE))


@pytest.fixture(scope="module")
def v(host):
    return unet_model(ldm_unet_config(SD2_LIKE), prediction="v")


EXTRA = pytest.mark.slow  # seconds each; a case beside it goes the same way


@pytest.fixture(params=["eps", "v"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", autouse=True)
def _forget():
    yield
    inverted.clear()


def x0s(*args: Any, **given: Any) -> list[Tensor]:
    """The predictions of every step of `stylized`."""
    seen: list[Tensor] = []
    stylized(*args, callback=lambda i, x0, x, total: seen.append(x0.clone()), **given)
    return seen


def test_fidelity_moves_gamma_to_its_ends(eps) -> None:
    whole = stylized(eps)
    assert torch.equal(stylized(eps, fidelity=0.5), whole)
    for fidelity, gamma in ((0.0, 0.0), (0.25, 0.375), (0.75, 0.875), (1.0, 1.0)):
        found = stylized(eps, fidelity=fidelity)
        assert torch.equal(found, stylized(eps, gamma=gamma)), fidelity
        assert not torch.equal(found, whole)


# The attention


class Blocks:
    """A clone of a model that remembers what a transformer block got and gave, by timestep."""

    def __init__(self, model, layer: int) -> None:
        from comfy.patcher_extension import WrappersMP

        self.model = model.clone()
        self.block = model.model.diffusion_model.output_blocks[layer][1].transformer_blocks[0]
        self.seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

        def watch(executor: Any, x: Tensor, timesteps: Tensor, *args: Any, **kwargs: Any) -> Any:
            def remember(module: Any, given: tuple, named: dict, out: Tensor) -> None:
                context = named.get("context", given[1] if len(given) > 1 else None)
                self.seen[round(float(timesteps[0]))] = given[0].clone(), context, out.clone()

            handle = self.block.register_forward_hook(remember, with_kwargs=True)
            try:
                return executor(x, timesteps, *args, **kwargs)
            finally:
                handle.remove()

        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watch", watch)


def attend(attention: Any, query: Tensor, key: Tensor, value: Tensor, sharpness: float) -> Tensor:
    """Softmax attention with heads of 64 channels, spelled out."""
    heads = [part.split(64, -1) for part in (query, key, value)]
    rows = [
        torch.softmax(sharpness * q @ k.transpose(1, 2) / math.sqrt(64), -1) @ v
        for q, k, v in zip(*heads, strict=True)
    ]
    out = attention.to_out[0]
    return linear(torch.cat(rows, -1), out.weight, out.bias)


def block_by_hand(
    block: Any, x: Tensor, context: Tensor, content: Tensor, style: Tensor, gamma: float, t: float
) -> Tensor:
    """A transformer block with StyleID as the paper has it: queries mixed after their projection
    (eq. 5), keys and values of the style, logits times T (eq. 6)."""

    def normed(norm: Any, h: Tensor) -> Tensor:
        return layer_norm(h, h.shape[-1:], norm.weight, norm.bias)

    own, q_content, source = (normed(block.norm1, h) for h in (x, content, style))
    attn = block.attn1
    query = gamma * linear(q_content, attn.to_q.weight) + (1 - gamma) * linear(
        own, attn.to_q.weight
    )
    key, value = linear(source, attn.to_k.weight), linear(source, attn.to_v.weight)
    x = x + attend(attn, query, key, value, t)
    attn, h = block.attn2, normed(block.norm2, x)
    key, value = linear(context, attn.to_k.weight), linear(context, attn.to_v.weight)
    x = x + attend(attn, linear(h, attn.to_q.weight), key, value, 1.0)
    gate, out = block.ff.net[0].proj, block.ff.net[2]
    wide, gates = linear(normed(block.norm3, x), gate.weight, gate.bias).chunk(2, -1)
    return x + linear(wide * gelu(gates), out.weight, out.bias)


@pytest.mark.parametrize("layer", [6, 10])
def test_block_of_sd2_equals_the_paper_written_by_hand(v, layer) -> None:
    watches = [Blocks(v, layer) for _ in range(3)]
    ends = [
        invert(watch.model, name)[1]
        for watch, name in zip(watches[:2], ("content", "style"), strict=True)
    ]
    patched, start, sigmas = apply(watches[2].model, *ends, gamma=0.6, temperature=1.7)
    run(patched, start, sigmas)
    content, style, own = (watch.seen for watch in watches)
    assert set(content) == set(style) == set(own) and len(own) == STEPS
    for timestep, (x, context, out) in own.items():
        with torch.inference_mode():
            expected = block_by_hand(
                watches[2].block, x, context, content[timestep][0], style[timestep][0], 0.6, 1.7
            )
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    assert watches[0].block.attn1.heads == (2 if layer == 6 else 1)


def test_only_the_chosen_blocks_change(eps) -> None:
    """A block without injection is the plain one on the input it got."""
    ends = [invert(eps, name)[1] for name in ("content", "style")]
    for layers, changed in (("8", True), ("6", False)):
        watch = Blocks(eps, 8)
        patched, start, sigmas = apply(watch.model, *ends, layers=layers)
        run(patched, start, sigmas)
        x, context, out = watch.seen[1]
        with torch.inference_mode():
            plain = watch.block(x, context=context)
        assert torch.allclose(out, plain, rtol=0, atol=1e-5) != changed


# Memory modes


@pytest.mark.parametrize(
    ("convention", "cfg"), [("diffusers", 3.0), pytest.param("ldm", 1.0, marks=EXTRA)]
)
def test_memory_modes_agree(model, convention, cfg) -> None:
    """float16 within a thousandth of the largest value, the other two within float32's rounding."""
    found = {
        mode: stylized(model, mode, convention=convention, cfg=cfg, steps=4, negative=text("bad"))
        for mode in MODES
    }
    close(found["lockstep"], found["cpu_fp32"], 3e-5)
    close(found["cpu_fp16"], found["cpu_fp32"], 1e-3)
    assert not torch.equal(found["cpu_fp16"], found["cpu_fp32"])
    plain = stylized(model, convention=convention, cfg=cfg, steps=4, layers="")
    assert (found["cpu_fp32"] - plain).abs().max() > 0.05 * plain.abs().max()


@pytest.mark.parametrize("features", MODES)
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (11, 13)], ids=str)
def test_what_is_kept_is_what_was_announced(eps, caplog, features, size) -> None:
    from restoration.host.report import size_text

    with caplog.at_level(logging.INFO):
        _, kept = invert(eps, latent("content", 2, *size), features, layers="5,6,9")
    tensors = [t for at in kept.hidden.values() for t in at.values()] + list(kept.inputs.values())
    total = sum(t.numel() * t.element_size() for t in tensors)
    assert f"{STEPS} steps keep {size_text(total)} in RAM ({features})" in caplog.text
    assert {t.dtype for t in tensors} == {
        torch.float16 if features == "cpu_fp16" else torch.float32
    }
    assert {t.device.type for t in tensors} == {"cpu"}
    steps = kept.inputs if features == "lockstep" else kept.hidden
    assert list(steps) == [1, 334, 667]
    assert all(list(at) == [5, 6, 9] for at in kept.hidden.values())


def test_numbers_of_the_paper_sizes(host) -> None:
    """Hidden states of Stable Diffusion at 512 px: a third of the 33.75 MiB a step of Q, K, V for
    every tensor kept."""
    from restoration.styleid.run import DecoderAttention, stored_bytes

    layers = [DecoderAttention(640, 2)] * 3 + [DecoderAttention(320, 1)] * 3
    step = 11.25 * 2**20
    assert stored_bytes((1, 4, 64, 64), 50, layers, "cpu_fp16") == 50 * step
    assert stored_bytes((1, 4, 64, 64), 50, layers, "cpu_fp32") == 100 * step
    assert stored_bytes((1, 4, 64, 64), 50, layers, "lockstep") == 50 * 4 * 64 * 64 * 4


def test_too_little_ram_is_said_before_the_run(eps, caplog, monkeypatch) -> None:
    from comfy import model_management as mm

    free, size = mm.get_free_memory, (1, 32, 32)
    monkeypatch.setattr(mm, "get_free_memory", lambda *a: free(*a) if a[1:] else 1200 * 2**10)
    with caplog.at_level(logging.INFO):
        invert(eps, latent("content", *size), "cpu_fp16", layers="9,10,11", steps=3)
    assert "keep 1.1 MiB" in caplog.text  # 3 steps and layers, 1024 tokens of 64 channels
    assert "but" not in caplog.text
    invert(eps, latent("content", *size), "cpu_fp16", layers="9,10,11", steps=4)
    (record,) = (r for r in caplog.records if "keep 1.5 MiB" in r.getMessage())
    assert record.levelno == logging.WARNING
    assert "but 1.2 MiB are free: set features to lockstep" in record.getMessage()


def test_the_node_itself_says_what_it_takes(eps, monkeypatch) -> None:
    import restoration.host.report as report

    said: list[tuple[str, str]] = []
    listening = SimpleNamespace(send_progress_text=lambda *message: said.append(message))
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=listening))
    monkeypatch.setitem(sys.modules, "server", server)
    monkeypatch.setattr(report, "get_executing_context", lambda: SimpleNamespace(node_id="17"))
    ends = [invert_now(eps, name, "lockstep")[1] for name in ("content", "style")]
    apply(eps, *ends)
    assert [node for _, node in said] == ["17"] * 3
    assert "3 steps keep 0.0 MiB" in said[0][0] and "runs 3 rows a step" in said[2][0]


def test_lockstep_reserves_memory_for_its_rows(eps) -> None:
    from comfy.patcher_extension import WrappersMP

    shapes: list[list[int]] = []

    def estimate(executor: Any, model: Any, shape: Any, *args: Any, **kwargs: Any) -> Any:
        shapes.append(list(shape))
        return executor(model, shape, *args, **kwargs)

    for mode, rows in (("cpu_fp32", 2), ("lockstep", 4)):
        ends = [invert(eps, latent(name, 2), mode)[1] for name in ("content", "style")]
        patched, start, sigmas = apply(eps, *ends)
        patched = patched.clone()
        patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "zz test", estimate)
        run(patched, start, sigmas)
        assert shapes.pop() == [rows, 4, HEIGHT, WIDTH] and not shapes


def test_features_do_not_live_in_the_models_options(eps) -> None:
    """ComfyUI keeps MODEL outputs cached, and its oldest version copies options with every
    clone."""

    def tensors(value: Any) -> list[Tensor]:
        if isinstance(value, dict):
            return [t for each in value.values() for t in tensors(each)]
        if isinstance(value, list | tuple):
            return [t for each in value for t in tensors(each)]
        return [value] if torch.is_tensor(value) else []

    ends = [invert(eps, name)[1] for name in ("content", "style")]
    patched, _, _ = apply(eps, *ends)
    assert not tensors(copy.deepcopy(patched.model_options))


def test_one_set_of_settings_applied_twice_is_two_patches(eps) -> None:
    """What a call injects is found by the patch's own key, not by the settings' address."""
    from comfy.patcher_extension import WrappersMP

    from restoration.styleid.attach import Style, apply_styleid

    ends = [invert(eps, name)[1] for name in ("content", "style")]
    settings = Style(0.75, 1.5, (6, 7, 8, 9, 10, 11), (0.0, 1.0))
    once, *_ = apply_styleid(eps, *ends, settings, False)
    twice, *_ = apply_styleid(once, *reversed(ends), settings, False)
    assert len(twice.wrappers[WrappersMP.APPLY_MODEL]) == 2


# Batches and sizes


@pytest.mark.parametrize(("features", "styles"), [("cpu_fp32", 1), ("lockstep", 3)])
def test_one_style_or_one_each_for_a_batch_of_contents(eps, features, styles) -> None:
    contents, style = latent("content", 3), latent("style", styles)
    together = stylized(eps, features, contents, style, cfg=3.0, negative=text("bad"))
    for row in range(3):
        alone = stylized(
            eps,
            features,
            {"samples": contents["samples"][row : row + 1]},
            {"samples": style["samples"][row % styles : row % styles + 1]},
            cfg=3.0,
            negative=text("bad"),
        )
        close(together[row : row + 1], alone, 3e-5)
    assert not torch.allclose(together[0], together[1])


def test_rows_that_do_not_go_up_are_refused(eps) -> None:
    ends = [invert(eps, latent(name, rows))[1] for name, rows in (("content", 3), ("style", 2))]
    with pytest.raises(ValueError, match="`style` has 2 images, but there are 3"):
        apply(eps, *ends)


@pytest.mark.parametrize(
    "size",
    [pytest.param((8, 24), marks=EXTRA), pytest.param((24, 24), marks=EXTRA), (7, 9)],
    ids=str,
)
def test_style_may_have_another_size(eps, size) -> None:
    style = latent("style", 1, *size)
    out = stylized(eps, "cpu_fp32", "content", style)
    assert out.shape == (1, 4, HEIGHT, WIDTH) and torch.isfinite(out).all()
    ends = [invert(eps, each, "lockstep")[1] for each in (latent("content"), style)]
    sentence = f"one size; the latents are {WIDTH}x{HEIGHT} and {size[1]}x{size[0]}"
    with pytest.raises(ValueError, match=sentence):
        apply(eps, *ends)


def test_content_of_an_odd_size(eps) -> None:
    odd = [latent(name, 1, 11, 13) for name in ("content", "style")]
    close(stylized(eps, "lockstep", *odd), stylized(eps, "cpu_fp32", *odd), 3e-5)


# What may take part


@pytest.mark.parametrize("features", ["cpu_fp32", "lockstep"])
def test_cfg_with_equal_prompts_is_cfg_1(model, features) -> None:
    close(stylized(model, features, cfg=3.0), stylized(model, features), 3e-5)


@pytest.mark.parametrize("features", ["cpu_fp32", "lockstep"])
def test_prompts_of_other_lengths(eps, features) -> None:
    """Also beside the empty prompt's rows, which are shorter."""
    long = conditioning(seeded_input(3, "long", 1, 21, SMALL["context_dim"]))
    out = stylized(eps, features, positive=long, negative=text("bad"), cfg=2.0)
    assert not torch.allclose(out, stylized(eps, features))
    other = "lockstep" if features == "cpu_fp32" else "cpu_fp32"
    close(out, stylized(eps, other, positive=long, negative=text("bad"), cfg=2.0), 3e-5)


@pytest.mark.parametrize("both", [True, False])
def test_controlnet_steers_the_stylised_rows_only(host, eps, both) -> None:
    """On one prompt alone the host runs the two prompts apart."""
    control = core_controlnet(ldm_unet_config(SD2_LIKE))
    hint = seeded_input(3, "hint", 1, 3, 8 * HEIGHT, 8 * WIDTH).sigmoid()

    def steered(name: str) -> list:
        return text(name, control=control.copy().set_cond_hint(hint, 1.0, (0.0, 1.0)))

    prompts = {
        "positive": steered("good"),
        "negative": steered("bad") if both else text("bad"),
    }
    if both:
        prompts["negative"][0][1]["control"] = prompts["positive"][0][1]["control"]
    stored = stylized(eps, "cpu_fp32", cfg=2.0, **prompts)
    close(stylized(eps, "lockstep", cfg=2.0, **prompts), stored, 3e-5)
    plain = stylized(eps, "cpu_fp32", cfg=2.0, positive=text("good"), negative=text("bad"))
    assert not torch.allclose(stored, plain)


def test_a_lora_reaches_queries_keys_and_values(eps) -> None:
    weights = {
        name: (0.05 * seeded_input(4, name, *parameter.shape),)
        for name, parameter in eps.model.named_parameters()
        if any(f"attn1.to_{part}.weight" in name for part in "qkv")
    }
    lora = eps.clone()
    lora.add_patches({name: ("diff", value) for name, value in weights.items()})
    stored = stylized(lora, "cpu_fp32")
    close(stylized(lora, "lockstep"), stored, 3e-5)
    assert not torch.allclose(stored, stylized(eps, "cpu_fp32"))


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpm_2", "dpmpp_2m", "lms"])
def test_samplers_that_add_no_noise(eps, sampler) -> None:
    """dpm_2 calls between the listed steps: it gets what is nearest."""
    out = stylized(eps, sampler=sampler, steps=6)
    assert torch.isfinite(out).all()
    euler = stylized(eps, steps=6)
    assert torch.equal(out, euler) == (sampler == "ddim")


# On, off, and nothing left behind


def test_off_is_the_plain_model_bit_for_bit(eps) -> None:
    plain = [invert(eps, name)[1] for name in ("content", "style")]
    for adain in (True, False):
        _, start, sigmas = apply(eps, *plain, adain=adain)
        expected = run(eps, start, sigmas)
        for off in ({"layers": ""}, {"end_percent": 0.0}, {"start_percent": 1.0}):
            patched, same, _ = apply(eps, *plain, adain=adain, **off)
            assert torch.equal(same["samples"], start["samples"])
            assert torch.equal(run(patched, start, sigmas), expected), off


def test_range_is_that_part_of_the_run(eps) -> None:
    """The second half of four steps at 751, 501, 251 and 1."""
    plain, late = x0s(eps, steps=4, layers=""), x0s(eps, steps=4, start_percent=0.5)
    same = [torch.equal(a, b) for a, b in zip(plain, late, strict=True)]
    assert same == [True, True, False, False] or same == [True, False, False, False], same
    whole, early = x0s(eps, steps=4), x0s(eps, steps=4, end_percent=0.5)
    assert torch.equal(whole[0], early[0]) and not torch.equal(whole[-1], early[-1])


def test_adain_gives_the_styles_statistics_and_off_the_contents_latent(eps) -> None:
    (inverted, content), (other, style) = (invert(eps, name) for name in ("content", "style"))
    _, with_it, sigmas = apply(eps, content, style)
    _, without, _ = apply(eps, content, style, adain=False)
    torch.testing.assert_close(without["samples"], inverted["samples"], rtol=1e-5, atol=1e-4)
    for statistic in (torch.mean, torch.std):
        found, expected = (statistic(x["samples"], (-2, -1)) for x in (with_it, other))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)
    table = eps.get_model_object("model_sampling").sigmas
    assert torch.equal(sigmas, torch.cat([table[[667, 334, 1]], torch.zeros(1)]))


@pytest.mark.parametrize("features", MODES)
def test_clones_and_reruns_repeat_bit_for_bit(eps, features) -> None:
    ends = [invert(eps, name, features)[1] for name in ("content", "style")]
    again = invert_now(eps, "content", features)[1]
    assert torch.equal(again.end, ends[0].end)
    patched, start, sigmas = apply(eps, *ends)
    first = run(patched, start, sigmas)
    assert torch.equal(run(patched, start, sigmas), first)
    assert torch.equal(run(patched.clone().clone(), start, sigmas), first)


def test_the_source_model_and_latent_stay_as_they_were(eps) -> None:
    options, wrappers = copy.deepcopy(eps.model_options), copy.deepcopy(eps.wrappers)
    picture = {**latent("content"), "noise_mask": torch.ones(1, HEIGHT, WIDTH), "extra": 1}
    before = picture["samples"].clone()
    _, start, sigmas = apply(eps, invert(eps, picture)[1], invert(eps, "style")[1])
    plain = run(eps, start, sigmas)
    stylized(eps, "lockstep")
    out, _ = invert(eps, picture)
    assert torch.equal(run(eps, start, sigmas), plain)
    assert (eps.model_options, eps.wrappers) == (options, wrappers)
    assert torch.equal(picture["samples"], before) and "noise_mask" in picture
    assert "noise_mask" not in out and out["extra"] == 1


class Stop(Exception):
    pass


@pytest.mark.parametrize("features", MODES)
def test_an_interrupted_run_leaves_nothing_behind(eps, features) -> None:
    ends = [invert(eps, name, features)[1] for name in ("content", "style")]
    patched, start, sigmas = apply(eps, *ends)
    whole, plain = run(patched, start, sigmas), run(eps, start, sigmas)

    def stop(i: int, *args: Any) -> None:
        if i == 1:
            raise Stop

    with pytest.raises(Stop):
        run(patched, start, sigmas, callback=stop)
    assert torch.equal(run(eps, start, sigmas), plain)
    assert torch.equal(run(patched, start, sigmas), whole)


def test_an_inversion_can_be_interrupted(eps) -> None:
    from comfy import model_management as mm
    from comfy.patcher_extension import WrappersMP

    calls: list[int] = []

    def press(executor: Any, *args: Any, **kwargs: Any) -> Any:
        out = executor(*args, **kwargs)
        calls.append(len(calls))
        if len(calls) == 2:
            mm.interrupt_current_processing(True)
        return out

    whole = invert(eps, "content", steps=5)[1]
    watched = eps.clone()
    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "press", press)
    with pytest.raises(mm.InterruptProcessingException):
        invert(watched, "content", steps=5)
    assert len(calls) == 2
    assert torch.equal(invert_now(eps, "content", steps=5)[1].end, whole.end)


def test_an_inversion_reports_every_step(eps, monkeypatch) -> None:
    import comfy.utils

    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(
        comfy.utils,
        "PROGRESS_BAR_HOOK",
        lambda value, total, preview, node_id=None: seen.append((value, total)),
    )
    # The newest host leaves out reports that come too soon after the last one.
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0, raising=False)
    invert_now(eps, "content", steps=5)
    assert [pair for pair in seen if pair[0]] == [(i, 5) for i in range(1, 6)]


# Inversion for itself


def test_inverted_and_sampled_gives_the_picture_back(model) -> None:
    """With the ideal predictor of pictures that are noise of deviation 0.5 (random weights are too
    rough to be followed), the error falls with the number of steps."""
    from comfy.patcher_extension import WrappersMP

    model = model.clone()
    table = model.get_model_object("model_sampling").sigmas

    def ideal(executor: Any, z: Tensor, timesteps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        a = (1 + table[timesteps.long()] ** 2).rsqrt()[:, None, None, None]
        b = (1 - a**2).sqrt()
        x0 = a * z * 0.25 / (0.25 * a**2 + b**2)
        eps = (z - a * x0) / b
        return a * eps - b * x0 if is_v(model) else eps

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "ideal", ideal)
    picture, errors = latent("content")["samples"], []
    for steps in (5, 50):
        inverted, features = invert(model, "content", layers="", steps=steps)
        _, start, sigmas = apply(model, features, features, layers="", adain=False)
        torch.testing.assert_close(start["samples"], inverted["samples"], rtol=1e-5, atol=1e-4)
        errors.append(float((run(model, inverted, sigmas) - picture).std() / picture.std()))
    assert errors[1] < errors[0] / 5 and errors[1] < 0.1, errors


# Refusals


def test_other_models_are_refused_by_what_they_are(host, eps) -> None:
    import comfy.model_sampling as ms

    small = unet_model(ldm_unet_config(SMALL))
    with pytest.raises(ValueError, match=r"decoder has 4 blocks .* needs 12"):
        invert(small, "content")
    for kind in ("EDM", "X0", "CONST"):
        other = eps.clone()
        sampling = type("Other", (ms.ModelSamplingDiscrete, getattr(ms, kind)), {})()
        other.add_object_patch("model_sampling", sampling)
        with pytest.raises(ValueError, match=f"predicts as {kind}"):
            invert(other, "content")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"layers": "2,6"}, "names 2, but this model has self-attention in the blocks"),
        ({"layers": "6-11"}, "expected decoder blocks from 3 to 11"),
        ({"steps": 501}, "`steps` is 501; it goes from 2 to 500"),
        (
            {"latent": {"samples": torch.zeros(1, 4, 8, 8)}},
            "that of an empty picture.*Connect VAE Encode",
        ),
        (
            {"latent": {"samples": torch.ones(1, 4, 1, 8, 8)}},
            r"has the shape .*that of pictures is \(batch",
        ),
    ],
)
def test_wrong_settings_get_a_sentence(eps, given, sentence) -> None:
    picture = given.pop("latent", "content")
    with pytest.raises(ValueError, match=sentence):
        invert(eps, picture, **given)


@pytest.mark.parametrize(
    "prompts",
    [
        {"area": (8, 8, 0, 0), "strength": 1.0},
        {"start_percent": 0.5, "end_percent": 1.0},
    ],
    ids=["area", "part of the run"],
)
def test_an_inversion_takes_one_plain_prompt(eps, prompts) -> None:
    with pytest.raises(ValueError, match=r"one plain prompt|one whole call"):
        invert(eps, "content", conditioning=text("empty", **prompts))
    with pytest.raises(ValueError, match="one plain prompt"):
        invert(eps, "content", conditioning=[*text(), *text("bad")])


def test_a_pair_must_have_been_inverted_alike(eps) -> None:
    content = invert(eps, "content")[1]
    for given, what in (
        ({"steps": 4}, "with steps 3, the style with 4"),
        ({"convention": "ldm"}, "with convention diffusers, the style with ldm"),
        ({"features": "lockstep"}, "with lockstep False, the style with True"),
    ):
        with pytest.raises(ValueError, match=what):
            apply(eps, content, invert(eps, "style", **given)[1])
    with pytest.raises(ValueError, match="names 10, 11, but `style` has features of the blocks"):
        apply(eps, content, invert(eps, "style", layers="6,7,8,9")[1])


def test_another_size_is_refused(eps) -> None:
    ends = [invert(eps, name)[1] for name in ("content", "style")]
    patched, _, sigmas = apply(eps, *ends)
    with pytest.raises(ValueError, match="called with a latent of 8x24, but the content"):
        run(patched, latent("content", 1, 24, 8), sigmas)
    area = text("good", area=(8, 8, 0, 0), strength=1.0)
    with pytest.raises(ValueError, match="without areas in the prompt"):
        run(patched, apply(eps, *ends)[1], sigmas, positive=[*text(), *area])


def test_tiles_are_refused(eps) -> None:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    tiled = apply_tiles(eps, TilePlan(8, 4))
    with pytest.raises(ValueError, match="no tiled diffusion"):
        invert(tiled, "content")
    ends = [invert(eps, name)[1] for name in ("content", "style")]
    with pytest.raises(ValueError, match="without tiled diffusion"):
        run(*apply(tiled, *ends))


def test_levels_without_features_are_refused_unless_out_of_range(eps) -> None:
    """Features end at timestep 667 of 3 steps: half a step further is still served."""
    ends = [invert(eps, name)[1] for name in ("content", "style")]
    patched, start, _ = apply(eps, *ends)
    table = eps.get_model_object("model_sampling").sigmas
    assert torch.isfinite(run(patched, start, table[[833, 334, 1]])).all()
    with pytest.raises(ValueError, match=r"at timestep 834 .*3 steps from 1 to 667"):
        run(patched, start, table[[834, 334, 1]])
    late, start, _ = apply(eps, *ends, start_percent=0.3)
    assert torch.isfinite(run(late, start, table[[834, 334, 1]])).all()


@pytest.mark.parametrize("first", [True, False])
def test_token_merging_is_refused_in_any_order_of_nodes(eps, first) -> None:
    def merged(model: Any) -> Any:
        """Every second token, as ToMe's patches: merged before, repeated after attention."""
        patched = model.clone()
        patched.set_model_attn1_patch(lambda n, context, value, extra: (n[:, ::2], context, value))
        patched.set_model_attn1_output_patch(lambda n, extra: n.repeat_interleave(2, 1))
        return patched

    ends = [invert(eps, name)[1] for name in ("content", "style")]
    patched, start, sigmas = apply(merged(eps), *ends) if first else apply(eps, *ends)
    with pytest.raises(ValueError, match="another patch merges or splits them"):
        run(patched if first else merged(patched), start, sigmas)
    if first:
        with pytest.raises(ValueError, match="another patch merges or splits them"):
            invert(merged(eps), "content")


def test_lockstep_takes_nothing_but_a_prompt(eps) -> None:
    control = core_controlnet(ldm_unet_config(SD2_LIKE))
    hint = seeded_input(3, "hint", 1, 3, 8 * HEIGHT, 8 * WIDTH).sigmoid()
    steered = text("empty", control=control.set_cond_hint(hint, 1.0, (0.0, 1.0)))
    with pytest.raises(ValueError, match="this model call has a ControlNet"):
        invert(eps, "content", "lockstep", conditioning=steered)
    assert invert(eps, "content", conditioning=steered)[1].hidden


def test_lockstep_with_another_text_encoder_is_refused(eps) -> None:
    ends = [invert(eps, name, "lockstep")[1] for name in ("content", "style")]
    patched, start, sigmas = apply(eps, *ends)
    other = conditioning(seeded_input(3, "wide", 1, 7, 24))
    with pytest.raises(ValueError, match=r"tokens have .* channels: the pictures were inverted"):
        run(patched, start, sigmas, positive=other)


# Latent AdaIN


def matched(content: dict, style: dict, strength: float = 1.0) -> dict:
    from restoration.nodes.style import LatentAdaIN

    return LatentAdaIN.execute(content, style, strength).result[0]


def test_latent_adain_takes_statistics_by_a_share(host) -> None:
    content = {**latent("content", 2), "batch_index": [3, 4]}
    style = {"samples": 3 * latent("style", 1, 5, 6)["samples"] + 7}
    out, half = matched(content, style), matched(content, style, 0.5)
    for row in range(2):
        found = torch.std_mean(out["samples"][row], (-2, -1))
        for value, expected in zip(
            found, torch.std_mean(style["samples"][0], (-2, -1)), strict=True
        ):
            torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-2)
    middle = (content["samples"] + out["samples"]) / 2
    torch.testing.assert_close(half["samples"], middle, rtol=1e-4, atol=1e-4)
    assert torch.equal(matched(content, style, 0.0)["samples"], content["samples"])
    assert out["batch_index"] == [3, 4]


def test_latent_adain_of_other_channels_is_refused(host) -> None:
    with pytest.raises(ValueError, match="16 channels, `latent` 4"):
        matched(latent("content"), {"samples": torch.ones(1, 16, 4, 4)})
