"""Where answers go: options → a sink, and the request without what a former run has answered."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from . import former, terminal
from .answer_flags import OutputOptions
from .answers import AnswerFiles, AnswerRecords, AnswerText, Sink, by_file, by_page
from .errors import OutputError, UsageError
from .files import Log, refuse_inputs
from .inputs import Source
from .schema import UnderstandRequest


@contextlib.contextmanager
def open_sink(
    request: UnderstandRequest, sources: Sequence[Source], options: OutputOptions
) -> Iterator[tuple[UnderstandRequest | None, Sink]]:
    """The request that is left to be answered, None where all is done, and the sink for it.

    Raises:
        UsageError: options that do not go together.
        OutputError: the output exists, is an input, or is being written by another run.
    """
    _check(request, options)
    with contextlib.ExitStack() as stack:
        if options.out is not None:
            yield _files(request, sources, options, options.out)
        elif options.output is not None:
            log, left = _log(request, options, options.output)
            stack.callback(log.close)
            yield left, _lines(left or request, sources, options, log)
            log.finish()
        else:
            yield request, _lines(request, sources, options, None)


def _check(request: UnderstandRequest, options: OutputOptions) -> None:
    if options.out is not None:
        if options.output is not None:
            raise UsageError("-o: names one file, and --out a folder for many; leave one of them")
        if request.together:
            raise UsageError("--out: writes a file for each picture; --together has one answer")
    elif options.resume and not (options.output and options.json):
        raise UsageError("--resume: needs --out FOLDER, or -o FILE with --json, to go on with")
    elif options.force and not options.output:
        raise UsageError("--force: replaces files; name them with -o or --out")


def _lines(
    request: UnderstandRequest,
    sources: Sequence[Source],
    options: OutputOptions,
    log: Log | None,
) -> Sink:
    """One stream for all answers: a file's, or standard output."""
    if options.json:
        return AnswerRecords(request, terminal.write if log is None else log.write)
    several = (len(sources) > 1 or sources[0].found) and not request.together
    place = by_file(request) if several else by_page
    if log is not None:
        return AnswerText(request, log.write, place=place)
    streams = terminal.is_terminal(sys.stdout) and not several
    return AnswerText(request, terminal.write, place=place, streams=streams)


def _log(
    request: UnderstandRequest, options: OutputOptions, path: str
) -> tuple[Log, UnderstandRequest | None]:
    """The one file, and what is left of the request."""
    refuse_inputs([path], request.images)
    if os.path.isdir(path):
        raise OutputError(f"{path}: is a folder; --out writes a file for each picture into one")
    exists = os.path.isfile(path) and os.path.getsize(path) > 0
    if exists and not options.resume and not options.force:
        advice = "--resume goes on with it, " if options.json else ""
        raise OutputError(f"{path}: exists; {advice}--force replaces it")
    log = Log.open(path)
    if not options.resume:
        if exists:
            log.start_over()
        return log, request
    inputs = ["\n".join(request.images)] if request.together else list(request.images)
    done = former.take_up(log, request.questions, inputs)
    if request.together:
        finished = done[inputs[0], None] > 0
        return log, None if finished else request
    left, answered = former.left_out(request, done)
    _say_done(len(request.images) - len(left), len(request.images))
    images = tuple(request.images[number] for number in left)
    return log, replace(request, images=images, answered=answered) if images else None


def _files(
    request: UnderstandRequest, sources: Sequence[Source], options: OutputOptions, folder: str
) -> tuple[UnderstandRequest | None, Sink]:
    """A file for each picture, and what is left of the request."""
    paths = paths_under(folder, [source.place for source in sources], as_json=options.json)
    refuse_inputs(paths, request.images)
    left = list(range(len(paths)))
    if options.resume:
        done = former.answered_files(paths, as_json=options.json)
        left = [number for number in left if not done[number]]
        _say_done(len(paths) - len(left), len(paths))
    elif not options.force:
        for path in filter(os.path.lexists, paths):
            raise OutputError(f"{path}: exists; --resume keeps it, --force replaces it")
    images = tuple(request.images[number] for number in left)
    rest = replace(request, images=images) if images else None
    return rest, AnswerFiles(
        rest or request,
        tuple(paths[number] for number in left),
        as_json=options.json,
        force=options.force or options.resume,
    )


def paths_under(folder: str, places: Sequence[str], *, as_json: bool) -> list[str]:
    """A file for every place: `a/b.jpg` becomes `a/b.txt`, or `a/b.jpg.txt` beside `a/b.png`.

    Raises:
        UsageError: two pictures have the same place.
    """
    ending = ".json" if as_json else ".txt"
    shorts = [os.path.splitext(place)[0] for place in places]
    times = Counter(shorts)
    names = [
        (short if times[short] == 1 else place) + ending
        for short, place in zip(shorts, places, strict=True)
    ]
    doubles = [name for name, number in Counter(names).items() if number > 1]
    if doubles:
        raise UsageError(
            f"--out: two pictures would be answered in {os.path.join(folder, doubles[0])}; "
            "name a folder that holds both, or list them with --files-from"
        )
    return [os.path.join(folder, name) for name in names]


def _say_done(done: int, total: int) -> None:
    if done:
        terminal.say(f"{done} of {total} were answered before")
