"""JanusFlow's drawing derived again, slowly, from its paper (arXiv 2411.07975) and the published
tensors: no code of the engine, no cache, in double precision.

Every step runs the whole sequence of words, time and patches; convolutions, norms and attention are
written out.
"""

import math

import torch
from torch import Tensor

from tests.flow_checkpoints import HEADS, LAYERS

Tensors = dict[str, Tensor]


def velocity(tensors: Tensors, z: Tensor, t: float, ids: list[int], positions: list[int]) -> Tensor:
    """Of a latent z (C, S, S) at a time of 0 to 1 under words, the last of which t replaces.

    Only the words at `positions` are looked at.
    """
    w = {name: tensor.double() for name, tensor in tensors.items()}
    time = time_embedding(w, t)
    x = patch_embedding(w, z)
    for number in range(2):
        x = convnext(w, f"vision_gen_enc_model.mid_block.res_blocks.{number}.", x, time)
    side = x.shape[-1]
    patches = [affine(w, "vision_gen_enc_aligner.", x[:, i, j]) for i, j in cells(side)]
    words = list(w["language_model.model.embed_tokens.weight"][ids[:-1]])
    seen = [index in positions for index in range(len(words))] + [True] * (1 + len(patches))
    states = decode(w, torch.stack([*words, time, *patches]), seen)[-len(patches) :]
    drawn = torch.empty(len(patches), x.shape[0], dtype=torch.double)
    for index, state in enumerate(states):
        normed = rms(state, w["vision_gen_dec_aligner_norm.weight"])
        drawn[index] = rms(
            affine(w, "vision_gen_dec_aligner.", normed),
            w["vision_gen_dec_model.input_norm.weight"],
        )
    y = torch.cat((drawn.T.reshape(-1, side, side), x))
    for number in range(2):
        y = convnext(w, f"vision_gen_dec_model.mid_block.res_blocks.{number}.", y, time)
    return unpatch(w, y)


def guided(tensors: Tensors, z: Tensor, t: float, ids: list[int], pad: int, scale: float) -> Tensor:
    """Guidance against the begin of the sentence alone, whose pads keep their places."""
    nothing = [ids[0], *[pad] * (len(ids) - 1)]
    everywhere = list(range(len(ids) - 1))
    with_words = velocity(tensors, z, t, ids, everywhere)
    return scale * with_words - (scale - 1) * velocity(tensors, z, t, nothing, [0])


def euler(
    tensors: Tensors, z: Tensor, steps: int, ids: list[int], pad: int, scale: float
) -> list[Tensor]:
    """The latent after each step from noise, dz/dt = v."""
    path, z = [], z.double()
    for step in range(steps):
        z = z + guided(tensors, z, step / steps, ids, pad, scale) / steps
        path.append(z)
    return path


