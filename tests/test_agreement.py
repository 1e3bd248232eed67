"""A model that draws and sees the same agrees with itself; one that guesses does not."""

from janus_cli.train.evaluate.agreement import SORTS, agree, ask, scene_of
from janus_cli.train.evaluate.drawings import Judged, sample_order
from janus_cli.train.world.checker import Seen, SeenThing, look
from janus_cli.train.world.render import render
from janus_cli.train.world.scene import Scene, groups, sample_scene
from tests.scripted_model import ScriptedModel

SCENES = [sample_scene(seed, text_share=0) for seed in range(4)]


def drawn(scenes) -> list[Judged]:
    pictures = [render(scene) for scene in scenes]
    return [Judged(sample_order(n), p, look(p)) for n, p in enumerate(pictures)]


def by_measure(rows):
    return {row.measure.removeprefix("agreement: "): row for row in rows}


def knowing(judged):
    """Answers by what is in the pictures: the right ones to the questions that will be asked."""
    known = {}
    for number, one in enumerate(judged):
        scene = scene_of(one.seen, one.order.scene.seed)
        for question in ask(scene, number):
            known[one.picture.tobytes(), question.question] = question.answer
    return lambda picture, question: known[picture.tobytes(), question]


def test_a_perfect_pair_agrees():
    judged = drawn(SCENES)
    rows = by_measure(agree(ScriptedModel(knowing(judged)), judged))
    assert set(rows) == {"pictures that the checker sees clearly", *SORTS, "all, by picture"}
    assert {row.value for row in rows.values()} == {1.0}
    assert rows["all, by picture"].cases == len(SCENES)


def test_who_always_says_yes_agrees_about_half_of_what_is_there():
    rows = by_measure(agree(ScriptedModel(lambda picture, question: "yes"), drawn(SCENES)))
    assert rows["presence"].value == 0.5
    assert all(rows[sort].value == 0 for sort in SORTS if sort != "presence")
    assert 0 < rows["all, by picture"].value < 0.2


def test_pictures_that_show_nothing_clear_are_not_asked_about():
    smudge = render(Scene("white", (), (), 7))
    smudge[100:180, 60:68] = smudge[140:148, 60:200] = (200, 40, 90)  # a T is no shape
    judged = [*drawn(SCENES[:2]), Judged(sample_order(2), smudge, look(smudge))]
    judged += drawn([Scene("white", (), (), 3)])
    answers = knowing(judged[:2])
    rows = by_measure(agree(ScriptedModel(answers), judged))
    assert rows["pictures that the checker sees clearly"].value == 0.5
    assert rows["all, by picture"].cases == 2
    (only,) = agree(ScriptedModel(answers), judged[2:])
    assert only.value == 0


def test_what_the_checker_sees_is_a_scene_only_where_all_is_named():
    for scene in SCENES:
        found = scene_of(look(render(scene)), 5)
        assert found is not None
        assert (groups(found), found.background) == (groups(scene), scene.background)
    star = SeenThing("star", "red", 100, 100, 60, 0.9)
    assert scene_of(Seen("white", (star,)), 0) is not None
    for bad in (
        Seen("unclear", (star,)),
        Seen("white", ()),
        Seen("white", (star, SeenThing("unclear", "red", 200, 200, 60, 0.3))),
        Seen("white", (SeenThing("star", "brown", 100, 100, 60, 0.9),)),
    ):
        assert scene_of(bad, 0) is None


def test_a_thing_that_the_edge_cuts_off_can_be_asked_about():
    star = SeenThing("star", "red", 100, 100, 60, 0.9)
    heart = SeenThing("heart", "blue", 400, -20, 60, 0.9)
    for seed in range(20):
        found = scene_of(Seen("white", (star, heart)), seed)
        assert found is not None
        asked = ask(found, seed)
        assert len(asked) == len(SORTS)
        assert "left" not in {q.answer for q in asked if "heart" in q.question}
