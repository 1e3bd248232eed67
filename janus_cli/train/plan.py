"""What a request leaves open, decided by the stage, the model, the data and the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import torch

from .. import weights
from ..engine.model import Janus
from ..engine.precision import computes_in_bf16
from ..engine.prompt import PromptWriter, read_tokenizer
from ..errors import ModelError, UsageError
from .folder import Folder, find_files
from .lessons import KINDS, Source
from .loop import Settings
from .mixture import Mixture
from .pupil import Pupil
from .request import RANK, WORLD, TrainRequest
from .stages import STAGES, Stage
from .stamps import Stamps
from .world.source import World

PACKED = {"cuda": 4096}  # positions of a sequence, as in the papers; elsewhere long ones cost more
PACKED_ELSEWHERE = 1024
UNKNOWN_WARM_UP = 100  # most steps of it where nobody knows how many there will be
LORA_RATE = 10  # times the rate of the stage; low-rank products take about so much more


def open_sources(
    request: TrainRequest, pupil: Pupil, complain: Callable[[str], None]
) -> list[Source]:
    """Where the lessons of a request come from; without DATA it is the picture world."""
    sources: list[Source] = []
    for name in request.data or (WORLD,):
        if name == WORLD:
            require_small_words(request, pupil.writer)
            stamps = Stamps.find(pupil.checkpoint.path)
            sources.append(World(pupil.preprocessing, seed=request.seed, stamps=stamps))
            continue
        for file in find_files(Path(name).expanduser()):
            source = Folder(file, pupil.preprocessing, seed=request.seed)
            source.read(complain)
            sources.append(source)
    return sources


def require_small_words(request: TrainRequest, writer: PromptWriter) -> None:
    """Raise a UsageError unless a model has the vocabulary of the embedded one."""
    known = read_tokenizer(weights.find_model(weights.EMBEDDED)).get_vocab()
    if writer.tokenizer.get_vocab() != known:
        raise UsageError(
            "DATA: only the embedded model learns from the picture world; for "
            f"{request.model} name a folder or a .jsonl file of your own"
        )


def choose_mixture(request: TrainRequest, stage: Stage, sources: list[Source]) -> Mixture:
    """The mixture of the request, or that of the stage without what no source has."""
    there = [kind for kind in KINDS if any(source.count(kind) for source in sources)]
    if request.mixture is None:
        mixture = stage.mixture.only(there)
        if not mixture.total:
            raise UsageError(
                f"--stage {request.stage}: learns from {' and '.join(stage.mixture.kinds())}, and "
                f"the data has only {' and '.join(there)}; say --mixture"
            )
        return mixture
    try:
        mixture = Mixture.parse(request.mixture)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"--mixture {request.mixture}: say three parts, understanding:text:generation, as 5:1:4"
        ) from error
    for kind in mixture.kinds():
        if kind not in there:
            raise UsageError(f"--mixture {mixture}: the data has nothing for {kind}; make that 0")
    return mixture


def require_learner(request: TrainRequest, stage: Stage, mixture: Mixture) -> None:
    """Raise a UsageError where nothing that is trained has a part in what is learned."""
    alone = request.adapter == "aligners" or (
        not request.adapter and "language" not in stage.trained
    )
    if alone and mixture.kinds() == ["text"]:
        flag = "--aligners" if request.adapter else f"--stage {request.stage}"
        raise UsageError(
            f"{flag}: trains what stands between pictures and decoder, and learns nothing from "
            "text alone; add pictures to the data, or take --stage 2"
        )


def choose_length(
    request: TrainRequest, pupil: Pupil, mixture: Mixture, device: torch.device
) -> int:
    """How many positions a packed sequence has; a picture with its words has to fit."""
    context = pupil.model.config.language.context
    length = request.length or min(context, PACKED.get(device.type, PACKED_ELSEWHERE))
    pictures = {
        "understanding": len(pupil.writer.conversation(1, [], "?")),
        "generation": pupil.model.config.image_tokens + len(pupil.writer.drawing("a")),
    }
    least = max([0, *(pictures.get(kind, 0) for kind in mixture.kinds())])
    if not least < length <= context:
        raise UsageError(
            f"--length {length}: must be more than {least}, which a picture takes, and at most "
            f"{context}, the model's context"
        )
    return length


def attach(request: TrainRequest, stage: Stage, model: Janus) -> None:
    """Say what of the model is trained."""
    if request.adapter is None:
        stage.mark(model)
        return
    from . import adapt

    torch.manual_seed(request.seed)  # the products begin with random numbers
    kind = cast(Literal["lora", "aligners"], request.adapter)
    adapt.attach(model, kind, rank=request.rank or RANK)


def make_settings(request: TrainRequest, stage: Stage, device: torch.device) -> Settings:
    """How the loop moves what is trained, where the request does not say: as the stage does."""
    warm_up = min(stage.warm_up, request.steps // 10 if request.steps else UNKNOWN_WARM_UP)
    rate = stage.rate
    if request.adapter:
        rate = LORA_RATE * stage.rate if request.adapter == "lora" else STAGES["1"].rate
    good = computes_in_bf16() if device.type == "cpu" else device.type == "cuda"
    if device.type == "cuda":
        good = torch.cuda.is_bf16_supported()
    if request.precision == "bf16" and device.type == "cuda" and not good:
        raise ModelError("--precision bf16: not on this GPU; take fp32")
    return Settings(
        rate=request.rate or rate,
        steps=request.steps,
        minutes=request.minutes,
        warm_up=warm_up,
        fall=request.fall,
        weight_decay=stage.weight_decay,
        optimizer=request.optimizer,
        bf16=good if request.precision == "auto" else request.precision == "bf16",
    )
