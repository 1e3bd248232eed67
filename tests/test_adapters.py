"""Adapters: what is trained, what is merged while a model is loaded, and what is refused."""

import json
import os
import random
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import ANY

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.teach import COLOR, lesson, open_taught
from janus_cli import adapters, client, model_commands
from janus_cli.engine import load
from janus_cli.engine.adapter import Changes, adapted
from janus_cli.engine.checkpoint import open_checkpoint
from janus_cli.engine.load import open_engine
from janus_cli.engine.precision import blank_model, make_precision
from janus_cli.engine.quantize import quantize_checkpoint
from janus_cli.engine.save import save_checkpoint, write_json
from janus_cli.errors import ModelError, OutputError, UsageError
from janus_cli.options import ModelOptions
from janus_cli.schema import ModelChoice
from janus_cli.train import adapt
from janus_cli.train.data import TRAINING_SEEDS
from janus_cli.train.evaluate.exams import answer
from janus_cli.train.request import TrainRequest
from janus_cli.train.run import open_run
from janus_cli.train.world.render import render
from janus_cli.train.world.scene import sample_scene
from janus_cli.weights import find_model
from janus_cli.worker import Worker
from tests.checkpoints import save_authors_twin, save_tiny_checkpoint
from tests.conftest import ROOT
from tests.flow_checkpoints import save_flow_checkpoint
from tests.test_imports import loaded_by
from tests.test_server import sockets  # noqa: F401 - a fixture

CPU = torch.device("cpu")
PENGUINS = str(ROOT / "weights" / "embedded" / "examples" / "penguins.png")
# Three words: the noise of an adapter ties two for the fourth.
ASK = ("ask", PENGUINS, "what is this?", "--json", "--max-tokens", "3", "--device", "cpu")
RANK, ALPHA = 3, 7.5


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny", kv_heads=1)


@pytest.fixture(scope="module")
def embedded_adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("adapters") / "teal", find_model("embedded"))


@pytest.fixture
def adapter(tiny, tmp_path):
    return write_adapter(tmp_path / "teal", tiny)


def write_adapter(folder, base, kind="lora"):
    """An adapter of random numbers for a checkpoint, as the documented format has it."""
    names = {"rank": RANK, "alpha": ALPHA} if kind == "lora" else {}
    with ExitStack() as stack:
        checkpoint = open_checkpoint(base, stack)
        model = blank_model(checkpoint.config, make_precision("fp32", CPU))
        said = adapters.Adapter(folder, kind, str(base), **names)
        wanted = Changes(said, {}).wanted(load.shapes(checkpoint, model))
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: torch.randn(shape, generator=generator) * shape[-1] ** -0.5
        for name, shape in wanted.items()
    }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"format": 1, "kind": kind, "base_model_name_or_path": str(base)}
    sizes = {"r": RANK, "lora_alpha": ALPHA} if kind == "lora" else {}
    write_json(folder / "adapter_config.json", config | sizes)
    return folder


def opened(path, adapter=None, precision="fp32", **parts):
    choice = ModelChoice(device="cpu", precision=precision, adapter=adapter and str(adapter))
    return open_engine(path, choice, **parts)


def buffers(path, name, adapter=None):
    """Every tensor that loading a checkpoint gives, before a machine rearranges it."""
    with ExitStack() as stack:
        checkpoint = adapted(open_checkpoint(path, stack), adapter and str(adapter), stack)
        model = blank_model(checkpoint.config, make_precision(name, CPU))
        checkpoint.check_names(load.shapes(checkpoint, model))
        return {name: tensor.clone() for name, tensor in load.filled(checkpoint, model, CPU)}


def changed(one, other):
    """The names of the tensors that are not the same bits in both."""
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def logits(model):
    """What a model makes of some words and some codes."""
    ids = torch.arange(1, 13).view(2, 6)
    with torch.no_grad():
        states = model.language(torch.cat((model.embed_text(ids), model.embed_codes(ids)), dim=1))
        return torch.cat((model.text_logits(states), model.image_logits(states)), dim=-1)


# What is trained


