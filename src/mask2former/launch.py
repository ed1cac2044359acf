"""One command in several processes of this machine, which end together; torch is not imported."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TypeAlias

from mask2former.ranks import LISTENER, find_place

LAUNCHED = "MASK2FORMER_LAUNCHED"
COMMAND = ("-P", "-m", "mask2former")  # -P: files of the working folder do not hide modules
LOST_PEER = 3
"""Exit code of a process that failed because another one ended."""
LONGEST_MESSAGE = 65_536
"""Bytes of a process's standard error that are remembered."""
TIME_TO_END = 60.0
"""Seconds for a process to save its state and clean up before it is killed."""
TIME_TO_END_ALONE = 5.0
"""The same after its launcher is gone."""
PASSED_ON = getattr(signal, "SIGUSR1", None)  # not on Windows
"""A signal that is the processes' business alone."""


def launched() -> bool:
    """Whether `run_processes` started this process."""
    return bool(os.environ.get(LAUNCHED))


def run_processes(count: int, arguments: Sequence[str], command: Sequence[str] = COMMAND) -> int:
    """Run a command in several processes of this machine, as torchrun does.

    Rank 0 has this process's output. Of what the others write, a failure's message is shown, once
    for all, unless rank 0 says itself why it failed. When one fails, or this process is asked to
    end, the others are ended; they end too when this one is killed. SIGUSR1, with which schedulers
    announce the end of a job, is passed on: what they make of it is theirs.

    Args:
        count: Processes.
        arguments: Of the command line.
        command: What Python runs with them; it calls `end_with_launcher`.

    Returns:
        The exit code: 0, that of the first process that failed (128 and its number for a signal),
        130 after Ctrl-C, 143 after a request to end.

    Raises:
        ValueError: There is nothing to start, or this process is one of several itself.
    """
    if count < 1:
        raise ValueError(f"{count} processes cannot be started; give 1 or more")
    place = find_place()
    if place is not None:
        raise ValueError(
            f"this process is rank {place.rank} of {place.world_size} already and cannot start "
            f"{count} more; start all of them with torchrun or srun, or none"
        )
    run = _Run()
    with _signals_to(run.events):
        try:
            run.start(count, [*command, *arguments])
            signal_number = run.wait()
        finally:
            run.end()
    return run.conclude() if signal_number is None else 128 + signal_number


