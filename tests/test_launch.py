"""Several processes of one command: one output, one message, one exit code, no leftovers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from mask2former.launch import launched, run_processes

pytestmark = [
    pytest.mark.runs,
    pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX"),
]

LAUNCHER = """
import sys
from mask2former.launch import run_processes
sys.exit(run_processes(int(sys.argv[1]), sys.argv[3:], [sys.argv[2]]))
"""
# The program of the package with one more command, whose ranks do what a test needs.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from mask2former.cli import main as cli
from mask2former.distributed import rank
from mask2former.launch import launched

@cli.app.command()
def act(folder: Path) -> None:
    assert launched()
    try:
        (folder / f"pid{rank()}.part").write_text(str(os.getpid()))
        (folder / f"pid{rank()}.part").rename(folder / f"pid{rank()}")
        ACTION
    finally:
        (folder / f"cleaned{rank()}").touch()

sys.exit(cli.main(sys.argv[1:]))
"""
WAIT = "time.sleep(300)"

Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Starts two ranks, or as many as are asked for, that take an action."""

    def start(
        action: str,
        count: int = 2,
    ) -> subprocess.Popen[str]:
        (tmp_path / "launcher.py").write_text(LAUNCHER, encoding="utf-8")
        (tmp_path / "program.py").write_text(PROGRAM.replace("ACTION", action), encoding="utf-8")
        script, program = (str(tmp_path / name) for name in ("launcher.py", "program.py"))
        return subprocess.Popen(
            [sys.executable, script, str(count), program, "act", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that signals to the group spare this process
        )

    return start


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **variables},
    )


def wait_until(is_true: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not is_true() and time.monotonic() < end:
        time.sleep(0.02)
    return is_true()


def process_ids(folder: Path, count: int = 2) -> list[int]:
    """Of ranks, once all are at work."""
    files = [folder / f"pid{rank}" for rank in range(count)]
    assert wait_until(lambda: all(file.exists() for file in files))
    return [int(file.read_text()) for file in files]


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii", errors="replace")
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # gone by now, or a system without /proc
        return not Path("/proc/self/stat").is_file()
    return state.rpartition(")")[2].split()[0] != "Z"


def cleaned(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("cleaned*"))


def test_only_rank_0_is_heard_where_all_succeed(launch: Launch) -> None:
    out, err = launch("print(rank()); print('note', rank(), file=sys.stderr)").communicate()
    assert (out, err) == ("0\n", "note 0\n")


def test_every_rank_knows_its_place(launch: Launch, tmp_path: Path) -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    told = f"(folder / f'told{{rank()}}').write_text(' '.join(os.environ[n] for n in {names}))"
    with launch(told, count=3) as process:
        assert process.wait() == 0
    lines = [(tmp_path / f"told{rank}").read_text().split() for rank in range(3)]
    port = lines[0][-1]
    assert lines == [[str(r), str(r), "3", "3", "127.0.0.1", port] for r in range(3)]


def test_a_message_of_all_ranks_is_shown_once(launch: Launch) -> None:
    process = launch("raise FileNotFoundError('no folder x; give another')", count=3)
    out, err = process.communicate()
    assert (out, err) == ("", "error: no folder x; give another\n")
    assert process.returncode == 2


def test_a_failure_of_another_rank_ends_all_with_its_message_and_code(
    launch: Launch, tmp_path: Path
) -> None:
    fail = "print('loading', file=sys.stderr); raise RuntimeError('broken')"
    process = launch(f"exec({fail!r} if rank() == 1 else {WAIT!r})")
    out, err = process.communicate()
    assert out == ""
    assert err == "error: RuntimeError: broken (set MASK2FORMER_DEBUG=1 for the traceback)\n"
    assert process.returncode == 1
    assert "cleaned1" in cleaned(tmp_path)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_is_told(launch: Launch, rank: int) -> None:
    die = "os.kill(os.getpid(), signal.SIGKILL)"
    process = launch(f"exec({die!r} if rank() == {rank} else {WAIT!r})")
    _, err = process.communicate()
    assert err.startswith(f"error: rank {rank} was ended by SIGKILL, from outside or for lack of")
    assert err.count("\n") == 1
    assert process.returncode == 128 + signal.SIGKILL


def test_what_a_lost_peer_caused_is_not_taken_for_the_cause(launch: Launch) -> None:
    # Rank 0 has noticed and ended before rank 1, which failed, has said why.
    wait = "while not (folder / '{}').exists(): time.sleep(0.01)"
    lose = (
        f"{wait.format('deaf1')}\nfrom mask2former.distributed import LostPeerError\n"
        "raise LostPeerError('another ended')"
    )
    fail = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(folder / 'deaf1').touch()\n"
        f"{wait.format('cleaned0')}\nraise FileNotFoundError('none')"
    )
    process = launch(f"exec({lose!r} if rank() == 0 else {fail!r})")
    _, err = process.communicate()
    assert err.splitlines() == ["error: another ended", "error: none"]
    assert process.returncode == 2


def test_ctrl_c_ends_all_after_they_cleaned_up(launch: Launch, tmp_path: Path) -> None:
    process = launch(WAIT)
    ranks = process_ids(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all
    out, err = process.communicate()
    assert (out, err, process.returncode) == ("", "", 130)
    assert cleaned(tmp_path) == ["cleaned0", "cleaned1"]
    assert not any(map(is_running, ranks))


@pytest.mark.parametrize("to_all", [True, False])
def test_a_request_to_end_is_passed_on_once(launch: Launch, tmp_path: Path, to_all: bool) -> None:
    process = launch(WAIT)
    ranks = process_ids(tmp_path)
    if to_all:
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.terminate()
    out, err = process.communicate()
    assert (out, err, process.returncode) == ("", "", 143)
    assert cleaned(tmp_path) == ["cleaned0", "cleaned1"]
    assert not any(map(is_running, ranks))


def test_what_a_scheduler_announces_is_passed_on_and_left_to_the_ranks(
    launch: Launch, tmp_path: Path
) -> None:
    note = "lambda *_: (folder / f'told{rank()}').touch()"
    listen = f"signal.signal(signal.SIGUSR1, {note}); (folder / f'ready{{rank()}}').touch()"
    go_on = "[time.sleep(0.01) for _ in iter((folder / 'go').exists, True)]"
    process = launch(f"{listen}; {go_on}")
    assert wait_until(lambda: len(list(tmp_path.glob("ready*"))) == 2)
    for _ in range(2):
        process.send_signal(signal.SIGUSR1)
        assert wait_until(lambda: len(list(tmp_path.glob("told*"))) == 2)
        for path in tmp_path.glob("told*"):
            path.unlink()
    assert process.poll() is None
    (tmp_path / "go").touch()
    assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_what_a_scheduler_announces_ends_ranks_that_do_not_listen(
    launch: Launch, tmp_path: Path
) -> None:
    process = launch(WAIT)
    ranks = process_ids(tmp_path)
    process.send_signal(signal.SIGUSR1)
    assert process.communicate() == ("", "")
    assert process.returncode == 128 + signal.SIGUSR1
    assert not any(map(is_running, ranks))


def test_no_rank_outlives_a_launcher_that_is_killed(launch: Launch, tmp_path: Path) -> None:
    with launch(WAIT) as process:
        ranks = process_ids(tmp_path)
        process.kill()
        assert wait_until(lambda: not any(map(is_running, ranks)))
        assert cleaned(tmp_path) == ["cleaned0", "cleaned1"]


def test_a_rank_that_does_not_listen_is_made_to_end(launch: Launch, tmp_path: Path) -> None:
    note = "lambda *_: (folder / f'asked{rank()}').touch()"
    process = launch(f"signal.signal(signal.SIGTERM, {note}); {WAIT}")
    ranks = process_ids(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert wait_until(lambda: len(list(tmp_path.glob("asked*"))) == 2)
    os.killpg(process.pid, signal.SIGINT)  # the second one does not wait
    assert process.communicate() == ("", "")
    assert process.returncode == 130
    assert not any(map(is_running, ranks))


def test_one_of_several_processes_starts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a"}
    for name, text in {**place, "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match="this process is rank 1 of 4 already and cannot start 2"):
        run_processes(2, ["presets"])
    assert not launched()


def test_no_process_is_nothing_to_start() -> None:
    with pytest.raises(ValueError, match="0 processes cannot be started; give 1 or more"):
        run_processes(0, ["presets"])


def test_a_command_of_the_package_runs_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "types.py").write_text("raise RuntimeError('not this one')", encoding="utf-8")
    code = "from mask2former.launch import run_processes as run; run(2, ['--version'])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == metadata.version("mask2former") + "\n"


def test_a_rank_says_whose_its_error_is_where_no_launcher_does() -> None:
    place = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    done = run(["mask2former", "trian"], **place, MASTER_PORT="1")
    assert done.returncode == 2
    assert done.stderr == "error of rank 1: No such command 'trian'. Did you mean 'train'?\n"


def test_a_broken_environment_is_one_message() -> None:
    done = run(["mask2former", "--version"], WORLD_SIZE="2")
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr.startswith("error: WORLD_SIZE=2 set, but not RANK; start several")


def test_torchrun_gives_one_answer() -> None:
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run([*torchrun, "-m", "mask2former", "--version"])
    assert done.returncode == 0
    assert done.stdout == metadata.version("mask2former") + "\n"


def test_asking_for_ranks_imports_no_torch() -> None:
    code = (
        "import sys, mask2former.launch; from mask2former.distributed import is_main; "
        "assert is_main(); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "mask2former.launch" in loaded.split()
    assert not {"torch", "numpy"} & set(loaded.split())
