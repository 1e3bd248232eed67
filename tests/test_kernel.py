"""The kernel: its products and its step are those of the plain networks, whatever stands beside."""

import ctypes
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch

from janus_cli.engine import bits
from janus_cli.engine import precision as precisions
from janus_cli.engine.config import LanguageConfig
from janus_cli.engine.kernel import library, matrix
from janus_cli.engine.kernel.library import Unusable
from janus_cli.engine.kv_cache import Cache
from janus_cli.engine.language import Decoder
from janus_cli.engine.linear import BF16Linear
from janus_cli.engine.load import open_engine
from janus_cli.engine.packing import NEIGHBORS, TILES
from janus_cli.engine.precision import LAYERS
from janus_cli.schema import ModelChoice
from janus_cli.weights import find_model
from tests.conftest import ROOT
from tests.engines import draw

CPU = torch.device("cpu")
QUANTIZED = tuple(LAYERS)
KINDS = ("bf16", *QUANTIZED)
INPUTS, OUTPUTS = 448, 192  # seven groups of nf4, three blocks of what many rows pass
# Of products of normal numbers: rows are rounded to bf16, to 15 bits, and twice to 8 in groups.
PRODUCT_ERRORS = {"bf16": 3e-3, "int8": 1e-4, "int4": 0.007, "nf4": 0.008}
# The same, or in bf16 with all that is multiplied rounded to that.
LONG_ERRORS = {"int8": 5e-3, "int4": 0.01, "nf4": 0.01}
PENGUINS = str(ROOT / "weights" / "embedded" / "examples" / "penguins.png")


# Of nf4, beside its quantiles, which are rounded to 8 bits or to 7.
LEVEL_ERRORS = {"amx": 0.006, "avx512": 0.006, "avx2": 0.012}


@pytest.fixture(params=library.VECTORS)
def vectors(request, monkeypatch):
    """Each of the kernels that this machine can run, one after the other."""
    monkeypatch.setenv(library.SWITCH, request.param)
    library.kernel.cache_clear()
    reason = why_not()
    if reason:
        pytest.skip(f"no kernel here: {reason}")
    yield request.param
    library.kernel.cache_clear()


needs_kernel = pytest.mark.usefixtures("vectors")


def why_not():
    """Why there is no kernel here; empty where there is."""
    try:
        library.open_kernel()
    except Unusable as reason:
        return str(reason)
    return ""


def layer_of(kind, weight):
    """A layer that holds a weight, as loading makes it."""
    outputs, inputs = weight.shape
    if kind == "bf16":
        layer = BF16Linear(inputs, outputs, bias=False, dtype=torch.bfloat16)
        layer.weight = torch.nn.Parameter(weight.bfloat16(), requires_grad=False)
    else:
        layer = LAYERS[kind](inputs, outputs)
        for name, buffer in layer.quantize(weight).items():
            setattr(layer, name, buffer)
    layer.settle()
    return layer


def numbers_of(layer):
    """The weight that a layer multiplies by: what one-hot rows, which are rounded to, give."""
    if isinstance(layer, BF16Linear):
        return layer.weight.float()
    return layer(torch.eye(layer.in_features)).T


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative_error(found, wanted):
    return ((found.float() - wanted.float()).norm() / wanted.float().norm()).item()


@needs_kernel
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 11, 16])
@torch.inference_mode()
def test_a_product_is_that_of_the_numbers_held(kind, count):
    layer = layer_of(kind, normal(OUTPUTS, INPUTS))
    x = normal(count, INPUTS, seed=1) * 10 ** torch.linspace(-3, 3, count)[:, None]
    for row, wanted in zip(layer(x), x @ numbers_of(layer).T, strict=True):
        assert relative_error(row, wanted) < PRODUCT_ERRORS[kind]


@needs_kernel
@pytest.mark.parametrize("kind", ["int8", "int4"])
@torch.inference_mode()
def test_whole_numbers_are_multiplied_exactly(kind):
    """The largest of every group is such that rounding changes nothing: no sum may overflow."""
    most = {"int8": 16383, "int4": 127}[kind]
    weight = torch.randint(-8, 8, (OUTPUTS, INPUTS), generator=torch.Generator().manual_seed(0))
    weight[:, ::32], weight[:, 1::32] = -8, 7
    if kind == "int8":
        weight *= 127
        weight //= 8
        weight[:, ::32] = 127
    layer = layer_of(kind, weight.float())
    assert torch.equal(numbers_of(layer), weight.float())
    x = torch.randint(-most, most + 1, (3, INPUTS), generator=torch.Generator().manual_seed(1))
    x[:, ::32] = most
    assert torch.equal(layer(x.float()).double(), (x @ weight.T).float().double())


