"""Every part's lesson: learn, and say what was gained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...common.state_dict import StateDict
from ..base import Base
from ..config import make_config
from ..loop import make_accelerator, train
from ..opened import Opened
from ..parts import part_module
from . import tiny
from .measure import noise_loss, psnr, restored_psnr
from .pictures import UNSEEN, Pictures

PARTS = ("stage1", "dape", "diffbir", "pasd", "seesr")


@dataclass(frozen=True)
class Lesson:
    """How long everything learns, and from what."""

    folder: Path
    base_steps: int = 1500
    steps: int = 500
    """Of every part."""
    pictures: int = 1024
    unseen: int = 64
    batch: int = 16
    rate: float = 2e-3
    draws: int = 4
    """Restorations of every picture."""
    parts: tuple[str, ...] = PARTS


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    part: str
    measured: str
    before: float
    after: float
    beside: dict[str, float] = field(default_factory=dict)
    """Further figures of before."""

    def __str__(self) -> str:
        more = "".join(f"; {name} {value:.4g}" for name, value in self.beside.items())
        return f"| {self.part} | {self.measured} | {self.before:.4g}{more} | {self.after:.4g} |"


@dataclass
class School:
    """What the lessons share."""

    lesson: Lesson

    def __post_init__(self) -> None:
        self.seen = Pictures(0, self.lesson.pictures)
        self.unseen = Pictures(UNSEEN, self.lesson.unseen)

    def learn(
        self, name: str, part: Any, steps: int, rate: float = 1.0, batch: float = 1.0
    ) -> None:
        """By the loop of all runs, with the rate falling twice. name: of the run's folder and,
        where it is one, the part. rate, batch: times the lesson's."""
        lesson = self.lesson
        module = part_module(name if name in PARTS else "dreambooth")
        table = {
            "optimizer": {
                "lr": rate * lesson.rate,
                "weight_decay": 0.0,
                "clip": 1.0,
                "warmup": min(50, steps // 10),
                "milestones": [steps * 7 // 10, steps * 9 // 10],
                "factor": 0.3,
            },
            "run": {
                "folder": str(lesson.folder / name),
                "steps": steps,
                "batch": int(batch * lesson.batch),
                "seed": 1,
            },
            "data": {"workers": 0},
            "save": {"every": 0, "export_every": 0},
        }
        config = make_config(name, module.Model, {}, table, "proof")
        opened = Opened(part, self.seen, len(self.seen), {"method": name})
        train(config, opened, make_accelerator(config, some_idle=True, cpu=True))


def stage1(school: School) -> Iterator[Row]:
    """The cleaner: how close its pictures are to the clean ones."""
    part, batch = tiny.fresh_cleaner(), school.unseen.batch()

    @torch.no_grad()
    def quality() -> float:
        return psnr(part.network(batch["lq"]), batch["hq"])

    damaged, fresh = psnr(batch["lq"], batch["hq"]), quality()
    school.learn("stage1", part, school.lesson.steps, 0.5, 0.5)
    yield Row("stage 1", "PSNR, dB", damaged, quality(), {"fresh": fresh})


class Eyes(nn.Module):
    """The tagger that learned to name what is in clean pictures, then its DAPE on damaged ones. In
    SeeSR's place for it: B 3 H W in 0..1 -> B N 512."""

    def __init__(self, school: School) -> None:
        super().__init__()
        self.school, self.teacher = school, tiny.TaggerLesson()
        school.learn("tagger", self.teacher, school.lesson.base_steps // 2, 0.5)
        weights = {k: v.detach().clone() for k, v in self.teacher.tagger.state_dict().items()}
        self.dape = tiny.fresh_dape(weights)
        self.student = tiny.TaggerLesson()
        self._merge(weights)
        self.before = self.agreement()
        school.learn("dape", self.dape, school.lesson.steps, 0.5)
        self._merge(weights)

    def _merge(self, weights: StateDict) -> None:
        """The student: the teacher's weights with the LoRA, as its loader merges them."""
        from ...tagger.keys import dape_pairs, merge_dape

        (lora,) = self.dape.published_state().values()
        self.student.tagger.load_state_dict(merge_dape(weights, dape_pairs(lora, weights), 1.0))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.student.look(pixels)

    @torch.no_grad()
    def agreement(self) -> tuple[float, float]:
        """(share of tags on damaged pictures that are the teacher's on clean ones, mean square
        between their embeddings)"""
        batch = self.school.unseen.batch()
        wanted = self.teacher.look(batch["hq"])
        found = self.student.look(batch["lq"])
        tags = [self.teacher.tagger.logits(each) > 0 for each in (found, wanted)]
        return 100 * (tags[0] == tags[1]).float().mean().item(), (
            (found - wanted).square().mean().item()
        )

    @torch.no_grad()
    def rows(self) -> Iterator[Row]:
        batch = self.school.unseen.batch()
        right = (self.teacher.logits(batch["hq"]) > 0) == (batch["seen"] > 0)
        often = batch["seen"].mean(0)
        guessed = torch.maximum(often, 1 - often).mean()
        yield Row(
            "tagger",
            "right tags, clean, %",
            100 * float(guessed),
            100 * right.float().mean().item(),
        )
        for name, before, after in zip(
            ("tags as the teacher's, %", "distance of embeddings"),
            self.before,
            self.agreement(),
            strict=True,
        ):
            yield Row("dape", name, before, after)


def branch(school: School, name: str, base: Base, alone: float, eyes: nn.Module) -> Iterator[Row]:
    """One branch: its loss against the base alone, and the whole restoration."""
    patches: Any = base.moments
    part = tiny.branch(name, base, eyes)
    fresh = noise_loss(part, school.unseen, patches)
    school.learn(name, part, school.lesson.steps)
    loss = noise_loss(part, school.unseen, patches)
    yield Row(name, "error of the noise", alone, loss, {"fresh": fresh})
    draws = school.lesson.draws
    damaged, one, mean = restored_psnr(part, part_module(name).WAY, school.unseen, patches, draws)
    yield Row(name, "PSNR, dB", damaged, one)
    yield Row(name, f"PSNR of the mean of {draws}, dB", damaged, mean)


def lessons(lesson: Lesson) -> Iterator[Row]:
    """Rows of a table, as they come."""
    school = School(lesson)
    if "stage1" in lesson.parts:
        yield from stage1(school)
    eyes: nn.Module = nn.Identity()
    if {"dape", "seesr"} & set(lesson.parts):
        eyes = Eyes(school)
        yield from eyes.rows()
    branches = [name for name in lesson.parts if name in tiny.BRANCHES]
    if not branches:
        return
    base = tiny.fresh_base()
    patches: Any = base.moments
    school.learn("base", tiny.base_part(base), lesson.base_steps)
    alone = noise_loss(tiny.base_part(base), school.unseen, patches)
    yield Row("base", "error of the noise", 1.0, alone)
    for name in branches:
        yield from branch(school, name, base, alone, eyes)
