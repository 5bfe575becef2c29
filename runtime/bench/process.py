"""A side's process as the benchmark holds it: runs only while it is asked, sleeps otherwise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ferrum.commands.child import module_command
from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.errors import BenchError, SideFailed
from ferrum.runtime.bench.memory import PeakMemory


class SideProcess:
    """Stopped (SIGSTOP) between requests, so that a pool that spins takes nothing from others."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        """`arguments` are the worker's; BenchError where the model is refused, SideFailed where
        the process dies."""
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
        self._process = subprocess.Popen(
            [*module_command("ferrum.runtime.bench.worker"), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            start_new_session=True,  # Ctrl-C is for the benchmark, which then ends its sides
        )  # fmt: skip
        self.pid = self._process.pid
        self.memory = PeakMemory(self.pid)
        try:
            with self.memory.watch():
                self._reply()
            self._stop()
        except BaseException:
            self.end()
            raise

    def open(self, case: Case, *, profile: bool = False) -> dict[str, Any]:
        """Make ready for a case; the peak of memory begins anew."""
        self.memory.clear()
        with self.memory.watch():
            return self._ask(do="open", case=asdict(case), profile=profile)

    def warm_up(self) -> None:
        """A repetition that is not timed, while its memory is watched."""
        with self.memory.watch():
            self._ask(do="run")

    def run(self) -> float:
        """Seconds of one repetition; nobody looks on while it runs."""
        seconds = float(self._ask(do="run")["seconds"])
        self.memory.look()
        return seconds

    def profile(self) -> list[dict[str, Any]]:
        """Where the time of a repetition goes."""
        rows: list[dict[str, Any]] = self._ask(do="profile")["stages"]
        return rows

    def close(self) -> None:
        """Forget the case."""
        self._ask(do="close")

    def end(self) -> None:
        """End the process, wherever it is."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):  # it ended before it had read all
                stream.close()
        self._errors.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        os.kill(self.pid, signal.SIGCONT)
        with suppress(BrokenPipeError):  # the reply will be missing, and says why
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        reply = self._reply()
        self._stop()
        return reply

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SideFailed(f"[{self.name}] its process ended: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise BenchError(f"[{self.name}] {reply['error']}")
        if "failed" in reply:
            raise SideFailed(f"[{self.name}] {reply['failed']}")
        return reply

    def _stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else f"status {status}"
