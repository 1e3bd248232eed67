"""What the tensors of a checkpoint are called: our names to those of each published layout.

Ours are fused where one product serves several; the parts are joined along the first dimension.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Renames = tuple[tuple[str, tuple[str, ...]], ...]
"""A pattern of our names, then the published names whose tensors are joined to make it."""


@dataclass(frozen=True)
class Layout:
    """One published way of naming the tensors of Janus."""

    name: str
    renames: Renames
    needless: re.Pattern[str]
    """Tensors that may be there and are not read."""

    def published(self, name: str) -> tuple[str, ...]:
        """The tensors that make up our parameter `name`, in the order of joining."""
        for pattern, replacements in self.renames:
            found = re.match(pattern, name)
            if found:
                rest = name[found.end() :]
                return tuple(found.expand(new) + rest for new in replacements)
        raise AssertionError(f"no name for {name} in the {self.name} layout")


def decoder_layer(prefix: str) -> Renames:
    """The layers of the Llama decoder, which every layout calls alike behind its prefix."""
    ours, theirs = r"language\.layers\.(\d+)\.", prefix + r"layers.\1."
    return (
        (ours + r"attention\.qkv\.", tuple(f"{theirs}self_attn.{x}_proj." for x in "qkv")),
        (ours + r"attention\.out\.", (f"{theirs}self_attn.o_proj.",)),
        (ours + r"attention_norm\.", (f"{theirs}input_layernorm.",)),
        (ours + r"mlp\.gate_up\.", (f"{theirs}mlp.gate_proj.", f"{theirs}mlp.up_proj.")),
        (ours + r"mlp\.down\.", (f"{theirs}mlp.down_proj.",)),
        (ours + r"mlp_norm\.", (f"{theirs}post_attention_layernorm.",)),
        (r"language\.embed\.", (f"{prefix}embed_tokens.",)),
        (r"language\.norm\.", (f"{prefix}norm.",)),
    )


OUR_LAYER = r"vision\.layers\.(\d+)\."
THEIR_LAYER = r"model.vision_model.encoder.layers.\1."
TRANSFORMERS = Layout(
    "transformers",
    (
        *decoder_layer("model.language_model."),
        (r"text_head\.", ("lm_head.",)),
        (
            OUR_LAYER + r"attention\.qkv\.",
            tuple(f"{THEIR_LAYER}self_attn.{x}_proj." for x in "qkv"),
        ),
        (OUR_LAYER + r"attention\.out\.", (f"{THEIR_LAYER}self_attn.projection_layer.",)),
        (OUR_LAYER + r"attention_norm\.", (f"{THEIR_LAYER}layer_norm1.",)),
        (OUR_LAYER + r"mlp\.up\.", (f"{THEIR_LAYER}mlp.fc1.",)),
        (OUR_LAYER + r"mlp\.down\.", (f"{THEIR_LAYER}mlp.fc2.",)),
        (OUR_LAYER + r"mlp_norm\.", (f"{THEIR_LAYER}layer_norm2.",)),
        (r"vision\.patch_embed\.", ("model.vision_model.embeddings.patch_embedding.",)),
        (r"vision\.positions$", ("model.vision_model.embeddings.position_embedding.weight",)),
        (r"vision\.norm\.", ("model.vision_model.post_layernorm.",)),
        (r"(aligner|generation_aligner)\.layers\.0\.", (r"model.\1.fc1.",)),
        *(
            (
                rf"(aligner|generation_aligner)\.layers\.{n + 1}\.",
                (rf"model.\1.hidden_layers.{n}.",),
            )
            for n in range(8)
        ),
        (r"generation_embed\.", ("model.generation_embeddings.",)),
        (r"generation_head\.project\.", ("model.generation_head.proj_out.",)),
        (r"generation_head\.classify\.", ("model.generation_head.vision_head.",)),
        (r"vq\.", ("model.vqmodel.",)),
    ),
    needless=re.compile(r"(?!)"),  # nothing
)


def authors_tower(prefix: str) -> Renames:
    """The vision tower as the authors call it behind a prefix."""
    block = prefix + r"blocks.\1."
    return (
        (OUR_LAYER + r"attention\.qkv\.", (f"{block}attn.qkv.",)),
        (OUR_LAYER + r"attention\.out\.", (f"{block}attn.proj.",)),
        (OUR_LAYER + r"attention_norm\.", (f"{block}norm1.",)),
        (OUR_LAYER + r"mlp\.up\.", (f"{block}mlp.fc1.",)),
        (OUR_LAYER + r"mlp\.down\.", (f"{block}mlp.fc2.",)),
        (OUR_LAYER + r"mlp_norm\.", (f"{block}norm2.",)),
        (r"vision\.patch_embed\.", (f"{prefix}patch_embed.proj.",)),
        (r"vision\.positions$", (f"{prefix}pos_embed",)),
        (r"vision\.norm\.", (f"{prefix}norm.",)),
    )


TOWER = "vision_model.vision_tower."
THEIR_VQ = "gen_vision_model."
AUTHORS = Layout(
    "authors'",
    (
        *decoder_layer("language_model.model."),
        (r"text_head\.", ("language_model.lm_head.",)),
        *authors_tower(TOWER),
        # A GELU has a number of its own between two linear layers.
        *((rf"aligner\.layers\.{n}\.", (f"aligner.layers.{2 * n}.",)) for n in range(8)),
        *(
            (rf"generation_aligner\.layers\.{n}\.", (f"gen_aligner.layers.{2 * n}.",))
            for n in range(8)
        ),
        (r"generation_embed\.", ("gen_embed.",)),
        (r"generation_head\.project\.", ("gen_head.output_mlp_projector.",)),
        (r"generation_head\.classify\.", ("gen_head.vision_head.",)),
        (r"vq\.encoder\.down\.(\d+)\.block\.", (THEIR_VQ + r"encoder.conv_blocks.\1.res.",)),
        (r"vq\.encoder\.down\.(\d+)\.", (THEIR_VQ + r"encoder.conv_blocks.\1.",)),
        (r"vq\.decoder\.up\.(\d+)\.block\.", (THEIR_VQ + r"decoder.conv_blocks.\1.res.",)),
        (r"vq\.decoder\.up\.(\d+)\.", (THEIR_VQ + r"decoder.conv_blocks.\1.",)),
        (r"vq\.(encoder|decoder)\.mid\.block_1\.", (THEIR_VQ + r"\1.mid.0.",)),
        (r"vq\.(encoder|decoder)\.mid\.attn_1\.", (THEIR_VQ + r"\1.mid.1.",)),
        (r"vq\.(encoder|decoder)\.mid\.block_2\.", (THEIR_VQ + r"\1.mid.2.",)),
        (r"vq\.", (THEIR_VQ,)),
    ),
    # The pooling head that Janus does not use, and a counter of the VQ tokenizer's training.
    needless=re.compile(
        r"vision_model\.vision_tower\.attn_pool\.|gen_vision_model\.quantize\.codebook_used$"
    ),
)


def flow_blocks(ours: str, theirs: str) -> Renames:
    """The ConvNeXt blocks of one half of JanusFlow's U-ViT."""
    block, prefix = rf"{ours}\.blocks\.(\d+)\.", theirs + r"mid_block.res_blocks.\1."
    return (
        (block + r"up\.", (f"{prefix}channelwise_linear_1.",)),
        (block + r"response_norm\.", (f"{prefix}channelwise_norm.",)),
        (block + r"down\.", (f"{prefix}channelwise_linear_2.",)),
        (block + r"modulation\.", (f"{prefix}cond_embeds_mapper.",)),
        (block, (prefix,)),
    )


