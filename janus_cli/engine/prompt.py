"""Conversations to token ids: roles, image slots, the unconditional row. It knows no networks.

The format is that of the authors' conversation.py ("deepseek") and processing_vlm.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from ..errors import ModelError, UsageError
from ..schema import Turn

BEGIN_OF_SENTENCE = "<｜begin▁of▁sentence｜>"
END_OF_SENTENCE = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
BEGIN_OF_IMAGE = "<begin_of_image>"
END_OF_IMAGE = "<end_of_image>"
PLACEHOLDER = "<image_placeholder>"
SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)


@dataclass(frozen=True)
class Roles:
    """What a family calls the two speakers; the wrong names silently cost quality."""

    user: str
    assistant: str


JANUS = Roles("User", "Assistant")
JANUS_PRO = Roles("<|User|>", "<|Assistant|>")


class PromptWriter:
    """Writes the prompts of one checkpoint: its tokenizer, its roles, its image size in tokens."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        roles: Roles,
        image_tokens: int,
        context: int,
        *,
        begins_picture: bool = True,
    ) -> None:
        """`begins_picture` is False where the networks have an embedding for begin-of-image."""
        self.tokenizer = tokenizer
        self.roles = roles
        self.image_tokens = image_tokens
        self.context = context
        self.begin_of_sentence = self.special(BEGIN_OF_SENTENCE)
        self.end_of_sentence = self.special(END_OF_SENTENCE)
        self.pad = self.special(PAD)
        self.begin_of_image = self.special(BEGIN_OF_IMAGE)
        self.end_of_image = self.special(END_OF_IMAGE)
        self.placeholder = self.special(PLACEHOLDER)
        self.begin_of_picture = self.begin_of_image if begins_picture else self.placeholder

    def special(self, token: str) -> int:
        """The id of a special token: it differs between checkpoints, so it is never assumed."""
        number = self.tokenizer.token_to_id(token)
        if number is None:
            raise ModelError(
                f"tokenizer.json lacks the token {token!r}, without which answers and guidance "
                "silently go wrong; fetch the checkpoint's tokenizer again"
            )
        return number

    def conversation(self, images: int, history: Sequence[Turn], question: str) -> list[int]:
        """Ids of a conversation over `images` pictures, up to where the answer begins.

        Every picture stands in the first question as begin-of-image, one placeholder for each image
        token, end-of-image; or with a placeholder for the first of these, too.
        """
        questions = [self.plain(turn.question) for turn in history] + [self.plain(question)]
        questions[0] = f"{PLACEHOLDER}\n" * images + questions[0]
        answers = [turn.answer for turn in history]
        text = self.render(questions, answers, SYSTEM)
        slots = [self.placeholder] * self.image_tokens
        picture = [self.begin_of_picture, *slots, self.end_of_image]
        ids: list[int] = []
        for token in self.encode(text):
            ids += picture if token == self.placeholder else [token]
        return self.checked(ids, 1, "QUESTION")

    def drawing(self, prompt: str, image_tokens: int = 0, *, flag: str = "PROMPT") -> list[int]:
        """Ids of a prompt to draw, up to and with begin-of-image; no system prompt.

        Raises:
            UsageError: prompt and picture do not fit into the context together.
        """
        ids = [*self.encode(self.render([self.plain(prompt)], [], "")), self.begin_of_image]
        return self.checked(ids, image_tokens, flag)

    def unconditional(self, ids: Sequence[int]) -> list[int]:
        """The row that guidance moves away from: all but the first and the last id is pad."""
        return [ids[0], *[self.pad] * (len(ids) - 2), ids[-1]]

    def render(self, questions: Sequence[str], answers: Sequence[str], system: str) -> str:
        """The text of a conversation whose last answer is still to come."""
        text = f"{system}\n\n" if system else ""
        for question, answer in zip(questions, answers, strict=False):
            text += f"{self.roles.user}: {question}\n\n"
            text += f"{self.roles.assistant}: {answer.strip()}{END_OF_SENTENCE}"
        return f"{text}{self.roles.user}: {questions[-1]}\n\n{self.roles.assistant}:"

    def plain(self, text: str) -> str:
        """A user's words, every special token in them broken up: they are words, not control."""
        for token in self.tokenizer.get_added_tokens_decoder().values():
            if token.special:
                text = text.replace(token.content, f"{token.content[0]} {token.content[1:]}")
        return text.strip()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, begin-of-sentence first, whether or not the tokenizer adds it."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [self.begin_of_sentence, *ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def checked(self, ids: list[int], more: int, flag: str) -> list[int]:
        """The ids, if the context holds them and `more` tokens after them."""
        if len(ids) + more > self.context:
            raise UsageError(
                f"{flag}: takes {len(ids)} tokens, more than the {self.context - more} that fit "
                "into the model's context; shorten it"
            )
        return ids


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer.json of a checkpoint folder."""
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception for every cause
        raise ModelError(f"{path}: cannot be read as a tokenizer ({error})") from error
