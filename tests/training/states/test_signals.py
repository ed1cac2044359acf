"""A run that is asked to stop saves its state first, whoever asks and whichever rank hears it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mask2former.training.states.signals import Stopped, StopRequests, any_rank_asked
from mask2former.training.states.slurm import requeue_job, was_requeued

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_second_ends(number, capfd) -> None:
    came = []
    before = signal.signal(number, lambda *_: came.append(number))
    try:
        with StopRequests() as requests:
            assert requests.number is None
            signal.raise_signal(number)
            assert requests.number == number
            assert not came
            signal.raise_signal(number)
            assert came == [number]
        signal.raise_signal(number)
        assert came == [number] * 2
    finally:
        signal.signal(number, before)
    assert ("Ctrl-C once more" in capfd.readouterr().err) == (number == signal.SIGINT)


def test_another_signal_is_a_second_one_too(capfd) -> None:
    with StopRequests() as requests:
        signal.raise_signal(signal.SIGUSR1)
        assert requests.number == signal.SIGUSR1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequests() as requests:
            signal.raise_signal(signal.SIGINT)
            assert requests.number is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_of_several_processes_of_a_launcher_hears_the_first_alone(monkeypatch) -> None:
    monkeypatch.setenv("MASK2FORMER_LAUNCHED", "1")
    before = signal.getsignal(signal.SIGUSR1)
    try:
        with StopRequests() as requests:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert requests.number == signal.SIGTERM
        signal.raise_signal(signal.SIGUSR1)  # a late one, to all that SLURM knows
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_handlers_that_a_library_replaced_are_put_back() -> None:
    with StopRequests() as requests:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        requests.listen()
        signal.raise_signal(signal.SIGTERM)
        assert requests.number == signal.SIGTERM


def test_where_all_is_saved_one_signal_ends_at_once() -> None:
    with StopRequests() as requests:
        with pytest.raises(KeyboardInterrupt), requests.at_once():
            signal.raise_signal(signal.SIGINT)
        assert requests.number is None
        signal.raise_signal(signal.SIGTERM)
        assert requests.number == signal.SIGTERM


def test_a_notice_of_the_system_ends_it_as_well_and_is_remembered() -> None:
    with StopRequests() as requests:
        with pytest.raises(KeyboardInterrupt), requests.at_once():
            signal.raise_signal(signal.SIGUSR1)
        assert requests.number == signal.SIGUSR1


@pytest.mark.parametrize(
    ("number", "requeued", "code"),
    [
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGUSR1, False, 138),
        (signal.SIGUSR1, True, 0),
    ],
)
def test_a_stopped_run_passes_for_done_only_where_it_goes_on_by_itself(
    number, requeued, code
) -> None:
    stopped = Stopped(number, requeued=requeued)
    assert (stopped.exit_code, str(stopped)) == (code, f"stopped by {number.name}")
    assert isinstance(stopped, KeyboardInterrupt)


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_a_single_process_asks_nobody(number) -> None:
    assert any_rank_asked(number) == number


SCHEDULER = """#!/bin/sh
echo "$@" > {told}
echo "not allowed" >&2
exit {code}
"""


@pytest.mark.parametrize("code", [0, 1, None])
def test_a_job_is_queued_again_or_the_reason_told(tmp_path, monkeypatch, caplog, code) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    if code is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        (tmp_path / "scontrol").write_text(SCHEDULER.format(told=tmp_path / "told", code=code))
        (tmp_path / "scontrol").chmod(0o755)
    assert requeue_job({"SLURM_JOB_ID": "77"}) == (code == 0)
    if code is not None:
        assert (tmp_path / "told").read_text() == "requeue 77\n"
    reason = {0: None, 1: "not allowed", None: "No such file"}[code]
    if reason is None:
        assert not caplog.messages
    else:
        assert reason in caplog.messages[0]
        assert caplog.messages[0].endswith("submit it once more with --resume")


def test_without_a_job_nothing_is_queued(caplog) -> None:
    assert not requeue_job({})
    assert not caplog.messages


@pytest.mark.parametrize(("count", "again"), [(None, False), ("0", False), ("2", True)])
def test_a_job_knows_whether_it_was_queued_again(count, again) -> None:
    assert was_requeued({} if count is None else {"SLURM_RESTART_COUNT": count}) == again


# A run without end of a model of one number, in as many processes as its environment says.
RUN = """
import os, sys, time, warnings
from pathlib import Path
import lightning, torch
from torch.utils.data import DataLoader
from mask2former.cli import main as cli
from mask2former.distributed import joined, rank
from mask2former.training.data_parallel import data_parallel
from mask2former.training.states.saving import SaveAndStop, StateWriter
from mask2former.training.states.signals import StopRequests, Stopped, shield_worker
from mask2former.training.states.state import StateFiles
from mask2former.types import Classes
import typer

