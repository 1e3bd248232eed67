"""A picture described, and several questions about it, from the request to the last word.

    python benchmarks/make_checkpoint.py janus-pro-1b --layout transformers -o /tmp/1b
    python benchmarks/describe.py --model /tmp/1b [--device cuda]

Ours in 4 bits beside transformers in bf16, on the same weights and prompts, in turns: one picture
and 64 new words. Then one question of 16 new words about a picture beside four, the picture and
what the questions share being computed once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engines import forget, four_bits, never_ending, ours, question, theirs
from start import machine

from janus_cli.engine.batch import Prompt
from janus_cli.engine.load import Engine
from janus_cli.engine.machine import choose_device

LONG, SHORT = 64, 16  # new words of a description and of an answer
OWN = 12  # words of a question that the others do not share


def answer(engine: Engine, prompts: Sequence[Prompt], tokens: int) -> tuple[float, float]:
    """Seconds to the first token and to the last."""
    forget(engine)
    begun = time.perf_counter()
    first, said = 0.0, 0
    for _, token in engine.write([replace(prompt, max_tokens=tokens) for prompt in prompts]):
        first = first or time.perf_counter() - begun
        said += token is not None
    assert said == tokens * len(prompts), "an answer ended early"
    return first, time.perf_counter() - begun


def main() -> None:
    """Measure both pairs and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    device = choose_device(options.device)
    precision = options.precision or four_bits(device)
    engine = ours(options.model, precision, options.device)
    peer = theirs(options.model, "bf16", options.device)
    never_ending(engine), never_ending(peer)
    picture = question(engine, seed=1)
    answer(engine, [picture], 2), answer(peer, [picture], 2)
    pairs = [
        (*answer(engine, [picture], LONG), *answer(peer, [picture], LONG))
        for _ in range(options.runs)
    ]
    first, last, peer_first, peer_last = (
        statistics.median(times) for times in zip(*pairs, strict=True)
    )
    one = question(engine, seed=2, words=OWN)
    four = [question(engine, seed, one.pixels, words=OWN) for seed in (2, 3, 4, 5)]
    answer(engine, four, 2)
    asked = [
        (answer(engine, [one], SHORT)[1], answer(engine, four, SHORT)[1])
        for _ in range(options.runs)
    ]
    alone, together = (statistics.median(times) for times in zip(*asked, strict=True))
    print(
        f"{machine('transformers')}; {options.model.name} on {device}, prompts of "
        f"{len(picture.ids)} tokens, medians of {options.runs} runs in turns\n"
    )
    print(f"| | janus, {precision} | transformers, bf16 | ratio |\n|---|--:|--:|--:|")
    for name, mine, others in (
        ("to the first word", first, peer_first),
        (f"to the last of {LONG}", last, peer_last),
    ):
        print(f"| {name} | {mine:.2f} s | {others:.2f} s | {others / mine:.1f} × |")
    print(f"\n| questions of {SHORT} new words | one | four | ratio |\n|---|--:|--:|--:|")
    print(f"| janus, {precision} | {alone:.2f} s | {together:.2f} s | {together / alone:.2f} × |")


if __name__ == "__main__":
    main()
