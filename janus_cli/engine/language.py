"""The Llama decoder with a preallocated cache: one prefill, one step. It knows vectors, not words.

Rows of a batch start at slot 0 of the cache, whatever their length, so that a row's numbers do not
depend on the rows beside it. Letters: B rows, T positions, S slots of the cache, D width,
H heads, K key-value heads, E head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import LanguageConfig
from .linear import blank_embedding


class Cache:
    """Keys and values of every layer, allocated once for a request; `lengths` slots are filled."""

    def __init__(
        self,
        config: LanguageConfig,
        rows: int,
        capacity: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (config.layers, rows, config.kv_heads, capacity, config.head_size)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)  # (layers, B, K, S, E)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = [0] * rows
        self.rows = torch.arange(rows, device=device)
        self.slots = torch.arange(capacity, device=device)

    def store_prefix(self, layer: int, rows: list[int], keys: Tensor, values: Tensor) -> None:
        """Put one prompt's keys and values (1, K, T, E) into the first slots of all `rows`."""
        self.keys[layer, rows, :, : keys.shape[2]] = keys
        self.values[layer, rows, :, : keys.shape[2]] = values

    def store(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put one position of every row, keys and values (B, K, E), into its slot (B,)."""
        self.keys[layer, self.rows, :, slots] = keys
        self.values[layer, self.rows, :, slots] = values


def cache_bytes(config: LanguageConfig, *, rows: int, capacity: int, dtype: torch.dtype) -> int:
    """What such a cache takes in memory."""
    numbers = 2 * config.layers * rows * config.kv_heads * capacity * config.head_size
    return numbers * dtype.itemsize


class Attention(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.head_size = config.head_size
        projected = (config.heads + 2 * config.kv_heads) * config.head_size
        self.qkv = nn.Linear(config.hidden_size, projected, bias=False)
        self.out = nn.Linear(config.heads * config.head_size, config.hidden_size, bias=False)

    def project(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, D) to q (B, H, T, E), k and v (B, K, T, E), positions applied."""
        batch, length, _ = x.shape
        parts = self.qkv(x).view(batch, length, -1, self.head_size).transpose(1, 2)
        q, k, v = parts.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        return rotate(q, *rope), rotate(k, *rope), v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Whole sequences: causal where no mask (B or 1, 1, T, T), True = seen, is given."""
        mixed = F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None, enable_gqa=self.kv_heads != self.heads
        )
        return self.out(mixed.transpose(1, 2).flatten(2))

    def attend_cached(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """One position: q (B, H, 1, E) over keys and values (B, K, S, E), mask (B, 1, 1, S).

        Plain products, since scaled_dot_product_attention takes longer at one query on a CPU.
        """
        batch = q.shape[0]
        grouped = q.view(batch, self.kv_heads, -1, self.head_size)  # (B, K, H / K, E)
        scores = grouped @ keys.transpose(-1, -2) * self.head_size**-0.5  # (B, K, H / K, S)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        weights = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
        return self.out((weights @ values).view(batch, 1, -1))


class MLP(nn.Module):
    """SwiGLU, with the gate and the up projection in one product."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Layer(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        x = x + self.attention.attend(*self.attention.project(self.attention_norm(x), rope), mask)
        return x + self.mlp(self.mlp_norm(x))


class Decoder(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = blank_embedding(config.vocabulary, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)

    def forward(
        self, x: Tensor, positions: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Embeddings (B, T, D) to hidden states (B, T, D), without a cache: for training.

        Args:
            positions: (B or 1, T) int64; 0, 1, 2... where absent.
            mask: (B or 1, 1, T, T) bool, True = seen; causal where absent.
        """
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)[None]
        rope = self.rope(positions, x.dtype)
        for layer in self.layers:
            x = layer(x, rope, mask)
        return self.norm(x)

    def prefill(self, x: Tensor, cache: Cache, rows: list[int]) -> Tensor:
        """Run one prompt (1, T, D) once and fill all `rows` with it; its last state (1, D)."""
        length = x.shape[1]
        rope = self.rope(torch.arange(length, device=x.device)[None], x.dtype)
        for index, layer in enumerate(self.layers):
            q, k, v = layer.attention.project(layer.attention_norm(x), rope)
            cache.store_prefix(index, rows, k, v)
            x = x + layer.attention.attend(q, k, v, None)
            x = x + layer.mlp(layer.mlp_norm(x))
        for row in rows:
            cache.lengths[row] = length
        return self.norm(x[:, -1])

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """Add one position (B, D) to every row; the new states (B, D)."""
        slots = torch.tensor(cache.lengths, device=x.device)
        longest = max(cache.lengths) + 1
        mask = None
        if min(cache.lengths) + 1 < longest:
            mask = (cache.slots[:longest] <= slots[:, None])[:, None, None]  # (B, 1, 1, S)
        rope = self.rope(slots[:, None], x.dtype)
        x = x[:, None]  # (B, 1, D)
        for index, layer in enumerate(self.layers):
            q, k, v = layer.attention.project(layer.attention_norm(x), rope)
            cache.store(index, slots, k[:, :, 0], v[:, :, 0])
            keys, values = cache.keys[index, :, :, :longest], cache.values[index, :, :, :longest]
            x = x + layer.attention.attend_cached(q, keys, values, mask)
            x = x + layer.mlp(layer.mlp_norm(x))
        cache.lengths = [length + 1 for length in cache.lengths]
        return self.norm(x[:, 0])

    def rope(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, 1, T, E / 2) of rotary positions (arXiv 2104.09864), from fp32."""
        half = self.config.head_size // 2
        exponents = torch.arange(half, device=positions.device, dtype=torch.float32) / half
        angles = positions[:, None, :, None] * self.config.rope_theta**-exponents
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + E / 2) of x (B, H, T, E), the pairing of Llama checkpoints."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