torch.set_num_threads(1)

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 10**6
    def __getitem__(self, index):
        return torch.ones(1)

class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.layer = torch.nn.Linear(1, 1)
    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.layer(batch).sum())
        optimizer.step()
        (folder / f"pid{rank()}.part").write_text(str(os.getpid()))
        (folder / f"pid{rank()}.part").rename(folder / f"pid{rank()}")
        time.sleep(0.05)
    def on_train_batch_end(self, outputs, batch, batch_idx):
        (folder / f"step{rank()}").write_text(str(self.global_step))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)

@cli.app.command()
def act(output: Path) -> None:
    global folder
    folder = output
    files = StateFiles(output / "checkpoints")
    with joined(), StopRequests() as requests:
        saving = SaveAndStop(files, requests, every=None)
        from mask2former.distributed import world_size
        trainer = lightning.Trainer(
            accelerator="cpu", max_steps=1200, max_epochs=-1, logger=False, callbacks=[saving],
            strategy=data_parallel() if world_size() > 1 else "auto", devices=1,
            plugins=[StateWriter(files, Classes((), (), ()))], enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        )
        loader = DataLoader(Data(), num_workers=2, worker_init_fn=shield_worker)
        trainer.fit(Module(), loader)
    if saving.stopped_by is not None:
        raise typer.Exit(Stopped(saving.stopped_by).exit_code)

warnings.simplefilter("ignore")
sys.exit(cli.main(sys.argv[1:]))
"""
LAUNCHER = """
import sys
from mask2former.launch import run_processes
sys.exit(run_processes(2, sys.argv[2:], [sys.argv[1]]))
"""


def start(folder: Path, *launcher: str) -> subprocess.Popen[str]:
    (folder / "run.py").write_text(RUN)
    (folder / "launcher.py").write_text(LAUNCHER)
    words = [*launcher, str(folder / "run.py"), "act", str(folder)]
    return subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists() and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()


def saved_step(folder: Path) -> int:
    import torch

    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    return state["global_step"]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
@pytest.mark.runs
def test_a_signal_to_all_processes_of_a_run_saves_and_stops_it(tmp_path: Path, number) -> None:
    """As a terminal or a scheduler sends it: to the processes that load data as well."""
    process = start(tmp_path)
    wait_for(tmp_path / "step0", process)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "rror" not in err
    assert saved_step(tmp_path) == int((tmp_path / "step0").read_text()) > 0


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        pytest.param("launcher", signal.SIGTERM, marks=pytest.mark.slow),
        ("launcher", signal.SIGUSR1),
        pytest.param("all", signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param("rank 1", signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
@pytest.mark.runs
def test_all_ranks_stop_after_the_same_step(tmp_path: Path, asked: str, number: int) -> None:
    process = start(tmp_path, str(tmp_path / "launcher.py"))
    for rank in range(2):
        wait_for(tmp_path / f"step{rank}", process)
    match asked:
        case "launcher":
            process.send_signal(number)
        case "all":
            os.killpg(process.pid, number)
        case "rank 1":
            os.kill(int((tmp_path / "pid1").read_text()), number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "rror" not in err
    steps = {int((tmp_path / f"step{rank}").read_text()) for rank in range(2)}
    assert steps == {saved_step(tmp_path)}, err
