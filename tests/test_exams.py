"""Exams give everybody what they earn, on pictures that are unlike those of training."""

import numpy as np
import pytest

from janus_cli.train.data import TRAINING_SEEDS
from janus_cli.train.evaluate import exams
from janus_cli.train.evaluate.exams import EXAMS, examine, pose, possible_exams
from janus_cli.train.world.render import render
from janus_cli.train.world.style import EVALUATION, TRAINING, UNSEEN
from tests.scripted_model import ScriptedModel

CASES = 12


def key(picture: np.ndarray, question: str) -> tuple[bytes, str]:
    return picture[::8, ::8].tobytes(), question


@pytest.mark.parametrize("exam", possible_exams(), ids=lambda exam: exam.measure)
def test_who_knows_everything_has_everything_right(exam):
    """The right answer hangs on the very picture, in evaluation's style, and on the question."""
    truths = {
        key(render(scene, exam.style), question): truth
        for scene, (question, truth) in pose(exam, CASES)
    }
    rows = examine(ScriptedModel(lambda p, q: truths[key(p, q)]), exam, CASES)
    assert {row.value for row in rows if "yes" not in row.measure} == {1.0}
    assert {row.cases for row in rows} == {CASES}
    assert exam.style in (EVALUATION, UNSEEN)


@pytest.mark.parametrize("word", ["yes", "no"])
def test_who_always_says_the_same_is_right_half_the_time(word):
    (exam,) = (exam for exam in EXAMS if exam.asker == "presence")
    right, yes = examine(ScriptedModel(lambda picture, question: word), exam, CASES)
    assert right.value == 0.5
    assert yes.value == (word == "yes")


def test_a_letter_that_is_wrong_costs_a_string_and_a_character():
    (exam,) = (exam for exam in EXAMS if exam.measure == "reading, whole string")
    truths = {key(render(s, exam.style), q): truth for s, (q, truth) in pose(exam, CASES)}

    def misread(picture: np.ndarray, question: str) -> str:
        return truths[key(picture, question)][:-1] + "?"

    whole, characters = examine(ScriptedModel(misread), exam, CASES)
    assert whole.value == 0
    lengths = [len(truth) for truth in truths.values()]
    assert characters.value == pytest.approx(sum(1 - 1 / n for n in lengths) / CASES)


def test_unseen_fonts_are_no_part_of_the_exam_where_there_are_none(monkeypatch):
    monkeypatch.setattr(exams, "unseen_fonts", tuple)
    assert [exam.style for exam in possible_exams()] == [EVALUATION] * (len(EXAMS) - 1)


def test_evaluation_has_seeds_that_training_never_has():
    from janus_cli.train.world import source as world

    for exam in EXAMS:
        assert all(scene.seed < TRAINING_SEEDS for scene, _ in pose(exam, CASES))
    assert world.FIRST >= TRAINING_SEEDS


def test_both_reading_exams_ask_the_same():
    seen, unseen = (exam for exam in EXAMS if exam.measure.endswith("whole string"))
    assert list(pose(seen, CASES)) == list(pose(unseen, CASES))
    assert seen.style is not TRAINING
