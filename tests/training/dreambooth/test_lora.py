"""A LoRA of DreamBooth, from a short run to what ComfyUI's own loader makes of its file."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from restoration.tests.host.networks import (
    SMALL,
    ldm_unet_config,
    seeded_input,
    seeded_weights,
    unet_model,
)
from restoration.tests.training.test_parts import Moments, config_of, open_tiny
from restoration.training.base import Base
from restoration.training.loop import make_accelerator, train

pytestmark = pytest.mark.host

TEXT = {
    "num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32,
    "hidden_act": "gelu", "max_position_embeddings": 8, "eos_token_id": 2,
}  # fmt: skip
QUERY = "middle_block.1.transformer_blocks.0.attn1.to_q"
QUERY_SITE = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture(scope="module")
def clip(comfy) -> Any:
    """The host's CLIP around a tiny encoder."""
    import comfy.model_patcher
    import comfy.sd
    from comfy.clip_model import CLIPTextModel

    from restoration.host.trainable_unet import LAYERS

    stage = nn.Module()
    stage.clip_l = nn.Module()
    stage.clip_l.transformer = CLIPTextModel(TEXT, device="cpu", **LAYERS)
    text = stage.clip_l.transformer.text_model
    text.embeddings.token_embedding = LAYERS["operations"].Embedding(40, 16)
    text.load_state_dict(seeded_weights(text))
    made = comfy.sd.CLIP(no_init=True)
    cpu = torch.device("cpu")
    made.cond_stage_model = stage
    made.patcher = comfy.model_patcher.ModelPatcher(stage, load_device=cpu, offload_device=cpu)
    made.tokenizer = made.layer_idx = None
    made.tokenizer_options, made.use_clip_schedule, made.apply_hooks_to_conds = {}, False, None
    return made


@pytest.mark.both_hosts
def test_the_hosts_own_loader_adds_what_was_trained(
    comfy, clip, tmp_path, pictures, caplog
) -> None:
    """All keys are used, and the patched weights are the base's and what the LoRA learned."""
    import comfy.sd

    from restoration.host.text_window import TextWindow
    from restoration.host.trainable_unet import run_unet

    model = unet_model(ldm_unet_config(SMALL))
    unet = model.model.diffusion_model
    text = clip.cond_stage_model.clip_l.transformer.text_model
    window = TextWindow(text, lambda words: [0, 5, len(words) % 40, 2, 2, 2, 2, 2])
    networks = {"lora_unet_": unet, "lora_te_text_model_": text}
    before = [w.clone() for each in networks.values() for w in each.state_dict().values()]
    x, tokens = seeded_input(1, "x", 1, 4, 8, 8), torch.tensor([[0, 5, 9, 2, 2, 2, 2, 2]])

    def answer() -> Tensor:
        with torch.no_grad():
            return run_unet(unet, x, torch.tensor([400]), window.features(tokens))

    plain = answer()
    changes = {"train_text_encoder": True, "lora_rank": 3, "lora_alpha": 6.0}
    config = config_of(
        "dreambooth_lora",
        tmp_path / "run",
        pictures,
        model={**changes, "class_pictures": str(pictures), "class_prompt": "dog"},
        run={"checkpointing": True},
        optimizer={"lr": 1e-2},
    )
    base = Base(unet, ldm_unet_config(SMALL), Moments(), window, "abc")
    opened = open_tiny(config, base=base)
    part: Any = opened.part
    train(config, opened, make_accelerator(config, cpu=True))
    trained = answer()
    assert (trained - plain).abs().max() > 1e-3
    after = [w for each in networks.values() for w in each.state_dict().values()]
    assert all(map(torch.equal, before, after)), "the base itself was trained"
    for layer in [*unet.modules(), *text.modules()]:
        layer._forward_hooks.clear()

    file = load_file(tmp_path / "run/export/00000002/lora.safetensors")
    assert len(file) == 3 * len(part.sites)
    patched, patched_clip = comfy.sd.load_lora_for_models(model, clip, file, 1.0, 1.0)
    assert "not loaded" not in caplog.text.lower()
    patchers = (patched, patched_clip.patcher)
    assert sum(len(each.patches) for each in patchers) == len(part.sites)
    query = part.unet.get_submodule(QUERY)
    own = query.weight.clone()
    for each in patchers:
        each.patch_model(device_to=torch.device("cpu"))
    down, up = (file[f"{QUERY_SITE}.lora_{side}.weight"] for side in ("down", "up"))
    torch.testing.assert_close(query.weight, own + 6.0 / 3 * up @ down, rtol=0, atol=1e-6)
    torch.testing.assert_close(answer(), trained, rtol=0, atol=1e-5)
    for each in patchers:
        each.unpatch_model(device_to=torch.device("cpu"))
    assert torch.equal(answer(), plain)


def test_a_fresh_lora_changes_nothing_and_goes_on_from_its_state(comfy, tmp_path, pictures) -> None:
    config = config_of("dreambooth_lora", tmp_path / "run", pictures)
    part: Any = open_tiny(config).part
    ups = [each.lora_up for each in part.adapters]
    assert ups and not any(up.any() for up in ups)
    assert all(each.lora_down.std() > 0.1 for each in part.adapters)
    state = {name: weights.copy() for name, weights in part.published_state().items()}
    (weights,) = state.values()
    for key in weights:
        if ".lora_up." in key:
            weights[key] = torch.ones_like(weights[key])
    part.load_published(state)
    assert all((up == 1).all() for up in ups)