def test_low_rank_products_begin_as_the_model_and_merge_as_they_were_trained(tiny, tmp_path):
    engine = opened(tiny)
    before = logits(engine.model)
    adapt.attach(engine.model, "lora", rank=4)
    assert torch.equal(logits(engine.model), before)
    train(engine.model)
    after = logits(engine.model)
    assert (after - before).abs().max() > 0.1
    adapt.save(engine.model, tmp_path / "teal", base=tiny)
    merged = opened(tiny, tmp_path / "teal")
    assert (logits(merged.model) - after).abs().max() < 1e-5
    assert merged.name == "tiny+teal"
    said = adapters.read(tmp_path / "teal")
    assert (said.kind, said.rank, said.alpha, said.base) == ("lora", 4, 8, str(tiny))


def test_aligners_replace_those_of_the_model(tiny, tmp_path):
    engine = opened(tiny)
    adapt.attach(engine.model, "aligners", rank=0)
    train(engine.model)
    adapt.save(engine.model, tmp_path / "teal", base=tiny)
    merged = buffers(tiny, "fp32", tmp_path / "teal")
    assert all(torch.equal(merged[name], value) for name, value in engine.model.named_parameters())
    assert all("aligner." in name for name in changed(merged, buffers(tiny, "fp32")))


@pytest.mark.parametrize(
    ("kind", "count", "pattern"), [("lora", 3 * 4 * 2, ".lora_"), ("aligners", 8, "aligner.")]
)
def test_only_the_adapter_is_trained(kind, count, pattern, tiny):
    model = opened(tiny).model
    adapt.attach(model, kind, rank=2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model)
    moved = changed(before, dict(model.named_parameters()))
    assert len(moved) == count and all(pattern in name for name in moved)
    assert adapt.trained_state(model).keys() == {name.replace(".default", "") for name in moved}


