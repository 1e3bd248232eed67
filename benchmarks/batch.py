"""How much several at once gain: pictures drawn together, and pictures described together.

    python benchmarks/make_checkpoint.py janus-pro-1b -o /tmp/1b
    python benchmarks/batch.py --model /tmp/1b [--device cuda] [--precisions int4 bf16]

Pictures a minute of one at a time and of several. A drawing is measured by steps around its middle,
where a step costs as much as the mean of all; descriptions of 64 new words are measured whole, each
of another picture.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from dataclasses import replace
from pathlib import Path

from engines import drawing, forget, four_bits, never_ending, ours, question, seconds
from start import machine

from janus_cli.engine.decode import Native, Sampling
from janus_cli.engine.machine import choose_device

COUNTS = (1, 4, 8)
COUNTS_ON_CUDA = (1, 4, 8, 16)
STEPS = 24
WORDS = 64
DESCRIBED = 8


def drawn(engine: Native, count: int) -> float:
    """Pictures a second."""
    middle = engine.image_tokens // 2 - STEPS // 2
    columns = engine.draw([drawing(engine, seed, middle) for seed in range(count)], Sampling())
    for _ in range(4):  # the prompt, and the steps before a graph is captured
        next(columns)
    next(columns)

    def some_steps() -> None:
        for _ in range(STEPS):
            next(columns)

    each = seconds(some_steps, engine.model.device) / STEPS
    return count / (each * engine.image_tokens)


def described(engine: Native, count: int) -> float:
    """Pictures a second, of `count` different ones."""
    forget(engine)
    prompts = [replace(question(engine, seed), max_tokens=WORDS) for seed in range(count)]
    spent = seconds(lambda: list(engine.write(prompts)), engine.model.device)
    return count / spent


def main() -> None:
    """Measure every precision and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="*")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-describe", action="store_true", help="only draw")
    options = parser.parse_args()
    device = choose_device(options.device)
    counts = COUNTS_ON_CUDA if device.type == "cuda" else COUNTS
    rows = []
    for precision in options.precisions or [four_bits(device), "bf16"]:
        engine = ours(options.model, precision, options.device)
        never_ending(engine)
        rates = [[drawn(engine, count) for count in counts] for _ in range(options.runs)]
        rows.append(
            ("drawn", precision, [statistics.median(r) for r in zip(*rates, strict=True)], counts)
        )
        if not options.no_describe:
            pair = [described(engine, 1), described(engine, DESCRIBED)]
            rows.append(("described", precision, pair, (1, DESCRIBED)))
        del engine
        gc.collect()
    print(f"{machine()}; {options.model.name} on {device}, pictures a minute, and beside one\n")
    print("| | precision |" + "".join(f" {count} at once |" for count in counts))
    print("|---|---|" + "--:|" * len(counts))
    for what, precision, measured, sizes in rows:
        found = dict(zip(sizes, measured, strict=True))
        cells = "".join(
            f" {60 * found[n]:.2f}, {found[n] / found[1]:.2f} × |" if n in found else " |"
            for n in counts
        )
        print(f"| {what} | {precision} |{cells}")


if __name__ == "__main__":
    main()
