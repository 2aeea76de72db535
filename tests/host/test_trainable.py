"""The trained parts on the host's classes, beside the golden steps: start values, files, checkpointing, draws
shared by processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.common.draws import Draws, rows_of
from restoration.tests.golden.runners_diffbir import control_config
from restoration.tests.host import pasd_networks, seesr_networks
from restoration.tests.host.networks import SMALL, seeded_input, seeded_weights, tiny_vae

pytestmark = pytest.mark.host

SIDE, TEXT = 64, 16
PARTS = ("pasd", "pasd_light", "seesr", "diffbir")
KEYS = {"pasd": ("lq", "hq"), "seesr": ("lq", "embeds"), "diffbir": ("condition",)}
"""What each reads beside latent and text."""


@pytest.fixture(scope="module")
def host(comfy) -> Any:
    return comfy


def part(name: str, **changes: Any) -> Any:
    """A tiny trained part beside a seeded base; its own weights are not yet set."""
    from restoration.common.diffusion import ForwardProcess
    from restoration.host.trainable_unet import build_unet

    process = ForwardProcess.scaled_linear()

    def base(unet_config: Any) -> Any:
        unet = build_unet(unet_config, "cpu")
        unet.load_state_dict(seeded_weights(unet))
        return unet

    if name == "seesr":
        from restoration.seesr.trainable import SeeSRTrainable

        sizes = seesr_networks.config()
        return SeeSRTrainable(base(sizes.unet_config()), process, sizes, **changes)
    if name == "diffbir":
        from restoration.diffbir.trainable import DiffBIRTrainable

        config = control_config(SMALL)
        unet = base(config.sizes.unet_config())
        return DiffBIRTrainable(unet, process, config, **{"augmentation": 200, **changes})
    from restoration.pasd.trainable import PASDTrainable

    sizes = pasd_networks.sd15()
    rrdb = name == "pasd_light"
    return PASDTrainable(base(sizes.unet_config()), process, sizes, name, rrdb, **changes)


def seeded_part(name: str) -> Any:
    """With seeded weights, so that gradients flow through what a start leaves at zero."""
    made = part(name)
    with torch.no_grad():
        for parameter, value in zip(
            made.trained().values(), seeded_weights(ParametersOf(made)).values(), strict=True
        ):
            parameter.copy_(value)
    return made


class ParametersOf:
    """The trained parameters of a part, as `seeded_weights` asks for them."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        return list(self.made.trained().items())


def batch_of(name: str, rows: int = 2) -> dict[str, Tensor]:
    cells = SIDE // 8
    given = {
        "hq": torch.sigmoid(seeded_input(1, "hq", rows, 3, SIDE, SIDE)),
        "lq": torch.sigmoid(seeded_input(1, "lq", rows, 3, SIDE, SIDE)),
        "embeds": seeded_input(1, "embeds", rows, 5, 512),
        "condition": seeded_input(1, "condition", rows, 4, cells, cells),
    }
    kept = {key: given[key] for key in KEYS[name.removesuffix("_light")]}
    return kept | {
        "mean": seeded_input(1, "mean", rows, 4, cells, cells),
        "logvar": seeded_input(1, "logvar", rows, 4, cells, cells),
        "text": seeded_input(1, "text", rows, 7, TEXT),
    }


def gradients(made: Any, batch: dict[str, Tensor], draws: Draws) -> dict[str, Tensor]:
    made.zero_grad()
    torch.stack(list(made(batch, draws).values())).sum().backward()
    return {key: p.grad.clone() for key, p in made.trained().items()}


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], share: float) -> None:
    """Within a share of each tensor's largest value, and a millionth of the largest of all: some
    gradients, as of a bias before a norm, are rounding and nothing else."""
    largest = max(float(value.abs().max()) for value in wanted.values())
    for key, value in wanted.items():
        accepted = share * float(value.abs().max()) + 1e-6 * largest
        assert (found[key] - value).abs().max() <= accepted, key


