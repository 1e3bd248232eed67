"""Write a checkpoint with random weights, laid out as the published one of its family.

    python benchmarks/make_checkpoint.py janus-pro-7b -o /tmp/pro-7b
    python benchmarks/make_checkpoint.py janus-pro-1b --layout transformers -o /tmp/pro-1b-hf
    python benchmarks/make_checkpoint.py janus-1.3b --tiny -o /tmp/tiny
    python benchmarks/make_checkpoint.py janusflow-1.3b -o /tmp/flow

File names, key names, dtypes, sharding, index, config and special token ids are those of the
published files, as far as public threads show them; the numbers in the tensors are random, so what
such a model says or draws means nothing. JanusFlow gets a VAE inside, which takes diffusers.
Memory: one shard.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from janus_cli.engine.config import (
    Config,
    FlowConfig,
    JanusConfig,
    JanusFlowConfig,
    LanguageConfig,
    VisionConfig,
    VQConfig,
)
from janus_cli.engine.flow import JanusFlow
from janus_cli.engine.layout import AUTHORS, AUTHORS_FLOW, FLOW_TOWER, TOWER, TRANSFORMERS, Layout
from janus_cli.engine.model import Janus
from janus_cli.engine.prompt import (
    BEGIN_OF_IMAGE,
    BEGIN_OF_SENTENCE,
    END_OF_IMAGE,
    END_OF_SENTENCE,
    JANUS_PRO,
    PAD,
    PLACEHOLDER,
    PromptWriter,
)
from janus_cli.engine.save import config_json, generation_json, preprocessor_json, write_json

LANGUAGE_1B = LanguageConfig(
    hidden_size=2048,
    intermediate_size=5632,
    layers=24,
    heads=16,
    kv_heads=16,
    head_size=128,
    vocabulary=102400,
    context=16384,
)
LANGUAGE_7B = replace(
    LANGUAGE_1B, hidden_size=4096, intermediate_size=11008, layers=30, heads=32, kv_heads=32
)
TINY = JanusConfig(
    LanguageConfig(
        hidden_size=64,
        intermediate_size=96,
        layers=2,
        heads=2,
        kv_heads=2,
        head_size=32,
        vocabulary=102400,
        context=16384,
    ),
    VisionConfig(hidden_size=64, layers=2, heads=1, image_size=64, patch_size=16),
    VQConfig(codes=64, latent_channels=32, base_channels=32),
)


@dataclass(frozen=True)
class Family:
    """What is published of one model."""

    language: LanguageConfig
    files: str
    """How the authors saved it: "safetensors", "bin" or "shards" (two, with an index)."""
    first_image_token: int
    """The id of begin-of-image; the pad token has the one before, the others follow at +577."""
    flow: bool = False
    """Whether it draws by a flow; what is not known of its file is as in Janus-1.3B's."""

    def config(self, *, tiny: bool) -> Config:
        """The sizes, or small ones."""
        if not self.flow:
            return TINY if tiny else JanusConfig(self.language, VisionConfig(), VQConfig())
        vision = replace(TINY.vision if tiny else VisionConfig(), aligner_depth=1)
        flow = FlowConfig(width=24) if tiny else FlowConfig()
        return JanusFlowConfig(TINY.language if tiny else self.language, vision, flow)


FAMILIES = {
    "janus-1.3b": Family(LANGUAGE_1B, "safetensors", 100016),
    "janusflow-1.3b": Family(LANGUAGE_1B, "safetensors", 100016, flow=True),
    "janus-pro-1b": Family(LANGUAGE_1B, "bin", 100003),
    "janus-pro-7b": Family(LANGUAGE_7B, "shards", 100016),
}
SHARD = 5 * 10**9  # bytes, the most that save_pretrained of transformers puts into a file
ATTENTION_POOL = {  # the pooling head of SigLIP that Janus does not use, in multiples of its width
    "latent": (1, 1, "W"),
    "q.weight": ("W", "W"),
    "q.bias": ("W",),
    "kv.weight": ("2W", "W"),
    "kv.bias": ("2W",),
    "proj.weight": ("W", "W"),
    "proj.bias": ("W",),
    "norm.weight": ("W",),
    "norm.bias": ("W",),
    "mlp.fc1.weight": ("4W", "W"),
    "mlp.fc1.bias": ("4W",),
    "mlp.fc2.weight": ("W", "4W"),
    "mlp.fc2.bias": ("W",),
}