def time_embedding(w: Tensors, t: float) -> Tensor:
    count = w["vision_gen_enc_model.time_embed.linear_1.weight"].shape[1]
    angles = [1000 * t / 10000 ** (2 * i / count) for i in range(count // 2)]
    waves = [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]
    hidden = affine(w, "vision_gen_enc_model.time_embed.linear_1.", torch.tensor(waves).double())
    return affine(w, "vision_gen_enc_model.time_embed.linear_2.", silu(hidden))


def patch_embedding(w: Tensors, z: Tensor) -> Tensor:
    """Each 2x2 square of z becomes a column of the grid."""
    weight, bias = (w[f"vision_gen_enc_model.in_conv.{kind}"] for kind in ("weight", "bias"))
    side = z.shape[-1] // 2
    out = torch.empty(len(bias), side, side, dtype=torch.double)
    for i, j in cells(side):
        square = z.double()[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        out[:, i, j] = (weight * square).sum((1, 2, 3)) + bias
    return out


def unpatch(w: Tensors, y: Tensor) -> Tensor:
    """Each column of the grid becomes a 2x2 square of each channel."""
    prefix, side = "vision_gen_dec_model.out_convs.0.", y.shape[-1]
    weight = w[f"{prefix}unpatch_conv.weight"][:, :, 0, 0]
    channels = len(weight) // 4
    out = torch.empty(channels, 2 * side, 2 * side, dtype=torch.double)
    for i, j in cells(side):
        normed = rms(y[:, i, j], w[f"{prefix}norm.weight"])
        square = weight @ normed + w[f"{prefix}unpatch_conv.bias"]
        out[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = square.view(channels, 2, 2)
    return out


def convnext(w: Tensors, prefix: str, x: Tensor, time: Tensor) -> Tensor:
    """A ConvNeXt V2 block (arXiv 2301.00808) over x (C, G, G), then scale and shift."""
    side = x.shape[-1]
    padded = torch.nn.functional.pad(x, (3, 3, 3, 3))
    kernel = w[f"{prefix}depthwise.weight"][:, 0]
    inner = torch.empty(side, side, 4 * len(x), dtype=torch.double)
    for i, j in cells(side):
        around = padded[:, i : i + 7, j : j + 7]
        mixed = (kernel * around).sum((1, 2)) + w[f"{prefix}depthwise.bias"]
        normed = rms(mixed, w[f"{prefix}norm.weight"])
        inner[i, j] = gelu(affine(w, f"{prefix}channelwise_linear_1.", normed))
    energy = (inner**2).sum((0, 1)).sqrt()
    relative = energy / (energy.mean() + 1e-6)
    scale, shift = (w[f"{prefix}channelwise_norm.{kind}"].flatten() for kind in ("weight", "bias"))
    inner = inner + scale * (inner * relative) + shift
    modulation = affine(w, f"{prefix}cond_embeds_mapper.", silu(time))
    out = torch.empty_like(x)
    for i, j in cells(side):
        summed = x[:, i, j] + affine(w, f"{prefix}channelwise_linear_2.", inner[i, j])
        out[:, i, j] = summed * (1 + modulation[: len(x)]) + modulation[len(x) :]
    return out


def decode(w: Tensors, x: Tensor, seen: list[bool]) -> Tensor:
    """The Llama decoder over x (T, D): causal, blind for positions that are not seen."""
    mask = torch.full((len(x), len(x)), -math.inf, dtype=torch.double)
    for i in range(len(x)):
        for j in range(i + 1):
            if seen[j] or i == j:  # a row that sees nothing is nobody's business
                mask[i, j] = 0
    for layer in range(LAYERS):
        prefix = f"language_model.model.layers.{layer}."
        h = rms(x, w[f"{prefix}input_layernorm.weight"])
        q, k, v = (h @ w[f"{prefix}self_attn.{letter}_proj.weight"].T for letter in "qkv")
        heads = []
        for one in range(HEADS):
            size = q.shape[1] // HEADS
            part = slice(one * size, (one + 1) * size)
            scores = turned(q[:, part]) @ turned(k[:, part]).T / math.sqrt(size) + mask
            heads.append(scores.softmax(-1) @ v[:, part])
        x = x + torch.cat(heads, 1) @ w[f"{prefix}self_attn.o_proj.weight"].T
        h = rms(x, w[f"{prefix}post_attention_layernorm.weight"])
        gate = silu(h @ w[f"{prefix}mlp.gate_proj.weight"].T)
        x = (
            x
            + (gate * (h @ w[f"{prefix}mlp.up_proj.weight"].T))
            @ w[f"{prefix}mlp.down_proj.weight"].T
        )
    return rms(x, w["language_model.model.norm.weight"])


def turned(x: Tensor) -> Tensor:
    """Rotary positions 0, 1, 2... of x (T, E): pairs (i, i + E / 2) as complex numbers."""
    half = x.shape[1] // 2
    rates = 10000.0 ** -(torch.arange(half).double() / half)
    angles = torch.arange(len(x)).double()[:, None] * rates
    points = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((points.real, points.imag), 1)


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / ((x**2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def affine(w: Tensors, prefix: str, x: Tensor) -> Tensor:
    return w[f"{prefix}weight"] @ x + w[f"{prefix}bias"]


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def cells(side: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(side) for j in range(side)]
