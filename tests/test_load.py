"""Loading: strict about tensors, plain about what is wrong."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from janus_cli.engine.load import open_engine
from janus_cli.errors import ModelError
from janus_cli.schema import ModelChoice, Wish
from tests.checkpoints import save_tiny_checkpoint

CHOICE = ModelChoice(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("original"))


@pytest.fixture
def checkpoint(original, tmp_path):
    return shutil.copytree(original, tmp_path / "model")


def rewrite(checkpoint, change) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    change(tensors)
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_tensor_is_named(checkpoint):
    rewrite(checkpoint, lambda tensors: tensors.pop("model.language_model.norm.weight"))
    with pytest.raises(ModelError, match=r"lacks tensor model\.language_model\.norm\.weight"):
        open_engine(checkpoint, CHOICE)


def test_a_left_over_tensor_is_named(checkpoint):
    rewrite(checkpoint, lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(ModelError, match="unknown tensor extra"):
        open_engine(checkpoint, CHOICE)


def test_a_misshapen_tensor_is_named(checkpoint):
    name = "model.aligner.fc1.weight"
    rewrite(checkpoint, lambda tensors: tensors.update({name: torch.zeros(3, 3)}))
    with pytest.raises(ModelError, match=rf"{name} has shape \(3, 3\)"):
        open_engine(checkpoint, CHOICE)


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("config.json", None, "config.json"),
        ("config.json", "{", "config.json"),
        ("config.json", "[]", "config.json"),
        ("config.json", '{"model_type": "llama"}', "model_type 'llama'"),
        ("tokenizer.json", None, "tokenizer.json"),
        ("tokenizer.json", "{}", "tokenizer.json"),
        ("generation_config.json", "[]", "generation_config.json"),
        ("generation_config.json", '{"guidance_scale": "5"}', "guidance_scale"),
        ("generation_config.json", '{"guidance_scale": -1}', "guidance_scale"),
        ("generation_config.json", '{"guidance_scale": NaN}', "guidance_scale"),
        ("model.safetensors", None, "no .safetensors"),
        ("model.safetensors", "not tensors", "model.safetensors: damaged"),
    ],
)
def test_a_damaged_folder_says_which_file(checkpoint, file, text, named):
    (checkpoint / file).unlink(missing_ok=True)
    if text is not None:
        (checkpoint / file).write_text(text)
    with pytest.raises(ModelError, match=named.replace(".", r"\.")):
        open_engine(checkpoint, CHOICE)


@pytest.mark.parametrize("backend", ["janus", "transformers"])
def test_a_checkpoint_says_how_closely_it_draws(backend, checkpoint):
    """Its own guidance where none is asked for; 5, with which the authors draw, if it has none."""
    choice = ModelChoice(device="cpu", precision="fp32", backend=backend)
    for text, guidance in (('{"guidance_scale": 1.5}', 1.5), ("{}", 5), (None, 5)):
        (checkpoint / "generation_config.json").unlink(missing_ok=True)
        if text:
            (checkpoint / "generation_config.json").write_text(text)
        engine = open_engine(checkpoint, choice)
        assert engine.sampling(Wish("a corgi")).guidance == guidance
        assert engine.sampling(Wish("a corgi", guidance=3.0)).guidance == 3


def test_shards_are_read_together(checkpoint):
    tensors = load_file(checkpoint / "model.safetensors")
    names = sorted(tensors)
    (checkpoint / "model.safetensors").unlink()
    for number, part in enumerate((names[::2], names[1::2]), 1):
        save_file(
            {name: tensors[name] for name in part}, checkpoint / f"model-{number}.safetensors"
        )
    loaded = open_engine(checkpoint, CHOICE).model
    assert torch.equal(loaded.language.norm.weight, tensors["model.language_model.norm.weight"])


def test_tied_words(checkpoint):
    """A checkpoint saved with tied embeddings has no lm_head of its own."""
    rewrite(checkpoint, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(ModelError, match=r"lacks tensor lm_head\.weight"):
        open_engine(checkpoint, CHOICE)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    model = open_engine(checkpoint, CHOICE).model
    assert torch.equal(model.text_head.weight, model.language.embed.weight)


def test_a_part_that_is_not_needed_is_not_loaded(original):
    drawing = open_engine(original, CHOICE, vision=False).model
    reading = open_engine(original, CHOICE, drawing=False).model
    assert not hasattr(drawing, "vision") and hasattr(drawing, "vq")
    assert not hasattr(reading, "vq") and hasattr(reading, "vision")


def test_fp32_is_fp32_throughout(original):
    engine = open_engine(original, ModelChoice(device="cpu", precision="fp32"))
    assert {parameter.dtype for parameter in engine.model.parameters()} == {torch.float32}
    assert engine.precision == "fp32"


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_sixteen_bits_hold_the_matrices_and_the_words(original, name, dtype):
    """What is computed in depends on the processor; what lies in memory does not."""
    model = open_engine(original, ModelChoice(device="cpu", precision=name)).model
    linears = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    assert {linear.weight.dtype for linear in linears} == {dtype}
    assert model.language.embed.weight.dtype == dtype


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there(original):
    with pytest.raises(ModelError, match="--device cuda: not on this machine"):
        open_engine(original, ModelChoice(device="cuda"))
