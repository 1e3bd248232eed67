"""The evaluation as it is run: the embedded model's table, in a process of its own."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from janus_cli import imagine, understand, weights
from janus_cli.engine.decode import NativeCodes, Sampling
from janus_cli.engine.kv_cache import Cache
from janus_cli.engine.load import open_engine
from janus_cli.schema import Answer, ImagineRequest, ModelChoice, Picture, UnderstandRequest, Wish
from janus_cli.train.evaluate.__main__ import judge_drawings, main
from janus_cli.train.evaluate.drawings import draw, sample_order
from janus_cli.train.evaluate.exams import ANSWER_TOKENS, answer
from janus_cli.train.evaluate.likelihood import code_loss
from janus_cli.train.world.render import render
from janus_cli.train.world.scene import Scene, sample_scene
from tests.scripted_model import ScriptedModel
from tests.tiny_janus import tiny_janus


@pytest.fixture
def evaluate(environment):
    def run(*args: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "janus_cli.train.evaluate", *args]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    return run


def test_the_table_has_every_bar_and_a_column_for_each_precision(evaluate, folder):
    few = ("--cases", "2", "--drawings", "0", "--losses", "1", "--no-costs")
    ended = evaluate("--precision", "fp32", "int8", *few, "--json", "table.json")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == "| measure | bar | cases | fp32 | int8 |"
    bars = {line.split(" | ")[0]: line.split(" | ")[1] for line in lines[2:] if line[:1] == "|"}
    assert bars["| number"] == "at least 95 %"
    assert bars["| reading, characters"] == "at least 96 %"
    assert "nseen font" in lines[-1] or "No font" in lines[-1]
    report = json.loads((folder / "table.json").read_text())
    rows = {row["measure"]: row for row in report["precisions"]["int8"]}
    assert rows["background"]["cases"] == 2
    assert 0 < rows["loss per code, right caption"]["value"] < 7


def test_drawings_are_compared_with_those_without_guidance():
    """Right where there is guidance, and the pictures are asked about."""

    def draw(prompt: str, seed: int, guidance: float) -> np.ndarray:
        things = sample_order(seed).scene.things if guidance > 1 else ()
        thing = [replace(thing, x=190, y=190, size=80) for thing in things[:1]]
        return render(Scene("white", tuple(thing), (), seed))

    engine = ScriptedModel(lambda picture, question: "yes", draw)
    rows = {row.measure: row for row in judge_drawings(engine, 6, Sampling(guidance=5), 3)}
    assert rows["drawn: single object"].value == rows["drawn: colors"].value == 1
    assert rows["drawn: overall"].value == pytest.approx(2 / 6)
    assert rows["drawn: overall, guidance 1"].value == 0
    assert rows["drawn: overall, gained by guidance"].value == pytest.approx(2 / 6)
    assert rows["agreement: all, by picture"].cases == 6
    assert (rows["drawn: overall"].bar, rows["drawn: overall, guidance 1"].bar) == (80, None)


@pytest.fixture(scope="module")
def tiny() -> NativeCodes:
    made = tiny_janus()
    return NativeCodes(made.model, made.writer, made.preprocessing, name="tiny", precision="fp32")


def test_pictures_are_those_of_the_program(tiny):
    request = ImagineRequest((Wish("a red star", seed=3), Wish("two corgis", seed=4)))
    wanted = [e.pixels for e in imagine.run(request, tiny) if isinstance(e, Picture)]
    found = draw(tiny, ["a red star", "two corgis"], [3, 4], Sampling())
    assert [picture.tobytes() for picture in found] == wanted


def test_answers_are_those_of_the_program(tiny, folder):
    pictures = [render(sample_scene(seed)) for seed in (3, 4)]
    questions = ("what is this?", "how many stars?")
    for name, picture in zip("ab", pictures, strict=True):
        Image.fromarray(picture).save(f"{name}.png")
    request = UnderstandRequest(("a.png", "b.png"), questions, max_tokens=ANSWER_TOKENS)
    wanted = [e.text for e in understand.run(request, tiny) if isinstance(e, Answer)]
    said = answer(tiny, [(picture, questions) for picture in pictures], "", 2)
    assert [text for texts in said for text in texts] == [text.strip() for text in wanted]


def test_a_model_that_is_not_there_is_named_in_one_line():
    with pytest.raises(SystemExit) as ended:
        main(["--model", "./nowhere"])
    (line,) = str(ended.value).splitlines()
    assert "nowhere" in line


def test_a_loss_is_what_the_steps_of_drawing_say():
    place = weights.find_model("embedded")
    engine = open_engine(place, ModelChoice(device="cpu", precision="fp32"))
    model = engine.model
    ids = engine.writer.drawing("a red star")
    codes = torch.arange(40)[None] * 7 % model.config.vq.codes
    with torch.inference_mode():
        cache = Cache(model.config.language, 1, 80, dtype=model.dtype, device=model.device)
        state = model.language.prefill(model.embed_text(torch.tensor([ids])), cache, [0])
        losses = []
        for code in codes[0]:
            losses.append(F.cross_entropy(model.image_logits(state), code[None]))
            state = model.language.step(model.embed_codes(code[None]), cache)
        torch.testing.assert_close(code_loss(model, ids, codes), torch.stack(losses).mean())
