"""The loop of a fine-tuning with one weight: what moves it, what is shown, and what is left behind."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from restoration.common.crops import Crops
from restoration.common.draws import Row

pytestmark = pytest.mark.host

PICTURES = [torch.full((3, 8, 8), value / 10) for value in range(5)]
RATE, DECAY = 0.1, 0.5


@pytest.fixture
def loop(comfy) -> Any:
    from restoration.host import finetune

    return finetune


class Weight:
    """A part of one weight w whose loss is w times `slopes` of the step, one row after another."""

    def __init__(self, slopes=(1.0, 100.0)) -> None:
        from restoration.host.trainable import Trainable

        owner = self

        class Part(Trainable):
            files = {"": "weight"}  # noqa: RUF012
            expected = "a weight"

            def __init__(self) -> None:
                super().__init__()
                self.w = nn.Parameter(torch.tensor(2.0))

            def published(self):
                return {"": {"w": self.w}}

            def draw(self, batch, rows):
                return {"rows": rows}

            def forward(self, batch, draws):
                return {"loss": owner.loss(self.w, batch, draws["rows"])}

        self.slopes = slopes
        self.seen: list[list[Row]] = []
        self.means: list[Tensor] = []
        self.dtypes: set[torch.dtype] = set()
        self.part: Any = Part()

    def loss(self, w: Tensor, batch: dict[str, Any], rows: list[Row]) -> Tensor:
        self.seen.append(rows)
        self.means.append(batch["hq"].mean((1, 2, 3)))
        self.dtypes.add((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        return w * self.slopes[rows[0].step]

    def value(self) -> float:
        return self.part.w.item()


def learned(loop, weight: Weight, beside=(), own=(), **changes: Any) -> tuple[Any, list[float]]:
    given = {
        "steps": 2, "batch_size": 2, "grad_accumulation_steps": 2, "learning_rate": RATE, "seed": 11,
        "training_dtype": "fp32", "gradient_checkpointing": True,
    }  # fmt: skip
    tuning = loop.Tuning(
        "Toy", weight.part, weight.value, "none", DECAY, clip=1.0, beside=beside, own=own
    )
    crops = Crops(PICTURES, PICTURES, size=8)
    return loop.finetune(tuning, crops, loop.Settings(**{**given, **changes}))


def test_the_rate_the_decay_the_clip_and_the_seed_are_those_that_were_given(loop) -> None:
    weight = Weight()
    result, losses = learned(loop, weight)
    first = 2.0 * (1 - RATE * DECAY) - RATE  # of AdamW, whose gradients are clipped to 1
    assert losses == [pytest.approx(2.0), pytest.approx(100 * first)]
    assert result == pytest.approx(first * (1 - RATE * DECAY) - RATE, abs=1e-5)
    rows = [[Row(11, step, place + i) for i in (0, 1)] for step in (0, 1) for place in (0, 2)]
    assert weight.seen == rows and weight.dtypes == {torch.float32}
    seen = torch.cat(weight.means)[:5]  # an epoch: every picture once
    assert sorted(seen.tolist()) == pytest.approx([each.mean().item() for each in PICTURES])
    other = Weight()
    learned(loop, other, training_dtype="bf16", seed=12)
    assert other.dtypes == {torch.bfloat16} and other.seen[0][0].seed == 12


def test_every_step_is_shown_and_moves_the_bar(loop, monkeypatch, caplog) -> None:
    import comfy.utils

    said, moved = [], []
    monkeypatch.setattr(loop, "show", said.append)
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *told, **_: moved.append(told[:2]))
    with caplog.at_level(logging.INFO):
        learned(loop, Weight())
    assert said == ["step 1 of 2, loss 2", "step 2 of 2, loss 180"]
    assert moved[-1] == (2, 2)
    assert "Fine-tuning Toy: 1e-06 million weights, for which training keeps 0.0 MiB" in caplog.text


@pytest.mark.parametrize("fails", [False, True])
def test_all_that_runs_is_loaded_whole_and_leaves_again(loop, monkeypatch, fails, caplog) -> None:
    """On a card what stays would take the memory of what the graph does next."""
    import comfy.model_management as mm

    asked, gone = [], []

    class Watched(loop.ModelPatcher):
        def detach(self, **options):
            if not options:  # which the end of an object has
                gone.append(self.model)
            return super().detach(**options)

    def load(patchers, memory_required=0, force_full_load=False):
        asked.append(([each.model for each in patchers], memory_required, force_full_load))
        real(patchers, memory_required=memory_required, force_full_load=force_full_load)

    real = mm.load_models_gpu
    monkeypatch.setattr(loop, "ModelPatcher", Watched)
    monkeypatch.setattr(mm, "load_models_gpu", load)
    weight, own = Weight(), nn.Linear(1, 1)
    others = loop.ModelPatcher(nn.Linear(1, 1), torch.device("cpu"), torch.device("cpu"))
    if fails:
        plain = weight.loss

        def loss(w, batch, rows):
            if len(weight.seen) == 3:
                raise mm.OOM_EXCEPTION("no more")
            return plain(w, batch, rows)

        weight.loss = loss
        with pytest.raises(mm.OOM_EXCEPTION):
            learned(loop, weight, [others], [own])
        assert "Out of memory while training: lower crop_size" in caplog.text
    else:
        learned(loop, weight, [others], [own])
    assert asked == [([weight.part, own, others.model], loop.EVERYTHING, True)]
    assert gone == [weight.part, own] and weight.part.w.grad is None


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_no_number_ends_it_before_the_weight_moves(loop, what) -> None:
    weight = Weight((1.0, math.inf))
    plain = weight.loss
    if what == "gradient":  # a loss of 0, whose slope is infinite
        weight.loss = lambda w, batch, rows: (
            plain(w, batch, rows) if rows[0].step == 0 else (w - w.detach()).sqrt()
        )
    with pytest.raises(ValueError, match=rf"The {what} of step 2 .* with (picture \d, )*picture"):
        learned(loop, weight, batch_size=1)
    assert weight.value() == pytest.approx(2.0 * (1 - RATE * DECAY) - RATE)


def test_a_card_without_bf16_is_told_before_anything_is_loaded(loop, monkeypatch) -> None:
    monkeypatch.setattr(loop.mm, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(loop.mm, "should_use_bf16", lambda device: False)
    weight = Weight()
    with pytest.raises(ValueError, match="does not compute in: choose fp32"):
        learned(loop, weight, training_dtype="bf16")
    assert not weight.seen
    assert learned(loop, weight)[1]