def make_checkpoint(
    name: str, folder: Path, *, layout: str = "authors", tiny: bool = False
) -> Path:
    """Write the checkpoint of a family; the folder may not hold one yet."""
    family = FAMILIES[name]
    config = family.config(tiny=tiny)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(family.first_image_token)
    tokenizer.save(str(folder / "tokenizer.json"))
    writer = PromptWriter(tokenizer, JANUS_PRO, config.vision.tokens, config.language.context)
    write_json(folder / "preprocessor_config.json", preprocessor_json(config))
    torch.manual_seed(0)
    if isinstance(config, JanusFlowConfig):
        write_json(folder / "config.json", flow_config(config))
        write_weights(folder, shapes_of(config, AUTHORS_FLOW), family.files)
        save_vae(folder / "vae", base=4 if tiny else 128)
        return folder
    if layout == "transformers":
        write_json(folder / "config.json", config_json(config, writer, "bfloat16"))
        write_json(folder / "generation_config.json", generation_json(writer))
        files = "safetensors" if tiny else str(SHARD)
        write_weights(folder, shapes_of(config, TRANSFORMERS), files)
        return folder
    write_json(folder / "config.json", authors_config(config, sparse=name == "janus-pro-7b"))
    write_weights(folder, shapes_of(config, AUTHORS), family.files)
    return folder


def make_tokenizer(first_image_token: int) -> Tokenizer:
    """A byte-level tokenizer with the special tokens where the published one has them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    vocabulary |= {f"<unused {number}>": number for number in range(len(alphabet), 100000)}
    special = {
        BEGIN_OF_SENTENCE: 100000,
        END_OF_SENTENCE: 100001,
        PAD: first_image_token - 1,
        BEGIN_OF_IMAGE: first_image_token,
        END_OF_IMAGE: first_image_token + 577,
        PLACEHOLDER: first_image_token + 578,
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary | special, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer


def words_config(language: LanguageConfig, *, sparse: bool = False) -> dict[str, object]:
    """The decoder's part of config.json as the authors write it; the 7B's holds five keys only."""
    words: dict[str, object] = {
        "max_position_embeddings": language.context,
        "model_type": "llama",
        "num_hidden_layers": language.layers,
        "torch_dtype": "bfloat16",
        "vocab_size": language.vocabulary,
    }
    defaults = LanguageConfig()
    if not sparse or language.hidden_size != defaults.hidden_size:
        words |= {
            "hidden_size": language.hidden_size,
            "intermediate_size": language.intermediate_size,
            "num_attention_heads": language.heads,
            "num_key_value_heads": language.kv_heads,
        }
    return words


def flow_config(config: JanusFlowConfig) -> dict[str, object]:
    """JanusFlow's config.json; its keys are those that the authors' code reads."""
    flow = config.flow
    tower = {"model_name": "siglip_large_patch16_384", "select_layer": -1}
    shared = {"block_out_channels": [flow.width], "layers_in_middle": flow.encoder_blocks}
    encoder = {
        **shared,
        "input_channels": flow.latent_channels,
        "kernel_size": flow.patch_size,
        "stride": flow.patch_size,
    }
    decoder = {**shared, "in_channels": flow.width, "out_channels": flow.latent_channels}
    parts = {
        "vision_und_enc": ("CLIPVisionTower", tower),
        "vision_gen_enc": ("ShallowUViTEncoder", encoder),
        "vision_gen_dec": ("ShallowUViTDecoder", {**decoder, "upsamples": 1}),
    }
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": "multi_modality",
        "torch_dtype": "bfloat16",
        "language_config": words_config(config.language),
        **{f"{name}_config": part(name, cls, params) for name, (cls, params) in parts.items()},
    }


def save_vae(folder: Path, *, base: int) -> None:
    """A random VAE of the shape of SDXL's, whose narrowest layers have `base` channels."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(base, 2 * base, 4 * base, 4 * base),
        norm_num_groups=min(32, base),
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.13025,
    )
    vae.save_pretrained(folder)


def authors_config(config: JanusConfig, *, sparse: bool) -> dict[str, object]:
    """config.json of Janus and Janus-Pro as the authors write it."""
    language = config.language
    width, vision, vq = language.hidden_size, config.vision, config.vq
    projector = {"depth": 2, "n_embed": width, "projector_type": "mlp_gelu"}
    codes = {"image_token_size": vq.codes, "n_embed": vq.code_size}
    head = {"image_token_embed": width, "image_token_size": vq.codes, "n_embed": width}
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": "multi_modality",
        "torch_dtype": "bfloat16",
        "aligner_config": part(
            "aligner", "MlpProjector", {**projector, "input_dim": vision.hidden_size}
        ),
        "gen_aligner_config": part(
            "gen_aligner", "MlpProjector", {**projector, "input_dim": vq.code_size}
        ),
        "gen_head_config": part("gen_head", "vision_head", head),
        "gen_vision_config": part("gen_vision", "VQ-16", codes),
        "language_config": words_config(language, sparse=sparse),
        "vision_config": part(
            "vision",
            "CLIPVisionTower",
            {
                "image_size": vision.image_size,
                "model_name": "siglip_large_patch16_384",
                "select_feature": "same",
                "select_layer": -1,
            },
        ),
    }