@needs_kernel
@torch.inference_mode()
def test_sums_that_32_bits_do_not_hold_are_sums_all_the_same():
    most = matrix.MOST_INPUTS
    layer = layer_of("int8", torch.full((16, most), 127.0))
    assert layer.matrix is not None
    found = layer(torch.full((1, most), 16383.0))
    assert torch.equal(found.double(), torch.full((1, 16), float(127 * 16383 * most)).double())


@needs_kernel
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_row_is_its_own_affair(kind):
    layer = layer_of(kind, normal(OUTPUTS, INPUTS))
    x = normal(16, INPUTS, seed=1)
    together = layer(x)
    for first, last in pairwise([0, 1, 3, 6, 10, 15, 16]):
        assert torch.equal(layer(x[first:last]), together[first:last])


@needs_kernel
@pytest.mark.parametrize(
    ("kind", "outputs"),
    [(kind, OUTPUTS) for kind in QUANTIZED] + [("int8", OUTPUTS + 16), ("nf4", OUTPUTS + 16)],
)
@torch.inference_mode()
def test_many_rows_give_what_each_gives_alone(kind, outputs):
    """They go another way through the weight; neither they nor the outputs come out even."""
    layer = layer_of(kind, normal(outputs, INPUTS))
    x = normal(45, INPUTS, seed=1) * 10 ** torch.linspace(-3, 3, 45)[:, None]
    assert torch.equal(layer(x), torch.cat([layer(row[None]) for row in x]))


@needs_kernel
@pytest.mark.parametrize("kind", QUANTIZED)
@pytest.mark.parametrize("outputs", [OUTPUTS, OUTPUTS + 64])
@torch.inference_mode()
def test_long_sequences_are_multiplied_each_as_alone(kind, outputs, vectors):
    """On AMX they go a way of their own, in squares of rows that their number does not fill."""
    layer = layer_of(kind, normal(outputs, INPUTS))
    x = normal(3, matrix.LONG + 7, INPUTS, seed=1)
    together = layer(x)
    for row, found in zip(x, together, strict=True):
        alone = layer(row[None])[0]
        # What torch does with 8 bits there it does not promise.
        assert relative_error(found, alone) < (1e-3 if kind == "int8" else 1e-9)
        assert relative_error(found, row @ numbers_of(layer).T) < LONG_ERRORS[kind]
    rows = x.flatten(0, 1)
    assert torch.equal(together.flatten(0, 1), layer(rows)) == (vectors != "amx")
    short = x[:, : matrix.LONG - 1]
    assert torch.equal(layer(short).flatten(0, 1), layer(short.flatten(0, 1)))


@needs_kernel
@pytest.mark.parametrize("kind", ["int4", "nf4"])
@torch.inference_mode()
def test_tiles_hold_what_was_packed(kind, vectors, monkeypatch):
    weight = normal(OUTPUTS, INPUTS)
    tiled = numbers_of(layer_of(kind, weight))
    monkeypatch.setattr(matrix, "kernel", lambda: None)
    plain = layer_of(kind, weight)
    if kind == "int4":
        assert relative_error(tiled, plain.widened(torch.float32)(0, OUTPUTS)) < 1e-6
    else:
        numbers = plain.layer.train()(torch.eye(INPUTS)).T
        assert relative_error(tiled, numbers) < LEVEL_ERRORS[vectors]


@needs_kernel
def test_codes_of_nf4_are_those_of_bitsandbytes(vectors, monkeypatch):
    weight = normal(OUTPUTS, INPUTS)
    weight[0, :64], weight[1], weight[2] = 0, weight[1].sign(), weight[2] * 1e-36
    levels = bits.library().functional.get_4bit_type("nf4", device="cpu")
    halfway = (levels[1:] + levels[:-1]) / 2  # of a group whose largest is 1
    for row, number in enumerate((halfway, halfway.nextafter(levels[-1]), levels[:-1]), start=3):
        weight[row, :64] = 0
        weight[row, 1:16], weight[row, :1] = number, 1
    made = LAYERS["nf4"].quantize(weight)
    monkeypatch.setattr(matrix, "kernel", lambda: None)
    wanted = LAYERS["nf4"].quantize(weight)
    assert torch.equal(made["absmax"], wanted["absmax"])
    assert torch.equal(TILES.unpack(made["packed"]), NEIGHBORS.unpack(wanted["packed"]))


