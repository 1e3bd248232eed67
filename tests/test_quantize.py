"""A quantized checkpoint is what quantizing on load makes, and appears whole or not at all."""

import json
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from itertools import islice

import pytest
import torch
from safetensors import safe_open

from janus_cli.engine import load, quantize
from janus_cli.engine.checkpoint import open_checkpoint
from janus_cli.engine.decode import Drawing, Sampling
from janus_cli.engine.kernel import matrix
from janus_cli.engine.kernel.library import kernel
from janus_cli.engine.load import open_engine
from janus_cli.engine.precision import LAYERS, blank_model, make_precision
from janus_cli.engine.prompt import JANUS
from janus_cli.engine.save import save_checkpoint
from janus_cli.errors import ModelError, OutputError
from janus_cli.schema import ModelChoice
from janus_cli.weights import find_model
from tests.checkpoints import save_authors_twin, save_tiny_checkpoint
from tests.conftest import ROOT
from tests.engines import embed

CPU = torch.device("cpu")
WRITTEN = ("bf16", "fp16", "int8", "int4", "nf4")
PENGUINS = str(ROOT / "weights" / "embedded" / "examples" / "penguins.png")


def write(path, folder, name):
    for _ in quantize.quantize_checkpoint(path, folder, name, device=CPU):
        pass
    return folder


@pytest.fixture(scope="module", params=WRITTEN)
def pair(request, tmp_path_factory):
    """The name of a precision, and the embedded model written at it."""
    folder = tmp_path_factory.mktemp("quantized") / "model"
    return request.param, write(find_model("embedded"), folder, request.param)


def buffers(path, name):
    """Every tensor that loading a checkpoint gives, before a machine rearranges it."""
    with ExitStack() as stack:
        checkpoint = open_checkpoint(path, stack)
        model = blank_model(checkpoint.config, make_precision(name, CPU))
        return {name: tensor.clone() for name, tensor in load.filled(checkpoint, model, CPU)}


def test_it_holds_what_quantizing_on_load_makes(pair):
    name, folder = pair
    written, on_load = buffers(folder, name), buffers(find_model("embedded"), name)
    assert written.keys() == on_load.keys()
    for tensor in written:
        assert written[tensor].dtype == on_load[tensor].dtype, tensor
        assert torch.equal(written[tensor], on_load[tensor]), tensor


@torch.inference_mode()
def said_and_drawn(path, name):
    """Logits of an answer and the codes of a picture, by a model at a precision."""
    engine = open_engine(path, ModelChoice(device="cpu", precision=name))
    pixels = torch.linspace(-1, 1, 3 * 384**2).view(1, 3, 384, 384)
    ids = engine.writer.conversation(1, [], "how many penguins?")
    logits = engine.model.text_logits(engine.model.language(embed(engine, ids, pixels))[:, -3:])
    ids = engine.writer.drawing("two circles")
    drawing = Drawing(ids, engine.writer.unconditional(ids), 3)
    codes = torch.stack(list(islice(engine.draw([drawing], Sampling()), 20)))
    return logits, codes


def assert_alike(folder, name):
    """What was written says and draws the same bits as quantizing on load."""
    results = (said_and_drawn(path, name) for path in (folder, find_model("embedded")))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_it_says_and_draws_the_same_bits(pair):
    name, folder = pair
    assert_alike(folder, name)


@pytest.mark.skipif(kernel() is None, reason="no kernel here")
@pytest.mark.parametrize("name", ["int4", "nf4"])
@pytest.mark.parametrize("writes", [True, False], ids=["with", "without"])
def test_it_is_read_on_a_machine_of_another_kind(name, writes, tmp_path, monkeypatch):
    """One writes with the kernel, the other reads without it, and the other way round."""
    with pytest.MonkeyPatch.context() as patch:
        if not writes:
            patch.setattr(matrix, "kernel", lambda: None)
        folder = write(find_model("embedded"), tmp_path / "model", name)
    config = json.loads((folder / "config.json").read_text())
    assert (config["packing"] == "tiles") == writes
    if writes:
        monkeypatch.setattr(matrix, "kernel", lambda: None)
    assert_alike(folder, name)


def test_a_packing_that_is_not_known_is_refused(tmp_path):
    folder = write(find_model("embedded"), tmp_path / "model", "int4")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"packing": "bundles"}))
    with pytest.raises(ModelError, match="was written by another version of janus"):
        open_engine(folder, ModelChoice(device="cpu"))


def test_it_says_what_it_is(pair):
    name, folder = pair
    config = json.loads((folder / "config.json").read_text())
    kept = {"model_type": "janus_cli", "precision": name, "made_from": "embedded"}
    assert kept.items() <= config.items()
    if name in LAYERS:
        assert open_engine(folder, ModelChoice(device="cpu")).precision == name
        with pytest.raises(ModelError, match=f"was quantized to {name}; for --precision fp32"):
            open_engine(folder, ModelChoice(device="cpu", precision="fp32"))
        with pytest.raises(ModelError, match="was quantized already"):
            write(folder, folder.parent / "again", "int8")