def part(model_type: str, cls: str, params: dict[str, object]) -> dict[str, object]:
    return {"cls": cls, "model_type": model_type, "params": params}


def shapes_of(config: Config, layout: Layout) -> dict[str, tuple[int, ...]]:
    """Every published tensor's name and shape, in the order of our own modules."""
    with torch.device("meta"):
        model = Janus(config) if isinstance(config, JanusConfig) else JanusFlow(config)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, parameter in model.named_parameters():
        parts = layout.published(name)
        for published, tensor in zip(parts, parameter.chunk(len(parts)), strict=True):
            shapes[published] = tuple(tensor.shape)
    if layout in (AUTHORS, AUTHORS_FLOW):
        tower = TOWER if layout is AUTHORS else FLOW_TOWER
        width = config.vision.hidden_size
        shapes[f"{tower}pos_embed"] = (1, *shapes[f"{tower}pos_embed"])
        sizes = {1: 1, "W": width, "2W": 2 * width, "4W": 4 * width}
        for name, shape in ATTENTION_POOL.items():
            shapes[f"{tower}attn_pool.{name}"] = tuple(sizes[side] for side in shape)
    if layout is AUTHORS:
        shapes["gen_vision_model.quantize.codebook_used"] = (65536,)
    if layout is AUTHORS_FLOW:
        shapes["beg_of_und_embed"] = (1, *shapes["beg_of_und_embed"])
    return shapes


def write_weights(folder: Path, shapes: dict[str, tuple[int, ...]], files: str) -> None:
    """`files` is "safetensors", "bin", "shards" (two .bin), or the bytes of a safetensors shard."""
    if files == "safetensors":
        save_safetensors(folder / "model.safetensors", shapes, list(shapes))
    elif files == "bin":
        torch.save(dict(random_tensors(shapes, list(shapes))), folder / "pytorch_model.bin")
    else:
        ending = "bin" if files == "shards" else "safetensors"
        stem = "pytorch_model" if files == "shards" else "model"
        shards = two_shards(shapes) if files == "shards" else shards_of(shapes, int(files))
        weight_map = {}
        for number, names in enumerate(shards, 1):
            file = f"{stem}-{number:05}-of-{len(shards):05}.{ending}"
            if ending == "bin":
                torch.save(dict(random_tensors(shapes, names)), folder / file)
            else:
                save_safetensors(folder / file, shapes, names)
            weight_map.update(dict.fromkeys(names, file))
        size = 2 * sum(map(count, shapes.values()))
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        write_json(folder / f"{stem}.{ending}.index.json", index)


def save_safetensors(file: Path, shapes: dict[str, tuple[int, ...]], names: list[str]) -> None:
    save_file(dict(random_tensors(shapes, names)), file, metadata={"format": "pt"})


def two_shards(shapes: dict[str, tuple[int, ...]]) -> tuple[list[str], list[str]]:
    """The first shard holds two thirds of the numbers, as the published ten of fifteen GB do."""
    names, left = list(shapes), 2 / 3 * sum(map(count, shapes.values()))
    for place, name in enumerate(names):
        left -= count(shapes[name])
        if left < 0:
            return names[:place], names[place:]
    raise AssertionError("two thirds of a sum are less than the sum")


def shards_of(shapes: dict[str, tuple[int, ...]], limit: int) -> list[list[str]]:
    """Names in order, in as few shards of at most `limit` bytes as they fill."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        size += 2 * count(shape)
        if size > limit and shards[-1]:
            shards.append([])
            size = 2 * count(shape)
        shards[-1].append(name)
    return shards


def random_tensors(
    shapes: dict[str, tuple[int, ...]], names: list[str]
) -> Iterator[tuple[str, Tensor]]:
    """Values that keep activations near one, so that no layer overflows and no two agree."""
    for name in names:
        shape = shapes[name]
        tensor = torch.empty(shape, dtype=torch.bfloat16)
        if len(shape) == 1:
            tensor.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        else:
            tensor.normal_(std=count(shape[1:]) ** -0.5)
        yield name, tensor


def count(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--layout", choices=("authors", "transformers"), default="authors")
    parser.add_argument("--tiny", action="store_true", help="the same files around small networks")
    parser.add_argument("-o", "--out", type=Path, required=True)
    chosen = parser.parse_args()
    made = make_checkpoint(chosen.family, chosen.out, layout=chosen.layout, tiny=chosen.tiny)
    for file in sorted(made.iterdir()):
        print(f"{file.stat().st_size:>14,}  {file}")
