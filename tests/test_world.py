"""The picture world: scenes are well formed, and what is said and labeled about them is true."""

import random
import re
from collections import Counter

import numpy as np
import pytest

from janus_cli.train.world import render as rendering
from janus_cli.train.world.captions import NUMBERS, caption, describe
from janus_cli.train.world.questions import NO_TEXT, corpus, neighbor, questions
from janus_cli.train.world.render import MOST, PALETTE, character_centers, patch_labels, render
from janus_cli.train.world.scene import (
    BACKGROUNDS,
    CELL,
    CHARACTERS,
    CLASSES,
    COLORS,
    GAP,
    KINDS,
    LARGEST,
    PICTOGRAMS,
    SIDE,
    SMALLEST,
    Scene,
    Text,
    Thing,
    count,
    groups,
    sample_crowd,
    sample_drawing,
    sample_scene,
    stand,
)
from janus_cli.train.world.style import DRAWN as UNVARIED
from janus_cli.understand import DESCRIBE_QUESTIONS, OCR_QUESTION

SCENES = [sample_scene(seed) for seed in range(600)]
OF_THINGS = [scene for scene in SCENES if scene.things]
OF_TEXT = [scene for scene in SCENES if scene.texts]
CROWDS = [sample_crowd(seed) for seed in range(60)]
GROUP = re.compile(
    rf"(?:(a|an|\d+|{'|'.join(NUMBERS)}) )?(?:nebula )?"
    rf"(?:({'|'.join(COLORS)}) )?({'|'.join((*KINDS, *PICTOGRAMS))})s?"
)
STILL_LIFE = Scene(
    "white",
    (Thing("star", "red", 190, 200, 60, 0.0), Thing("corgi", None, 60, 190, 60, 0.0)),
    (),
    7,
)


def all_pairs(number, scenes=SCENES):
    for index, scene in enumerate(scenes):
        for pair in questions(scene, random.Random(index), number):
            yield scene, pair


def read_back(words):
    """The groups a caption names, in the order of `groups`, and the background or None."""
    words = re.sub(r"^(a picture|an image) of ", "", words.replace("grey", "gray"))
    ground = re.search(rf"(?:,| on(?: a)?| in a) ({'|'.join(BACKGROUNDS)})( background)?$", words)
    if ground:
        words = words[: ground.start()]
    background = ground[1] if ground else "nebula" if "nebula" in words else None
    found = []
    for part in re.split(r", | and | (?:to the )?(?:left|right) of | above | below ", words):
        number, color, kind = GROUP.fullmatch(part).groups()
        if number in (None, "a", "an"):
            number = "1"
        found.append((NUMBERS.index(number) if number in NUMBERS else int(number), color, kind))
    return sorted(found, key=lambda group: (-group[0], CLASSES.index(group[1:]))), background


def test_same_seed_gives_same_scene_and_pixels():
    assert sample_scene(3) == SCENES[3]
    assert sample_crowd(3) == CROWDS[3]
    assert np.array_equal(render(sample_scene(3)), render(SCENES[3]))
    assert len(set(SCENES)) == len(SCENES)


@pytest.mark.parametrize("scene", SCENES[:200] + CROWDS, ids=lambda scene: "")
def test_everything_is_inside_and_apart(scene):
    items = [*scene.things, *scene.texts]
    for index, item in enumerate(items):
        left, top, right, bottom = item.box
        assert min(left, top) > 0
        assert max(right, bottom) < SIDE
        for other in items[:index]:
            before, over, after, under = other.box
            apart = max(before - right, left - after, over - bottom, top - under)
            assert apart >= GAP
    assert all(SMALLEST <= thing.size <= LARGEST for thing in scene.things)


