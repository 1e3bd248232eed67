"""Pure functions of logits: guide, temper, keep the top, pick. No state, no randomness of its own.

Randomness comes in as one uniform number for each pick, so that a pick depends on its own seed and
on nothing else in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: logits (B, V) moved away from the unconditional ones, in fp32.

    unconditional + scale * (conditional - unconditional), the formula of the authors'
    generation_inference.py; scale 1 is the conditional row itself.
    """
    conditional, unconditional = conditional.float(), unconditional.float()
    return unconditional + scale * (conditional - unconditional)


def pick(
    logits: Tensor,
    uniforms: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Tensor:
    """One choice for each row of logits (B, V), int64 (B,): greedy at temperature 0.

    Otherwise the cumulative distribution is inverted at `uniforms` (B,), which lie in [0, 1).
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = keep_top_k(logits.float() / temperature, top_k)
    cumulative = running_sum(keep_top_p(logits.softmax(-1), top_p))
    target = uniforms.to(cumulative)[:, None] * cumulative[:, -1:]
    return (cumulative <= target).sum(-1).clamp(max=logits.shape[-1] - 1)


def pick_each(logits: Tensor, uniforms: Tensor, temperatures: Tensor) -> Tensor:
    """`pick` with a temperature (B,) for each row, 0 or more; no row depends on the others."""
    greedy = temperatures == 0
    tempered = logits.float() / temperatures.masked_fill(greedy, 1)[:, None]
    return torch.where(greedy, logits.argmax(-1), pick(tempered, uniforms))


def keep_top_k(logits: Tensor, count: int) -> Tensor:
    """Logits (B, V) with all but the `count` largest at minus infinity; 0 keeps all."""
    if count == 0 or count >= logits.shape[-1]:
        return logits
    smallest = logits.topk(count, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < smallest, float("-inf"))


def keep_top_p(probabilities: Tensor, share: float) -> Tensor:
    """Probabilities (B, V) with all zero but the fewest that make up `share` (arXiv 1904.09751)."""
    if share >= 1:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True)
    before = running_sum(ordered) - ordered  # what the more likely ones sum to
    kept = ordered.masked_fill(before >= share, 0)
    return torch.zeros_like(probabilities).scatter(-1, order, kept)


def running_sum(numbers: Tensor) -> Tensor:
    """What each row of (B, V) sums to until there, whatever stands beside it.

    Never over a single row: CUDA adds that up in another order, which may change from run to run.
    """
    rows = numbers.expand(2, -1) if len(numbers) == 1 else numbers
    return rows.cumsum(-1)[: len(numbers)]


def normal_numbers(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Normal numbers for every seed, (seeds, *shape) fp32, the same on every device."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators])


def uniform_numbers(seeds: Sequence[int], count: int) -> Tensor:
    """`count` numbers in [0, 1) for every seed, (seeds, count) fp32, the same on every device."""
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        rows.append(torch.rand(count, generator=generator))
    return torch.stack(rows)
