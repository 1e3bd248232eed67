"""The commands about pictures: flags → request → run → output, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from . import flags, inputs, terminal, weights
from .errors import ExitCode, InputError, UsageError
from .schema import DETAILS, ImagineRequest, ModelChoice, UnderstandRequest

if TYPE_CHECKING:
    from .engine.load import Engine

RANDOM_SEEDS = 2**31


def describe(
    images: flags.Images = None,
    detail: flags.Detail = "normal",
    recursive: flags.Recursive = False,
    files_from: flags.FilesFrom = None,
    null: flags.Null = False,
    max_tokens: flags.MaxTokens = 512,
    temperature: flags.AnswerTemperature = 0.0,
    seed: flags.AnswerSeed = None,
    json: flags.Json = False,
    model: flags.Model = None,
    device: flags.Device = "auto",
    precision: flags.Precision = "auto",
    backend: flags.Backend = "janus",
    family: flags.Family = "auto",
) -> int:
    """Describe each picture in words.

    An IMAGE is a file, a folder, a pattern, or - for standard input.
    """
    from .understand import DESCRIBE_QUESTIONS

    if detail not in DETAILS:
        raise UsageError(f"--detail: {detail!r} is unknown; choose from {', '.join(DETAILS)}")
    request = UnderstandRequest(
        images=_images(images or [], files_from, recursive=recursive, null=null),
        questions=(DESCRIBE_QUESTIONS[detail],),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=_answer_seed(seed, temperature),
    )
    return _understand(request, ModelChoice(model, device, precision, backend, family), json)


def ask(
    images: flags.Images = None,
    last: flags.Question = None,
    questions: flags.Questions = None,
    recursive: flags.Recursive = False,
    files_from: flags.FilesFrom = None,
    null: flags.Null = False,
    together: flags.Together = False,
    chat: flags.Chat = False,
    max_tokens: flags.MaxTokens = 512,
    temperature: flags.AnswerTemperature = 0.0,
    seed: flags.AnswerSeed = None,
    json: flags.Json = False,
    model: flags.Model = None,
    device: flags.Device = "auto",
    precision: flags.Precision = "auto",
    backend: flags.Backend = "janus",
    family: flags.Family = "auto",
) -> int:
    """Ask a question about each picture.

    An IMAGE is a file, a folder, a pattern, or - for standard input; the last argument is the
    question, unless -q asks. Several questions about one picture take little longer than one.
    --together asks once about all pictures, in their order. --chat goes on with your next
    questions, and remembers.
    """
    given = [*(images or []), *([] if last is None else [last])]
    named, asked = _told_apart(given, questions or [], listed=files_from is not None, chat=chat)
    names = _images(named, files_from, recursive=recursive, null=null)
    request = UnderstandRequest(
        images=names,
        questions=asked or ("?",),  # --chat asks for it later
        together=together or (chat and len(names) > 1),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=_answer_seed(seed, temperature),
    )
    choice = ModelChoice(model, device, precision, backend, family)
    if chat:
        return _converse(request, asked[0] if asked else None, choice, json)
    return _understand(request, choice, json)


def ocr(
    images: flags.Images = None,
    recursive: flags.Recursive = False,
    files_from: flags.FilesFrom = None,
    null: flags.Null = False,
    max_tokens: flags.MaxTokens = 512,
    temperature: flags.AnswerTemperature = 0.0,
    seed: flags.AnswerSeed = None,
    json: flags.Json = False,
    model: flags.Model = None,
    device: flags.Device = "auto",
    precision: flags.Precision = "auto",
    backend: flags.Backend = "janus",
    family: flags.Family = "auto",
) -> int:
    """Read the text in each picture.

    An IMAGE is a file, a folder, a pattern, or - for standard input. Nothing but the text is
    printed; of several pictures, each line begins with its file.
    """
    from .understand import OCR_QUESTION

    request = UnderstandRequest(
        images=_images(images or [], files_from, recursive=recursive, null=null),
        questions=(OCR_QUESTION,),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=_answer_seed(seed, temperature),
    )
    return _understand(request, ModelChoice(model, device, precision, backend, family), json)


def imagine(
    prompts: flags.Prompts,
    count: flags.Count = 1,
    seed: flags.Seed = None,
    guidance: flags.Guidance = 5.0,
    temperature: flags.Temperature = 1.0,
    top_k: flags.TopK = 0,
    top_p: flags.TopP = 1.0,
    negative: flags.Negative = None,
    output: flags.Output = None,
    force: flags.Force = False,
    grid: flags.Grid = False,
    json: flags.Json = False,
    model: flags.Model = None,
    device: flags.Device = "auto",
    precision: flags.Precision = "auto",
    backend: flags.Backend = "janus",
    family: flags.Family = "auto",
) -> int:
    """Draw pictures, and print their paths.

    A PROMPT says what to draw; - reads one a line from standard input. A path is printed when its
    picture is complete. Picture i of a prompt depends on seed + i
    and on nothing else. An existing file is never replaced without --force.
    """
    from . import names
    from .output import write_pictures

    request = ImagineRequest(
        prompts=_prompts(prompts),
        count=count,
        seed=_random_seed() if seed is None else seed,
        guidance=guidance,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        negative=negative,
    )
    choice = ModelChoice(model, device, precision, backend, family)
    targets = names.plan(request, output, grid=grid, force=force)
    path = _find(choice)
    names.make_folders(targets)
    with terminal.ProgressLine("loading the model") as progress:
        engine = _open(path, choice, vision=False, drawing=True)
        from .imagine import run

        events = run(request, engine)
        return write_pictures(events, request, targets, progress, as_json=json).exit_code


def info(file: flags.PictureFile, json: flags.Json = False) -> int:
    """Show what a picture was drawn from.

    FILE is a PNG that janus drew; it carries its prompt and all settings.
    """
    from .output import write_settings
    from .png import read_settings

    write_settings(file, read_settings(file), as_json=json)
    return ExitCode.OK


def _understand(request: UnderstandRequest, choice: ModelChoice, as_json: bool) -> int:
    from .output import write_answers

    path = _find(choice)
    with terminal.ProgressLine("loading the model") as progress:
        engine = _open(path, choice, vision=True, drawing=False)
        from .understand import run

        events = run(request, engine)
        return write_answers(events, request, progress, as_json=as_json).exit_code


def _converse(
    request: UnderstandRequest, question: str | None, choice: ModelChoice, as_json: bool
) -> int:
    from .chat import converse
    from .images import read_image

    if "-" in request.images:
        raise UsageError("-: --chat reads questions from standard input; name the picture's file")
    for name in request.images:
        read_image(name)  # before anybody has typed a question about it
    path = _find(choice)
    with terminal.ProgressLine("loading the model"):
        engine = _open(path, choice, vision=True, drawing=False)
    from .understand import run

    return converse(request, question, lambda request: run(request, engine), as_json=as_json)


def _open(path: Path, choice: ModelChoice, *, vision: bool, drawing: bool) -> Engine:
    """Load the model, and say how it is run where that is not as one would expect."""
    from .engine.load import open_engine

    engine = open_engine(path, choice, vision=vision, drawing=drawing)
    for note in engine.notes:
        terminal.say(note)
    return engine


def _find(choice: ModelChoice) -> Path:
    """The model's folder; whoever did not choose one is told which one it is."""
    if choice.model:
        return weights.find_model(choice.model)
    from .catalog import choose_largest

    name = choose_largest(choice.device)
    if terminal.is_terminal(sys.stderr):
        chosen = f"{name} answers, the largest model that fits; --model takes another"
        terminal.say(weights.EMBEDDED_NOTICE if name == weights.EMBEDDED else chosen)
    return weights.find_model(name)


