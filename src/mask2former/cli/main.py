"""The console script: its commands, and what becomes of errors.

Importing this file imports no torch, so that `--help` answers at once; each command imports what
it runs with.
"""

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import Annotated, cast

import typer

from mask2former.cli import (
    data,
    doctor,
    evaluate,
    plot,
    predict,
    presets,
    quickstart,
    train,
    weights,
)
from mask2former.cli.call import WORDS
from mask2former.distributed import LostPeerError, is_main
from mask2former.launch import LOST_PEER, end_with_launcher, launched
from mask2former.ranks import find_place

DEBUG_VARIABLE = "MASK2FORMER_DEBUG"

OK, FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

# The class of all wrong calls. typer carries its own copy of click in recent releases, so the
# class is reached through a public subclass of it.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

# What a path on the command line or in the data may be that a command cannot use, and its mend.
WRONG_PATHS = {
    errno.ENOENT: "there is no {}; restore it or correct the path",
    errno.ENOTDIR: "{} is not in a folder but in a file; correct the path",
    errno.EISDIR: "{} is a folder; give a file",
    errno.EEXIST: "{} is there already; give another path, or take it away",
    errno.EACCES: "{} may not be opened by this user; change its permissions or give another path",
    errno.EPERM: "{} may not be changed by this user; change its permissions or give another path",
    errno.EROFS: "{} is on a disk that cannot be written to; give another path",
}
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

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
app.command()(plot.plot)
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
        The exit code: 0; 2 for a wrong call or bad input; 1 for a failure; 3 when another of
        several processes failed; 130 after Ctrl-C, 143 when the system asked it to end.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    WORDS.set(words)
    if launched():
        end_with_launcher()
    code: object = OK
    failure = None
    with _interrupted_when_terminated() as terminations:
        try:
            with _silent_unless_main():
                code = app(args=words, prog_name="mask2former", standalone_mode=False)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except Exception as error:
            failure = error
    if failure is not None:
        return _explain(failure)
    if terminations:
        return TERMINATED
    return code if isinstance(code, int) else OK


@contextmanager
def _interrupted_when_terminated() -> Iterator[list[int]]:
    """`timeout`, a scheduler or a container end commands as Ctrl-C does: they clean up first.

    One of several processes may be asked twice, by its launcher and by the system: it hears the
    first, and nothing once it has done its work or failed, so that its exit code tells of that.

    Yields:
        The signals that came.
    """
    came: list[int] = []

    def interrupt(number: int, _: object) -> None:
        came.append(number)
        if len(came) == 1 or not launched():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals are not for others
        yield came
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if launched() else before)


@contextmanager
def _silent_unless_main() -> Iterator[None]:
    """Of several processes rank 0 alone writes on standard output."""
    if is_main():
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _explain(error: Exception) -> int:
    """One message on standard error."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    if isinstance(error, LostPeerError):
        return _say(str(error), LOST_PEER)
    if isinstance(error, UsageError):
        close = getattr(error, "possibilities", None)  # of a misspelt option
        hint = f"{error.message}; did you mean {' or '.join(close)}?" if close else None
        return _say(hint or error.format_message(), BAD_INPUT)
    if isinstance(error, OSError) and error.errno is not None:
        return _explain_system_error(error)
    if isinstance(error, FileNotFoundError) or (isinstance(error, ValueError) and _is_ours(error)):
        return _say(str(error), BAD_INPUT)
    if isinstance(error, FloatingPointError | MemoryError) and _is_ours(error):
        return _say(str(error), FAILED)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        install = f"pip install 'mask2former[{EXTRAS[error.name]}]'"
        return _say(f"this command needs {error.name}; run: {install}", FAILED)
    return _say_failed(error)


def _explain_system_error(error: OSError) -> int:
    """What the system said of a file."""
    path = None if error.filename is None else os.fsdecode(error.filename)
    if error.errno in FULL_DISK:
        what = "a file" if path is None else path
        return _say(f"the disk is full: {what} cannot be written; free space and try again", FAILED)
    if path is None:
        return _say_failed(error)
    wrong = WRONG_PATHS.get(error.errno or 0)
    if wrong is not None:
        return _say(wrong.format(path), BAD_INPUT)
    return _say(f"{path} cannot be used: {(error.strerror or str(error)).lower()}", FAILED)


def _say_failed(error: Exception) -> int:
    message = " ".join(str(error).split()) or "no message"
    return _say(
        f"{type(error).__name__}: {message} (set {DEBUG_VARIABLE}=1 for the traceback)", FAILED
    )


def _say(message: str, code: int) -> int:
    """Where nobody else tells the messages of several processes apart, they say whose they are."""
    sys.stderr.write(f"error{_whose()}: {message}\n")
    return code


def _whose() -> str:
    try:
        place = None if launched() else find_place()
    except ValueError:  # what was wrong with the environment is the message
        place = None
    return "" if place is None else f" of rank {place.rank}"


def _is_ours(error: Exception) -> bool:
    """Raised by this package on purpose, not by a library it calls by mistake."""
    from mask2former.processes import raised_in

    return raised_in(error).startswith("mask2former.")