@needs_kernel
@torch.inference_mode()
def test_a_weight_of_another_size_is_left_to_torch():
    for kind in KINDS:
        weight = torch.zeros(64, 48, dtype=torch.bfloat16)
        assert not matrix.fits(kind, weight, 64, 48), kind
        assert not matrix.fits(kind, weight, 72, 64), kind
    layer = layer_of("bf16", normal(64, 48))
    assert layer.matrix is None and layer(normal(2, 48).bfloat16()).shape == (2, 64)


# The step


def language(**changes):
    sizes = {
        "hidden_size": 128,
        "intermediate_size": 192,
        "layers": 2,
        "heads": 4,
        "kv_heads": 4,
        "head_size": 32,
        "vocabulary": 10,
        "context": 200,
    }
    return LanguageConfig(**(sizes | changes))


def decoders(config):
    """The same random weights in fp32 and, those of bf16, with the kernel."""
    torch.manual_seed(0)
    plain = Decoder(config).requires_grad_(False)
    for parameter in plain.parameters():
        spread = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.3
        parameter.copy_((torch.randn_like(parameter) * spread + (parameter.dim() == 1)).bfloat16())
    fused = Decoder(config).to(torch.bfloat16).requires_grad_(False)
    fused.load_state_dict(plain.state_dict())
    for layer in fused.layers:
        for owner, name in (
            *((layer.attention, name) for name in ("qkv", "out")),
            *((layer.mlp, name) for name in ("gate_up", "down")),
        ):
            setattr(owner, name, layer_of("bf16", getattr(owner, name).weight))
    fused.fuse()
    return plain, fused


def steps(decoder, x, lengths):
    """States (T, B, D) of steps after prompts of these lengths, and the cache then."""
    dtype = decoder.norm.weight.dtype
    x = x.to(dtype)
    most = max(lengths)
    cache = Cache(decoder.config, len(x), x.shape[1] + 3, dtype=dtype, device=CPU)
    for row, length in enumerate(lengths):  # not together: that is a product of torch's
        decoder.prefill(x[row : row + 1, :length], cache, [row])
    return torch.stack([decoder.step(x[:, i], cache) for i in range(most, x.shape[1])]), cache


@needs_kernel
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kv_heads": 2},
        {"heads": 2, "kv_heads": 1, "head_size": 64, "hidden_size": 160},
        {"heads": 2, "kv_heads": 2, "head_size": 96},
        {"heads": 2, "kv_heads": 2, "head_size": 160},
    ],
)
@torch.inference_mode()
def test_a_step_is_that_of_the_plain_decoder(changes):
    """Over lengths that end anywhere in a vector, rows of several lengths, heads of any size."""
    plain, fused = decoders(language(**changes))
    assert fused.kernel_step is not None
    x = normal(3, 100, plain.config.hidden_size)
    wanted, its = steps(plain, x, [30, 27, 30])
    found, own = steps(fused, x, [30, 27, 30])
    for row in range(3):
        assert relative_error(found[:, row], wanted[:, row]) < 0.015
    assert own.lengths == its.lengths == [100, 97, 100]
    for kept, held in zip((*its.keys, *its.values), (*own.keys, *own.values), strict=True):
        assert relative_error(held, kept) < 0.015
    fused.kernel_step = None
    torches, _ = steps(fused, x, [30, 27, 30])
    assert relative_error(found, wanted) < 1.1 * relative_error(torches, wanted)


@needs_kernel
@torch.inference_mode()
def test_a_row_of_a_step_is_its_own_affair_on_any_number_of_threads():
    _, fused = decoders(language())
    x = normal(9, 80, 128)
    together, _ = steps(fused, x, [40] * 9)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        apart, _ = steps(fused, x, [40] * 9)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(apart, together)
    for row in range(9):
        alone, _ = steps(fused, x[row : row + 1], [40])
        assert torch.equal(alone[:, 0], together[:, row])


