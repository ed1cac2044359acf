"""The console script: its commands, and what becomes of errors.

Importing this file imports no torch, so that `--help` answers at once; each command imports what
it runs with.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, cast

import typer

from mask2former.cli import data, doctor, evaluate, predict, presets, quickstart, train, weights

DEBUG_VARIABLE = "MASK2FORMER_DEBUG"

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# The class of all wrong calls. typer carries its own copy of click in recent releases, so the
# class is reached through a public subclass of it.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

# Package that may be missing -> extra that brings it.
EXTRAS = {"lightning": "train", "tensorboard": "train", "matplotlib": "train", "cv2": "train"}

app = typer.Typer(
    name="mask2former",
    help="Train, evaluate and run Mask2Former on your own images.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: mask2former quickstart",
)
app.command()(quickstart.quickstart)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(predict.predict)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")
app.command()(presets.presets)
app.command()(doctor.doctor)


@app.callback(invoke_without_command=True)
def _before_any_command(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(metadata.version("mask2former"))
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Without the program's name; the process's own without any.

    Returns:
        The exit code: 0, or 2 for a wrong call or bad input, or 1 for a failure.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code = app(args=words, prog_name="mask2former", standalone_mode=False)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _explain(error)
    return code if isinstance(code, int) else OK


def _explain(error: Exception) -> int:
    """One message on standard error."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    if isinstance(error, UsageError):
        close = getattr(error, "possibilities", None)  # of a misspelt option
        hint = f"{error.message}; did you mean {' or '.join(close)}?" if close else None
        return _say(hint or error.format_message(), BAD_INPUT)
    if isinstance(error, FileNotFoundError) or (isinstance(error, ValueError) and _is_ours(error)):
        return _say(str(error), BAD_INPUT)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        install = f"pip install 'mask2former[{EXTRAS[error.name]}]'"
        return _say(f"this command needs {error.name}; run: {install}", FAILED)
    message = " ".join(str(error).split()) or "no message"
    return _say(
        f"{type(error).__name__}: {message} (set {DEBUG_VARIABLE}=1 for the traceback)", FAILED
    )


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


def _is_ours(error: Exception) -> bool:
    """Raised by this package on purpose, not by a library it calls by mistake."""
    frames = list(traceback.walk_tb(error.__traceback__))
    raised_in = frames[-1][0].f_globals.get("__name__", "") if frames else ""
    return raised_in.startswith("mask2former.")
