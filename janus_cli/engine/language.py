"""The Llama decoder with a KV cache: one prefill, one step. It knows vectors, not words.

Letters: B rows, N of them, T positions, S slots of the cache, D width, H heads, K key-value heads,
E head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import LanguageConfig
from .kernel.step import KernelStep, LayerWeights
from .kv_cache import Cache
from .linear import blank_embedding

KeysValues = tuple[Tensor, Tensor]


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
        both, v = parts.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        q, k = rotate(both, *rope).split([self.heads, self.kv_heads], dim=1)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Whole sequences: causal where no mask, True = seen, is given."""
        mixed = F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None, enable_gqa=self.kv_heads != self.heads
        )
        return self.out(mixed.transpose(1, 2).flatten(2))


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

    def for_kernel(self) -> LayerWeights | None:
        """What the kernel needs of it; None where it cannot multiply by some weight."""
        attention, mlp = self.attention, self.mlp
        parts = (attention.qkv, attention.out, mlp.gate_up, mlp.down)
        matrices = [getattr(part, "matrix", None) for part in parts]
        qkv, out, gate_up, down = matrices
        if not (qkv and out and gate_up and down):
            return None
        norms = (self.attention_norm.weight, self.mlp_norm.weight)
        return LayerWeights(qkv, out, gate_up, down, *(norm.detach().float() for norm in norms))


class Decoder(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = blank_embedding(config.vocabulary, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.kernel_step: KernelStep | None = None

    def fuse(self) -> None:
        """Let the kernel compute the steps, if there is one for all layers, as they are now."""
        weights = [layer.for_kernel() for layer in self.layers]
        found = [layer for layer in weights if layer is not None]
        if len(found) == len(weights) and KernelStep.takes(self.config):
            self.kernel_step = KernelStep(self.config, found)

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

    def prefill(
        self, x: Tensor, cache: Cache, rows: Sequence[int], lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Run prompts (N, T, D) after what `rows` of the cache hold, which is alike in length.

        Args:
            rows: N of them, or any number where N is 1: they are filled alike.
            lengths: how many of the T positions belong to each prompt, from the first; all where
                absent.

        Returns the last state of each prompt (N, D).
        """
        count, length, _ = x.shape
        lengths = lengths or [length] * count
        start = cache.lengths[rows[0]]
        positions = torch.arange(start, start + length, device=x.device)
        rope = self.rope(positions[None], x.dtype)
        mask = None
        if start > 0:
            slots = torch.arange(start + length, device=x.device)
            mask = slots <= positions[:, None]  # (T, S)
        for index, layer in enumerate(self.layers):
            q, k, v = layer.attention.project(layer.attention_norm(x), rope)
            k, v = cache.fill(index, rows, k, v)
            x = x + layer.attention.attend(q, k, v, mask)
            x = x + layer.mlp(layer.mlp_norm(x))
        if start == 0:
            cache.share(rows, length if count == 1 else 0)
        for index, row in enumerate(rows):
            cache.lengths[row] = start + lengths[min(index, count - 1)]
        last = torch.tensor(lengths, device=x.device) - 1
        return self.norm(x[torch.arange(count, device=x.device), last])

    def follow(
        self, x: Tensor, prefix: Sequence[KeysValues], positions: Tensor, mask: Tensor
    ) -> Tensor:
        """Run sequences (B, T, D) after keys and values that stay as they are; states (B, T, D).

        Args:
            prefix: keys and values (B, K, P, E) of each layer.
            positions: (B, T) int64.
            mask: (B or 1, 1, T, P + T) bool, True = seen.
        """
        rope = self.rope(positions, x.dtype)
        for layer, (keys, values) in zip(self.layers, prefix, strict=True):
            q, k, v = layer.attention.project(layer.attention_norm(x), rope)
            k = torch.cat((keys.to(k.dtype), k), dim=2)
            v = torch.cat((values.to(v.dtype), v), dim=2)
            x = x + layer.attention.attend(q, k, v, mask)
            x = x + layer.mlp(layer.mlp_norm(x))
        return self.norm(x)

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """Add one position (B, D) to the first B rows of the cache; the new states (B, D)."""
        positions = cache.begin(len(x))
        if self.kernel_step is not None:
            rope = self.rope(positions[:, None], torch.float32)
            states = self.kernel_step(x, cache, positions, *rope)
            cache.end()
            return self.norm(states.to(x.dtype))
        rope = self.rope(positions[:, None], x.dtype)
        x = x[:, None]  # (B, 1, D)
        for index, layer in enumerate(self.layers):
            q, k, v = layer.attention.project(layer.attention_norm(x), rope)
            x = x + layer.attention.out(cache.attend(index, q, k, v))
            x = x + layer.mlp(layer.mlp_norm(x))
        cache.end()
        return self.norm(x[:, 0])

    def rope(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines (B, 1, T, E) of rotary positions, from fp32.

        The formula of arXiv 2104.09864.
        """
        half = self.config.head_size // 2
        exponents = torch.arange(half, device=positions.device, dtype=torch.float32) / half
        angles = positions[:, None, :, None] * self.config.rope_theta**-exponents
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + E / 2) of x (B, H, T, E), the pairing of Llama checkpoints."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((second, first), dim=-1) * sin
