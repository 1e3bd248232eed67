"""JanusFlow's networks and its loop, against its paper derived again and diffusers' own modules."""

import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

import pytest
import torch

from janus_cli.engine import euler, flow
from janus_cli.engine.config import parse
from janus_cli.engine.decode import Drawing, Sampling
from janus_cli.engine.load import open_engine
from janus_cli.schema import ModelChoice
from tests import flow_oracle
from tests.flow_checkpoints import CHANNELS, LATENT, random_tensors, save_flow_checkpoint

CHOICE = {"device": "cpu", "precision": "fp32"}
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_flow_checkpoint(tmp_path_factory.mktemp("flow") / "tinyflow")


@pytest.fixture(scope="module")
def engine(path):
    return open_engine(path, ModelChoice(**CHOICE))


def noise(seed: int = 1) -> torch.Tensor:
    return torch.randn(CHANNELS, LATENT, LATENT, generator=torch.Generator().manual_seed(seed))


def drawing(engine, prompt="a red circle on white", seed=3, negative=None) -> Drawing:
    ids = engine.writer.drawing(prompt)
    other = engine.writer.drawing(negative) if negative else engine.writer.unconditional(ids)
    return Drawing(ids, other, seed)


def latents(engine, *drawings, guidance=2.0, steps=3) -> torch.Tensor:
    """(steps, pictures, C, S, S)"""
    return torch.stack(list(engine.draw(drawings, Sampling(guidance, steps=steps))))


@pytest.mark.parametrize("time", [0.0, 0.3, 29 / 30])
def test_a_velocity_is_that_of_the_paper(engine, time):
    one = drawing(engine)
    with torch.inference_mode():
        prefix = engine.prefix([one.ids, one.unconditional])
        when = torch.tensor([1000 * time])
        found = engine.model.velocity(noise()[None], when, prefix)
    everywhere = range(len(one.ids) - 1)
    expected = flow_oracle.velocity(random_tensors(), noise(), time, one.ids, list(everywhere))
    torch.testing.assert_close(found[0], expected.float(), **CLOSE)
    blind = flow_oracle.velocity(random_tensors(), noise(), time, list(one.unconditional), [0])
    torch.testing.assert_close(found[1], blind.float(), **CLOSE)
    assert not torch.allclose(found[0], found[1], **CLOSE)


