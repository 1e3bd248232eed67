"""Which family a checkpoint is of, told from what is in it: that decides the speakers' names.

Janus-1.3B and Janus-Pro-1B have the same networks and the same config; what differs between them is
the tokenizer, where Janus-Pro-1B put its tokens right behind the end of the sentence.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from .config import JanusConfig
from .layout import AUTHORS, Layout
from .prompt import END_OF_SENTENCE, JANUS, JANUS_PRO, PAD, Roles

FAMILIES = {"janus": JANUS, "janus-pro": JANUS_PRO}
WIDTH_OF_1B = 2048
TEMPLATES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")


def choose_roles(
    name: str, folder: Path, layout: Layout, config: JanusConfig, tokenizer: Tokenizer
) -> Roles:
    """The roles of the family `name`, or of the one that the checkpoint shows for `auto`."""
    return FAMILIES[tell_family(folder, layout, config, tokenizer) if name == "auto" else name]


def tell_family(folder: Path, layout: Layout, config: JanusConfig, tokenizer: Tokenizer) -> str:
    """A key of FAMILIES.

    The pad token is 100002, one after the end of the sentence, in Janus-Pro-1B, and 100015 in
    Janus-1.3B. In transformers' layout only Janus-Pro was published; a converted Janus-1.3B shows
    itself by its chat template.
    """
    if layout is AUTHORS:
        pad, end = (tokenizer.token_to_id(token) for token in (PAD, END_OF_SENTENCE))
        beside = pad is not None and end is not None and pad == end + 1
        wide = config.language.hidden_size > WIDTH_OF_1B
        return "janus-pro" if wide or beside else "janus"
    templates = [folder / name for name in TEMPLATES if (folder / name).is_file()]
    text = "".join(file.read_text(errors="replace") for file in templates)
    return "janus" if "User" in text and JANUS_PRO.user not in text else "janus-pro"
