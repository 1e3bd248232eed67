"""Every precision: how far it is from fp32, what fits it, and what `auto` takes."""

import statistics
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from janus_cli.engine import auto
from janus_cli.engine.checkpoint import Checkpoint, open_checkpoint
from janus_cli.engine.layout import OURS
from janus_cli.engine.linear import FEW_ROWS, PART, HalfLinear
from janus_cli.engine.load import open_engine
from janus_cli.engine.packing import PACKINGS
from janus_cli.engine.precision import LAYERS, make_precision
from janus_cli.engine.tile import LARGEST_TILE, smallest_tile
from janus_cli.errors import ModelError
from janus_cli.images import read_image
from janus_cli.schema import ModelChoice
from janus_cli.train.data import to_pixels
from janus_cli.train.world.render import render
from janus_cli.train.world.scene import Scene, Thing
from janus_cli.train.world.style import DRAWN
from janus_cli.weights import find_model
from tests.checkpoints import save_tiny_checkpoint
from tests.conftest import ROOT
from tests.engines import answer, embed

CPU = torch.device("cpu")
INPUTS, OUTPUTS = 256, PART + 128  # more outputs than are quantized at once
PICTURES = ROOT / "weights" / "embedded" / "examples"

# Relative error of a product of normal numbers. Spreading 16 or 255 values evenly over the range of
# 32 or of 256 normal numbers gives about 0.075 and 0.007; nf4 is made for 64 of them.
LAYER_ERRORS = {"int8": 0.015, "int4": 0.09, "nf4": 0.11}
# Relative error of the embedded model's logits (less their mean) over words and over codes.
LOGIT_ERRORS = {"bf16": (0.03, 0.04), "fp16": (0.01, 0.01), "int8": (0.04, 0.05)}


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


def quantized_layer(name: str, weight: torch.Tensor, *, settled: bool = True):
    layer = LAYERS[name](weight.shape[1], weight.shape[0])
    for buffer, tensor in layer.quantize(weight).items():
        blank = getattr(layer, buffer)
        assert (tensor.shape, tensor.dtype) == (blank.shape, blank.dtype)
        setattr(layer, buffer, tensor)
    if settled:
        layer.settle()
    return layer


