"""What one writes around transformers to describe pictures: load once, then one after the other.

    python benchmarks/folder_peer.py MODEL PRECISION TOKENS FILE...

It takes preprocessing and prompts from janus, so that the same is asked, and prints one JSON object
a picture.
"""

from __future__ import annotations

import json
import sys

from engines import theirs

from janus_cli.engine.batch import Prompt
from janus_cli.images import read_image
from janus_cli.understand import DESCRIBE_QUESTIONS
from janus_cli.weights import find_model


def main() -> None:
    """Describe the files."""
    model, precision, tokens, *files = sys.argv[1:]
    engine = theirs(find_model(model), precision, "cpu")
    ids = engine.writer.conversation(1, (), DESCRIBE_QUESTIONS["short"])
    for file in files:
        pixels = engine.preprocessing.fit(read_image(file))[None]
        said = engine.write([Prompt(ids, pixels, max_tokens=int(tokens))])
        text = engine.writer.decode([token for _, token in said if token is not None]).strip()
        print(json.dumps({"input": file, "text": text}), flush=True)


if __name__ == "__main__":
    main()
