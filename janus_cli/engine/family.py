"""Which family a checkpoint is of, told from what is in it: that decides how prompts are written.

JanusFlow has networks of its own. Janus-1.3B and Janus-Pro-1B have the same networks and the same
config; what differs between them is the tokenizer, where Janus-Pro-1B put its tokens right behind
the end of the sentence.
"""

from __future__ import annotations

from tokenizers import Tokenizer

from .checkpoint import Checkpoint
from .config import JanusFlowConfig
from .layout import AUTHORS
from .prompt import END_OF_SENTENCE, JANUS, JANUS_PRO, PAD, PromptWriter, Roles, read_tokenizer

JANUSFLOW = "janusflow"
FAMILIES = {"janus": JANUS, "janus-pro": JANUS_PRO, JANUSFLOW: JANUS}
WIDTH_OF_1B = 2048
TEMPLATES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")


def open_writer(checkpoint: Checkpoint, family: str = "auto") -> PromptWriter:
    """What writes the prompts of a checkpoint, as those of a family or of the one that it shows."""
    tokenizer, config = read_tokenizer(checkpoint.path), checkpoint.config
    return PromptWriter(
        tokenizer,
        choose_roles(family, checkpoint, tokenizer),
        config.vision.tokens,
        config.language.context,
        begins_picture=not isinstance(config, JanusFlowConfig),
    )


def choose_roles(name: str, checkpoint: Checkpoint, tokenizer: Tokenizer) -> Roles:
    """The roles of the family `name`, or of the one that the checkpoint shows for `auto`."""
    return FAMILIES[tell_family(checkpoint, tokenizer) if name == "auto" else name]


def tell_family(checkpoint: Checkpoint, tokenizer: Tokenizer) -> str:
    """A key of FAMILIES.

    The pad token is 100002, one after the end of the sentence, in Janus-Pro-1B, and 100015 in
    Janus-1.3B. In transformers' layout only Janus-Pro was published; a converted Janus-1.3B shows
    itself by its chat template.
    """
    if isinstance(checkpoint.config, JanusFlowConfig):
        return JANUSFLOW
    if checkpoint.family is not None:
        return checkpoint.family
    if checkpoint.layout is AUTHORS:
        pad, end = (tokenizer.token_to_id(token) for token in (PAD, END_OF_SENTENCE))
        beside = pad is not None and end is not None and pad == end + 1
        wide = checkpoint.config.language.hidden_size > WIDTH_OF_1B
        return "janus-pro" if wide or beside else "janus"
    templates = [checkpoint.path / name for name in TEMPLATES]
    text = "".join(file.read_text(errors="replace") for file in templates if file.is_file())
    return "janus" if "User" in text and JANUS_PRO.user not in text else "janus-pro"