def test_number_of_things_and_groups():
    totals = Counter(len(scene.things) for scene in OF_THINGS)
    assert set(totals) == {1, 2, 3, 4, 5, 6}
    assert max(totals.values()) < 2 * min(totals.values())
    assert {len(groups(scene)) for scene in OF_THINGS} == {1, 2, 3}
    assert 0.1 < len(OF_TEXT) / len(SCENES) < 0.2
    assert all(len(sample_scene(seed, max_things=2).things) <= 2 for seed in range(9))
    assert not any(sample_crowd(seed, strings=(0, 0)).texts for seed in range(9))
    assert {(t.color, t.kind) for s in SCENES + CROWDS for t in s.things} == set(CLASSES)


def test_drawings_keep_to_the_board_and_look_the_same_wherever_they_stand():
    drawings = [sample_drawing(seed) for seed in range(300)]
    for scene in drawings:
        cells = {(thing.x // CELL, thing.y // CELL) for thing in scene.things}
        assert len(cells) == len(scene.things)
        assert all(stand((t.color, t.kind), (t.x // CELL, t.y // CELL)) == t for t in scene.things)
    assert {len(scene.things) for scene in drawings} == {1, 2, 3, 4, 5, 6}
    assert {len(groups(scene)) for scene in drawings} == {1, 2}
    alone = [s for s in drawings if len(s.things) == 1 and s.background != "nebula"]
    cut = {}
    for scene in alone:
        (thing,) = scene.things
        left, top, right, bottom = map(int, thing.box)
        pixels = render(scene, UNVARIED)[top:bottom, left:right]
        same = cut.setdefault((scene.background, thing.kind, thing.color), pixels)
        assert np.array_equal(pixels, same)
    assert len(cut) < len(alone)


def test_captions_name_things_as_they_are_read():
    """What is drawn first is named first, or a side says where it is."""
    told = 0
    for seed in range(200):
        scene = sample_drawing(seed)
        words = caption(scene, random.Random(seed))
        if re.search("left|right|above|below", words):
            told += 1
            continue
        read = sorted(scene.things, key=lambda thing: (thing.y, thing.x))
        looks = dict.fromkeys((thing.color, thing.kind) for thing in read)
        named = re.findall("|".join((*KINDS, *PICTOGRAMS)), words)
        assert named == [kind for _, kind in looks]
    assert 20 < told < 100


def test_captions_say_what_is_there():
    for index, scene in enumerate(OF_THINGS + [sample_drawing(seed) for seed in range(200)]):
        found, background = read_back(caption(scene, random.Random(index)))
        assert found == groups(scene)
        assert background in (None, scene.background)
    for index, scene in enumerate(OF_TEXT):
        words = caption(scene, random.Random(index))
        assert scene.texts[0].string in re.findall(r"[A-Z0-9]+", words)


def test_descriptions():
    assert describe(STILL_LIFE, "short") == "a red star and a corgi"
    assert describe(STILL_LIFE, "normal") == "a red star and a corgi on a white background"
    assert describe(STILL_LIFE, "long") == (
        "There is a red star and a corgi on a white background. "
        "A corgi is on the left. A red star is in the center."
    )
    sign = Scene("black", (), (Text("HELLO", "red", 190, 60, 40, 0),), 7)
    assert describe(sign, "short") == "the text HELLO"
    assert describe(sign, "normal") == "the text HELLO in red on a black background"
    assert describe(sign, "long").endswith("background. It is at the top.")
    for scene in OF_THINGS:
        assert read_back(describe(scene, "normal")) == (groups(scene), scene.background)
        assert describe(scene, "long").count(".") == 1 + len(scene.things)


def test_types_of_questions_are_mixed():
    asked = Counter(pair.type for _, pair in all_pairs(8, OF_THINGS))
    assert set(asked) == {
        "number",
        "color",
        "presence",
        "position",
        "background",
        "text",
        "describe",
        "empty side",
    }
    common = ("number", "color", "presence", "position")
    assert all(asked[name] > 0.12 * asked.total() for name in common), asked
    assert asked["text"] < 0.05 * asked.total()
    read = Counter(pair.type for _, pair in all_pairs(8, OF_TEXT))
    assert read["text"] > read.total() / 2


def singular(words):
    return re.sub(r"s\b", "", words)


def asked_about(question):
    """The color and kind that a question about numbers or presence names."""
    words = re.findall(r"[a-z]+", singular(question.lower()))
    color = next((word for word in words if word in COLORS), None)
    kind = next((word for word in words if word in (*KINDS, *PICTOGRAMS)), None)
    return color, kind


def test_numbers_and_presence_by_recount():
    answers = Counter()
    for scene, pair in all_pairs(8, OF_THINGS):
        if pair.type == "number":
            assert pair.answer == str(count(scene, *asked_about(pair.question)))
            answers[pair.answer] += 1
        if pair.type == "presence":
            there = count(scene, *asked_about(pair.question)) > 0
            assert pair.answer == ("yes" if there else "no")
    assert set(answers) == set("0123456")
    assert answers["1"] < 0.4 * answers.total(), answers


def test_presence_is_balanced_and_its_negatives_are_hard():
    answers, near = Counter(), Counter()
    for scene, pair in all_pairs(10, OF_THINGS):
        if pair.type != "presence":
            continue
        answers[pair.answer] += 1
        color, kind = asked_about(pair.question)
        if pair.answer == "no" and color and kind:
            near[bool(count(scene, color, None) or count(scene, None, kind))] += 1
    assert abs(answers["yes"] / answers.total() - 0.5) < 0.06
    assert near[True] > near[False]


def test_other_answers_are_true():
    for scene, pair in all_pairs(8):
        question, answer = pair.question.lower().replace("colour", "color"), pair.answer
        if pair.type == "background":
            assert answer == scene.background
        elif pair.type == "text" and ("color" in question):
            assert answer == scene.texts[0].color
        elif pair.type == "text":
            assert answer == (scene.texts[0].string if scene.texts else NO_TEXT)
        elif pair.type == "color" and answer in COLORS:
            kind = asked_about(question)[1]
            assert count(scene, answer, kind) == count(scene, None, kind) > 0
        elif pair.type == "describe" and pair.question in DESCRIBE_QUESTIONS.values():
            details = {prompt: detail for detail, prompt in DESCRIBE_QUESTIONS.items()}
            assert answer == describe(scene, details[pair.question])
        elif pair.type == "position" and not question.startswith("where"):
            assert answer == "nothing" or count(scene, *asked_about(answer))


def test_questions_about_a_neighbor_follow_the_geometry():
    star, corgi = STILL_LIFE.things
    assert neighbor(STILL_LIFE, star, "left") == "a corgi"
    assert neighbor(STILL_LIFE, corgi, "right") == "a red star"
    assert neighbor(STILL_LIFE, corgi, "left") == "nothing"
    assert neighbor(STILL_LIFE, star, "above") is None  # barely higher, and far to the side
    for scene, pair in all_pairs(8, OF_THINGS):
        side = re.search(r"(left|right) of the ([a-z ]+?)\??$", pair.question)
        if pair.type != "position" or not side or pair.answer == "nothing":
            continue
        color, kind = asked_about(side[2])
        if kind is None:
            continue
        (named,) = [t for t in scene.things if t.kind == kind and color in (None, t.color)]
        sign = 1 if side[1] == "right" else -1
        assert any(
            sign * (t.x - named.x) > 0 and (t.color, t.kind) == asked_about(pair.answer)
            for t in scene.things
        )


def test_nothing_lies_on_a_side_that_is_called_empty():
    pairs = [(scene, pair) for scene, pair in all_pairs(20, OF_THINGS) if pair.type == "empty side"]
    toward = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
    assert pairs
    for scene, pair in pairs:
        assert pair.answer == "nothing"
        side = re.search(r"(left of|right of|above|below) the ([a-z ]+?)\??$", pair.question)
        color, kind = asked_about(side[2])
        (named,) = [t for t in scene.things if kind in (None, t.kind) and color in (None, t.color)]
        right, down = toward[side[1]]
        assert all(
            right * (thing.x - named.x) + down * (thing.y - named.y) <= 0 for thing in scene.things
        )


def test_corpus():
    sentences = list(corpus(5, 20))
    assert sentences == list(corpus(5, 20))
    assert all(sentences)
    assert not {OCR_QUESTION, *DESCRIBE_QUESTIONS.values()}.isdisjoint(sentences)


def test_pictures_show_the_colors():
    for scene in SCENES[:30] + CROWDS[:5]:
        pixels = render(scene)
        assert pixels.shape == (SIDE, SIDE, 3)
        assert pixels.dtype == np.uint8
        for thing in scene.things:
            if thing.kind in ("circle", "square", "triangle", "star", "heart"):
                distance = np.abs(pixels[thing.y, thing.x].astype(int) - PALETTE[thing.color])
                assert distance.max() <= 10


def test_things_fill_their_boxes_and_no_more():
    blank = render(Scene("white", (), (), 7))
    for kind in (*KINDS, *PICTOGRAMS):
        thing = Thing(kind, "red" if kind in KINDS else None, 200, 150, 81, 9.0)
        changed = np.argwhere((render(Scene("white", (thing,), (), 7)) != blank).any(2))
        (top, left), (bottom, right) = changed.min(0), changed.max(0) + 1
        assert left >= thing.box[0] - 1 and right <= thing.box[2] + 1
        assert top >= thing.box[1] - 1 and bottom <= thing.box[3] + 1
        assert max(right - left, bottom - top) >= thing.size - 2


def test_text_stays_in_its_box(monkeypatch):
    def changed(text):
        blank = render(Scene("white", (), (), 7))
        return np.argwhere((render(Scene("white", (), (text,), 7)) != blank).any(2))

    for number in range(2):  # with every font there is, then with Pillow's own alone
        for slot in range(len(rendering.fonts())):
            for string, tail in (("WH8M", 0), ("WQ8M", 15)):
                text = Text(string, "blue", 190, 150, 50, slot)
                spots, (left, top, right, bottom) = changed(text), text.box
                assert spots[:, 1].min() >= left - 3 and spots[:, 1].max() <= right + 3
                assert spots[:, 0].min() >= top - 4 and spots[:, 0].max() <= bottom + tail
                assert [character for character, _ in character_centers(text)] == list(string)
        if number == 0:
            monkeypatch.setattr(rendering, "fonts", lambda: (None,))
            rendering._load_font.cache_clear()
    rendering._load_font.cache_clear()


@pytest.mark.parametrize("patch", [16, 24])
def test_labels_agree_with_the_scene(patch):
    grid = SIDE // patch
    kinds = (*KINDS, *PICTOGRAMS)
    for scene in SCENES[:60] + CROWDS[:10]:
        labels = patch_labels(scene, patch)
        of_patches = set(labels) - {"background", "things"}
        assert all(labels[name].shape == (grid * grid,) for name in of_patches)
        assert all(label.dtype == np.int64 for label in labels.values())
        assert BACKGROUNDS[int(labels["background"])] == scene.background
        centers = sorted(labels["center"][labels["center"] > 0] - 1)
        assert centers == sorted(CLASSES.index((t.color, t.kind)) for t in scene.things)
        assert labels["things"] == min(MOST, len(scene.things))
        for thing in scene.things:
            here = thing.y // patch * grid + thing.x // patch
            if thing.kind != "ring":
                assert labels["kind"][here] == 1 + kinds.index(thing.kind)
                color = 1 + COLORS.index(thing.color) if thing.color else 0
                assert labels["color"][here] == color
                assert labels["alike"][here] == count(scene, thing.color, thing.kind)
            assert (labels["row"][here], labels["column"][here]) == (
                thing.y // patch,
                thing.x // patch,
            )
        if not scene.things:
            assert not labels["kind"].any() and not labels["color"].any()


def test_characters_are_labeled_from_left_to_right():
    for scene in OF_TEXT:
        labels = patch_labels(scene, 16)["character"]
        (text,) = scene.texts
        found = "".join(CHARACTERS[label - 1] for label in labels[labels > 0])
        assert found == text.string
