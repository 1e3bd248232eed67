"""Prompts: roles, slots, special tokens, exactly as the authors render them."""

import pytest
from tokenizers import Tokenizer

from janus_cli.engine.prompt import JANUS, JANUS_PRO, SYSTEM, PromptWriter
from janus_cli.errors import ModelError, UsageError
from janus_cli.schema import Turn
from tests.checkpoints import SPECIAL_TOKENS, tiny_tokenizer

BEGIN, END, PAD, BEGIN_IMAGE, END_IMAGE, PLACEHOLDER = range(6)


@pytest.fixture
def writer() -> PromptWriter:
    return PromptWriter(tiny_tokenizer(), JANUS_PRO, image_tokens=4, context=2000)


def shown(writer: PromptWriter, ids: list[int]) -> str:
    return writer.tokenizer.decode(ids, skip_special_tokens=False)


def test_a_question_about_a_picture(writer):
    assert shown(writer, writer.conversation(1, [], " how many? ")) == (
        f"<｜begin▁of▁sentence｜>{SYSTEM}\n\n<|User|>: <begin_of_image>"
        + "<image_placeholder>" * 4
        + "<end_of_image>\nhow many?\n\n<|Assistant|>:"
    )


def test_earlier_turns_come_first_and_the_picture_before_them(writer):
    ids = writer.conversation(1, [Turn("how many?", "two")], "what color?")
    assert shown(writer, ids).endswith(
        "<end_of_image>\nhow many?\n\n<|Assistant|>: two<｜end▁of▁sentence｜>"
        "<|User|>: what color?\n\n<|Assistant|>:"
    )


def test_several_pictures_have_a_slot_each_in_order(writer):
    ids = writer.conversation(3, [], "two")
    picture = [BEGIN_IMAGE, *[PLACEHOLDER] * 4, END_IMAGE]
    starts = [i for i, token in enumerate(ids) if token == BEGIN_IMAGE]
    assert [ids[start : start + 6] for start in starts] == [picture] * 3


def test_a_prompt_to_draw_has_no_system_prompt_and_ends_where_the_picture_begins(writer):
    ids = writer.drawing("a red circle")
    text = "<｜begin▁of▁sentence｜><|User|>: a red circle\n\n<|Assistant|>:<begin_of_image>"
    assert shown(writer, ids) == text


def test_roles_of_the_first_family():
    writer = PromptWriter(tiny_tokenizer(), JANUS, image_tokens=4, context=2000)
    assert "User: two\n\nAssistant:" in shown(writer, writer.drawing("two"))


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_special_tokens_in_a_users_words_are_words(writer, token):
    plain = writer.conversation(1, [], "two")
    ids = writer.conversation(1, [Turn(token, "two")], f"what is {token}?")
    number = SPECIAL_TOKENS.index(token)
    expected = plain.count(number) + (number == END)  # the end of the earlier answer
    assert ids.count(number) == expected
    assert writer.drawing(token).count(number) == writer.drawing("two").count(number)


def test_any_text_can_be_a_question(writer):
    for text in ("[red]", "\x1b[31m", "naïve 🐧\n\ntwo", "\u202eabc"):
        assert text.strip() in shown(writer, writer.conversation(1, [], text))


def test_a_question_past_the_context_names_both_numbers(writer):
    with pytest.raises(UsageError, match=r"QUESTION: takes \d+ tokens, more than the 1999"):
        writer.conversation(1, [], "how " * 3000)


@pytest.mark.parametrize("missing", ["<｜▁pad▁｜>", "<begin_of_image>", "<image_placeholder>"])
def test_a_tokenizer_without_a_token_that_guidance_needs_is_refused(missing):
    text = tiny_tokenizer().to_str().replace(missing, "other")
    with pytest.raises(ModelError, match=missing.replace("|", r"\|")):
        PromptWriter(Tokenizer.from_str(text), JANUS_PRO, image_tokens=4, context=2000)