@pytest.mark.parametrize("guidance", [2.0, 1.0, 7.5])
def test_three_euler_steps_are_those_of_the_paper(engine, guidance):
    one = drawing(engine)
    found = latents(engine, one, guidance=guidance)[:, 0]
    begin = torch.randn(CHANNELS, LATENT, LATENT, generator=torch.Generator().manual_seed(one.seed))
    pad = engine.writer.pad
    expected = flow_oracle.euler(random_tensors(), begin, 3, list(one.ids), pad, guidance)
    torch.testing.assert_close(found, torch.stack(expected).float(), rtol=5e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_steps_are_the_steps_themselves(path, engine, monkeypatch):
    on_gpu = open_engine(path, ModelChoice(device="cuda", precision="fp32"))
    captured = latents(on_gpu, drawing(on_gpu), steps=30).cpu()
    monkeypatch.setattr(euler, "PAYS_BACK", 1000)
    torch.testing.assert_close(latents(on_gpu, drawing(on_gpu), steps=30).cpu(), captured)
    expected = latents(engine, drawing(engine), steps=30)
    torch.testing.assert_close(captured, expected, rtol=1e-2, atol=1e-2)


def test_a_negative_prompt_is_seen_whole(engine):
    one = drawing(engine, negative="two three")
    with torch.inference_mode():
        prefix = engine.prefix([one.ids, one.unconditional])
        found = engine.model.velocity(noise()[None], torch.tensor([500.0]), prefix)[1]
    ids = list(one.unconditional)
    everywhere = list(range(len(ids) - 1))
    expected = flow_oracle.velocity(random_tensors(), noise(), 0.5, ids, everywhere)
    torch.testing.assert_close(found, expected.float(), **CLOSE)


def diffusers_block(channels: int, width: int) -> torch.nn.Module:
    """Diffusers' ConvNeXt block, of which JanusFlow's has a wider window, with random numbers."""
    uvit = pytest.importorskip("diffusers.models.unets.uvit_2d")
    block = uvit.ConvNextBlock(channels, 1e-6, True, True, 0.0, width)
    block.depthwise = torch.nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return block


def ours_of(block: torch.nn.Module, channels: int, width: int) -> flow.ConvNeXtBlock:
    renamed = {
        "channelwise_linear_1": "up",
        "channelwise_norm.gamma": "response_norm.weight",
        "channelwise_norm.beta": "response_norm.bias",
        "channelwise_linear_2": "down",
        "cond_embeds_mapper": "modulation",
    }
    numbers = {}
    for name, value in block.state_dict().items():
        for theirs, our in renamed.items():
            name = name.replace(theirs, our)
        numbers[name] = value
    made = flow.ConvNeXtBlock(channels, width, 1e-6)
    made.load_state_dict(numbers)
    return made


def test_a_convnext_block_is_diffusers_own():
    torch.manual_seed(0)
    block = diffusers_block(12, 20)
    x, time = torch.randn(2, 12, 5, 5), torch.randn(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(ours_of(block, 12, 20)(x, time), block(x, time), **CLOSE)


@pytest.fixture
def without_torchvision(monkeypatch):
    """timm imports torchvision, whose builds do not fit every torch, and which no block takes."""
    parts = ("ops", "ops.misc", "transforms", "transforms.functional", "datasets", "models")
    for name in ("torchvision", *(f"torchvision.{part}" for part in parts)):
        monkeypatch.setitem(sys.modules, name, MagicMock(__spec__=ModuleSpec(name, None)))


def test_a_convnext_block_without_modulation_is_timms(without_torchvision):
    convnext = pytest.importorskip("timm.models.convnext")
    norms = pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    block = convnext.ConvNeXtBlock(
        12, 12, kernel_size=7, use_grn=True, ls_init_value=None, norm_layer=norms.RmsNorm
    )
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = flow.ConvNeXtBlock(12, 20, 1e-6)
    parts = {"conv_dw": "depthwise", "norm": "norm", "mlp.fc1": "up", "mlp.fc2": "down"}
    for theirs, our in parts.items():
        ours.get_submodule(our).load_state_dict(block.get_submodule(theirs).state_dict())
    ours.response_norm.weight.data = block.mlp.grn.weight.data.view(1, 1, 1, -1)
    ours.response_norm.bias.data = block.mlp.grn.bias.data.view(1, 1, 1, -1)
    torch.nn.init.zeros_(ours.modulation.weight)
    torch.nn.init.zeros_(ours.modulation.bias)
    x = torch.randn(2, 12, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, torch.randn(2, 20)), block(x), **CLOSE)


def test_the_time_embedding_is_diffusers_own():
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    torch.manual_seed(0)
    waves = embeddings.Timesteps(24, flip_sin_to_cos=True, downscale_freq_shift=0)
    network = embeddings.TimestepEmbedding(24, 40)
    ours = flow.TimeEmbedding(24, 40)
    ours.load_state_dict(network.state_dict())
    times = torch.tensor([0.0, 1.5, 333.3, 966.7, 1000.0])
    with torch.no_grad():
        torch.testing.assert_close(ours(times), network(waves(times)), **CLOSE)


def test_the_published_shapes_have_the_published_number_of_numbers():
    """2,046,367,504 of the file, less the pooling head that nobody reads."""
    from janus_cli.engine.precision import blank_model, make_precision, weight_bytes

    raw = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24}
    raw |= {"num_attention_heads": 16, "vocab_size": 102400}
    vision = {"depth": 1}
    config = parse(
        {"model_type": "janus_cli", "text_config": raw, "vision_config": vision, "flow_config": {}}
    )
    model = blank_model(config, make_precision("fp32", torch.device("cpu")))
    assert weight_bytes(model) // 4 == 2_046_367_504 - 12_595_200
    assert config.image_tokens == 576