def train(model):
    """Two steps in some direction."""
    generator = torch.Generator().manual_seed(0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained
    for parameter in trained:
        with torch.no_grad():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.1


@pytest.mark.parametrize("kind", ["lora", "aligners"])
def test_what_was_trained_is_put_back(kind, tiny):
    one, other = opened(tiny).model, opened(tiny).model
    for model in (one, other):
        adapt.attach(model, kind, rank=2)
    train(one)
    adapt.restore(other, adapt.trained_state(one))
    assert torch.equal(logits(one), logits(other))
    with pytest.raises(ValueError, match="another"):
        adapt.restore(other, {"language.norm.weight": torch.ones(48)})


def test_an_adapter_appears_whole_or_not_at_all(tiny, tmp_path, monkeypatch):
    model = opened(tiny).model
    adapt.attach(model, "aligners", rank=0)
    monkeypatch.setattr(adapt, "write_json", fail)
    with pytest.raises(OutputError, match="teal: No space left"):
        adapt.save(model, tmp_path / "new" / "teal", base=tiny)
    assert not list((tmp_path / "new").iterdir())
    monkeypatch.undo()
    adapt.save(model, tmp_path / "new" / "teal", base=tiny)
    with pytest.raises(OutputError, match="exists"):
        adapt.save(model, tmp_path / "new" / "teal", base=tiny)


def fail(*_):
    raise OSError(28, "No space left on device")


def test_a_missing_peft_says_how_to_install_it(tiny, monkeypatch):
    monkeypatch.setattr(adapt.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--lora: needs peft; pip install"):
        adapt.attach(opened(tiny).model, "lora", rank=2)


# What is merged


def test_every_layout_takes_an_adapter(tiny, adapter, tmp_path):
    plain, merged = buffers(tiny, "fp32"), buffers(tiny, "fp32", adapter)
    tensors = load_file(adapter / "adapter_model.safetensors")
    weight = "language.layers.1.attention.qkv"
    product = tensors[f"{weight}.lora_B.weight"] @ tensors[f"{weight}.lora_A.weight"]
    expected = plain[f"{weight}.weight"] + ALPHA / RANK * product
    assert torch.allclose(merged[f"{weight}.weight"], expected, atol=1e-6)
    assert changed(plain, merged) == {
        f"language.layers.{n}.{part}.weight"
        for n in range(3)
        for part in ("attention.qkv", "attention.out", "mlp.gate_up", "mlp.down")
    }
    twin = save_authors_twin(tiny, tmp_path / "twin")
    assert not changed(merged, buffers(twin, "fp32", adapter))
    quantize(tiny, tmp_path / "ours", "bf16")
    ours = buffers(tmp_path / "ours", "fp32", adapter)
    name = f"{weight}.weight"
    assert torch.allclose(ours[name], expected, atol=0.02) and not torch.equal(ours[name], expected)


def quantize(path, folder, name, adapter=None):
    for _ in quantize_checkpoint(path, folder, name, device=CPU, adapter=adapter):
        pass


@pytest.mark.parametrize("name", ["bf16", "int8", "int4"])
def test_every_precision_holds_the_merged_weights(name, embedded_adapter, tmp_path):
    """What a checkpoint of the merged weights would hold, and what a quantized copy does."""
    path = find_model("embedded")
    engine = opened(path, embedded_adapter)
    save_checkpoint(engine.model, engine.writer, tmp_path / "merged", dtype=torch.float32)
    loaded = buffers(path, name, embedded_adapter)
    assert not changed(loaded, buffers(tmp_path / "merged", name))
    quantize(path, tmp_path / "copy", name, str(embedded_adapter))
    assert not changed(loaded, buffers(tmp_path / "copy", name))
    assert json.loads((tmp_path / "copy" / "config.json").read_text())["made_from"] == (
        "embedded+teal"
    )
    opened(path, embedded_adapter, name)  # also as the machine arranges it


def test_the_decoder_of_a_flow_takes_one_too(tmp_path):
    base = save_flow_checkpoint(tmp_path / "flow", vae=False)
    adapter = write_adapter(tmp_path / "teal", base)
    moved = changed(buffers(base, "fp32"), buffers(base, "fp32", adapter))
    assert moved and all(name.startswith("language.layers.") for name in moved)
    other = write_adapter(tmp_path / "other", find_model("embedded"), "aligners")
    with pytest.raises(ModelError, match="has unknown tensor aligner"):
        opened(base, other)


def test_another_model_of_the_same_sizes_is_remarked_upon(adapter, tiny, tmp_path):
    assert opened(tiny, adapter).notes == ()
    twin = shutil.copytree(tiny, tmp_path / "twin")
    assert opened(twin, adapter).notes == ("adapter teal was trained on tiny, not on twin",)


def test_a_worker_of_a_cluster_takes_one(tiny, adapter):
    worker = Worker()
    assert worker.load(tiny, ModelChoice(device="cpu", adapter=str(adapter)), False) == ()
    assert worker.engine.name == "tiny+teal"
    worker.engine.close()


# What is refused


def drop(tensors):
    del tensors["language.layers.2.mlp.down.lora_B.weight"]


def add(tensors):
    tensors["language.layers.3.mlp.down.lora_B.weight"] = torch.ones(1)


def bend(tensors):
    tensors["language.layers.0.mlp.down.lora_A.weight"] = torch.ones(RANK, 9)


def blur(tensors):
    tensors["language.layers.0.mlp.down.lora_A.weight"][0, 0] = torch.nan


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (drop, "lacks tensor language.layers.2.mlp.down.lora_B.weight"),
        (add, "has unknown tensor language.layers.3.mlp.down.lora_B.weight"),
        (bend, "tensor language.layers.0.mlp.down.lora_A.weight has shape"),
        (blur, "tensor language.layers.0.mlp.down.lora_A.weight holds what is no number"),
    ],
)
def test_damaged_tensors_are_named(damage, named, adapter, tiny):
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    damage(tensors)
    save_file(tensors, file)
    with pytest.raises(ModelError) as refused:
        opened(tiny, adapter)
    assert named in str(refused.value) and str(file) in str(refused.value)


def sizes(rank, alpha):
    start = '{"format": 1, "kind": "lora", "base_model_name_or_path": "tiny"'
    return f'{start}, "r": {rank}, "lora_alpha": {alpha}}}'


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("adapter_model.safetensors", None, "is missing"),
        ("adapter_model.safetensors", "no tensors", "damaged"),
        ("adapter_config.json", None, "cannot be read"),
        ("adapter_config.json", "{", "cannot be read"),
        ("adapter_config.json", '{"peft_type": "LORA"}', "was not written by janus train"),
        ("adapter_config.json", '{"format": 1, "kind": "lora"}', "is damaged"),
        ("adapter_config.json", sizes("Infinity", 2), "is damaged"),
        ("adapter_config.json", sizes(10**400, 2), "is damaged"),
        ("adapter_config.json", sizes(2, "NaN"), "is damaged"),
    ],
)
def test_damaged_files_are_named(file, content, named, adapter, tiny):
    (adapter / file).unlink()
    if content is not None:
        (adapter / file).write_text(content)
    with pytest.raises(ModelError) as refused:
        opened(tiny, adapter)
    assert named in str(refused.value) and str(adapter / file) in str(refused.value)


