"""What a run of training is asked to do, checked once. Knows flags, and no networks."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from ..schema import MAX_SEED, ModelChoice, require, require_one_of

STAGES = ("1", "2", "3", "words")
OPTIMIZERS = ("adamw", "muon")
PRECISIONS = ("auto", "fp32", "bf16")
ADAPTERS = ("lora", "aligners")
RANK = 16  # of low-rank products, where it is not said
WORLD = "world"
SHORTEST = 64  # positions of a sequence


@dataclass(frozen=True)
class TrainRequest:
    """Everything that the command knows; what is None follows the stage, or the model."""

    data: tuple[str, ...]
    """Folders and JSONL files; `world` is the picture world."""
    output: str
    model: str | None = None
    stage: str = "3"
    mixture: str | None = None
    adapter: str | None = None
    """What is trained instead of the stage's parts: one of ADAPTERS."""
    rank: int | None = None
    steps: int | None = None
    minutes: float | None = None
    fall: float = 0.0
    batch: int = 16
    length: int | None = None
    accumulate: int = 1
    rate: float | None = None
    optimizer: str = "adamw"
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    workers: int = 1
    resume: bool = False
    force: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        ModelChoice(device=self.device)  # checks it
        require_one_of("--stage", self.stage, STAGES)
        require_one_of("--precision", self.precision, PRECISIONS)
        require_one_of("--optimizer", self.optimizer, OPTIMIZERS)
        for flag, value in (("--steps", self.steps), ("--rank", self.rank)):
            require(flag, value is None or value >= 1, "must be at least 1")
        if self.rank is not None and self.adapter != "lora":
            raise UsageError("--rank: is that of --lora; add --lora, or leave it out")
        for flag, number in (("--batch", self.batch), ("--accumulate", self.accumulate)):
            require(flag, number >= 1, "must be at least 1")
        for flag, amount, most in (("--minutes", self.minutes, 1e6), ("--rate", self.rate, 1)):
            must = f"must be more than 0, and at most {most:.0f}"
            require(flag, amount is None or 0 < amount <= most, must)
        require("--fall", 0 <= self.fall <= 1, "must be a share of the run, from 0 to 1")
        require("--length", self.length is None or self.length >= SHORTEST, f"from {SHORTEST} on")
        require("--workers", 0 <= self.workers <= 256, "must be from 0 to 256")
        require("--seed", 0 <= self.seed <= MAX_SEED, f"must be from 0 to {MAX_SEED}")
        if self.steps is None and self.minutes is None:
            raise UsageError("--steps: is missing; say how many steps, or --minutes how long")
        if self.resume and self.force:
            raise UsageError("--resume, --force: go on with a run or begin it anew; leave one out")