def end_with_launcher() -> None:
    """In a launched process: end when the launcher asks to, or is gone.

    It asks by SIGTERM. Ctrl-C, which a terminal sends to all, is its business alone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_await_end_of_launcher, daemon=True).start()


class _Process:
    """One rank, from its start."""

    def __init__(self, rank: int, words: Sequence[str], variables: dict[str, str]) -> None:
        self.rank = rank
        self.code: int | None = None
        self._said = bytearray()
        self._was_asked_to_end = False
        self._passed_on: int | None = None
        is_shown = rank == 0
        listener = variables.get(LISTENER)
        with _ignoring_interrupts():  # until it does so itself
            self._process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.PIPE,  # closes when this process is gone, however it went
                stdout=None if is_shown else subprocess.DEVNULL,
                stderr=None if is_shown else subprocess.PIPE,
                env={**os.environ, **variables},
                pass_fds=[] if listener is None else [int(listener)],
            )

    def watch(self, events: "_Events") -> None:
        """Tell when it has ended."""
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        threading.Thread(target=self._await_end, args=(reader, events), daemon=True).start()

    def ask_to_end(self) -> None:
        self._was_asked_to_end = True
        self._process.terminate()

    def pass_on(self, number: int) -> None:
        self._passed_on = number
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()

    @property
    def failure(self) -> int:
        """The exit code if it failed of itself, else 0."""
        if not self.code:
            return 0
        if self._was_asked_to_end and self.code in _CODES_OF_THE_ENDED:
            return 0
        return self.code if self.code > 0 else 128 - self.code

    @property
    def says_why_itself(self) -> bool:
        """Its messages are shown and it had time for one, or there is nothing to say.

        A command that does not listen to a signal is ended by it, as it would be without others.
        """
        if self.code is not None and self._passed_on == -self.code:
            return True
        return self.rank == 0 and self.code is not None and self.code > 0

    def message(self) -> str:
        """What it wrote from the first error on, or how it was ended if it could not."""
        text = self._said.decode("utf-8", errors="replace")
        error = re.search(r"^(error\b|Traceback \(most recent call last\)).*", text, re.M | re.S)
        if error is not None:
            return error.group()
        if self.code is not None and self.code < 0:
            return (
                f"{text}error: rank {self.rank} was ended by {signal.Signals(-self.code).name}, "
                "from outside or for lack of memory; if the latter, start fewer processes\n"
            )
        return text or f"error: rank {self.rank} ended with code {self.code} and without a word\n"

    def _read(self) -> None:
        if self._process.stderr is None:
            return
        with self._process.stderr as stream:
            while part := os.read(stream.fileno(), LONGEST_MESSAGE):
                self._said += part
                del self._said[:-LONGEST_MESSAGE]

    def _await_end(self, reader: threading.Thread, events: "_Events") -> None:
        code = self._process.wait()
        reader.join(timeout=1)  # a process that it started may hold the pipe open
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.code = code
        events.put(self)


_CODES_OF_THE_ENDED = (
    (-signal.SIGTERM, 128 + signal.SIGTERM, -signal.SIGKILL) if os.name == "posix" else (1,)
)
_Events: TypeAlias = SimpleQueue[_Process | int]
"""Processes that ended, and numbers of signals that came."""


class _Run:
    """All ranks of one command."""

    def __init__(self) -> None:
        self.events: _Events = SimpleQueue()  # signal handlers may put into no other
        self._processes: list[_Process] = []
        self._ended: list[_Process] = []

    def start(self, count: int, words: Sequence[str]) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=max(128, count)) as server:
            variables = {
                LAUNCHED: "1",
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(server.getsockname()[1]),
            }
            for rank in range(count):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                if rank == 0 and os.name == "posix":  # elsewhere the port is free, most likely
                    own[LISTENER] = str(server.fileno())
                self._processes.append(_Process(rank, words, {**variables, **own}))
                self._processes[-1].watch(self.events)

    def wait(self) -> int | None:
        """Until all have ended, or one has failed, or a signal came: its number."""
        while len(self._ended) < len(self._processes):
            signal_number = self._take_event()
            if signal_number is not None and signal_number == PASSED_ON:
                for process in self._processes:
                    process.pass_on(signal_number)
            elif signal_number is not None:
                return signal_number
            if any(process.failure for process in self._ended):
                break
        return None

    def end(self) -> None:
        """Those that run are asked to; later, or at one more signal, they are made to."""
        for process in self._processes:
            if process.code is None:
                process.ask_to_end()
        end = time.monotonic() + TIME_TO_END
        while len(self._ended) < len(self._processes):
            if self._take_event() not in (None, PASSED_ON) or time.monotonic() > end:
                for process in self._processes:
                    process.kill()
                end = float("inf")

    def conclude(self) -> int:
        """The exit code of all, after one message on standard error if they failed."""
        failed = [process for process in self._ended if process.failure]
        if not failed:
            return 0
        causes = [process for process in failed if process.code != LOST_PEER] or failed
        if not any(process.says_why_itself for process in causes):
            sys.stderr.write(causes[0].message())
        return causes[0].failure

    def _take_event(self) -> int | None:
        """Of a process or a signal, if one comes soon: Windows tells of signals after a wait."""
        try:
            event = self.events.get(timeout=0.5)
        except Empty:
            return None
        if isinstance(event, int):
            return event
        self._ended.append(event)
        return None


@contextmanager
def _signals_to(events: _Events) -> Iterator[None]:
    """Ctrl-C, requests to end and what is passed on become events."""
    if threading.current_thread() is not threading.main_thread():  # signals are not for others
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if PASSED_ON is not None and signal.getsignal(PASSED_ON) != signal.SIG_IGN:
        numbers.append(PASSED_ON)
    before = [signal.signal(number, lambda n, _: events.put(int(n))) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes that start meanwhile ignore them too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _await_end_of_launcher() -> None:
    with suppress(OSError):
        while os.read(0, 1):
            pass
    main_thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main_thread is not None:  # not on Windows
        signal.pthread_kill(main_thread, signal.SIGTERM)
        time.sleep(TIME_TO_END_ALONE)
    os._exit(128 + signal.SIGTERM)