@pytest.mark.parametrize("name", PARTS)
def test_checkpointing_changes_no_number(host, name) -> None:
    made, batch = seeded_part(name), batch_of(name)
    draws = made.draw(batch, rows_of(3, 0, 0, 2))
    plain = gradients(made, batch, draws)
    assert all(value.count_nonzero() for value in plain.values())
    made.checkpointed()
    assert_close(gradients(made, batch, draws), plain, 1e-6)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("pasd_light", "diffbir") else pytest.mark.slow)
        for name in PARTS
    ],
)
def test_two_halves_of_a_batch_are_the_whole(host, name) -> None:
    """Rounds of accumulation, or processes: the mean of their gradients is the batch's."""
    made, batch = seeded_part(name), batch_of(name)
    whole = gradients(made, batch, made.draw(batch, rows_of(3, 5, 0, 2)))
    halves = []
    for i in range(2):
        half = {key: value[i : i + 1] for key, value in batch.items()}
        halves.append(gradients(made, half, made.draw(half, rows_of(3, 5, i, 1))))
    mean = {key: (halves[0][key] + halves[1][key]) / 2 for key in whole}
    assert_close(mean, whole, 1e-4)


@pytest.mark.parametrize("name", PARTS)
def test_a_start_leaves_no_weight_as_it_was(host, name) -> None:
    """Every weight is set, the same for the same seed, and only what trains has a gradient."""
    made = part(name)
    states = []
    for seed in (7, 7, 8):
        with torch.no_grad():
            for parameter in made.trained().values():
                parameter.fill_(float("nan"))
        made.start(seed)
        states.append({key: p.detach().clone() for key, p in made.trained().items()})
    first, again, other = states
    assert all(value.isfinite().all() for value in first.values())
    assert all(torch.equal(again[key], value) for key, value in first.items())
    differ = [key for key, value in first.items() if not torch.equal(other[key], value)]
    assert bool(differ) == (name != "diffbir")  # whose start has nothing random
    own = {id(p) for p in made.trained().values()}
    assert {id(p) for p in made.parameters() if p.requires_grad} == own


@pytest.mark.parametrize("name", PARTS)
def test_a_start_without_effect_is_the_bases_own_prediction(host, name) -> None:
    """As published, PASD and SeeSR disturb the base from the first step; DiffBIR does not."""
    from restoration.host.trainable_unet import run_unet

    made, batch = part(name), batch_of(name)
    draws = made.draw(batch, rows_of(3, 0, 0, 2))
    x = made.process.noised(made.target_latent(batch, draws), draws["noise"], draws["timesteps"])
    with torch.no_grad():
        plain = run_unet(made.unet, x, draws["timesteps"], batch["text"])
        alone = torch.nn.functional.mse_loss(plain, draws["noise"])
        made.start(7, **({} if name == "diffbir" else {"zero_start": True}))
        assert torch.allclose(made(batch, draws)["prediction"], alone, rtol=1e-5)
        made.start(7)
        as_published = made(batch, draws)["prediction"]
    assert torch.allclose(as_published, alone, rtol=1e-5) == (name == "diffbir")


@pytest.mark.parametrize("name", PARTS)
def test_published_files_are_what_the_loaders_take(host, name) -> None:
    made = seeded_part(name)
    state = made.published_state()
    files = [state[file] for file in made.files.values()]
    if name == "diffbir":
        from restoration.diffbir.keys import convert
        from restoration.diffbir.load import diffbir_control

        loaded = diffbir_control(convert(files[0], config=made.config), made.config)
        networks = [(loaded.control_model, made.control)]
    elif name == "seesr":
        from restoration.seesr.load import seesr_model

        loaded, _ = seesr_model(files[1], files[0], config=made.config)
        networks = [(loaded.control.model, made.control), (loaded.rca.model, made.rca)]
    else:
        from restoration.pasd.load import pasd_model

        loaded = pasd_model(files[1], files[0], config=made.config)
        assert loaded.variant == name
        networks = [
            (loaded.encoder.model, made.encoder),
            (loaded.control.model, made.control),
            (loaded.attention.model, made.attention),
        ]
    for found, ours in networks:
        expected = ours.state_dict()
        assert found.state_dict().keys() == expected.keys()
        assert all(torch.equal(v.float(), expected[k]) for k, v in found.state_dict().items())


