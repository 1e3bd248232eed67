"""The commands: flags → request → run → output. main() alone turns errors into a line and a code."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__, terminal, weights
from .errors import ExitCode, InputError, JanusError, UsageError
from .schema import (
    BACKENDS,
    DETAILS,
    DEVICES,
    PRECISIONS,
    ImagineRequest,
    ModelChoice,
    UnderstandRequest,
)

if TYPE_CHECKING:
    from .engine.load import Engine

RANDOM_SEEDS = 2**31
IMAGE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".avif", ".heic", ".ppm", ".pgm", ".ico", ".jp2"),
)

EPILOG = """\
Examples:

\b
  janus describe photo.jpg
  janus ask photo.jpg "how many penguins?"
  janus ocr scan.png | grep -i total
  janus imagine "nebula corgi" -n 4
  janus info nebula-corgi-7.png

Answers go to standard output, everything else to standard error.

Exit codes:

\b
  0    all is well
  1    a defect of janus itself
  2    a wrong flag, a missing question, an empty prompt
  3    the model is unknown, damaged, or does not fit the request or the machine
  4    at least one input could not be read or answered; the others were
  5    a result could not be written
  130  interrupted
  141  the reader of standard output went away

Environment:

\b
  JANUS_MODEL   the model, where --model does not say (a folder or a name)
  JANUS_DEVICE  the device, where --device does not say
  JANUS_DEBUG   1 shows the traceback of an error
