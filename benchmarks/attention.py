"""One query a row over a cache of 600 positions: ways to compute it, and the least it could take.

    python benchmarks/attention.py [--rows 2 8 16] [--dtype float32]

Milliseconds for all 24 layers of the 1B, 16 heads of 128, the best of several in turns. The engine
takes the product over transposed keys (engine/kv_cache.py). The least is the time of reading keys
and values once, as fast as a plain sum reads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from engines import bandwidth
from start import machine
from torch import Tensor

LAYERS, HEADS, SIZE, POSITIONS, CAPACITY = 24, 16, 128, 600, 640
SCALE = SIZE**-0.5

Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def transposed_keys(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """keys (B, H, E, S)"""
    return (q * SCALE @ keys).softmax(-1) @ values


def plain_products(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """keys (B, H, S, E), here and below"""
    return (q * SCALE @ keys.transpose(-1, -2)).softmax(-1) @ values


def products_and_sums(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    weights = (q * SCALE * keys).sum(-1).softmax(-1)
    return (weights[..., None] * values).sum(-2, keepdim=True)


def torchs_own(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, keys, values)


WAYS: dict[str, Way] = {
    "product over transposed keys": transposed_keys,
    "plain products": plain_products,
    "elementwise products and sums": products_and_sums,
    "scaled_dot_product_attention": torchs_own,
}


@torch.inference_mode()
def main() -> None:
    """Measure every way and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[2, 8])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    best: dict[tuple[str, int], float] = {}
    for rows in options.rows:
        keys = torch.randn(LAYERS, rows, HEADS, CAPACITY, SIZE).to(dtype)
        values = torch.randn(LAYERS, rows, HEADS, CAPACITY, SIZE).to(dtype)
        turned = keys.transpose(-1, -2).contiguous()
        q = torch.randn(rows, HEADS, 1, SIZE).to(dtype)
        for _ in range(options.repeats):
            for name, way in WAYS.items():
                begun = time.perf_counter()
                for layer in range(LAYERS):
                    own = keys[layer, :, :, :POSITIONS]
                    if way is transposed_keys:
                        own = turned[layer, ..., :POSITIONS]
                    way(q, own, values[layer, :, :, :POSITIONS])
                spent = time.perf_counter() - begun
                best[name, rows] = min(best.get((name, rows), spent), spent)
        read = 2 * LAYERS * rows * HEADS * POSITIONS * SIZE * dtype.itemsize
        best["the least", rows] = read / bandwidth(torch.device("cpu"))
    print(f"{machine()}; {options.dtype}, milliseconds\n")
    print("| |" + "".join(f" {rows} rows |" for rows in options.rows))
    print("|---|" + "--:|" * len(options.rows))
    for name in (*WAYS, "the least"):
        print(f"| {name} |" + "".join(f" {1000 * best[name, r]:.0f} |" for r in options.rows))


if __name__ == "__main__":
    main()
