"""The options of `janus train`. Knows names, not what they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from .errors import UsageError
from .flags import one_of
from .train import request
from .train.request import TrainRequest

Data = Annotated[list[str] | None, typer.Argument(metavar="DATA", hidden=True)]
Stage = Annotated[
    str,
    typer.Option(
        "--stage",
        metavar="|".join(request.STAGES),
        help="1 trains aligners and generation head, 2 the decoder too, 3 also the vision tower "
        "and only on answers; words trains a decoder on text alone.",
        autocompletion=one_of(request.STAGES),
    ),
]
MixtureOption = Annotated[
    str | None,
    typer.Option(
        "--mixture",
        metavar="U:T:G",
        help="Parts of questions about pictures, text, and drawings.  [default: the stage's]",
        show_default=False,
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", metavar="N", help="End after so many steps.")]
Minutes = Annotated[
    float | None, typer.Option("--minutes", metavar="M", help="End after so many minutes.")
]
Fall = Annotated[
    float,
    typer.Option(
        "--fall", metavar="SHARE", help="Let the rate fall to nothing over the last share of a run."
    ),
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", help="Pictures and texts a step.")]
Length = Annotated[
    int | None,
    typer.Option(
        "--length",
        metavar="TOKENS",
        help="Pack them into sequences of so many.  [default: 4096 on CUDA, else 1024]",
        show_default=False,
    ),
]
Accumulate = Annotated[
    int,
    typer.Option(
        "--accumulate", metavar="N", help="Go through a step in N parts, which takes less memory."
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        metavar="R",
        help="The learning rate.  [default: the stage's]",
        show_default=False,
    ),
]
Optimizer = Annotated[
    str,
    typer.Option(
        "--optimizer",
        metavar="|".join(request.OPTIMIZERS),
        help="muon is for networks that start from nothing.",
        autocompletion=one_of(request.OPTIMIZERS),
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Where the result goes.  [default: NAME-trained beside the other models]",
        show_default=False,
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is in the folder.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="What the order of the data is of.")]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="|".join(request.PRECISIONS),
        help="What products are computed in; the weights are fp32 meanwhile.",
        autocompletion=one_of(request.PRECISIONS),
    ),
]
Lora = Annotated[
    bool, typer.Option("--lora", help="Train low-rank products beside the decoder: an adapter.")
]
Aligners = Annotated[
    bool, typer.Option("--aligners", help="Train the two aligners alone: an adapter.")
]
Rank = Annotated[
    int | None,
    typer.Option(
        "--rank",
        metavar="N",
        help=f"The rank of those products.  [default: {request.RANK}]",
        show_default=False,
    ),
]
Workers = Annotated[
    int, typer.Option("--workers", metavar="N", help="Processes that read the data ahead.")
]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Write the losses for TensorBoard, too.")
]


@dataclass(frozen=True)
class TrainOptions:
    """What is trained, on what, how and for how long."""

    stage: Stage = "3"
    lora: Lora = False
    aligners: Aligners = False
    rank: Rank = None
    mixture: MixtureOption = None
    steps: Steps = None
    minutes: Minutes = None
    batch: Batch = 16
    length: Length = None
    accumulate: Accumulate = 1
    rate: Rate = None
    fall: Fall = 0.0
    optimizer: Optimizer = "adamw"
    seed: Seed = 0
    precision: Precision = "auto"
    workers: Workers = 1
    resume: Resume = False
    force: Force = False
    tensorboard: Tensorboard = False

    def __post_init__(self) -> None:
        if self.lora and self.aligners:
            raise UsageError("--lora, --aligners: are two kinds of adapter; choose one")

    @property
    def adapter(self) -> str | None:
        return "lora" if self.lora else "aligners" if self.aligners else None

    def request(self, **others: Any) -> TrainRequest:
        """The request of these options and of what stands beside them."""
        named = {name: value for name, value in vars(self).items() if name in FIELDS}
        return TrainRequest(**named, adapter=self.adapter, **others)


FIELDS = TrainRequest.__dataclass_fields__.keys()
