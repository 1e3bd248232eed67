"""Checkpoints that transformers quantized with bitsandbytes are read as transformers reads them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from janus_cli.engine.kernel import matrix
from janus_cli.engine.load import open_engine
from janus_cli.engine.nf4 import NF4Linear
from janus_cli.errors import ModelError
from janus_cli.schema import ModelChoice
from tests.checkpoints import IMAGE_SIZE, save_tiny_checkpoint
from tests.engines import embed

WAYS = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4, scales quantized": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    },
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("plain"), width=192)


@pytest.fixture(scope="module", params=WAYS)
def quantized(request, plain, tmp_path_factory):
    """How, transformers' model, and the folder where it saved itself."""
    from transformers import BitsAndBytesConfig, JanusForConditionalGeneration

    way = BitsAndBytesConfig(bnb_4bit_compute_dtype=torch.float32, **WAYS[request.param])
    model = JanusForConditionalGeneration.from_pretrained(
        plain, quantization_config=way, dtype=torch.float32, device_map="cpu"
    )
    folder = tmp_path_factory.mktemp("quantized")
    model.save_pretrained(folder)
    shutil.copy(plain / "tokenizer.json", folder)
    # In eval() bitsandbytes rearranges weights for some processors, and fails at less than a group.
    return request.param, model.train(), folder


@torch.inference_mode()
def test_the_logits_are_those_of_transformers(quantized):
    way, reference, folder = quantized
    engine = open_engine(folder, ModelChoice(device="cpu", precision="fp32"))
    pixels = torch.linspace(-1, 1, 3 * IMAGE_SIZE**2).view(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    ids = engine.writer.conversation(1, [], "how many?")
    wanted = reference(input_ids=torch.tensor([ids]), pixel_values=pixels).logits
    model = engine.model
    found = model.text_logits(model.language(embed(engine, ids, pixels)))
    error = ((found - wanted).norm() / wanted.norm()).item()
    # In 8 bits transformers quantizes what is multiplied, too; janus only the weights.
    assert error < (0.05 if way == "int8" else 1e-5)


def test_quantized_again_the_codes_are_the_same(quantized, monkeypatch):
    monkeypatch.setattr(matrix, "kernel", lambda: None)  # it would arrange them
    way, reference, folder = quantized
    if way != "nf4":
        pytest.skip("the file holds other codes than those of janus")
    engine = open_engine(folder, ModelChoice(device="cpu", precision="nf4"))
    assert engine.precision == "nf4"
    ours = engine.model.language.layers[0].mlp.down
    theirs = reference.model.language_model.layers[0].mlp.down_proj.weight
    assert isinstance(ours, NF4Linear)
    assert torch.equal(ours.layer.weight.data.view(-1), theirs.data.view(-1))


def test_another_quantizer_is_refused(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="quantized by 'gptq'; only bitsandbytes is read"):
        open_engine(folder, ModelChoice(device="cpu"))


def test_a_damaged_record_of_quantization_is_named(quantized, tmp_path):
    way, _, original = quantized
    if way != "nf4":
        pytest.skip("one kind of record is enough")
    folder = shutil.copytree(original, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    record = next(name for name in tensors if "quant_state" in name)
    tensors[record] = tensors[record].flip(0)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match="its quantized tensors are damaged"):
        open_engine(folder, ModelChoice(device="cpu"))