def test_files_of_another_size_are_refused_whole(host) -> None:
    from restoration.common.state_dict import CheckpointError

    made = seeded_part("pasd")
    state, before = made.published_state(), made.published_state()
    unet = made.files["unet."]
    key = next(iter(state[unet]))
    state[unet][key] = state[unet][key][:1]
    for value in state[made.files["controlnet."]].values():
        value.zero_()
    with pytest.raises(CheckpointError, match="another shape"):
        made.load_published(state)
    with pytest.raises(CheckpointError, match="is missing"):
        made.load_published({unet: before[unet]})
    after = made.published_state()
    assert all(torch.equal(after[f][k], v) for f in before for k, v in before[f].items())


def tiny_tagger() -> tuple[dict[str, Tensor], Any]:
    """(weights, sizes)"""
    from restoration.tagger.config import TaggerConfig
    from restoration.tagger.ram import Tagger

    sizes = TaggerConfig(
        image_size=48, embed_dim=8, depths=(2, 2), heads=(2, 4), window=3, labels=5,
        query_width=16, query_feed_forward=32,
    )  # fmt: skip
    return seeded_weights(Tagger(sizes)), sizes


def test_stage_1_and_dape_are_what_their_loaders_take(host) -> None:
    from spandrel import ModelLoader

    from restoration.stage1.start import SwinIRSizes
    from restoration.stage1.trainable import CleanerTrainable
    from restoration.tagger.keys import dape_pairs, merge_dape
    from restoration.tagger.ram import Tagger
    from restoration.tagger.trainable import DAPETrainable

    sizes = SwinIRSizes(img_size=16, embed_dim=12, depths=(2,), num_heads=(2,))
    cleaner = CleanerTrainable(sizes, seed=3)
    batch = batch_of("pasd")
    (state,) = cleaner.published_state().values()
    loaded = ModelLoader("cpu").load_from_state_dict(state)
    with torch.no_grad():
        wanted = cleaner.network(batch["lq"])
        assert torch.equal(loaded.model.eval()(batch["lq"]), wanted)

    weights, config = tiny_tagger()
    dape = DAPETrainable(weights, config)
    dape.start(5)
    with torch.no_grad():  # a fresh one changes nothing
        assert dape(batch, {})["embeds"] > 0
        same = batch | {"lq": batch["hq"]}
        assert dape(same, {})["embeds"] == 0
        for parameter in dape.trained().values():
            parameter.add_(seeded_input(1, "moved", *parameter.shape), alpha=0.3)
        (state,) = dape.published_state().values()
        merged = Tagger(config)
        merged.load_state_dict(merge_dape(weights, dape_pairs(state, weights), 1.0))
        wanted = dape(same, {})
        plain = Tagger(config)
        plain.load_state_dict(weights)
        found = [network.embed(_tagger_sees(batch["hq"])) for network in (merged, plain)]
        assert torch.allclose(torch.nn.functional.mse_loss(*found), wanted["embeds"], rtol=1e-4)


def _tagger_sees(pixels: Tensor) -> Tensor:
    from restoration.tagger.ram import tagger_input

    return tagger_input(pixels, 48)


def test_a_dropped_branch_is_the_network_without_it(host) -> None:
    """All branches dropped leave the tokens of the first layer; nothing dropped with rate 0 is the
    network itself."""
    from restoration.stage1.start import SwinIRSizes
    from restoration.stage1.trainable import CleanerTrainable

    sizes = SwinIRSizes(img_size=16, embed_dim=12, depths=(3,), num_heads=(2,), drop_path_rate=0.4)
    made, batch = CleanerTrainable(sizes, seed=3), batch_of("pasd")
    assert [each.rate for each in made.dropped] == pytest.approx([0.2, 0.2, 0.4, 0.4])
    ones = {each.name: torch.ones(2) for each in made.dropped}
    half = {name: torch.tensor([1.0, 0.0]) for name in ones}
    with torch.no_grad():
        plain, full, mixed = (float(made(batch, d)["squares"]) for d in ({}, ones, half))
        alone = [
            float(made({k: v[i : i + 1] for k, v in batch.items()}, {n: d[i : i + 1]})["squares"])
            for i in range(2)
            for n, d in [("kept.none", torch.ones(2))]
        ]
    assert plain == pytest.approx(sum(alone), rel=1e-4)
    assert len({round(value, 4) for value in (plain, full, mixed)}) == 3
    draws = made.draw(batch, rows_of(1, 0, 0, 2))
    assert draws.keys() == ones.keys()


