"""`janus train` as its users run it: own data in, a model that answers out, and every refusal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from janus_cli.engine.load import open_engine
from janus_cli.engine.prompt import JANUS
from janus_cli.engine.quantize import quantize_checkpoint
from janus_cli.errors import JanusError, ModelError, OutputError, UsageError
from janus_cli.schema import ModelChoice
from janus_cli.train import result, run
from janus_cli.train.curves import draw_curves, smoothed
from janus_cli.train.request import TrainRequest
from janus_cli.weights import find_model
from tests.lessons import write_picture
from tests.test_imports import HEAVY, loaded_by
from tests.tiny_janus import save_tiny_janus


def write_data(*more: str) -> None:
    for color in ("red", "blue"):
        write_picture(Path(f"data/{color}.png"), color)
    lines = [
        {"image": f"{color}.png", "question": "what color?", "answer": color}
        for color in ("red", "blue")
    ]
    lines += [{"image": "red.png", "caption": "a red picture"}, {"text": "red is a color"}]
    Path("data/all.jsonl").write_text("\n".join([*map(json.dumps, lines), *more]))


@pytest.fixture
def tiny(folder) -> str:
    return str(save_tiny_janus(folder / "tiny"))


def options(**others) -> TrainRequest:
    values = {"data": ("data",), "output": "out", "model": "tiny", "steps": 2, "device": "cpu"}
    return TrainRequest(**(values | {"batch": 3, "workers": 0} | others))


def go(request: TrainRequest) -> run.Run:
    ready, _ = run.open_run(request)
    for _ in ready.go():
        pass
    ready.finish()
    return ready


# The program


def test_own_data_trains_a_model_that_answers(janus):
    write_data('{"image": "gone.png", "question": "what?", "answer": "that"}', "broken")
    flags = ("--steps", "3", "--batch", "2", "--rate", "1e-3", "--workers", "0", "-o", "out")
    ended = janus("train", "data", *flags)
    assert (ended.code, ended.out) == (4, "out\n")
    *named, count = ended.err.splitlines()
    assert named[0].startswith("janus: data/all.jsonl:6: is no JSON")
    assert named[1].startswith("janus: data/all.jsonl:5: data/gone.png")
    assert count == "janus: 2 lines or pictures were left out"
    lines = Path("out/training/losses.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records] == [1, 2, 3]
    assert Path("out/training/losses.png").read_bytes().startswith(b"\x89PNG")
    assert records[0]["rate"] == 1e-3
    answered = janus("ask", "--model", "out", "data/red.png", "what is it?", "--json")
    assert answered.code == 0 and json.loads(answered.out)["model"] == "out"


STOPPED = """
import multiprocessing, os, signal, sys
from janus_cli.__main__ import main
from janus_cli.train.loop import Trainer
number, step = int(sys.argv.pop(1)), Trainer.step
def stopping(self, passes):
    record = step(self, passes)
    if record.step == 3 and number:
        os.killpg(0, number)
    if record.step == 3 and not number:
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
    return record
