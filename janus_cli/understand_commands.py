"""describe, ask and ocr: flags → request → events → output, and nothing else."""

from __future__ import annotations

import os

from . import flags, inputs, terminal
from .dispatch import find_model, open_model
from .errors import UsageError
from .flags import random_seed
from .schema import DETAILS, ModelChoice, UnderstandRequest


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


def _understand(request: UnderstandRequest, choice: ModelChoice, as_json: bool) -> int:
    from .answers import write_answers

    path = find_model(choice)
    with terminal.ProgressLine("loading the model") as progress:
        answer = open_model(path, choice, drawing=False)
        return write_answers(answer(request), request, progress, as_json=as_json).exit_code


def _converse(
    request: UnderstandRequest, question: str | None, choice: ModelChoice, as_json: bool
) -> int:
    from .chat import converse
    from .images import read_image

    if "-" in request.images:
        raise UsageError("-: --chat reads questions from standard input; name the picture's file")
    for name in request.images:
        read_image(name)  # before anybody has typed a question about it
    path = find_model(choice)
    with terminal.ProgressLine("loading the model"):
        answer = open_model(path, choice, drawing=False)
    return converse(request, question, answer, as_json=as_json)


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


def _answer_seed(seed: int | None, temperature: float) -> int:
    """The seed as given; a greedy answer needs none."""
    if seed is not None:
        return seed
    return random_seed() if temperature > 0 else 0