@needs_kernel
@pytest.mark.parametrize("kv_heads", [2, 4])
@torch.inference_mode()
def test_what_rows_begin_with_is_read_once(kv_heads):
    """Rows 1, 2 and 4 of 5 begin with 70 positions alike; row 0 ends, and the last takes its place.

    A step is the same as without anything shared, and does not look at what the others hold of it.
    """
    _, fused = decoders(language(kv_heads=kv_heads))
    config = fused.config
    beginning = normal(1, 70, 128).bfloat16()
    x = normal(5, 40, 128, seed=1).bfloat16()
    lengths = [70 + length for length in (4, 9, 1, 6, 30)]

    def filled(spoiled):
        cache = Cache(config, 5, 128, dtype=torch.bfloat16, device=CPU)
        fused.prefill(beginning, cache, [1, 2, 4])
        for row in (0, 3):
            fused.prefill(beginning.flip(1), cache, [row])
        for row, length in enumerate(lengths):
            fused.prefill(x[row : row + 1, : length - 70], cache, [row])
        cache.move(4, 0)  # where it leads those that were before it
        assert cache.leaders(4) == [(0, 0), (0, 70), (0, 70), (3, 0)]
        for layer in range(config.layers):
            for row in (1, 2) if spoiled else ():
                cache.keys[layer][row, ..., :64] = float("nan")  # whole vectors
                cache.values[layer][row, :, :64] = float("nan")
        return cache

    cache, spoiled, plain = filled(False), filled(True), filled(False)
    plain.share(range(5), 0)
    for at in range(30, 40):
        wanted = fused.step(x[:4, at], plain)
        assert torch.equal(fused.step(x[:4, at], cache), wanted)
        assert torch.equal(fused.step(x[:4, at], spoiled), wanted)


@needs_kernel
@torch.inference_mode()
def test_two_threads_step_with_a_cache_each():
    _, fused = decoders(language())
    inputs = [normal(rows, 150, 128, seed=rows) for rows in (1, 2, 3, 4)]
    wanted = [steps(fused, x, [20] * len(x))[0] for x in inputs]

    @torch.inference_mode()
    def again(x):
        return steps(fused, x, [20] * len(x))[0]

    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(again, inputs), wanted, strict=True):
            assert torch.equal(found, alone)


@needs_kernel
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("precision", KINDS)
def test_pictures_of_a_batch_are_those_drawn_alone(precision, wide, monkeypatch):
    """In a network that computes in bf16, and in one in fp32, where that is faster."""
    monkeypatch.setattr(precisions, "computes_in_bf16", lambda: not wide)
    choice = ModelChoice(device="cpu", precision=precision)
    engine = open_engine(find_model("embedded"), choice, vision=False)
    assert engine.model.language.kernel_step is not None and engine.model.drawing_rows == 1
    assert engine.model.dtype == (torch.float32 if wide else torch.bfloat16)
    assert engine.model.cache_dtype == torch.bfloat16
    ids = engine.writer.drawing("two red circles")
    together = draw(engine, ids, [7, 8, 9])
    for row, seed in enumerate((7, 8, 9)):
        assert torch.equal(draw(engine, ids, [seed])[0], together[row])


# Where there is none


def test_off_is_off(janus, monkeypatch):
    monkeypatch.setenv(library.SWITCH, "off")
    with pytest.raises(Unusable, match="JANUS_KERNEL=off"):
        library.open_kernel()
    question = ("ask", PENGUINS, "how many penguins?", "--model", "embedded", "--precision", "int4")
    on, off = janus(*question), janus(*question, env={library.SWITCH: "off"})
    assert (on.code, off.code) == (0, 0) and on.out == off.out
    assert "off" in janus("doctor", env={library.SWITCH: "off"}).out


@needs_kernel
def test_what_cannot_be_compiled_is_done_without(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sources = tmp_path / "sources"
    shutil.copytree(library.HERE, sources)
    (sources / "step.c").write_text("no C\n")
    monkeypatch.setattr(library, "HERE", sources)
    with pytest.raises(Unusable, match="cannot compile it"):
        library.open_kernel()
    assert not list((tmp_path / "cache" / "janus").iterdir())
    monkeypatch.setattr(library.shutil, "which", lambda name: None)
    with pytest.raises(Unusable, match="no C compiler"):
        library.open_kernel()
    (tmp_path / "file").touch()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(Unusable, match="file"):
        library.open_kernel()


def test_a_compiler_that_does_not_know_the_newest_compiles_for_older(tmp_path, monkeypatch):
    """Nothing is lost on a new processor with an old compiler."""
    if why_not():
        pytest.skip(why_not())
    *newer, oldest = library.choose_vectors()
    real = library.processor()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flags = {name: {**library.VECTORS[name], "new": "-mno-such-thing"} for name in newer}
    monkeypatch.setattr(library, "VECTORS", library.VECTORS | flags)
    monkeypatch.setattr(library, "processor", lambda: {**real, "new": True})
    assert f"kernel-{oldest}-" in library.open_kernel()._name


@needs_kernel
def test_it_runs_on_the_threads_of_torch():
    """A second OpenMP would be in the way of the first."""
    kernel = library.open_kernel()
    with open("/proc/self/maps") as maps:
        found = {line.split(maxsplit=5)[-1] for line in maps if "libgomp" in line}
    assert len(found) == 1
    assert ctypes.CDLL(kernel._name)