Trainer.step = stopping
sys.exit(main())
"""


def stopped(number: int, environment) -> subprocess.CompletedProcess:
    """A run that gets a signal in the middle of a step; with 0, its readers are killed."""
    flags = ("train", "data", "--model", "tiny", "--steps", "5", "--batch", "3", "--device", "cpu")
    return subprocess.run(
        [sys.executable, "-c", STOPPED, str(int(number)), *flags, "-o", "out"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        start_new_session=True,  # for the signal reaches the whole group, as that of a terminal
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_run_that_was_stopped_goes_on_to_the_same_result(number, environment, tiny):
    """A signal in the middle of a step; a process reads ahead meanwhile, and ends quietly."""
    write_data()
    ended = stopped(number, environment)
    assert ended.returncode == 128 + number
    assert ended.stderr == ("janus: interrupted\n" if number == signal.SIGINT else "")
    assert ended.stdout == "" and not Path("out/config.json").exists()
    assert len(Path("out/training/losses.jsonl").read_text().splitlines()) == 3
    go(options(output="out", steps=5, resume=True))
    go(options(output="unbroken", steps=5))
    files = [Path(name, "model.safetensors").read_bytes() for name in ("out", "unbroken")]
    assert files[0] == files[1] != Path("tiny/model.safetensors").read_bytes()


def test_a_reader_that_was_killed_is_one_line(environment, tiny):
    write_data()
    ended = stopped(0, environment)
    assert ended.returncode == 3 and ended.stderr.count("\n") == 1
    assert "a process that reads the data was ended from outside" in ended.stderr
    assert Path("out/training/state.pt").is_file()


# The request


def test_what_is_written_is_the_model_that_was_trained(tiny):
    write_data()
    ready = go(options())
    loaded = open_engine(Path("out"), ModelChoice(None, "cpu", "fp32")).model
    trained = dict(ready.pupil.model.named_parameters())
    assert all(torch.equal(p, trained[name]) for name, p in loaded.named_parameters())


def test_the_roles_of_an_old_janus_are_kept(folder):
    from benchmarks.make_checkpoint import make_checkpoint

    write_data()
    make_checkpoint("janus-1.3b", folder / "old", tiny=True)
    go(options(model="old", steps=1, mixture="0:1:0"))
    assert open_engine(Path("out"), ModelChoice(device="cpu")).writer.roles == JANUS


def test_a_seed_makes_other_lessons_and_the_same_one_the_same(tiny):
    write_data()
    for name, seed in (("one", 1), ("two", 2), ("again", 1)):
        go(options(output=name, seed=seed))
    one, two, again = (Path(n, "model.safetensors").read_bytes() for n in ("one", "two", "again"))
    assert one == again != two


def test_the_mixture_keeps_to_what_the_data_has(tiny):
    write_data()
    ready, _ = run.open_run(options())
    assert str(ready.course.mixture) == "5:1:4" and ready.notes == []
    Path("data/all.jsonl").write_text(json.dumps({"text": "red"}))
    ready, _ = run.open_run(options())
    assert str(ready.course.mixture) == "0:1:0"
    assert ready.notes == ["the data has no other kinds, so they are mixed 0:1:0, not 5:1:4"]


def test_adapters_train_what_they_say(tiny):
    write_data()
    ready = go(options(adapter="aligners"))
    assert {name.partition(".")[0] for name in ready.trainer.trained} == {
        "aligner",
        "generation_aligner",
    }
    assert (Path("out") / "adapter_config.json").is_file()
    assert not (Path("out") / "config.json").exists()


def test_low_rank_products_are_resumed_to_the_same_result(tiny):
    pytest.importorskip("peft")
    write_data()
    request = {"adapter": "lora", "rank": 2}
    go(options(output="unbroken", **request, steps=4))
    go(options(**request))
    go(options(**request, steps=4, resume=True))
    files = [Path(name, "adapter_model.safetensors").read_bytes() for name in ("out", "unbroken")]
    assert files[0] == files[1]


def test_tensorboard_gets_the_losses(tiny):
    pytest.importorskip("tensorboard")
    write_data()
    go(options(tensorboard=True))
    (events,) = Path("out/training").glob("events.*")
    assert b"words" in events.read_bytes() and b"codes" in events.read_bytes()


def test_the_curves_show_every_loss():
    nothing = draw_curves({"words": [], "codes": []})
    falling = [(step, 3.0 - step / 1000) for step in range(1, 1001)]
    one = draw_curves({"words": falling, "codes": []})
    both = draw_curves({"words": falling, "codes": [(1, 1.0)]})
    assert len({nothing, one, both}) == 3
    assert len(smoothed(falling)) == 200
    assert smoothed(falling)[0] == (3.0, pytest.approx(2.997))


def test_help_loads_no_network(environment):
    code, modules = loaded_by("train", "--help", environment=environment)
    assert code == 0 and not modules & HEAVY


# Refusals


def refused(kind: type[JanusError], match: str, **others) -> None:
    with pytest.raises(kind, match=match):
        run.open_run(options(**others))


def test_what_does_not_go_together_is_refused(tiny):
    write_data()
    refused(UsageError, "DATA: only the embedded model learns from the picture world", data=())
    refused(UsageError, "--mixture 5:1: say three parts", mixture="5:1")
    refused(UsageError, "--length 80: must be more than 187", length=80)
    refused(UsageError, "the model's context", length=10**6)
    Path("data/all.jsonl").write_text(json.dumps({"text": "red"}))
    refused(UsageError, "the data has nothing for understanding", mixture="1:1:0")
    refused(UsageError, "--stage 1: learns from understanding and generation", stage="1")
    alone = {"mixture": "0:1:0"}
    refused(UsageError, "--stage 1: trains what stands between", stage="1", **alone)
    refused(UsageError, "--aligners: trains what stands between", adapter="aligners", **alone)


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--steps", {"steps": None}),
        ("--steps", {"steps": 0}),
        ("--minutes", {"minutes": 0.0}),
        ("--stage", {"stage": "4"}),
        ("--batch", {"batch": 0}),
        ("--accumulate", {"accumulate": 0}),
        ("--rate", {"rate": 0.0}),
        ("--rate", {"rate": 1.1}),
        ("--minutes", {"minutes": 1e7}),
        ("--fall", {"fall": 1.5}),
        ("--precision", {"precision": "int8"}),
        ("--rank: is that of --lora", {"rank": 4}),
        ("--rank: is that of --lora", {"rank": 4, "adapter": "aligners"}),
        ("--resume, --force", {"resume": True, "force": True}),
    ],
)
def test_a_wrong_flag_is_named(flag, values):
    with pytest.raises(UsageError, match=f"^{flag}"):
        options(**values)


def test_a_quantized_checkpoint_is_refused():
    model, device = find_model("embedded"), torch.device("cpu")
    list(quantize_checkpoint(model, Path("small"), "int8", device=device))
    refused(ModelError, "small: was quantized to int8; train the checkpoint", model="small")
    assert not Path("out").exists()


def test_a_janusflow_is_refused(folder):
    from tests.flow_checkpoints import save_flow_checkpoint

    save_flow_checkpoint(folder / "flow", vae=False)
    refused(UsageError, "--model flow: a JanusFlow is not trained here", model="flow")


def test_a_folder_that_exists_is_not_touched(tiny):
    write_data()
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    refused(OutputError, "out: exists; choose another -o, or replace it with --force")
    refused(OutputError, "out: holds no run to resume", resume=True)
    go(options(force=True))
    assert Path("out/mine.txt").read_text() == "mine"


def test_what_lay_there_of_another_model_is_gone(tiny):
    write_data()
    go(options(steps=1))
    Path("out/model.safetensors").rename("out/model-00001-of-00001.safetensors")
    Path("out/model.safetensors.index.json").write_text('{"weight_map": {}}')
    ready = go(options(force=True, steps=1))
    loaded = open_engine(Path("out"), ModelChoice(None, "cpu", "fp32")).model
    trained = dict(ready.pupil.model.named_parameters())
    assert all(torch.equal(p, trained[name]) for name, p in loaded.named_parameters())
    assert [file.name for file in Path("out").glob("*.safetensors")] == ["model.safetensors"]
    go(options(force=True, steps=1, adapter="aligners"))
    assert not Path("out/config.json").exists() and Path("out/adapter_config.json").is_file()


def test_where_nothing_can_be_written_nothing_is_begun(tiny, monkeypatch):
    write_data()
    Path("file").write_text("mine")
    for name in ("open_pupil", "open_sources"):
        monkeypatch.setattr(run, name, lambda *_: pytest.fail("too late"))
    refused(OutputError, "^file: is a file", output="file", force=True)
    refused(OutputError, "^file/out: cannot be written: Not a directory", output="file/out")
    assert Path("file").read_text() == "mine"


def test_the_model_to_begin_with_is_not_written_over(tiny):
    write_data()
    Path("link").symlink_to("tiny")
    for name in ("tiny", "link", str(find_model("embedded"))):
        refused(OutputError, "is the model to begin with", output=name, force=True)


def test_weights_that_cannot_be_written_name_their_folder(tiny, monkeypatch):
    write_data()
    ready, _ = run.open_run(options())

    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(result, "save_checkpoint", full)
    with pytest.raises(OutputError, match=r"^out: cannot be written .*No space left"):
        ready.finish()


def test_the_picture_world_among_the_data_is_a_fact(folder):
    write_data()
    request = {"model": None, "data": ("data", "world"), "steps": 1, "batch": 1}
    go(options(**request))
    for data in (("data",), ("world", "data")):
        refused(UsageError, "DATA: the run in out had", **request | {"data": data, "resume": True})


def test_another_run_is_not_resumed(tiny):
    write_data()
    go(options())
    refused(UsageError, "--batch: the run in out had 3, not 4", batch=4, resume=True)
    refused(UsageError, r"--rate: the run in out had 4e-05, not 0\.1", rate=0.1, resume=True)
    with open("data/all.jsonl", "a") as file:
        file.write("\n" + json.dumps({"text": "blue"}))
    refused(UsageError, "DATA: the run in out had", resume=True)