def test_plain_numbers_can_be_loaded_at_any_precision(tmp_path):
    folder = write(find_model("embedded"), tmp_path / "model", "bf16")
    assert open_engine(folder, ModelChoice(device="cpu", precision="int8")).precision == "int8"
    assert open_engine(folder, ModelChoice(device="cpu", precision="fp32")).precision == "fp32"


def test_an_fp32_original_keeps_what_is_not_a_matrix(tmp_path):
    engine = open_engine(find_model("embedded"), ModelChoice(device="cpu", precision="fp32"))
    for parameter in engine.model.parameters():
        parameter += 1e-4  # not a number that bf16 holds
    save_checkpoint(engine.model, engine.writer, tmp_path / "fp32", dtype=torch.float32)
    folder = write(tmp_path / "fp32", tmp_path / "int8", "int8")
    written, on_load = buffers(folder, "int8"), buffers(tmp_path / "fp32", "int8")
    assert all(torch.equal(written[name], on_load[name]) for name in on_load)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        norm = file.get_tensor("language.norm.weight")
    assert norm.dtype == torch.float32 and not torch.equal(norm, norm.bfloat16())


def test_the_family_is_kept(tmp_path):
    from benchmarks.make_checkpoint import make_checkpoint

    original = make_checkpoint("janus-1.3b", tmp_path / "original", tiny=True)
    folder = write(original, tmp_path / "int8", "int8")
    assert open_engine(folder, ModelChoice(device="cpu")).writer.roles == JANUS


def test_both_layouts_give_the_same_file(tmp_path):
    original = save_tiny_checkpoint(tmp_path / "original", vision_heads=1, width=192)
    twin = save_authors_twin(original, tmp_path / "twin", files="shards")
    one, two = (
        write(path, tmp_path / f"{path.name}-int4", "int4") / "model.safetensors"
        for path in (original, twin)
    )
    assert one.read_bytes() == two.read_bytes()
    assert b"attention.qkv.packed" in one.read_bytes()


# Whole or not at all


def test_an_interrupted_run_leaves_nothing(tmp_path):
    shelf = tmp_path / "shelf"
    steps = quantize.quantize_checkpoint(
        find_model("embedded"), shelf / "model", "int4", device=CPU
    )
    with closing(steps):
        next(steps)
        assert len(list(shelf.iterdir())) == 1  # what it writes in
    assert list(shelf.iterdir()) == []


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from janus_cli.engine.quantize import quantize_checkpoint
for step in quantize_checkpoint(
    Path(sys.argv[1]), Path(sys.argv[2]), "int4", device=torch.device("cpu")
):
    if step.done > step.total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_nothing_that_looks_complete(tmp_path, environment):
    target = tmp_path / "shelf" / "model"
    command = [sys.executable, "-c", KILLED, str(find_model("embedded")), str(target)]
    ended = subprocess.run(command, env=environment, timeout=100)
    assert ended.returncode == -signal.SIGKILL
    assert not target.exists()
    (left,) = target.parent.iterdir()
    assert left.name.startswith(".") and not (left / "config.json").exists()
    # And it is in nobody's way.
    assert write(find_model("embedded"), target, "int4") == target


def test_a_folder_that_exists_is_not_touched(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(OutputError, match="model: exists; choose another name with -o"):
        write(find_model("embedded"), tmp_path / "model", "int4")


def test_too_small_a_disk_is_noticed_first(tmp_path, monkeypatch):
    monkeypatch.setattr(quantize.shutil, "disk_usage", lambda _: type("", (), {"free": 10**6}))
    with pytest.raises(OutputError, match=r"needs 11\.\d MB, but 1\.0 MB are free"):
        write(find_model("embedded"), tmp_path / "shelf" / "model", "int4")
    assert list((tmp_path / "shelf").iterdir()) == []


# The command


def test_the_command(janus, folder):
    ended = janus("quantize", "embedded", "--precision", "int4", "-o", "here/small")
    assert (ended.code, ended.out, ended.err) == (0, "here/small\n", "")
    asked = janus("ask", "--model", "here/small", "--json", PENGUINS, "how many penguins?")
    assert json.loads(asked.out)["precision"] == "int4"
    again = janus("quantize", "embedded", "--precision", "int4", "-o", "here/small")
    assert again.code == 5 and "here/small: exists" in again.err


@pytest.mark.parametrize("precision", ["auto", "int3"])
def test_a_precision_must_be_named(janus, precision):
    ended = janus("quantize", "embedded", "--precision", precision)
    assert ended.code == 2 and "--precision" in ended.err and "int4" in ended.err
