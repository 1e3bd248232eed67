"""One picture of JanusFlow: seconds, peak memory, and what each way of computing it saves.

    python benchmarks/make_checkpoint.py janusflow-1.3b -o /tmp/flow
    python benchmarks/flow.py --model /tmp/flow
    python benchmarks/flow.py --model /tmp/flow --device cuda --precisions bf16 nf4

The rows: as janus draws; with the words computed at every step, as the authors' loop does for want
of its cache; and on a GPU without the captured graph. Steps are measured after one that is not
counted, in turns, --measured of each way; a picture is --steps times the median, the words once,
and the painting. Every precision has a process of its own, whose peak memory is that of loading and
drawing as janus draws, less what the imports took.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from engines import drawing, four_bits, ours, seconds
from load import peak
from start import machine
from torch import Tensor

from janus_cli.engine.decode import Drawing, Sampling
from janus_cli.engine.euler import END_OF_TIME, NativeFlow
from janus_cli.engine.graph import WARM, Repeated
from janus_cli.engine.machine import choose_device
from janus_cli.schema import FLOW_GUIDANCE, FLOW_STEPS

Step = Callable[[Tensor, Tensor], Tensor]
CACHED, UNCACHED, UNCAPTURED = "words once", "words at every step", "words once, no graph"


def main() -> None:
    """Measure every precision and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="*")
    parser.add_argument("--steps", type=int, default=FLOW_STEPS)
    parser.add_argument("--measured", type=int, default=5, help="steps of each way")
    parser.add_argument("--words", type=int, default=16, help="of the prompt")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options, options.child)))
        return
    device = choose_device(options.device)
    print(f"{machine('diffusers')}; {options.model.name} on {device}, {options.words} words\n")
    print(f"| | | ms a step | words, ms | painting, s | {options.steps} steps, s | peak |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for precision in options.precisions or ["bf16", four_bits(device)]:
        command = [sys.executable, __file__, *sys.argv[1:], "--child", precision]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(ended.stdout.splitlines()[-1])
        for way, step in found["steps"].items():
            words = 0 if way == UNCACHED else found["words"]
            whole = options.steps * step + words + found["painting"]
            once = "" if way == UNCACHED else f"{1000 * words:.0f}"
            memory = f"{found['peak'] / 1e9:.2f} GB" if way == CACHED else ""
            print(
                f"| {precision} | {way} | {1000 * step:.0f} | {once} | {found['painting']:.2f} "
                f"| {whole:.1f} | {memory} |"
            )


@torch.inference_mode()
def measure(options: argparse.Namespace, precision: str) -> dict[str, object]:
    """Seconds of the parts of a picture at one precision, and the bytes that it takes."""
    device = choose_device(options.device)
    before = memory_peak(device)
    engine = ours(options.model, precision, options.device)
    assert isinstance(engine, NativeFlow), "--model is no JanusFlow"
    one, sampling = drawing(engine, 0, options.words), Sampling(FLOW_GUIDANCE, steps=WARM)
    latents = torch.stack(list(engine.draw([one], sampling)), dim=1)
    engine.paint(latents)
    memory = memory_peak(device) - before
    rows = (one.ids, one.unconditional)
    engine.prefix(rows)
    words = seconds(lambda: engine.prefix(rows), device)
    painting = seconds(lambda: engine.paint(latents), device)
    found = steps(engine, one, latents[:, -1], options.measured)
    return {"words": words, "painting": painting, "steps": found, "peak": memory}


def steps(engine: NativeFlow, one: Drawing, latent: Tensor, measured: int) -> dict[str, float]:
    """Median seconds of a step, each way; the ways take turns."""
    device, sampling = engine.model.device, Sampling(FLOW_GUIDANCE)
    prefix, whole = engine.prefix((one.ids, one.unconditional)), words_each_time(engine, one)

    def cached(latent: Tensor, time: Tensor) -> Tensor:
        return latent + engine.velocity(latent, time, prefix, sampling) / FLOW_STEPS

    def uncached(latent: Tensor, time: Tensor) -> Tensor:
        velocities = whole(latent, time).float()
        velocity = velocities[1:] + FLOW_GUIDANCE * (velocities[:1] - velocities[1:])
        return latent + velocity / FLOW_STEPS

    when = torch.full((1,), END_OF_TIME / 2, device=device)
    moved, expected = (step(latent, when) - latent for step in (cached, uncached))
    assert (moved - expected).norm() < 0.1 * expected.norm(), "the ways differ"
    ways: dict[str, Step] = {CACHED: cached, UNCACHED: uncached}
    if device.type == "cuda":
        ways = {CACHED: Repeated(cached, device, FLOW_STEPS, pays_back=1), UNCAPTURED: cached}
        ways[UNCACHED] = uncached
    times: dict[str, list[float]] = {way: [] for way in ways}
    first = WARM + 2 if device.type == "cuda" else 1  # the graph is captured in the last of these
    for turn in range(first + measured):
        time = torch.full((1,), turn * END_OF_TIME / FLOW_STEPS, device=device)
        for way, step in ways.items():
            times[way].append(seconds(lambda step=step, time=time: step(latent, time), device))
    return {way: statistics.median(taken[-measured:]) for way, taken in times.items()}


def words_each_time(engine: NativeFlow, one: Drawing) -> Step:
    """The velocities of both rows from whole sequences, the words among them, as the authors do."""
    model, device = engine.model, engine.model.device
    ids = torch.tensor([one.ids[:-1], one.unconditional[:-1]], device=device)
    before, length = ids.shape[1], ids.shape[1] + 1 + engine.image_tokens
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril().repeat(2, 1, 1)
    seen[1, :, 1:before] = False
    seen[1, range(before), range(before)] = True  # a row that sees nothing is not a number
    heads, size = model.config.language.kv_heads, model.config.language.head_size
    nothing = torch.empty(2, heads, 0, size, dtype=model.dtype, device=device)
    positions = torch.arange(length, device=device).expand(2, -1)
    layers = [(nothing, nothing)] * model.config.language.layers
    words = model.embed_text(ids)

    def velocities(latent: Tensor, time: Tensor) -> Tensor:
        features, embedded = model.encoder(latent, time)
        x = torch.cat((words, model.embed_latent(features, embedded).expand(2, -1, -1)), dim=1)
        states = model.language.follow(x, layers, positions, seen[:, None])
        return model.velocity_of(states[:, -engine.image_tokens :], features, embedded)

    return velocities


def memory_peak(device: torch.device) -> int:
    """The most memory that was taken until now, in bytes: the device's, or that of the process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak()


if __name__ == "__main__":
    main()
