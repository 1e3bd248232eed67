"""The embedded model through the real program: what a newcomer sees after a clone."""

import json

import pytest
import torch
from PIL import Image

from janus_cli import weights
from janus_cli.engine.load import open_engine
from janus_cli.schema import ModelChoice
from janus_cli.train.world.render import render
from janus_cli.train.world.scene import Scene, Thing
from tests.engines import answer

EXAMPLES = weights.find_model("embedded") / "examples"
SIZE_LIMIT = 20 * 2**20


def picture(tmp_path, scene: Scene) -> str:
    path = tmp_path / "picture.png"
    Image.fromarray(render(scene)).save(path)
    return str(path)


def test_it_is_small_and_complete():
    place = weights.find_model("embedded")
    files = {file.name for file in place.iterdir() if file.is_file()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "LICENSE"} <= files
    assert sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) <= SIZE_LIMIT


def test_the_first_question_of_the_readme(janus):
    answered = janus("ask", str(EXAMPLES / "penguins.png"), "how many penguins?")
    assert (answered.code, answered.out, answered.err) == (0, "3\n", "")


@pytest.mark.parametrize("background", ["white", "black", "brown"])
def test_it_sees_the_background(janus, tmp_path, background):
    scene = Scene(background, (Thing("circle", "red", 190, 200, 90, 0.0),), (), 5)
    path = picture(tmp_path, scene)
    assert janus("ask", path, "what is the background?").out == f"{background}\n"


def test_what_it_says_depends_on_the_picture(janus, tmp_path):
    scene = Scene("white", (Thing("square", "blue", 190, 200, 90, 0.0),), (), 6)
    path = picture(tmp_path, scene)
    described = json.loads(janus("describe", path, "--json").out)
    assert "blue" in described["text"]
    assert described["model"] == "embedded"
    assert described["tokens"] > 0


def test_a_drawing_carries_its_prompt_and_repeats(janus, folder):
    drawn = janus("imagine", "nebula corgi", "-n", "2", "--seed", "7", "--json")
    assert drawn.code == 0
    records = [json.loads(line) for line in drawn.out.splitlines()]
    assert [(r["path"], r["seed"]) for r in records] == [
        ("nebula-corgi-7.png", 7),
        ("nebula-corgi-8.png", 8),
    ]
    again = janus("imagine", "nebula corgi", "--seed", "8", "-o", "again.png")
    assert again.out == "again.png\n"
    first, second = (Image.open(folder / name) for name in ("nebula-corgi-8.png", "again.png"))
    assert first.size == (384, 384)
    assert first.tobytes() == second.tobytes()
    told = json.loads(janus("info", "again.png", "--json").out)
    assert told["prompt"] == "nebula corgi"
    assert told["seed"] == 8


def test_transformers_gives_the_same_answers():
    """The embedded checkpoint is a real one: transformers loads it and answers alike."""
    place = weights.find_model("embedded")
    choice = {"device": "cpu", "precision": "fp32"}
    ours = open_engine(place, ModelChoice(**choice))
    reference = open_engine(place, ModelChoice(**choice, backend="transformers"))
    with Image.open(EXAMPLES / "shapes.png") as image:
        pixels = ours.preprocessing.fit(image.convert("RGB"))[None]
    ids = ours.writer.conversation(1, [], "Describe the image in detail.")
    answers = [answer(engine, ids, pixels, max_tokens=40) for engine in (ours, reference)]
    assert answers[0] == answers[1]
    codes = torch.arange(ours.image_tokens)[None] % ours.model.config.vq.codes
    painted = [engine.paint(codes).int() for engine in (ours, reference)]
    assert (painted[0] - painted[1]).abs().max() <= 1
