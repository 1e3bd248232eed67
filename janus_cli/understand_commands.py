"""describe, ask and ocr: flags → request → events → output, and nothing else."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from . import answer_flags, inputs
from .answer_flags import AnswerOptions, OutputOptions, PictureOptions
from .dispatch import find_model, open_model
from .errors import ExitCode, UsageError
from .inputs import Source
from .options import ModelOptions, RayOptions, spread
from .progress import ProgressLine
from .schema import DETAILS, ModelChoice, UnderstandRequest


@spread
def describe(
    images: answer_flags.Images = None,
    detail: answer_flags.Detail = "normal",
    *,
    pictures: PictureOptions,
    answers: AnswerOptions,
    output: OutputOptions,
    cluster: RayOptions,
    model: ModelOptions,
) -> int:
    """Describe each picture in words.

    An IMAGE is a file, a folder, a pattern, an http address, or - for standard input; a PDF is
    described page by page.
    """
    from .understand import DESCRIBE_QUESTIONS

    if detail not in DETAILS:
        raise UsageError(f"--detail: {detail!r} is unknown; choose from {', '.join(DETAILS)}")
    sources = _sources(images or [], pictures)
    request = _request(sources, (DESCRIBE_QUESTIONS[detail],), answers)
    return _understand(request, sources, output, model.choice(), cluster)


@spread
def ask(
    images: answer_flags.Images = None,
    last: answer_flags.Question = None,
    questions: answer_flags.Questions = None,
    together: answer_flags.Together = False,
    chat: answer_flags.Chat = False,
    *,
    pictures: PictureOptions,
    answers: AnswerOptions,
    output: OutputOptions,
    cluster: RayOptions,
    model: ModelOptions,
) -> int:
    """Ask a question about each picture.

    An IMAGE is a file, a folder, a pattern, an http address, or - for standard input; the last
    argument is the question, unless -q asks. Several questions about one picture take little longer
    than one. --together asks once about all pictures, in their order. --chat goes on with your next
    questions, and remembers.
    """
    given = [*(images or []), *([] if last is None else [last])]
    listed = pictures.files_from is not None
    named, asked = _told_apart(given, questions or [], listed=listed, chat=chat)
    sources = _sources(named, pictures)
    together = together or (chat and len(sources) > 1)
    # A conversation asks for its first question later.
    request = _request(sources, asked or ("?",), answers, together=together)
    if chat:
        if output.output or output.out or output.resume or output.force:
            raise UsageError("--chat: answers on standard output; leave -o, --out and --resume")
        if cluster.ray:
            raise UsageError("--ray: answers many pictures at once; leave --chat")
        return _converse(request, asked[0] if asked else None, model.choice(), output.json)
    return _understand(request, sources, output, model.choice(), cluster)


@spread
def ocr(
    images: answer_flags.Images = None,
    *,
    pictures: PictureOptions,
    answers: AnswerOptions,
    output: OutputOptions,
    cluster: RayOptions,
    model: ModelOptions,
) -> int:
    """Read the text in each picture.

    An IMAGE is a file, a folder, a pattern, an http address, or - for standard input. Nothing but
    the text is printed; of several pictures each line begins with its file, of a PDF with its page.
    """
    from .understand import OCR_QUESTION

    sources = _sources(images or [], pictures)
    request = _request(sources, (OCR_QUESTION,), answers)
    return _understand(request, sources, output, model.choice(), cluster)


def _request(
    sources: Sequence[Source],
    questions: tuple[str, ...],
    answers: AnswerOptions,
    *,
    together: bool = False,
) -> UnderstandRequest:
    return UnderstandRequest(
        images=tuple(source.name for source in sources),
        questions=questions,
        together=together,
        max_tokens=answers.max_tokens,
        temperature=answers.temperature,
        seed=answers.fixed_seed(),
    )


def _understand(
    request: UnderstandRequest,
    sources: Sequence[Source],
    output: OutputOptions,
    choice: ModelChoice,
    cluster: RayOptions,
) -> int:
    from .answers import write_answers
    from .destination import open_sink

    with open_sink(request, sources, output) as (left, sink):
        if left is None:
            return ExitCode.OK
        found = find_model(choice)
        with ProgressLine("loading the model") as progress:
            answer = open_model(found, left, cluster)
            return write_answers(answer(left), left, progress, sink).exit_code


def _converse(
    request: UnderstandRequest, question: str | None, choice: ModelChoice, as_json: bool
) -> int:
    from .chat import converse
    from .images import read_image

    if "-" in request.images:
        raise UsageError("-: --chat reads questions from standard input; name the picture's file")
    for name in request.images:
        read_image(name)  # before anybody has typed a question about it
    found = find_model(choice)
    with ProgressLine("loading the model"):
        answer = open_model(found, request)
    return converse(request, question, answer, as_json=as_json)


def _told_apart(
    given: list[str], questions: list[str], *, listed: bool, chat: bool
) -> tuple[list[str], tuple[str, ...]]:
    """The pictures and the questions: the last argument is one, unless the others are given with
    -q or a conversation leaves it out; the pictures may be listed elsewhere."""
    if questions:
        if chat:
            raise UsageError("-q: --chat reads its questions one by one; leave one of them")
        last = given[-1] if given else ""
        if last.endswith("?") and not (os.path.lexists(last) or glob.glob(last)):
            raise UsageError(f"{last}: is no picture; with -q, give every question with -q")
        return given, tuple(questions)
    if not given and not listed:
        raise UsageError('IMAGE: no picture; write janus ask picture.png "what is this?"')
    *images, last = given or [""]
    is_file = os.path.isfile(last) and inputs.is_picture(last)
    names_pictures = is_file or os.path.isdir(last) or inputs.is_address(last)
    if (images or listed) and last and not names_pictures:
        return images, (last,)
    if chat:
        return given, ()
    raise UsageError(
        f'QUESTION: no question; write janus ask {last or "--files-from FILE"} "what is this?"'
    )


def _sources(arguments: list[str], options: PictureOptions) -> list[Source]:
    """All pictures: those of the arguments, then those of the list."""
    listing = options.files_from
    if options.null and listing is None:
        raise UsageError("-0: says how the names in --files-from end; add --files-from")
    if (*arguments, listing).count(inputs.STDIN) > 1:
        raise UsageError("-: standard input is read once; name it once")
    sources = inputs.expand(arguments, recursive=options.recursive)
    if listing is not None:
        sources += inputs.listed(listing, null=options.null)
        if not sources:
            raise UsageError(f"--files-from {listing}: names no picture; write one a line")
    if not sources:
        raise UsageError("IMAGE: no picture; name a file, a folder, or - for standard input")
    return sources
