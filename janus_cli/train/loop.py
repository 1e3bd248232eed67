"""The loop: material → two losses → gradients → one step of the optimizer. It knows no files."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from ..engine.model import Janus
from ..engine.pixels import Preprocessing
from ..errors import InputError, UsageError
from ..signals import undisturbed
from . import recipe
from .losses import Encode, loss_sums
from .packing import Batch
from .stream import Material

BETAS = (0.9, 0.95)  # of AdamW, and the clipping: arXiv 2410.13848, table 1
CLIP = 1.0
OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class Settings:
    """How the trained parameters of a model are moved, and for how long."""

    rate: float
    steps: int | None = None
    minutes: float | None = None
    """Whatever comes first ends the run; without either, it has no end."""
    warm_up: int = 0
    """Steps until the rate is reached."""
    fall: float = 0.0
    """The last share of the run, in which the rate falls to nothing; else it is constant."""
    weight_decay: float = 0.0
    optimizer: str = "adamw"
    """`muon` takes matrices inside the layers from AdamW, for networks that start from nothing."""
    bf16: bool = False
    """Whether products are computed in bf16; weights and optimizer are fp32 in any case."""


@dataclass(frozen=True)
class Record:
    """How one step went: losses before it, None where nothing of the kind was learned."""

    step: int
    words: float | None
    codes: float | None
    rate: float


class Trainer:
    """A model whose parameters that require gradients are being trained."""

    def __init__(
        self,
        model: Janus,
        preprocessing: Preprocessing,
        settings: Settings,
        encode: Encode | None = None,
    ) -> None:
        """`encode` is that of `loss_sums`."""
        self.encode = encode
        self.model, self.preprocessing, self.settings = model, preprocessing, settings
        self.trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizers = self._optimizers()
        self.records: list[Record] = []
        self.seconds = 0.0
        self.whole = True
        """Whether no step of the optimizer is half done."""

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        rate, decay = self.settings.rate, self.settings.weight_decay
        if self.settings.optimizer == "muon":
            return recipe.optimizers(self.model, rate=rate)
        parameters = list(self.trained.values())
        return [torch.optim.AdamW(parameters, lr=rate, betas=BETAS, weight_decay=decay)]

    @property
    def done(self) -> float:
        """The share of the run that is over, by steps or by minutes."""
        steps, minutes = self.settings.steps, self.settings.minutes
        by_steps = len(self.records) / steps if steps else 0.0
        return max(by_steps, self.seconds / 60 / minutes if minutes else 0.0)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        warmth = (len(self.records) + 1) / max(self.settings.warm_up, 1)
        left = (1 - self.done) / self.settings.fall if self.settings.fall else 1.0
        return self.settings.rate * min(1.0, warmth) * max(0.0, min(1.0, left))

    def run(self, materials: Iterable[Material]) -> Generator[tuple[Record, tuple[str, ...]]]:
        """Train until the run is over; what each step did, and the complaints on its way.

        A signal comes between two steps, so that the state is whole whenever this ends.

        Raises:
            InputError: there is nothing left to learn from.
            UsageError: the gradients are no numbers any more.
        """
        materials, begun = iter(materials), time.monotonic() - self.seconds
        while self.done < 1:
            material = next(materials)
            if material.error is not None:
                raise InputError(material.error)
            with undisturbed():
                record = self.step(material.passes)
                self.seconds = time.monotonic() - begun
            yield record, material.complaints

    def step(self, passes: tuple[Batch, ...]) -> Record:
        """One step of the optimizer, on gradients that are gathered over all passes."""
        rate = self.rate
        words, codes = self._gather(passes)
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), CLIP)
        if not math.isfinite(norm):
            raise UsageError(f"--rate {rate:g}: the gradients are no numbers any more; lower it")
        self.whole = False
        for optimizer in self.optimizers:
            recipe.set_rate(optimizer, rate)
            optimizer.step()
            optimizer.zero_grad()
        self.records.append(Record(len(self.records) + 1, words, codes, rate))
        self.whole = True
        return self.records[-1]

    def _gather(self, passes: tuple[Batch, ...]) -> tuple[float | None, float | None]:
        """Gradients of the mean over answers plus the mean over pictures; the two means."""
        answers = sum(batch.weights[batch.targets >= 0].sum().item() for batch in passes)
        pictures = sum(batch.weights[batch.of_codes].sum().item() for batch in passes)
        sums = torch.zeros(2, device=self.model.device)
        for batch in passes:
            batch = batch.to(self.model.device)
            with torch.autocast(batch.ids.device.type, torch.bfloat16, self.settings.bf16):
                words, codes = loss_sums(self.model, batch, self.preprocessing, self.encode)
            loss = words / max(answers, 1) + codes / (pictures or 1)
            if loss.requires_grad:  # no words pass through a stage that trains nothing of them
                loss.backward()
            sums += torch.stack((words.detach(), codes.detach()))
        words_sum, codes_sum = sums.tolist()
        return (
            words_sum / answers if answers else None,
            codes_sum / pictures if pictures else None,
        )

    # What a run needs to go on as if it had never stopped.

    def state(self) -> dict[str, Any]:
        return {
            "trained": {name: parameter.detach() for name, parameter in self.trained.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "records": [(r.step, r.words, r.codes, r.rate) for r in self.records],
            "seconds": self.seconds,
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave of a trainer with the same model and settings."""
        for name, parameter in self.trained.items():
            parameter.copy_(state["trained"][name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.records = [Record(*record) for record in state["records"]]
        self.seconds = state["seconds"]
