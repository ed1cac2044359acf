"""Exit codes, messages, and how fast help answers."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mask2former.cli import main as cli
from mask2former.cli.main import BAD_INPUT, FAILED, INTERRUPTED, OK, TERMINATED, main


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Makes the whole program raise an error, from inside this package or from outside of it."""

    def replace(error: BaseException, module: str) -> None:
        scope = {"__name__": module, "error": error}
        exec("def app(**_): raise error", scope)  # noqa: S102 - a frame of another module
        monkeypatch.setattr(cli, "app", scope["app"])

    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    return replace


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == OK
    shown = capsys.readouterr().out
    for command in ("quickstart", "train", "evaluate", "predict", "presets", "doctor"):
        assert command in shown


def test_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.metadata, "version", {"mask2former": "1.2.3"}.__getitem__)
    assert main(["--version"]) == OK
    assert capsys.readouterr().out == "1.2.3\n"


def test_no_arguments_show_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == OK
    assert "Usage: mask2former" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["train", "--wieghts", "x"], "No such option: --wieghts; did you mean --weights?"),
        (["train", "--task", "semantik"], "no task semantik; did you mean semantic?"),
        (["train", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["predict", "a.jpg"], "Missing option '--weights'"),
        (["evaluate"], "neither --weights nor --predictions was given; give a model to score"),
        (["evaluate", "--weights", "x", "--predictions", "y"], "both --weights and --predictions"),
        (["evaluate", "--predictions", "y"], "give its folder with --data DIR"),
        (
            ["evaluate", "--predictions", "y", "--data", "d", "--tta", "--device", "cpu"],
            "--tta and --device given with --predictions",
        ),
        (["evaluate", "--weights", "w", "--devices", "9999"], "--devices 9999 asks for as many"),
        (["presets", "tyni"], "no preset tyni; did you mean tiny?"),
        (["train", "--preset", "tyni"], "no preset tyni; did you mean tiny?"),
        (["train"], "no data; give --data DIR"),
        (["train", "--resume"], "--resume needs the run to go on with; give --output RUN"),
        (["train", "--resume", "--output", "nowhere"], "no run to resume in nowhere"),
        (["train", "--set", "data.workers"], "is not key=value"),
        (["train", "--config", "nowhere.yaml"], "no configuration at nowhere.yaml"),
        (
            ["train", "--preset", "instance", "--set", "model.num_querys=3"],
            "model.num_querys: not a key of model; did you mean num_queries?",
        ),
    ],
)
def test_a_wrong_call_is_one_message_and_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == BAD_INPUT
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "module", "code", "message"),
    [
        (ValueError("no images in x"), "mask2former.data.open", BAD_INPUT, "error: no images in x"),
        (FileNotFoundError("no folder x"), "PIL.Image", BAD_INPUT, "error: no folder x"),
        (ValueError("axes"), "numpy", FAILED, "error: ValueError: axes (set MASK2FORMER_DEBUG=1"),
        (RuntimeError("out of\nmemory"), "torch", FAILED, "error: RuntimeError: out of memory (se"),
        (KeyError("x"), "mask2former.data.open", FAILED, "error: KeyError: 'x' (set MASK2FORMER"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"),
            "json",
            BAD_INPUT,
            "error: there is no a/b; restore it or correct the path\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a/b"),
            "json",
            BAD_INPUT,
            "error: a/b may not be opened by this user",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            "json",
            FAILED,
            "error: the disk is full: a/b cannot be written; free space and try again\n",
        ),
        (OSError(errno.ENOSPC, "No"), "json", FAILED, "error: the disk is full: a file cannot be"),
        (OSError(errno.EIO, "I/O error", "a/b"), "json", FAILED, "error: a/b cannot be used: i/o "),
        (OSError(errno.EBADF, "Bad file"), "json", FAILED, "error: OSError: [Errno 9] Bad file (s"),
        (
            ModuleNotFoundError("No module named 'lightning'", name="lightning"),
            "mask2former.training.train",
            FAILED,
            "error: this command needs lightning; run: pip install 'mask2former[train]'",
        ),
    ],
)
def test_an_error_becomes_one_line_and_a_code(
    error: Exception,
    module: str,
    code: int,
    message: str,
    failing,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(error, module)
    assert main(["doctor"]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_the_traceback_comes_when_asked_for(
    failing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(RuntimeError("broken"), "torch")
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    assert main(["doctor"]) == FAILED
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interrupt_is_no_failure_report(failing, capsys: pytest.CaptureFixture[str]) -> None:
    failing(KeyboardInterrupt(), "torch")
    assert main(["doctor"]) == INTERRUPTED
    assert capsys.readouterr().err == ""


def test_being_asked_to_end_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    def work(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            cleaned.append(True)

    monkeypatch.setattr("mask2former.doctor.diagnose", work)
    assert main(["doctor"]) == TERMINATED
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) == before


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mask2former.cli.main import main; main(['train', '--help']); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert not loaded & {"torch", "numpy", "timm", "lightning", "yaml", "scipy"}


def test_help_answers_in_half_a_second() -> None:
    # of the processor, which a busy machine changes little; the least of three
    resource = pytest.importorskip("resource", reason="needs the times of child processes")
    command = [sys.executable, "-c", "from mask2former.cli.main import main; main(['--help'])"]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


def test_one_preset_is_shown_as_yaml_that_trains(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "coco-panoptic-resnet50"]) == OK
    shown = capsys.readouterr().out
    assert shown.startswith("# published: PQ 51.9, AP 41.7, mIoU 61.7 (percent")
    head = [line for line in shown.splitlines() if line.startswith("# ")]
    assert "# weights: 47430278_4, " in head[1]
    assert head[2:] == [
        "# evaluate: mask2former evaluate --weights coco-panoptic-resnet50 --data DIR",
        "# train: mask2former train --preset coco-panoptic-resnet50 --data DIR",
    ]
    assert "  num_queries: 100\n" in shown
    assert "next: mask2former train --preset coco-panoptic-resnet50 --data DIR" in shown


def test_doctor_reports_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["torch"]
    assert found["devices"][-1]["name"] == "cpu"
    assert found["threads"] >= 1
