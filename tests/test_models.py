"""Installed models: which are there, which one answers, and how they go away."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from janus_cli import catalog, weights
from janus_cli.engine import auto, describe
from janus_cli.engine.checkpoint import open_checkpoint
from janus_cli.engine.precision import blank_model, bytes_to_run, make_precision
from tests.checkpoints import save_authors_twin, save_tiny_checkpoint
from tests.conftest import ROOT

PENGUINS = str(ROOT / "weights" / "embedded" / "examples" / "penguins.png")


@pytest.fixture
def shelf(environment):
    place = Path(environment["JANUS_WEIGHTS"])
    place.mkdir()
    return place


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A small model and one that is larger, in other layouts."""
    made = tmp_path_factory.mktemp("checkpoints")
    small = save_tiny_checkpoint(made / "small", vision_heads=1)
    large = save_tiny_checkpoint(made / "wide", vision_heads=1, width=192)
    return small, save_authors_twin(large, made / "large")


def listed(janus, *args):
    ended = janus("models", "--json", *args)
    assert (ended.code, ended.err) == (0, "")
    return {record["name"]: record for record in map(json.loads, ended.out.splitlines())}


def runs_at(janus):
    """The precision that an answer of the embedded model comes in."""
    return json.loads(janus("ask", "--json", PENGUINS, "what?").out)["precision"]


def test_the_embedded_model_is_always_there(janus):
    (record,) = listed(janus).values()
    assert record["name"] == "embedded" and record["family"] == "janus-pro"
    assert record["layout"] == "transformers" and record["precision"] == "bf16"
    assert record["runs_at"] == runs_at(janus) and record["fits"] is True
    files = (ROOT / "weights" / "embedded").iterdir()
    assert record["disk_bytes"] == sum(file.stat().st_size for file in files if file.is_file())


def test_every_layout_and_what_is_broken_are_listed(janus, shelf, checkpoints):
    small, large = checkpoints
    shutil.copytree(small, shelf / "small")
    shutil.copytree(large, shelf / "large")
    (shelf / "broken").mkdir()
    (shelf / "broken" / "config.json").write_text('{"model_type": "janus"}')
    shutil.copytree(small, shelf / "wordless")
    tensors = load_file(shelf / "wordless" / "model.safetensors")
    del tensors["model.language_model.embed_tokens.weight"]
    save_file(tensors, shelf / "wordless" / "model.safetensors")
    (shelf / ".half-a-model").mkdir()
    (shelf / ".half-a-model" / "config.json").write_text("{}")
    assert janus("quantize", "large", "--precision", "int4").code == 0
    records = listed(janus)
    assert list(records) == ["embedded", "broken", "large", "large-int4", "small", "wordless"]
    assert (records["large"]["layout"], records["small"]["layout"]) == ("authors'", "transformers")
    four = records["large-int4"]
    assert (four["layout"], four["precision"], four["runs_at"]) == ("janus_cli", "int4", "int4")
    assert four["numbers"] == records["large"]["numbers"] > records["small"]["numbers"]
    assert four["disk_bytes"] < records["large"]["disk_bytes"]
    assert "holds no .safetensors" in records["broken"]["error"]
    assert not records["broken"]["fits"]
    assert "lacks tensor model.language_model.embed_tokens" in records["wordless"]["error"]
    table = janus("models").out.splitlines()
    assert table[0].split()[:2] == ["NAME", "FAMILY"]
    assert table[1].split()[0] == "embedded" and table[2].strip() == str(
        ROOT / "weights" / "embedded"
    )


def test_the_largest_that_fits_answers(janus, shelf, checkpoints):
    small, large = checkpoints
    assert json.loads(janus("ask", "--json", PENGUINS, "what?").out)["model"] == "embedded"
    shutil.copytree(small, shelf / "b small one")
    shutil.copytree(large, shelf / "a large one")
    ask = ("ask", "--json", PENGUINS, "what?", "--max-tokens", "2")
    assert json.loads(janus(*ask).out)["model"] == "a large one"
    chosen = janus("ask", "--json", PENGUINS, "what?", env={"JANUS_MODEL": "embedded"})
    assert json.loads(chosen.out)["model"] == "embedded"


