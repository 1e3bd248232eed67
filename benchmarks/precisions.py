"""How long one projection of the 7B takes at every precision: the table that `auto` follows.

    python benchmarks/precisions.py
    python benchmarks/precisions.py --device cuda

One matrix of 4096 inputs and 11008 outputs, milliseconds a product, the best of several in turns;
beside it torch's own product in fp32 and in bf16. One row is a word, two are a guided picture, 600
are a prompt with a picture in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from start import machine
from torch import Tensor, nn

from janus_cli.engine.linear import BF16Linear, HalfLinear
from janus_cli.engine.machine import choose_device
from janus_cli.engine.precision import make_precision
from janus_cli.errors import ModelError

INPUTS, OUTPUTS = 4096, 11008
ROWS = (1, 2, 4, 8, 16, 600)
PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int4", "nf4")


def layer(name: str, weight: Tensor, device: torch.device) -> tuple[nn.Module, torch.dtype]:
    """The weight (N, K) as a model holds it at this precision, and what it computes in."""
    precision = make_precision(name, device)
    if precision.layer is not None:
        made: nn.Module = precision.layer(INPUTS, OUTPUTS)
        for buffer, tensor in precision.layer.quantize(weight).items():
            setattr(made, buffer, tensor)
        made.settle()
        return made, precision.compute
    if precision.stored == precision.compute:
        made = nn.Linear(INPUTS, OUTPUTS, bias=False)
    else:
        made = HalfLinear(INPUTS, OUTPUTS, bias=False, dtype=precision.stored)
    if precision.stored == precision.compute == torch.bfloat16:
        made = BF16Linear(INPUTS, OUTPUTS, bias=False)
    made.weight = nn.Parameter(weight.to(precision.stored), requires_grad=False)
    if isinstance(made, BF16Linear | HalfLinear):
        made.settle()
    return made, precision.compute


def plain(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: F.linear(x, weight)


def milliseconds(product: Callable[[Tensor], Tensor], x: Tensor) -> float:
    def synchronise() -> None:
        if x.is_cuda:
            torch.cuda.synchronize()

    product(x)
    synchronise()
    begun = time.perf_counter()
    product(x)
    synchronise()
    return 1000 * (time.perf_counter() - begun)


@torch.inference_mode()
def main(device: torch.device, repeats: int) -> None:
    weight = (torch.randn(OUTPUTS, INPUTS) / INPUTS**0.5).bfloat16().to(device)
    products: dict[str, tuple[Callable[[Tensor], Tensor], torch.dtype]] = {
        "torch, fp32": (plain(weight.float()), torch.float32),
        "torch, bf16": (plain(weight), torch.bfloat16),
    }
    for name in PRECISIONS:
        try:
            products[name] = layer(name, weight, device)
        except ModelError as error:
            print(f"{name}: {error}")
    best: dict[tuple[str, int], float] = {}
    for repeat in range(repeats):
        for rows in ROWS:
            if rows > 16 and repeat > 1:
                continue  # seconds each, and no noisier for it
            for name, (product, dtype) in products.items():
                x = torch.randn(1, rows, INPUTS).to(device, dtype)  # one sequence
                key = name, rows
                best[key] = min(best.get(key, float("inf")), milliseconds(product, x))
    print(f"{machine()}\n")
    print("| precision |" + "".join(f" {rows} |" for rows in ROWS))
    print("|---|" + "--:|" * len(ROWS))
    for name in products:
        figures = (f" {best[name, rows]:.3g} |" for rows in ROWS)
        print(f"| {name} |" + "".join(figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=8)
    chosen = parser.parse_args()
    main(choose_device(chosen.device), chosen.repeats)