FLOW_TOWER = "vision_und_enc_model.vision_tower."
FLOW_ENCODER, FLOW_DECODER = "vision_gen_enc_model.", "vision_gen_dec_model."
AUTHORS_FLOW = Layout(
    "authors'",
    (
        *decoder_layer("language_model.model."),
        (r"text_head\.", ("language_model.lm_head.",)),
        *authors_tower(FLOW_TOWER),
        (r"aligner\.layers\.0\.", ("vision_und_enc_aligner.",)),
        (r"picture_begin$", ("beg_of_und_embed",)),
        *flow_blocks("encoder", FLOW_ENCODER),
        (r"encoder\.patchify\.", (f"{FLOW_ENCODER}in_conv.",)),
        (r"encoder\.time\.", (f"{FLOW_ENCODER}time_embed.",)),
        (r"encoder_aligner\.", ("vision_gen_enc_aligner.",)),
        *flow_blocks("decoder", FLOW_DECODER),
        (r"decoder\.input_norm\.", (f"{FLOW_DECODER}input_norm.",)),
        (r"decoder\.output_norm\.", (f"{FLOW_DECODER}out_convs.0.norm.",)),
        (r"decoder\.unpatchify\.", (f"{FLOW_DECODER}out_convs.0.unpatch_conv.",)),
        (r"decoder_norm\.", ("vision_gen_dec_aligner_norm.",)),
        (r"decoder_aligner\.", ("vision_gen_dec_aligner.",)),
    ),
    needless=re.compile(r"vision_und_enc_model\.vision_tower\.attn_pool\."),
)

# What `janus quantize` writes: our own names, fused and quantized parts as they are loaded.
OURS = Layout("janus_cli", ((r"", ("",)),), needless=re.compile(r"(?!)"))