@pytest.fixture
def three(tmp_path, monkeypatch, checkpoints):
    """A small model, a large one, and the large one in int4, on a shelf of this process."""
    small, large = checkpoints
    monkeypatch.setenv("JANUS_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing"))
    shutil.copytree(small, tmp_path / "small")
    shutil.copytree(large, tmp_path / "large")
    monkeypatch.setattr(auto, "SMALL", 0)  # treat them as large models are treated
    return tmp_path


def test_what_is_too_large_does_not_answer(three, monkeypatch):
    sizes = {name: catalog_needs(name) for name in ("small", "large")}
    assert sizes["small"] < sizes["large"]
    for free, chosen in (
        (sizes["large"], "large"),
        (sizes["large"] - 1, "small"),
        (sizes["small"] - 1, "embedded"),
    ):
        for module in (auto, describe):
            monkeypatch.setattr(module, "free_memory", lambda device, free=free: free)
        assert catalog.choose_largest("cpu") == chosen


def catalog_needs(name):
    """What the model needs at the narrowest precision."""
    cpu = torch.device("cpu")
    with ExitStack() as stack:
        config = open_checkpoint(weights.find_model(name), stack).config
    precisions = (make_precision(name, cpu) for name in auto.candidates(cpu))
    return min(bytes_to_run(blank_model(config, precision)) for precision in precisions)


# Removal


def test_removal_asks_and_takes_nothing_else(janus, shelf, checkpoints):
    shutil.copytree(checkpoints[0], shelf / "small")
    shutil.copytree(checkpoints[0], shelf / "other")
    refused = janus("rm", "small")
    assert refused.code == 2 and "--yes" in refused.err and (shelf / "small").exists()
    removed = janus("rm", "small", "--yes")
    assert (removed.code, removed.out) == (0, "") and "removed small" in removed.err
    assert [place.name for place in shelf.iterdir()] == ["other"]
    again = janus("rm", "small", "--yes")
    assert again.code == 3 and "is not installed" in again.err


def test_what_is_not_installed_is_not_removed(janus, shelf, checkpoints, folder):
    own = shutil.copytree(checkpoints[0], folder / "mine")
    (shelf / "linked").symlink_to(own)
    for name in ("embedded", "mine", str(own), "..", "."):
        assert janus("rm", name, "--yes").code == 3, name
    assert janus("rm", "linked", "--yes").code == 0
    assert not (shelf / "linked").exists() and (own / "config.json").exists()


# Doctor


def test_doctor_says_what_a_report_needs(janus):
    ended = janus("doctor", "--json", "--device", "cpu")
    assert (ended.code, ended.err) == (0, "")
    found = {(r["part"], r["name"]): r["value"] for r in map(json.loads, ended.out.splitlines())}
    assert found["versions", "torch"] == torch.__version__
    assert found["model", "name"] == "embedded"
    assert found["model", "auto takes"] == f"{runs_at(janus)} on cpu"
    assert found["environment", "JANUS_WEIGHTS"]
    assert "janus: " in janus("doctor").out


def test_doctor_finds_a_tokenizer_without_its_pad(janus, folder):
    broken = shutil.copytree(ROOT / "weights" / "embedded", folder / "broken")
    text = (broken / "tokenizer.json").read_text().replace("<｜▁pad▁｜>", "<pad>")
    (broken / "tokenizer.json").write_text(text)
    ended = janus("doctor", "--model", "broken")
    assert ended.code == 3
    assert "! tokenizer: <｜▁pad▁｜> MISSING" in ended.out


def test_doctor_goes_on_after_a_damaged_model(janus, folder):
    (folder / "bad").mkdir()
    (folder / "bad" / "config.json").write_text("{")
    ended = janus("doctor", "--model", "bad")
    assert ended.code == 3 and "! error: bad/config.json: cannot be read" in ended.out
    assert "  torch: " in ended.out
