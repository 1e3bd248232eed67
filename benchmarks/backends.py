"""Our networks beside transformers' on the same weights, in one process, in turns.

    python benchmarks/backends.py [--model PATH] [--precision fp32] [--runs 3]

Seconds from request to result, the model already loaded: a short answer, a long answer, a picture.
Both backends get the same token ids and pixels; greedy, so that they have the same work to do.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from engines import forget
from PIL import Image
from start import PENGUINS, machine

from janus_cli.engine.batch import Prompt
from janus_cli.engine.decode import Drawing, Sampling
from janus_cli.engine.load import Engine, open_engine
from janus_cli.schema import ModelChoice
from janus_cli.weights import find_model

PROMPT = "three penguins and a red heart on a white background"


def ask(engine: Engine, question: str, tokens: int) -> None:
    with Image.open(PENGUINS) as image:
        pixels = engine.preprocessing.fit(image.convert("RGB"))[None]
    ids = engine.writer.conversation(1, [], question)
    forget(engine)
    for _ in engine.write([Prompt(ids, pixels, max_tokens=tokens)]):
        pass


def draw(engine: Engine) -> None:
    ids = engine.writer.drawing(PROMPT)
    drawing = Drawing(ids, engine.writer.unconditional(ids), seed=0)
    columns = engine.draw([drawing], Sampling(temperature=0))
    engine.paint(torch.stack(list(columns), dim=1))


TASKS: dict[str, Callable[[Engine], None]] = {
    "ask, one picture": lambda engine: ask(engine, "how many penguins?", 8),
    "describe in detail, one picture": lambda engine: ask(
        engine, "Describe the image in detail.", 64
    ),
    "imagine, one picture with guidance": draw,
}


def seconds(task: Callable[[Engine], None], engine: Engine) -> float:
    begun = time.perf_counter()
    task(engine)
    return time.perf_counter() - begun


def main() -> None:
    """Measure the tasks and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    path: Path = find_model(options.model)
    ours, theirs = (
        open_engine(path, ModelChoice(options.model, options.device, options.precision, backend))
        for backend in ("janus", "transformers")
    )
    print(
        f"{machine()}; model {ours.name} in {ours.precision}, {torch.get_num_threads()} threads\n"
    )
    print("| request | janus | transformers | ratio |\n|---|---:|---:|---:|")
    for name, task in TASKS.items():
        seconds(task, ours), seconds(task, theirs)
        pairs = [(seconds(task, ours), seconds(task, theirs)) for _ in range(options.runs)]
        mine, others = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"| {name} | {mine:.2f} s | {others:.2f} s | {others / mine:.1f} × |", flush=True)


if __name__ == "__main__":
    main()