def test_the_adapter_of_a_wider_model_is_refused(embedded_adapter, tiny):
    with pytest.raises(ModelError, match=r"language\.layers\.3.*belongs to the model"):
        opened(tiny, embedded_adapter)


def test_full_weights_are_asked_for(embedded_adapter, tmp_path):
    quantize(find_model("embedded"), tmp_path / "int8", "int8")
    with pytest.raises(ModelError, match=r"janus quantize \S+ --adapter teal --precision int8"):
        opened(tmp_path / "int8", embedded_adapter, "auto")


# The program


@pytest.fixture
def shelf(environment, embedded_adapter):
    """A weights folder with the adapter `teal` of the embedded model."""
    place = Path(environment["JANUS_WEIGHTS"])
    place.mkdir()
    shutil.copytree(embedded_adapter, place / "teal")
    return place


def test_an_adapter_answers_on_its_own_model(embedded_adapter, folder):
    shutil.copytree(embedded_adapter, folder / "mine")
    choice = ModelOptions(adapter="mine").choice()
    assert (choice.model, choice.adapter) == (str(find_model("embedded")), str(folder / "mine"))
    choice = ModelOptions(model="another", adapter="mine").choice()
    assert (choice.model, choice.adapter) == ("another", str(folder / "mine"))


def test_models_lists_adapters_and_rm_removes_them(janus, shelf):
    (shelf / "broken").mkdir()
    (shelf / "broken" / "adapter_config.json").write_text("{}")
    records = [json.loads(line) for line in janus("models", "--json").out.splitlines()]
    assert records[0]["name"] == "embedded"
    broken, teal = records[1:]
    assert teal["adapter"] == "teal" and teal["base"] == str(find_model("embedded"))
    assert (teal["kind"], teal["rank"]) == ("lora", RANK)
    assert broken["adapter"] == "broken" and "adapter_config.json" in broken["error"]
    assert janus("rm", "broken", "--yes").code == 0
    (shelf / "begun" / "training").mkdir(parents=True)
    (shelf / "begun" / "training" / "state.pt").touch()
    ended = janus("ask", "--model", "begun", "-q", "what?", "a.png")
    assert ended.code == 3 and f"janus train --resume -o {shelf / 'begun'}" in ended.err
    assert janus("rm", "begun", "--yes").code == 0
    assert [place.name for place in shelf.iterdir()] == ["teal"]


@pytest.mark.parametrize(
    ("args", "code", "named"),
    [
        (("--adapter", "gold"), 3, "adapter gold: not found"),
        (("--adapter", "embedded"), 3, "give it with --model"),
        (("--model", "teal"), 3, "give it with --adapter"),
        (("--adapter", "teal", "--backend", "transformers"), 2, "leave --backend"),
    ],
)
def test_what_cannot_be_is_one_line(args, code, named, janus, shelf):
    ended = janus(*ASK, *args)
    assert (ended.code, ended.out) == (code, "") and named in ended.err
    assert ended.err.count("\n") == 1


def test_a_quantized_copy_is_called_after_both(shelf, environment, monkeypatch, capsys):
    monkeypatch.setenv("JANUS_WEIGHTS", environment["JANUS_WEIGHTS"])
    assert model_commands.quantize("embedded", "int8", adapter="teal") == 0
    assert capsys.readouterr().out.strip() == str(shelf / "embedded+teal-int8")
    with ExitStack() as stack:
        assert open_checkpoint(shelf / "embedded+teal-int8", stack).precision == "int8"


def test_the_table_of_models_ends_with_the_adapters(shelf, environment, monkeypatch, capsys):
    monkeypatch.setenv("JANUS_WEIGHTS", environment["JANUS_WEIGHTS"])
    assert model_commands.models() == 0
    *_, row, place = capsys.readouterr().out.splitlines()
    assert row.split()[0] == "teal" and "lora" in row and place.strip() == str(shelf / "teal")


# Warm models


