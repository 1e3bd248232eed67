"""The authors' layout and its twin in transformers' layout are one model."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from janus_cli.engine.load import open_engine
from janus_cli.engine.prompt import JANUS, JANUS_PRO
from janus_cli.errors import ModelError
from janus_cli.schema import ModelChoice
from tests.checkpoints import IMAGE_SIZE, save_authors_twin, save_tiny_checkpoint, tiny_tokenizer
from tests.engines import answer, draw

CHOICE = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    # One vision head: the authors' config does not say how many, and every tower has 64 a head.
    return save_tiny_checkpoint(tmp_path_factory.mktemp("original"), vision_heads=1)


@pytest.fixture(scope="module", params=["bin", "shards", "safetensors"])
def twin(request, original, tmp_path_factory):
    return save_authors_twin(original, tmp_path_factory.mktemp("twin"), files=request.param)


def test_the_twins_are_the_same_model(original, twin):
    one, two = (open_engine(path, ModelChoice(**CHOICE)) for path in (original, twin))
    assert one.model.config == two.model.config
    pairs = zip(one.model.named_parameters(), two.model.parameters(), strict=True)
    for (name, first), second in pairs:
        assert torch.equal(first, second), name


def test_the_twins_say_and_draw_the_same(original, twin):
    pixels = torch.linspace(-1, 1, 3 * IMAGE_SIZE**2).view(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    answers, pictures = [], []
    for path in (original, twin):
        engine = open_engine(path, ModelChoice(**CHOICE, family="janus-pro"))
        ids = engine.writer.conversation(1, [], "how many?")
        answers.append(answer(engine, ids, pixels, max_tokens=8))
        ids = engine.writer.drawing("two")
        pictures.append(engine.paint(draw(engine, ids, [3])))
    assert answers[0] == answers[1]
    assert torch.equal(*pictures)


def test_what_the_config_leaves_out_has_llamas_defaults(original, tmp_path):
    """The published 7B config names five keys; the tiny one must then be misshapen by name."""
    folder = save_authors_twin(original, tmp_path)
    raw = json.loads((folder / "config.json").read_text())
    raw["language_config"] = {"model_type": "llama", "num_hidden_layers": 3, "vocab_size": 400}
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ModelError, match=r"asks? for \(400, 4096\)"):
        open_engine(folder, ModelChoice(**CHOICE))


def test_a_missing_shard_is_named(original, tmp_path):
    folder = save_authors_twin(original, tmp_path, files="shards")
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(ModelError, match=r"pytorch_model-00002-of-00002\.bin: is missing"):
        open_engine(folder, ModelChoice(**CHOICE))


class Dangerous:
    """Unpickled carelessly, this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_does_not_run(original, tmp_path):
    folder = save_authors_twin(original, tmp_path / "model")
    touched = tmp_path / "touched"
    torch.save({"a": Dangerous(touched)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="might run code; refused"):
        open_engine(folder, ModelChoice(**CHOICE))
    assert not touched.exists()
    # The same object does run when it is unpickled carelessly, so the test above means something.
    pickle.loads(pickle.dumps(Dangerous(touched)))
    assert touched.exists()


def test_a_bin_file_that_is_no_checkpoint_is_named(original, tmp_path):
    folder = save_authors_twin(original, tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: "):
        open_engine(folder, ModelChoice(**CHOICE))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"vision_gen_enc_config": {}}, "vision_und_enc_model"),
        ({"gen_head_config": None}, "gen_head_config"),
    ],
)
def test_other_models_of_the_same_type_are_refused(original, tmp_path, change, named):
    folder = save_authors_twin(original, tmp_path)
    raw = json.loads((folder / "config.json").read_text()) | change
    kept = {key: value for key, value in raw.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    with pytest.raises(ModelError, match=named):
        open_engine(folder, ModelChoice(**CHOICE))


def test_transformers_does_not_read_the_authors_layout(original, tmp_path):
    folder = save_authors_twin(original, tmp_path)
    with pytest.raises(ModelError, match="--backend transformers reads transformers' layout"):
        open_engine(folder, ModelChoice(**CHOICE, backend="transformers"))


def test_the_family_shows_in_the_tokenizer(original, tmp_path):
    """Janus-Pro-1B has its pad token right behind the end of the sentence, Janus-1.3B has not."""
    folder = save_authors_twin(original, tmp_path)
    assert open_engine(folder, ModelChoice(**CHOICE)).writer.roles == JANUS_PRO
    swapped = tiny_tokenizer().to_str().replace("<｜▁pad▁｜>", "<swap>")
    swapped = swapped.replace("<image_placeholder>", "<｜▁pad▁｜>")
    (folder / "tokenizer.json").write_text(swapped.replace("<swap>", "<image_placeholder>"))
    assert open_engine(folder, ModelChoice(**CHOICE)).writer.roles == JANUS
    forced = open_engine(folder, ModelChoice(**CHOICE, family="janus-pro"))
    assert forced.writer.roles == JANUS_PRO


def test_in_transformers_layout_the_chat_template_shows_the_family(original):
    assert open_engine(original, ModelChoice(**CHOICE)).writer.roles == JANUS_PRO
    template = original / "chat_template.jinja"
    try:
        template.write_text("{{ 'User: ' }}")
        assert open_engine(original, ModelChoice(**CHOICE)).writer.roles == JANUS
        template.write_text("{{ '<|User|>: ' }}")
        assert open_engine(original, ModelChoice(**CHOICE)).writer.roles == JANUS_PRO
    finally:
        template.unlink()


@pytest.mark.parametrize(
    ("family", "layout", "files", "roles"),
    [
        ("janus-1.3b", "authors", {"model.safetensors"}, JANUS),
        ("janusflow-1.3b", "authors", {"model.safetensors"}, JANUS),
        ("janus-pro-1b", "authors", {"pytorch_model.bin"}, JANUS_PRO),
        (
            "janus-pro-7b",
            "authors",
            {
                "pytorch_model-00001-of-00002.bin",
                "pytorch_model-00002-of-00002.bin",
                "pytorch_model.bin.index.json",
            },
            JANUS,  # its tokenizer is that of Janus-1.3B; only the true width shows Janus-Pro
        ),
        ("janus-pro-1b", "transformers", {"model.safetensors"}, JANUS_PRO),
    ],
)
def test_a_made_checkpoint_has_the_published_files_and_loads(
    family, layout, files, roles, environment, tmp_path
):
    script = Path(__file__).parent.parent / "benchmarks" / "make_checkpoint.py"
    options = ["--tiny", "--layout", layout, "-o", str(tmp_path / "model")]
    command = [sys.executable, script, family, *options]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    weights = {file.name for file in (tmp_path / "model").iterdir() if "model" in file.name}
    assert weights == files
    engine = open_engine(tmp_path / "model", ModelChoice(**CHOICE))
    assert engine.writer.roles == roles
    assert engine.writer.pad + 1 == engine.writer.begin_of_image
