"""One picture with guidance, and where the time of a step goes.

    python benchmarks/make_checkpoint.py janus-pro-1b --layout transformers -o /tmp/1b
    python benchmarks/imagine_step.py --model /tmp/1b
    python benchmarks/imagine_step.py --model /tmp/7b --device cuda --precisions bf16 nf4

All steps of a picture are counted, the prompt and the painting are not. The peer is transformers'
own loop with its static cache, in bf16, and in nf4 with bitsandbytes' weights. Its cache is as long
as the whole picture from the first step on, so that its steps cost the same anywhere: --peer-steps
measures fewer of them. The second table takes a step apart, near the end.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path

import torch
from engines import bandwidth, bytes_of, drawing, four_bits, median_seconds, ours, seconds, theirs
from start import machine

from janus_cli.engine.decode import Native, Sampling
from janus_cli.engine.machine import choose_device
from janus_cli.engine.reference import Reference
from janus_cli.engine.sample import guide, pick

POSITION = 600  # of the step that is taken apart


def main() -> None:
    """Measure every precision and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="*")
    parser.add_argument("--peers", nargs="*", default=["bf16", "nf4"])
    parser.add_argument("--peer-steps", type=int, nargs="*", default=[], metavar="N")
    options = parser.parse_args()
    device = choose_device(options.device)
    precisions = options.precisions or [four_bits(device), "int8", "bf16"]
    figures: list[tuple[str, float, float, float]] = []  # who, s a step, bytes a step, bandwidth
    shares: dict[str, dict[str, float]] = {}
    peers: dict[str, float] = {}
    for index, precision in enumerate(options.peers):
        steps = (options.peer_steps[index : index + 1] or [0])[0]
        peer = theirs(options.model, precision, options.device)
        each, steps = step_of(peer, device, steps)
        peers[precision] = each
        figures.append((f"transformers, {precision}, {steps} steps", each, 0, 0))
        del peer
        gc.collect()
    for precision in precisions:
        engine = ours(options.model, precision, options.device)
        model = engine.model
        each, steps = step_of(engine, device, 0)
        read = bytes_of(*model.language.layers, model.generation_aligner, model.generation_head)
        figures.append((f"janus, {precision}, {steps} steps", each, read, bandwidth(device)))
        if device.type == "cpu":
            shares[precision] = parts(engine)
        del engine, model
        gc.collect()
    print(f"{machine('transformers', 'bitsandbytes')}; {options.model.name} on {device}\n")
    names = "".join(f" beside transformers in {name} |" for name in peers)
    print(f"| | ms a step | GB a step | of the bandwidth |{names}")
    print("|---|--:|--:|--:|" + "--:|" * len(peers))
    for who, each, read, most in figures:
        amount, share = ("", "") if not read else (f"{read / 1e9:.2f}", f"{read / each / most:.0%}")
        ratios = "".join(f" {peer / each:.2f} × |" for peer in peers.values())
        print(f"| {who} | {1000 * each:.0f} | {amount} | {share} |{ratios}")
    if shares:
        print_shares(shares)


def step_of(engine: Native | Reference, device: torch.device, steps: int) -> tuple[float, int]:
    """Seconds a step over a picture, or over its first `steps` steps; and how many those were."""
    sampling = Sampling()
    if isinstance(engine, Native):
        columns = engine.draw([drawing(engine, 0)], sampling)
        next(columns)  # the prompt
        counted = engine.image_tokens - 1
        return seconds(lambda: list(columns), device) / counted, counted
    steps = steps or engine.image_tokens
    config = engine.model.model.vision_model.config

    def draw(count: int) -> float:
        config.num_image_tokens = count  # how many it draws; its cache is made for all of them
        return seconds(lambda: list(engine.draw([drawing(engine, 0)], sampling)), device)

    draw(2)  # in which some libraries make what they need
    prompt = draw(1)
    return (draw(steps) - prompt) / (steps - 1), steps - 1


@torch.inference_mode()
def parts(engine: Native) -> dict[str, float]:
    """Seconds of a step's parts at one position, two rows; each part on its own."""
    model, device = engine.model, engine.model.device
    config = model.config.language
    cache = engine.new_cache(rows=2, capacity=POSITION + 1)
    for held in (*cache.keys, *cache.values):
        held.normal_()
    fused = model.language.kernel_step is not None
    dtype = torch.float32 if fused else model.dtype  # of the rows as the products get them
    x = torch.randn(2, config.hidden_size, device=device, dtype=dtype)
    wide = torch.randn(2, config.intermediate_size, device=device, dtype=dtype)
    heads = torch.randn(2, config.heads, 1, config.head_size, device=device, dtype=model.dtype)
    codes = torch.zeros(2, dtype=torch.int64, device=device)

    def step(position: int = POSITION) -> None:
        cache.lengths = [position] * 2
        model.language.step(x.to(model.dtype), cache)

    def products() -> None:
        for layer in model.language.layers:
            layer.attention.qkv(x), layer.attention.out(x)
            layer.mlp.gate_up(x), layer.mlp.down(wide)

    def attention() -> None:
        cache.lengths = [POSITION] * 2
        cache.begin(2)
        kv = heads[:, : config.kv_heads]
        for index in range(config.layers):
            cache.attend(index, heads, kv, kv)

    def head() -> None:
        logits = model.image_logits(x.to(model.dtype))
        pick(guide(logits[:1], logits[1:], 5.0), torch.rand(1, device=device))
        model.embed_codes(codes)

    works = (step, products, head) if fused else (step, products, attention, head)
    times = {work.__name__: median_seconds(work, device) for work in works}
    whole = times.pop("step") + times["head"]
    if fused:  # it cannot be taken apart from outside: what more positions cost
        times["attention"] = whole - times["head"] - median_seconds(lambda: step(0), device)
    return {"whole": whole, **times, "rest": whole - sum(times.values())}


def print_shares(shares: dict[str, dict[str, float]]) -> None:
    print(f"\nA step at position {POSITION}, two rows, in parts:\n")
    print("| | ms | products | attention | head, pick and embedding | all else |")
    print("|---|--:|--:|--:|--:|--:|")
    for precision, times in shares.items():
        whole = times["whole"]
        names = ("products", "attention", "head", "rest")
        cells = "".join(f" {times[name] / whole:.0%} |" for name in names)
        print(f"| {precision} | {1000 * whole:.0f} |{cells}")


if __name__ == "__main__":
    main()