def test_what_fits():
    here = Path("/models/a")
    named = ("s", 1, client.__version__, "/models/a", "a", "cpu", "fp32", "auto", False, None, 0.0)
    plain, teal = client.Warm(*named, 0), client.Warm(*named, 0, "/adapters/teal")
    for warm, adapter in ((plain, None), (teal, "/adapters/teal")):
        assert warm.fits(ModelChoice("a", adapter=adapter), here)
    for warm, adapter in ((plain, "/adapters/teal"), (teal, None), (teal, "/adapters/gold")):
        assert not warm.fits(ModelChoice("a", adapter=adapter), here)


@pytest.mark.parametrize("file", ["model/config.json", "teal/adapter_model.safetensors"])
def test_what_was_trained_again_is_not_answered_by_the_former(file, folder):
    for name in ("model/config.json", "teal/adapter_model.safetensors"):
        (folder / name).parent.mkdir()
        (folder / name).touch()
    model, teal = str(folder / "model"), str(folder / "teal")
    loaded = time.time() + 60
    named = ("s", 1, client.__version__, model, "a", "cpu", "fp32", "auto", False, None, loaded)
    warm = client.Warm(*named, 0, teal)
    assert warm.fits(ModelChoice(model, adapter=teal), folder / "model")
    os.utime(folder / file, (loaded + 1, loaded + 1))
    assert not warm.fits(ModelChoice(model, adapter=teal), folder / "model")


def test_a_warm_model_answers_whoever_wants_its_adapter(
    environment,
    shelf,
    janus,
    sockets,  # noqa: F811
):
    first = json.loads(janus(*ASK, "--adapter", "teal", env={"JANUS_KEEP_ALIVE": "1m"}).out)
    assert first["model"] == "embedded+teal"
    assert json.loads(janus("ps", "--json").out)["adapter"] == str(shelf / "teal")
    assert json.loads(janus(*ASK, "--adapter", "teal").out) == {**first, "seconds": ANY}
    code, modules = loaded_by(*ASK, "--adapter", "teal", environment=environment)
    assert code == 0 and not modules & {"torch", "peft", "safetensors"}
    plain = json.loads(janus(*ASK, "-m", "embedded").out)
    assert plain["model"] == "embedded" and plain["text"] != first["text"]
    (warm,) = client.every()
    assert (warm.adapter, warm.name) == (str(shelf / "teal"), "embedded+teal")


# What it is for


def test_a_color_is_learned_and_the_others_are_kept(folder):
    lines = []
    shown = [*colored(TRAINING_SEEDS, 40, new=True), *colored(2 * TRAINING_SEEDS, 40, new=False)]
    for number, (picture, question, truth) in enumerate(shown):
        Image.fromarray(picture).save(f"{number}.png")
        lines.append({"image": f"{number}.png", "question": question, "answer": truth})
    Path("data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    learn(data=("data.jsonl",), output="teal", adapter="lora", rank=8, seed=1, steps=144)
    new, old = list(colored(0, 12, new=True)), list(colored(1000, 12, new=False))
    before, after = open_taught(), open_taught(folder / "teal")
    assert right(before, new) == 0 and right(after, new) >= 9
    assert right(after, old) >= 6  # forty pictures keep less than the endless world does


def colored(first, count, *, new):
    """Pictures of one thing each, of seeds from `first` on, with the question of its color."""
    scenes = (sample_scene(first + number, max_things=1, text_share=0) for number in range(999))
    for scene in [scene for scene in scenes if scene.things[0].color][:count]:
        kind, color = scene.things[0].kind, scene.things[0].color
        if new:
            yield (
                lesson(scene, color, random.Random(0)).picture,
                f"what color is the {kind}?",
                COLOR,
            )
        else:
            yield render(scene), f"what color is the {kind}?", color


def learn(**options):
    settings = {"steps": 48, "batch": 3, "length": 256, "rate": 5e-3, "fall": 0.5, "workers": 0}
    ready, _ = open_run(TrainRequest(model="embedded", device="cpu", **settings | options))
    for _ in ready.go():
        pass
    ready.finish()


def right(engine, cases):
    asked = ((picture, [question]) for picture, question, _ in cases)
    said = answer(engine, asked, "", len(cases))
    return sum(one == truth for [one], (*_, truth) in zip(said, cases, strict=True))