def _told_apart(
    given: list[str], questions: list[str], *, listed: bool, chat: bool
) -> tuple[list[str], tuple[str, ...]]:
    """The pictures and the questions: the last argument is one, unless the others are given with
    -q or a conversation leaves it out; the pictures may be listed elsewhere."""
    if questions:
        if chat:
            raise UsageError("-q: --chat reads its questions one by one; leave one of them")
        return given, tuple(questions)
    if not given and not listed:
        raise UsageError('IMAGE: no picture; write janus ask picture.png "what is this?"')
    *images, last = given or [""]
    names_pictures = os.path.isdir(last) or (os.path.isfile(last) and inputs.is_picture(last))
    if (images or listed) and last and not names_pictures:
        return images, (last,)
    if chat:
        return given, ()
    raise UsageError(
        f'QUESTION: no question; write janus ask {last or "--files-from FILE"} "what is this?"'
    )


def _images(
    arguments: list[str], files_from: str | None, *, recursive: bool, null: bool
) -> tuple[str, ...]:
    """The names of all pictures: those of the arguments, then those of the list."""
    if null and files_from is None:
        raise UsageError("-0: says how the names in --files-from end; add --files-from")
    if (*arguments, files_from).count(inputs.STDIN) > 1:
        raise UsageError("-: standard input is read once; name it once")
    names = inputs.expand(arguments, recursive=recursive)
    if files_from is not None:
        names += inputs.listed(files_from, null=null)
        if not names:
            raise UsageError(f"--files-from {files_from}: names no picture; write one a line")
    if not names:
        raise UsageError("IMAGE: no picture; name a file, a folder, or - for standard input")
    return tuple(names)


def _prompts(words: list[str]) -> tuple[str, ...]:
    """The prompts as given, with the lines of standard input in the place of `-`."""
    prompts: list[str] = []
    for word in words:
        prompts += _lines_of_stdin() if word == "-" else [word]
    if not prompts:
        raise UsageError("PROMPT: standard input holds no prompt; write one a line")
    return tuple(prompts)


def _lines_of_stdin() -> Iterable[str]:
    if sys.stdin is None:
        raise InputError("-: standard input is closed; pipe prompts in, one a line")
    text = sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape")
    return (line.strip() for line in text.split("\n") if line.strip())


def _answer_seed(seed: int | None, temperature: float) -> int:
    """The seed as given; a greedy answer needs none."""
    if seed is not None:
        return seed
    return _random_seed() if temperature > 0 else 0


def _random_seed() -> int:
    return int.from_bytes(os.urandom(4), "big") % RANDOM_SEEDS