"""

app = typer.Typer(
    help="Look at pictures and draw them, on your own machine, with the Janus family of models.",
    epilog=EPILOG,
    rich_markup_mode=None,  # the plain help takes half the time of the boxed one
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _one_of(choices: tuple[str, ...]) -> Any:
    """Completion of a fixed set of words; the request itself checks the value."""
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]


def _installed(incomplete: str) -> list[str]:
    return [name for name in weights.installed() if name.startswith(incomplete)]


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.write(f"janus {__version__}\n")
        raise typer.Exit()


# Arguments

Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE...", help="Pictures; - is standard input.", show_default=False),
]
ImagesAndQuestion = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE... QUESTION",
        help="Pictures (- is standard input), and last the question.",
        show_default=False,
    ),
]
Prompts = Annotated[
    list[str],
    typer.Argument(
        metavar="PROMPT...",
        help="What to draw; - reads one prompt a line from standard input.",
        show_default=False,
    ),
]
PictureFile = Annotated[
    str, typer.Argument(metavar="FILE", help="A PNG that janus drew.", show_default=False)
]

# Options of understanding

Detail = Annotated[
    str,
    typer.Option(
        metavar="|".join(DETAILS), help="How much to say.", autocompletion=_one_of(DETAILS)
    ),
]
Together = Annotated[
    bool,
    typer.Option("--together", help="Ask once about all pictures, instead of once about each."),
]
Chat = Annotated[
    bool,
    typer.Option("--chat", help="Go on reading questions from the terminal; Ctrl-D ends."),
]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", metavar="N", help="The longest answer, in tokens.")
]
AnswerTemperature = Annotated[
    float, typer.Option("--temperature", metavar="T", help="0 is greedy; above, answers vary.")
]
AnswerSeed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        help="Repeats an answer that varies.  [default: random]",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON object a line.")]

# Options of drawing

Count = Annotated[
    int, typer.Option("--count", "-n", metavar="N", help="How many pictures of each prompt.")
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        help="Picture i is drawn with seed + i.  [default: random]",
        show_default=False,
    ),
]
Guidance = Annotated[
    float, typer.Option("--guidance", metavar="G", help="How closely to follow the prompt.")
]
Temperature = Annotated[
    float, typer.Option("--temperature", metavar="T", help="0 is greedy; above, pictures vary.")
]
TopK = Annotated[
    int, typer.Option("--top-k", metavar="K", help="Keep the K likeliest codes only; 0 keeps all.")
]
TopP = Annotated[
    float, typer.Option("--top-p", metavar="P", help="Keep the likeliest codes of mass P only.")
]
Negative = Annotated[
    str | None,
    typer.Option("--negative", metavar="TEXT", help="What to keep away from.", show_default=False),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER|PATTERN",
        help="A folder, or a .png name with {slug}, {seed}, {i} (the picture's number within its "
        "prompt, from 0) and {index} (the prompt's).  [default: {slug}-{seed}.png]",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Grid = Annotated[
    bool, typer.Option("--grid", help="Also write a contact sheet of each prompt, ...-grid.png.")
]

# Options of the model

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PATH|NAME",
        envvar="JANUS_MODEL",
        help="A checkpoint folder, or an installed model.  [default: the embedded model]",
        show_default=False,
        autocompletion=_installed,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="|".join(DEVICES),
        envvar="JANUS_DEVICE",
        help="Where to compute; cuda:1 is the second GPU.",
        autocompletion=_one_of(DEVICES),
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="|".join(PRECISIONS),
        help="How to hold the weights.",
        autocompletion=_one_of(PRECISIONS),
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="|".join(BACKENDS),
        help="Whose networks to run: janus' own, or transformers', to compare.",
        autocompletion=_one_of(BACKENDS),
    ),
]


@app.callback(invoke_without_command=True)
def janus(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        terminal.write(context.get_help() + "\n")


@app.command(epilog="Example: janus describe photos/*.jpg --detail short --json > captions.jsonl")
def describe(
    images: Images,
    detail: Detail = "normal",
    max_tokens: MaxTokens = 512,
    temperature: AnswerTemperature = 0.0,
    seed: AnswerSeed = None,
    json: Json = False,
    model: Model = None,
    device: Device = "auto",
    precision: Precision = "auto",
    backend: Backend = "janus",
) -> int:
    """Describe each picture in words."""
    from .understand import DESCRIBE_QUESTIONS

    if detail not in DETAILS:
        raise UsageError(f"--detail: {detail!r} is unknown; choose from {', '.join(DETAILS)}")
    request = UnderstandRequest(
        images=_images(images),
        question=DESCRIBE_QUESTIONS[detail],
        max_tokens=max_tokens,
        temperature=temperature,
        seed=_answer_seed(seed, temperature),
    )
    return _understand(request, ModelChoice(model, device, precision, backend), json)


@app.command(epilog='Example: janus ask photo.jpg "how many penguins?"')
def ask(
    inputs: ImagesAndQuestion,
    together: Together = False,
    chat: Chat = False,
    max_tokens: MaxTokens = 512,
    temperature: AnswerTemperature = 0.0,
    seed: AnswerSeed = None,
    json: Json = False,
    model: Model = None,
    device: Device = "auto",
    precision: Precision = "auto",
    backend: Backend = "janus",
) -> int:
    """Ask a question about each picture, or with --together about all of them."""
    names, question = _split(inputs, chat)
    request = UnderstandRequest(
        images=_images(names),
        question=question or "?",  # a conversation asks for its first question later
        together=together or (chat and len(names) > 1),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=_answer_seed(seed, temperature),
    )
    choice = ModelChoice(model, device, precision, backend)
    if chat:
        return _converse(request, question, choice, json)
    return _understand(request, choice, json)


@app.command(epilog="Example: janus ocr scan.png | grep -i total")
def ocr(
    images: Images,
    max_tokens: MaxTokens = 512,
    temperature: AnswerTemperature = 0.0,
    seed: AnswerSeed = None,
    json: Json = False,
    model: Model = None,
    device: Device = "auto",
    precision: Precision = "auto",
    backend: Backend = "janus",
) -> int:
    """Read the text in each picture, and print the text alone."""
    from .understand import OCR_QUESTION

    request = UnderstandRequest(
        images=_images(images),
        question=OCR_QUESTION,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=_answer_seed(seed, temperature),
    )
    return _understand(request, ModelChoice(model, device, precision, backend), json)


@app.command(epilog='Example: janus imagine "nebula corgi" -n 4 --seed 7 --grid -o drawings/')
def imagine(
    prompts: Prompts,
    count: Count = 1,
    seed: Seed = None,
    guidance: Guidance = 5.0,
    temperature: Temperature = 1.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    negative: Negative = None,
    output: Output = None,
    force: Force = False,
    grid: Grid = False,
    json: Json = False,
    model: Model = None,
    device: Device = "auto",
    precision: Precision = "auto",
    backend: Backend = "janus",
) -> int:
    """Draw pictures, and print the path of each when it is complete."""
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
    choice = ModelChoice(model, device, precision, backend)
    targets = names.plan(request, output, grid=grid, force=force)
    path = weights.find_model(choice.model)
    names.make_folders(targets)
    with terminal.ProgressLine("loading the model") as progress:
        engine = _open(path, choice, vision=False, drawing=True)
        from .imagine import run

        events = run(request, engine)
        return write_pictures(events, request, targets, progress, as_json=json).exit_code


@app.command(epilog="Example: janus info nebula-corgi-7.png")
def info(file: PictureFile, json: Json = False) -> int:
    """Show the prompt and the settings that a picture was drawn with."""
    from .output import write_settings
    from .png import read_settings

    write_settings(file, read_settings(file), as_json=json)
    return ExitCode.OK


def _understand(request: UnderstandRequest, choice: ModelChoice, as_json: bool) -> int:
    from .output import write_answers

    path = weights.find_model(choice.model)
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
    path = weights.find_model(choice.model)
    with terminal.ProgressLine("loading the model"):
        engine = _open(path, choice, vision=True, drawing=False)
    from .understand import run

    return converse(request, question, lambda request: run(request, engine), as_json=as_json)


def _open(path: Any, choice: ModelChoice, *, vision: bool, drawing: bool) -> Engine:
    """Load the model; whoever did not choose one is told which one it is."""
    if not choice.model and terminal.is_terminal(sys.stderr):
        terminal.say(weights.EMBEDDED_NOTICE)
    from .engine.load import open_engine

    return open_engine(path, choice, vision=vision, drawing=drawing)


def _split(inputs: list[str], chat: bool) -> tuple[list[str], str | None]:
    """The pictures and the question; a conversation may leave the question out."""
    last = inputs[-1]
    names_a_picture = os.path.isfile(last) and last.lower().endswith(IMAGE_ENDINGS)
    if len(inputs) > 1 and not names_a_picture:
        return inputs[:-1], last
    if chat:
        return inputs, None
    raise UsageError(
        f"QUESTION: no question; write it after the pictures, as in "
        f'janus ask {inputs[0]} "what is this?"'
    )


def _images(names: list[str]) -> tuple[str, ...]:
    if names.count("-") > 1:
        raise UsageError("-: standard input holds one picture; name it once")
    return tuple(names)


def _prompts(words: list[str]) -> tuple[str, ...]:
    """The prompts as given, with the lines of standard input in the place of `-`."""
    prompts: list[str] = []
    for word in words:
        prompts += _lines_of_stdin() if word == "-" else [word]
    if not prompts:
        raise UsageError("PROMPT: standard input holds no prompt; write one a line")
    return tuple(prompts)


def _lines_of_stdin() -> Iterator[str]:
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


def main() -> int:
    """Run the program; whatever goes wrong is one line on standard error and an exit code."""
    debug = os.environ.get("JANUS_DEBUG", "") not in ("", "0")
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        code = app(prog_name="janus", standalone_mode=False) or ExitCode.OK
        if code == ExitCode.INTERRUPTED:  # typer has caught the Ctrl-C
            raise KeyboardInterrupt
        if sys.stdout is not None:
            sys.stdout.flush()
        return int(code)
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            _show_traceback()
        code, message = _explain(error)
        try:
            if message:
                terminal.say(message)
        except BrokenPipeError:
            code = ExitCode.CLOSED_PIPE
        if code == ExitCode.CLOSED_PIPE:
            _abandon_stdout()
        return code


def _explain(error: BaseException) -> tuple[int, str]:
    """The exit code of an error, and the line that explains it; some need no explanation."""
    if isinstance(error, JanusError):
        return error.exit_code, str(error)
    if isinstance(error, typer.TyperException):
        return ExitCode.USAGE, _usage_line(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return ExitCode.INTERRUPTED, "interrupted"
    if isinstance(error, BrokenPipeError):
        return ExitCode.CLOSED_PIPE, ""
    if isinstance(error, SystemExit):
        if isinstance(error.__context__, BrokenPipeError):  # typer has caught it
            return ExitCode.CLOSED_PIPE, ""
        return error.code if isinstance(error.code, int) else ExitCode.OK, ""
    if isinstance(error, MemoryError):
        return ExitCode.MODEL, "out of memory; choose a smaller model, fewer pictures or a lower -n"
    reason = f"{type(error).__name__}: {error}"
    return ExitCode.INTERNAL, f"a defect of janus: {reason} (JANUS_DEBUG=1 shows where)"


def _usage_line(error: typer.TyperException) -> str:
    """Typer's own complaint as one line that names the command and its help."""
    context = getattr(error, "ctx", None)
    program = context.command_path if context is not None else "janus"
    command = program.partition(" ")[2]
    complaint = " ".join(error.format_message().split()).rstrip(".")
    complaint = complaint[:1].lower() + complaint[1:]
    where = f"{command}: " if command else ""
    return f"{where}{complaint} (try '{program} --help')"


def _show_traceback() -> None:
    import traceback

    traceback.print_exc()


def _abandon_stdout() -> None:
    """Nobody reads it any more; without this, the interpreter complains at its end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