@pytest.fixture(scope="module")
def weight():
    return torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def rows():
    return torch.randn(2, FEW_ROWS, INPUTS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_a_quantized_layer_is_near_the_plain_one(name, weight, rows):
    layer, wanted = quantized_layer(name, weight), rows @ weight.T
    many, few = layer(rows), layer(rows[:1])
    assert many.shape == wanted.shape and many.dtype == torch.float32
    assert relative_error(many, wanted) < LAYER_ERRORS[name]
    assert relative_error(few, wanted[:1]) < LAYER_ERRORS[name]
    # Both ways through the layer multiply by the same numbers; the short one rounds to bf16.
    assert relative_error(few, many[:1]) < 0.01


@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_a_row_does_not_depend_on_the_others_of_its_tile(name, weight, rows):
    layer = quantized_layer(name, weight.bfloat16())
    together = layer(rows[0, :LARGEST_TILE])
    tile = smallest_tile(layer, torch.float32, CPU)
    for first in range(0, LARGEST_TILE, tile):
        assert torch.equal(layer(rows[0, first : first + tile]), together[first : first + tile])


@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_quantizing_what_was_quantized_changes_nothing(name, weight):
    """So a checkpoint that is quantized already loses nothing more."""
    layer = quantized_layer(name, weight.bfloat16())
    widened = layer(torch.eye(INPUTS)).T  # more than a few rows, so widened and not rounded
    again = quantized_layer(name, widened)(torch.eye(INPUTS)).T
    assert relative_error(again, widened) < (0.002 if name == "int4" else 1e-6)


@torch.inference_mode()
def test_a_weight_of_zeros_stays_one(rows):
    for name in LAYERS:
        layer = quantized_layer(name, torch.zeros(64, INPUTS))
        assert torch.equal(layer(rows), torch.zeros(2, FEW_ROWS, 64)), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_half_a_layer_computes_in_fp32(dtype, weight, rows):
    layer = HalfLinear(INPUTS, OUTPUTS, bias=True, dtype=dtype)
    layer.weight = torch.nn.Parameter(weight.to(dtype), requires_grad=False)
    layer.bias = torch.nn.Parameter(torch.ones(OUTPUTS), requires_grad=False)
    wanted = rows @ weight.to(dtype).float().T + 1
    assert relative_error(layer(rows), wanted) < 1e-6
    assert relative_error(layer(rows[:1]), wanted[:1]) < 0.005
    assert layer(rows[:1]).dtype == torch.float32


@pytest.mark.parametrize("packing", PACKINGS.values(), ids=PACKINGS)
def test_every_packing_can_be_undone(packing):
    codes = torch.randint(16, (128, 96), dtype=torch.uint8)
    packed = packing.pack(codes)
    assert packed.shape == (128, 48) and packed.is_contiguous()
    assert torch.equal(packing.unpack(packed), codes)


@pytest.mark.parametrize("name", ["int4", "nf4"])
@torch.inference_mode()
def test_what_another_machine_packed_is_packed_anew(name, weight, rows):
    wanted = quantized_layer(name, weight)(rows)
    for packing in PACKINGS.values():
        layer = quantized_layer(name, weight, settled=False)
        layer.packed = packing.pack(layer.packing(CPU).unpack(layer.packed))
        layer.repack(packing)
        layer.settle()
        assert torch.equal(layer(rows), wanted), packing.name


# Whole models


@pytest.fixture(scope="module")
def embedded():
    return open_embedded("fp32")


def open_embedded(precision):
    return open_engine(find_model("embedded"), ModelChoice(device="cpu", precision=precision))


@pytest.fixture(scope="module")
def reference(embedded):
    """In fp32: prompts, pictures and greedy answers, and the logits over words and codes."""
    given = list(answers(embedded))
    things = [Thing("circle", "red", x, 64, 64, 0.0) for x in (96, 224, 320)]
    picture = torch.from_numpy(render(Scene("white", tuple(things), (), 1), DRAWN))[None]
    codes = embedded.model.vq.encode(to_pixels(picture)).flatten()[:120]  # half down the circles
    words = all_word_logits(embedded, given)
    assert len(words) > 100
    return given, words, codes, code_logits(embedded, codes)


def answers(engine):
    """What the embedded model says of the example pictures: prompt, picture, greedy answer."""
    for file in sorted(PICTURES.glob("*.png")):
        if file.stem in ("penguins", "corgi", "hello", "shapes"):
            pixels = engine.preprocessing.fit(read_image(str(file)))[None]
            ids = engine.writer.conversation(1, [], "Describe the image in detail.")
            yield ids, pixels, answer(engine, ids, pixels, max_tokens=40)


@torch.inference_mode()
def all_word_logits(engine, given):
    """At every position at which a word of an answer, or its end, was picked."""
    found = []
    for ids, pixels, said in given:
        states = engine.model.language(embed(engine, [*ids, *said], pixels))
        found.append(engine.model.text_logits(states[0, len(ids) - 1 :]).float())
    return torch.cat(found)


@torch.inference_mode()
def code_logits(engine, codes):
    """At every step of a drawing of which the codes are given."""
    model, ids = engine.model, engine.writer.drawing("three red circles on white")
    cache = engine.new_cache(rows=2, capacity=len(ids) + len(codes))
    states = [engine.prefill([ids, ids], cache)]
    for code in codes:
        states.append(model.language.step(model.embed_codes(code.repeat(2)), cache))
    return model.image_logits(torch.stack(states)[:, 0]).float()


def named(precision):
    engine = open_embedded(precision)
    assert engine.precision == precision
    return engine


def with_noise(size, seed):
    """In fp32, every weight of the projections off by normal numbers of a relative size."""
    engine = open_embedded("fp32")
    generator = torch.Generator().manual_seed(seed)
    for part in engine.model.language.layers.modules():
        if isinstance(part, torch.nn.Linear):
            spread = part.weight.square().mean().sqrt() * size
            noise = torch.randn(part.weight.shape, generator=generator) * spread
            part.weight = torch.nn.Parameter(part.weight + noise, requires_grad=False)
    return engine


def differences(engine, reference):
    """Over words and over codes: relative error, and the share of the same likeliest."""
    given, words, codes, drawing = reference
    return (
        difference(all_word_logits(engine, given), words),
        difference(code_logits(engine, codes), drawing),
    )


def difference(found, wanted):
    spread = wanted - wanted.mean(-1, keepdim=True)
    error = ((found - wanted).norm() / spread.norm()).item()
    return error, (found.argmax(-1) == wanted.argmax(-1)).float().mean().item()


@pytest.mark.parametrize("name", LOGIT_ERRORS)
def test_eight_and_sixteen_bits_are_near_fp32(name, reference):
    word_bound, code_bound = LOGIT_ERRORS[name]
    for (error, share), bound in zip(
        differences(named(name), reference), (word_bound, code_bound), strict=True
    ):
        assert error < bound and share >= 0.95


@pytest.mark.parametrize("name", LAYERS)
def test_quantizing_hurts_no_more_than_noise(name, reference):
    """What a model makes of an error in its weights depends on its training, so the bound is what
    noise of a layer's error in the same weights does to the same logits."""
    noisy = [differences(with_noise(LAYER_ERRORS[name], seed), reference) for seed in range(3)]
    found = differences(named(name), reference)
    for (error, share), of_noise in zip(found, zip(*noisy, strict=True), strict=True):
        errors, shares = zip(*of_noise, strict=True)
        assert 0 < error < 1.2 * statistics.mean(errors)
        assert share >= min(shares) - 0.02


@pytest.mark.parametrize("name", LAYERS)
def test_the_projections_of_the_decoder_are_quantized_and_nothing_else(name):
    model = open_embedded(name).model
    kinds = {path: type(module) for path, module in model.named_modules()}
    quantized = {path for path, kind in kinds.items() if kind is LAYERS[name]}
    assert len(quantized) == 4 * model.config.language.layers
    assert all(path.startswith("language.layers.") for path in quantized)
    assert model.text_head.weight.dtype == torch.bfloat16
    assert model.language.embed.weight.dtype == torch.bfloat16


def test_sizes_that_a_precision_cannot_hold_stay_plain(tmp_path):
    """48 inputs are no multiple of 32: the tiny model runs, with plain layers."""
    path = save_tiny_checkpoint(tmp_path)
    engine = open_engine(path, ModelChoice(device="cpu", precision="int4"))
    assert not any(isinstance(part, LAYERS["int4"]) for part in engine.model.modules())
    assert len(answer(engine, engine.writer.drawing("a"), max_tokens=3)) <= 3


def test_fp16_keeps_the_pixels_in_fp32(embedded):
    precision = make_precision("fp16", torch.device("meta"))
    assert precision.compute == torch.float16 and precision.pixels == torch.float32


# What auto takes


GB = 10**9
NEEDS = {"bf16": 16 * GB, "int8": 9 * GB, "int4": 6 * GB}


@pytest.mark.parametrize(
    ("free", "taken", "said"),
    [
        (24 * GB, "bf16", ""),
        (12 * GB, "int8", "int8, since bf16 needs 16.0 GB and 12.0 GB are free"),
        (8 * GB, "int4", "int4, since bf16 needs 16.0 GB and 8.0 GB are free"),
        (4 * GB, "int4", "int4 needs about 6.0 GB, but only 4.0 GB are free"),
    ],
)
def test_auto_takes_the_best_that_fits_and_says_so(free, taken, said):
    assert auto.best_that_fits(tuple(NEEDS), NEEDS.__getitem__, free) == (taken, said)


@pytest.mark.parametrize("held", [None, "int8", "nf4"])
def test_auto_by_size_and_by_what_is_held(held, tmp_path, monkeypatch):
    path = save_tiny_checkpoint(tmp_path)
    with ExitStack() as stack:
        checkpoint = replace(open_checkpoint(path, stack), precision=held)
        for there, small in ((object(), "bf16"), (None, "fp32")):
            monkeypatch.setattr(auto, "kernel", lambda there=there: there)
            assert auto.choose_automatically(checkpoint, CPU) == (small, "")
        monkeypatch.setattr(auto, "SMALL", 0)
        best, eight, four = auto.candidates(CPU)
        assert auto.choose_automatically(checkpoint, CPU) == (
            {None: best, "int8": eight, "nf4": four}[held],
            "",
        )
        monkeypatch.setattr(auto, "free_memory", lambda device: 10**6)
        name, note = auto.choose_automatically(checkpoint, CPU)
        assert name == four and "1.0 MB are free" in note


def test_a_checkpoint_that_holds_codes_is_run_at_their_precision():
    held = Checkpoint(find_model("embedded"), OURS, None, {}, precision="int8")
    everything = {"vision": True, "drawing": True}
    assert auto.choose_precision("auto", CPU, held, **everything)[0].name == "int8"
    with pytest.raises(ModelError, match="was quantized to int8; for --precision int4 take"):
        auto.choose_precision("int4", CPU, held, **everything)


def test_a_slow_precision_is_announced(monkeypatch):
    monkeypatch.setattr("janus_cli.engine.precision.multiplies_bf16", lambda: False)
    monkeypatch.setattr("janus_cli.engine.precision.kernel", lambda: None)
    (note,) = open_embedded("nf4").notes
    assert "nf4 is slow" in note and "int4" in note
    assert open_embedded("int4").notes == ()


def test_transformers_networks_run_plain_precisions_only(tmp_path):
    path = save_tiny_checkpoint(tmp_path)
    choice = ModelChoice(device="cpu", precision="int8", backend="transformers")
    with pytest.raises(ModelError, match="--backend transformers: runs fp32, bf16 and fp16"):
        open_engine(path, choice)
