"""janus with a scripted engine: everything around the networks is real, and no torch is loaded.

FAKE_ANSWER    the pieces of every answer, as a JSON list; else the question and the turns before
FAKE_GATE      a FIFO that is read after the first piece or picture: the engine waits there
FAKE_LOAD_GATE   a FIFO that is read while the model is opened
FAKE_ERROR     the name of an error class to raise where the model is opened, with this name as text
FAKE_UNSTREAMED  answers come without pieces
FAKE_GUIDANCE  what pictures are drawn with where no guidance is asked for; else 5
"""

import json
import os
import select
import sys
import types
from pathlib import Path

from janus_cli import errors
from janus_cli.schema import Answer, Failure, Picture, Piece, Progress

SIDE = 64


def open_engine(path, choice, *, vision, drawing):
    name = os.environ.get("FAKE_ERROR")
    if name:
        kind = getattr(errors, name, None) or getattr(__builtins__, name)
        raise kind(f"{name} [red]\nof\x1b[31m")
    wait_at("FAKE_LOAD_GATE")
    return types.SimpleNamespace(name=Path(path).name, vision=vision, drawing=drawing, notes=())


def wait_at(name):
    """Wait until something is written into the FIFO; in steps, for a signal just before a blocking
    call would not wake it."""
    gate = os.environ.get(name)
    if gate:
        reader = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)
        while True:
            try:
                if os.read(reader, 8):
                    break
            except BlockingIOError:
                pass
            select.select([], [], [], 0.01)
        os.close(reader)


def understand(request, engine):
    from janus_cli.images import read_pages

    assert engine.vision
    groups = [request.images] if request.together else [(name,) for name in request.images]
    for index, group in enumerate(groups):
        name = "\n".join(group)
        without = {page for number, page in request.answered if number == index}
        try:
            if request.together:
                pages = [(None, [p for image in group for _, p in read_pages(image)])]
            else:
                pages = ((number, [p]) for number, p in read_pages(name, without=without))
            for page, pictures in pages:
                yield from answers(request, engine, index, name, page, pictures)
        except errors.InputError as error:
            yield Failure(index, name, str(error), type(error).__name__)


def answers(request, engine, index, name, page, pictures):
    """What is told about one page."""
    for picture in pictures:
        if isinstance(picture, errors.InputError):
            yield Failure(index, name, str(picture), type(picture).__name__, page)
            return
    for question in request.questions:
        said = [question, f" {len(request.history)} {len(pictures)}"]
        pieces = json.loads(os.environ.get("FAKE_ANSWER", "null")) or said
        for number, piece in enumerate(pieces):
            if "FAKE_UNSTREAMED" not in os.environ:
                yield Piece(index, page, question, piece)
            if number == 0:
                wait_at("FAKE_GATE")
        text = "".join(pieces)
        yield Answer(
            *(index, name, page, question, text, engine.name, "fp32", len(pieces), 7, 0.125)
        )


def imagine(request, engine):
    assert engine.drawing
    drawn = 0
    for index, wish in enumerate(request.wishes):
        if wish.prompt == "fail":
            yield Failure(index, wish.prompt, "is past the context", "ModelError")
            continue
        for i in sorted({*range(wish.count)} - {*wish.drawn}):
            yield Progress(f"image {i + 1}/{wish.count}", 0, 4)
            seed = wish.seed + i
            own = float(os.environ.get("FAKE_GUIDANCE", 5))
            guidance = own if wish.guidance is None else wish.guidance
            settings = (guidance, wish.temperature, wish.top_k, wish.top_p, wish.negative)
            pixels = bytes((seed + n * n) % 251 for n in range(SIDE * SIDE * 3))
            yield Picture(
                *(index, wish.prompt, seed, SIDE, SIDE, pixels, engine.name, "fp32"),
                *settings,
                0.25,
                wish.steps,
            )
            drawn += 1
            if drawn == 1:
                wait_at("FAKE_GATE")


def install():
    """Put the scripted engine in the place of the real one."""
    questions = {"short": "short?", "normal": "normal?", "long": "long?"}
    fakes = {
        "understand": {"run": understand, "DESCRIBE_QUESTIONS": questions, "OCR_QUESTION": "ocr?"},
        "imagine": {"run": imagine},
        "engine.load": {"open_engine": open_engine},
    }
    for name, members in fakes.items():
        module = types.ModuleType(f"janus_cli.{name}")
        vars(module).update(members)
        sys.modules[module.__name__] = module


if __name__ == "__main__":
    install()
    from janus_cli.__main__ import main

    sys.exit(main())
