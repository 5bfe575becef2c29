"""Compiles grammars in a process of its own, to see what that takes.

A schema of a few hundred bytes may ask for more memory than there is, or for hours: patterns that
must all match, a multiple of four large primes, ten thousand definitions in a chain. The library
then ends its process, or goes on and on; with this one in between, it harms nobody.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from ferrum.commands.child import module_command
from ferrum.runtime.grammar_error import GrammarError

SECONDS = 3.0  # of the processor that a grammar may take
MEMORY = 128 << 20  # bytes that it may take
STACK = 16 << 20  # bytes of stack; who compiles it afterwards has more
_START_SECONDS = 60.0
_WAIT_SECONDS = 60.0  # for those of the processor
_TICKS = os.sysconf("SC_CLK_TCK")


class GrammarTrial:
    """The process, which starts at its first grammar and anew after one that it did not survive.

    For one caller at a time. It ends with its owner, or when that is collected.
    """

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def problem(self, grammar: str) -> str:
        """Why a grammar cannot be used: empty where it can."""
        connection = self._start() if self._connection is None else self._connection
        try:
            spent = self._spent()
            connection.send_bytes(grammar.encode())
            if self._answers(connection, spent + SECONDS):
                return connection.recv_bytes().decode()
            reason = f"takes more than {SECONDS:.0f} s"
        except (EOFError, OSError):
            reason = "takes too much memory, or is nested too deeply"
        self.close()
        return f"{reason} to compile -> a simpler one"

    def close(self) -> None:
        """End the process; another grammar starts a new one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def __del__(self) -> None:
        self.close()

    def _answers(self, connection: Connection, most: float) -> bool:
        """Whether an answer comes before the process has spent so many seconds of the processor.

        Where others have the processor, a grammar that takes nothing may be answered late.
        """
        end, left = time.monotonic() + _WAIT_SECONDS, SECONDS
        while not connection.poll(max(left, 1 / _TICKS)):
            left = most - self._spent()
            if left <= 0 or time.monotonic() > end:
                return False
        return True

    def _spent(self) -> float:
        """Seconds of the processor that the process has had."""
        assert self._process is not None
        # The name, which comes second, may hold spaces; it ends with the last parenthesis.
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / _TICKS

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [*module_command(__name__), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                # A thread's own heap reserves more addresses than a grammar may take.
                env={**os.environ, "MALLOC_ARENA_MAX": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal is not for it
            )
        self._connection = ours
        try:
            if ours.poll(_START_SECONDS) and ours.recv_bytes() == b"ready":
                return ours
        except (EOFError, OSError):
            pass
        self.close()
        raise GrammarError(f"[grammar] {sys.executable} does not start -> Python with ferrum")


def main(handle: int) -> None:
    """Answer each grammar that comes through a pipe with what is wrong with it, until it closes."""
    import resource

    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    tokenizer, limits = LLTokenizer("byte"), LLParserLimits(verbose_errors=False)

    def answer() -> None:
        try:
            while True:
                grammar = connection.recv_bytes().decode()
                matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits)
                matcher.compute_bitmask()
                connection.send_bytes(matcher.get_error().encode())
        except EOFError:
            pass

    with Connection(handle) as connection:
        threading.stack_size(STACK)
        thread = threading.Thread(target=answer)
        thread.start()
        most = _address_space() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        connection.send_bytes(b"ready")
        thread.join()


def _address_space() -> int:
    """Bytes of this process's address space."""
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]))
