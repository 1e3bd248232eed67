"""The checker sees what a picture shows, blurred too, and every measure can fail."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from janus_cli.train.evaluate.exams import EXAMS, pose, read_groups
from janus_cli.train.evaluate.scores import edit_distance, gain, mean, share, spent, table, wilson
from janus_cli.train.world.captions import describe
from janus_cli.train.world.checker import UNCLEAR, look, matches
from janus_cli.train.world.render import render
from janus_cli.train.world.scene import BACKGROUNDS, PICTOGRAMS, Scene, Thing, groups, sample_scene

STILL_LIFE = Scene(
    "gray",
    (
        Thing("star", "red", 200, 200, 80, 5.0),
        Thing("ring", "purple", 90, 90, 60, 0.0),
        Thing("corgi", None, 300, 90, 90, -6.0),
        Thing("penguin", None, 300, 300, 70, 8.0),
    ),
    (),
    7,
)


def blurred(pixels, radius=2):
    return np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def squeezed(pixels, quality=30):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


@pytest.mark.parametrize("spoil", [lambda pixels: pixels, blurred, squeezed])
def test_the_scene_is_seen(spoil):
    for scene in (STILL_LIFE, sample_scene(3, text_share=0)):
        seen = look(spoil(render(scene)))
        assert seen.background == scene.background
        assert matches(scene, seen)
        assert matches(scene, seen, colors=False)
        places = sorted((thing.x, thing.y) for thing in scene.things)
        for place, found in zip(places, sorted((t.x, t.y) for t in seen.things), strict=True):
            assert math.dist(place, found) < 9


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_pictograms_are_whole_on_every_background(background):
    things = tuple(
        Thing(kind, None, 110 + 150 * i, 190, 60, 4.0) for i, kind in enumerate(PICTOGRAMS)
    )
    scene = Scene(background, things, (), 5)
    seen = look(blurred(render(scene), 1))
    assert seen.background == background
    assert matches(scene, seen)


def test_every_mistake_is_told():
    star, ring, *others = STILL_LIFE.things
    seen = look(render(STILL_LIFE))
    one_less = replace(STILL_LIFE, things=(star, *others))
    one_more = replace(STILL_LIFE, things=(*STILL_LIFE.things, replace(star, x=90, y=300)))
    recolored = replace(STILL_LIFE, things=(replace(star, color="blue"), ring, *others))
    swapped = replace(
        STILL_LIFE,
        things=(replace(star, color="purple"), replace(ring, color="red"), *others),
    )
    reshaped = replace(STILL_LIFE, things=(replace(star, kind="heart"), ring, *others))
    for wrong in (one_less, one_more, reshaped):
        assert not matches(wrong, seen, colors=False)
        assert not matches(STILL_LIFE, look(render(wrong)), colors=False)
    for wrong in (recolored, swapped):
        assert matches(wrong, seen, colors=False)
        assert not matches(wrong, seen)
    assert look(render(replace(STILL_LIFE, background="brown"))).background == "brown"


def test_what_is_nothing_is_not_seen_as_something():
    pixels = render(Scene("white", (), (), 7))
    assert look(pixels).things == ()
    pixels[100:180, 60:68] = pixels[140:148, 60:200] = (200, 40, 90)  # a T is no shape
    assert [thing.kind for thing in look(pixels).things] == [UNCLEAR]
    assert look(np.full_like(pixels, (240, 0, 240))).background == UNCLEAR
    assert look(render(Scene("nebula", (), (), 3))).things == ()


def test_descriptions_are_read_back():
    for seed in range(200):
        scene = sample_scene(seed, text_share=0)
        assert read_groups(describe(scene, "normal")) == frozenset(groups(scene))
    assert read_groups("a corgi and two red stars on a black background") == {
        (1, None, "corgi"),
        (2, "red", "star"),
    }
    for bad in ("", "a", "red", "a red star and a red star", "the text HI in red", "a corgi and"):
        assert read_groups(bad) is None


def test_exams_ask_one_question_of_their_sort_for_a_scene():
    for exam in EXAMS:
        posed = list(pose(exam, 12))
        assert len(posed) == len({scene.seed for scene, _ in posed}) == 12
        assert posed == list(pose(exam, 12))
        if exam.asker == "presence":
            assert sorted(answer for _, (_, answer) in posed) == ["no"] * 6 + ["yes"] * 6
        if exam.measure == "text color":
            assert all(answer == scene.texts[0].color for scene, (_, answer) in posed)
        if exam.measure == "reading, whole string":
            assert all(answer == scene.texts[0].string for scene, (_, answer) in posed)


def test_intervals():
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0.5, 500) == pytest.approx((0.4563, 0.5437), abs=1e-4)
    row = share("color", [True] * 8 + [False] * 2, bar=85)
    assert (row.figure, row.goal, row.reached) == ("80.0 % (49.0 to 94.3)", "at least 85 %", False)
    assert mean("loss", [1.0, 3.0]).figure == "2.000 nats (0.614 to 3.386)"
    took = spent("time", [2.0, 0.5, 1.0], bar=1)
    assert (took.figure, took.goal, took.reached) == (
        "1.000 s (0.500 to 2.000)",
        "at most 1 s",
        True,
    )


def test_a_gain_is_as_unsure_as_both_shares():
    one, other = (
        share("one", [True] * 56 + [False] * 14),
        share("other", [True] * 48 + [False] * 32),
    )
    more = gain("more", one, other, bar=10)
    assert more.value == pytest.approx(0.2)
    assert (more.low, more.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)  # Newcombe's example
    assert more.reached


def test_a_table_has_a_column_for_every_report():
    half, all_of = share("color", [True, False], bar=98), share("color", [True] * 3, bar=98)
    lines = table({"fp32": [half], "int8": [all_of, share("size", [True])]}).splitlines()
    assert lines[0] == "| measure | bar | cases | fp32 | int8 |"
    assert lines[2] == f"| color | at least 98 % | 2, 3 | {half.figure} | {all_of.figure} |"
    assert lines[3].startswith("| size |  | 1 |  | 100.0 %")


def test_edit_distance():
    assert edit_distance("KITTEN", "SITTING") == 3
    assert edit_distance("", "ABC") == edit_distance("ABC", "") == 3
    assert edit_distance("SAME", "SAME") == 0