def test_the_posterior_is_sampled_and_the_batch_may_bring_pictures(host) -> None:
    """A VAE's moments of the target, a text encoder's features, and what is missing is told."""

    from restoration.host.trainable_base import Moments

    moments = Moments(tiny_vae().first_stage_model.float().cpu())
    made = part("diffbir", moments=moments, augmentation=0)
    made.start()
    batch = batch_of("diffbir")
    mean, logvar = batch.pop("mean"), batch.pop("logvar")
    batch["hq"] = batch_of("pasd")["hq"]
    draws = made.draw(batch, rows_of(3, 0, 0, 2))
    assert draws["noise"].shape == mean.shape
    z, other = (
        made.target_latent(batch, draws | {"posterior": noise})
        for noise in (draws["posterior"], -draws["posterior"])
    )
    assert not torch.equal(z, other) and not z.requires_grad
    assert made.scale_factor == 0.18215
    given = {"mean": mean, "logvar": logvar}
    assert torch.equal(
        made.target_latent(given, draws),
        0.18215 * (mean + (0.5 * logvar).exp() * draws["posterior"]),
    )
    del batch["text"]
    with pytest.raises(ValueError, match="no text features"):
        made(batch, draws)


def test_samples_go_to_latents_and_back_as_by_the_hosts_own_vae(host) -> None:
    from restoration.host.trainable_base import Autoencoder

    vae = tiny_vae()
    own = Autoencoder(vae.first_stage_model.float().cpu())
    pixels = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        latent = own.encoded(pixels)
        found = own.decoded(latent)
    wanted = vae.encode(pixels.movedim(1, -1)) * 0.18215
    assert torch.allclose(latent, wanted, atol=1e-5)
    assert torch.allclose(found.clamp(0, 1).movedim(1, -1), vae.decode(latent / 0.18215), atol=1e-5)


def test_one_window_is_the_hosts_own_of_a_short_prompt(host) -> None:
    """For both tokenizers; longer prompts are cut where the host would begin another window."""
    import comfy.sd1_clip
    from comfy.text_encoders.sd2_clip import SD2ClipHTokenizer

    from restoration.host.text_window import one_window

    for made in (comfy.sd1_clip.SDTokenizer(), SD2ClipHTokenizer()):
        for words in ("", "a photo of sks dog"):
            (window,) = made.tokenize_with_weights(words)
            assert one_window(made, words) == [int(token) for token, _ in window]
        long = one_window(made, "dog " * 100)
        assert len(long) == 77 and long[-1] == made.end_token and long[1:76] == [long[1]] * 75


def test_text_features_are_the_hosts_and_train(host) -> None:
    """Of the last layer, and of the one before with and without the final norm."""
    from comfy.clip_model import CLIPTextModel

    from restoration.host.text_window import TextWindow
    from restoration.host.trainable_unet import LAYERS

    sizes = {
        "num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 2,
        "intermediate_size": 32, "hidden_act": "gelu", "max_position_embeddings": 8,
        "eos_token_id": 2,
    }  # fmt: skip
    encoder = CLIPTextModel(sizes, device="cpu", **LAYERS).text_model
    encoder.embeddings.token_embedding = LAYERS["operations"].Embedding(40, 16)
    encoder.load_state_dict(seeded_weights(encoder))
    tokens = torch.tensor([[0, 5, 9, 2, 2, 2, 2, 2], [0, 7, 1, 4, 2, 2, 2, 2]])
    for layer, normalized in ((None, True), (-2, True), (-2, False)):
        window = TextWindow(encoder, None, layer, normalized)
        with torch.no_grad():
            last, hidden, _ = encoder(
                tokens, intermediate_output=layer, final_layer_norm_intermediate=normalized
            )
        found = window.features(tokens)
        assert torch.allclose(found, last if layer is None else hidden, atol=1e-5)
        encoder.zero_grad()
        found.square().sum().backward()
        used = {name for name, p in encoder.named_parameters() if p.grad is not None}
        assert used == window.used().keys()
