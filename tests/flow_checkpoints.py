"""Tiny random JanusFlow checkpoints with the published key names, and a tiny VAE beside them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.checkpoints import SPECIAL_TOKENS, VOCABULARY, tiny_tokenizer

WIDTH, INNER, LAYERS, HEADS = 48, 80, 2, 4  # of the decoder
TOWER, TOWER_LAYERS = 64, 2  # of the vision tower, which has 64 a head
SIZE, PATCH = 64, 16
FLOW, CHANNELS, FACTOR = 24, 4, 8  # of the U-ViT, and of the latents
LATENT = SIZE // FACTOR

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def conv(name: str, inputs: int, outputs: int, size: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, size, size), f"{name}.bias": (outputs,)}


def block(name: str, channels: int, width: int) -> Shapes:
    wide = 4 * channels
    return {
        **conv(f"{name}.depthwise", 1, channels, 7),
        f"{name}.norm.weight": (channels,),
        **linear(f"{name}.channelwise_linear_1", channels, wide),
        f"{name}.channelwise_norm.weight": (1, 1, 1, wide),
        f"{name}.channelwise_norm.bias": (1, 1, 1, wide),
        **linear(f"{name}.channelwise_linear_2", wide, channels),
        **linear(f"{name}.cond_embeds_mapper", width, 2 * channels),
    }


def language_shapes(width: int, inner: int) -> Shapes:
    shapes: Shapes = {
        "language_model.model.embed_tokens.weight": (VOCABULARY, width),
        "language_model.model.norm.weight": (width,),
        "language_model.lm_head.weight": (VOCABULARY, width),
    }
    for layer in range(LAYERS):
        prefix = f"language_model.model.layers.{layer}."
        for letter in "qkvo":
            shapes[f"{prefix}self_attn.{letter}_proj.weight"] = (width, width)
        for name in ("gate_proj", "up_proj"):
            shapes[f"{prefix}mlp.{name}.weight"] = (inner, width)
        shapes[f"{prefix}mlp.down_proj.weight"] = (width, inner)
        shapes[f"{prefix}input_layernorm.weight"] = (width,)
        shapes[f"{prefix}post_attention_layernorm.weight"] = (width,)
    return shapes


def reading_shapes(width: int) -> Shapes:
    tower = "vision_und_enc_model.vision_tower."
    shapes: Shapes = {
        f"{tower}pos_embed": (1, (SIZE // PATCH) ** 2, TOWER),
        **conv(f"{tower}patch_embed.proj", 3, TOWER, PATCH),
        **norm(f"{tower}norm", TOWER),
        f"{tower}attn_pool.latent": (1, 1, TOWER),  # which nobody reads
        **linear("vision_und_enc_aligner", TOWER, width),
        "beg_of_und_embed": (1, width),
    }
    for layer in range(TOWER_LAYERS):
        prefix = f"{tower}blocks.{layer}."
        shapes |= norm(f"{prefix}norm1", TOWER) | norm(f"{prefix}norm2", TOWER)
        shapes |= linear(f"{prefix}attn.qkv", TOWER, 3 * TOWER)
        shapes |= linear(f"{prefix}attn.proj", TOWER, TOWER)
        shapes |= linear(f"{prefix}mlp.fc1", TOWER, 4 * TOWER)
        shapes |= linear(f"{prefix}mlp.fc2", 4 * TOWER, TOWER)
    return shapes


def drawing_shapes(width: int) -> Shapes:
    encoder, decoder = "vision_gen_enc_model.", "vision_gen_dec_model."
    shapes = {
        **conv(f"{encoder}in_conv", CHANNELS, FLOW, 2),
        **linear(f"{encoder}time_embed.linear_1", FLOW, width),
        **linear(f"{encoder}time_embed.linear_2", width, width),
        **linear("vision_gen_enc_aligner", FLOW, width),
        "vision_gen_dec_aligner_norm.weight": (width,),
        **linear("vision_gen_dec_aligner", width, FLOW),
        f"{decoder}input_norm.weight": (FLOW,),
        f"{decoder}out_convs.0.norm.weight": (2 * FLOW,),
        **conv(f"{decoder}out_convs.0.unpatch_conv", 2 * FLOW, 4 * CHANNELS, 1),
    }
    for number in range(2):
        shapes |= block(f"{encoder}mid_block.res_blocks.{number}", FLOW, width)
        shapes |= block(f"{decoder}mid_block.res_blocks.{number}", 2 * FLOW, width)
    return shapes


def random_tensors(
    seed: int = 0, *, width: int = WIDTH, inner: int = INNER
) -> dict[str, torch.Tensor]:
    """Every published tensor, spread out so that each of them counts."""
    generator = torch.Generator().manual_seed(seed)
    shapes = language_shapes(width, inner) | reading_shapes(width) | drawing_shapes(width)
    tensors = {}
    for name, shape in shapes.items():
        numbers = torch.randn(*shape, generator=generator)
        if len(shape) == 1 or "channelwise_norm" in name:
            centre = 1.0 if name.endswith("norm.weight") or "norm1.w" in name else 0.0
            tensors[name] = centre + 0.1 * numbers
        else:
            tensors[name] = numbers * numbers[0].numel() ** -0.5
    # Leave the end of the sentence out of reach, so that greedy answers run to their limit.
    end = SPECIAL_TOKENS.index("<｜end▁of▁sentence｜>")
    tensors["language_model.lm_head.weight"][end] = 0
    return tensors


def published_config(*, width: int = WIDTH, inner: int = INNER) -> dict[str, object]:
    """config.json with the published keys."""
    gen = {"input_channels": CHANNELS, "stride": 2, "kernel_size": 2, "norm_eps": 1e-6}
    return {
        "model_type": "multi_modality",
        "architectures": ["MultiModalityCausalLM"],
        "torch_dtype": "bfloat16",
        "language_config": {
            "model_type": "llama",
            "hidden_size": width,
            "intermediate_size": inner,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 512,
        },
        "vision_und_enc_config": {"cls": "CLIPVisionTower", "params": {"select_layer": -1}},
        "vision_gen_enc_config": {"cls": "ShallowUViTEncoder", "params": gen},
        "vision_gen_dec_config": {"cls": "ShallowUViTDecoder", "params": {"upsamples": 1}},
    }


def save_flow_checkpoint(folder: Path, *, seed: int = 0, vae: bool = True, **sizes: int) -> Path:
    """A JanusFlow as it is published, in safetensors; with `vae`, that lies inside."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(random_tensors(seed, **sizes), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(published_config(**sizes)))
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    if vae:
        save_vae(folder / "vae")
    return folder


def save_vae(folder: Path, **changes: object) -> Path:
    """A random AutoencoderKL with the shape of SDXL's, few channels wide, saved by diffusers."""
    from diffusers import AutoencoderKL

    sizes = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (4, 4, 8, 8),
        "norm_num_groups": 2,
        "layers_per_block": 1,
        "latent_channels": CHANNELS,
        "scaling_factor": 0.13025,
    }
    torch.manual_seed(5)
    AutoencoderKL(**(sizes | changes)).save_pretrained(folder)
    return folder
