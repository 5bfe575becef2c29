"""A server's process as the benchmark holds it: stopped while another has its turn."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ferrum.commands.child import module_command
from ferrum.runtime.bench.errors import SideFailed
from ferrum.runtime.bench.serving.client import HOST, Ask, send
from ferrum.runtime.bench.worker import die_with_parent

_READY_SECONDS = 300.0
_END_SECONDS = 30.0


class Server:
    """A process that answers HTTP on a port of this machine."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`command` gets `--port` and a free one; it is ready when GET /health says 200.

        SideFailed, with its last words, where it ends before that.
        """
        self.name, self._reserved = name, reserved_port()
        self.port: int = self._reserved.getsockname()[1]
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for the benchmark, which then ends its servers
            preexec_fn=die_with_parent,  # a stopped process would otherwise stay for ever
        )  # fmt: skip
        self.pid = self._process.pid
        try:
            self._wait_until_ready()
        except BaseException:
            self.end()
            raise

    def stop(self) -> None:
        """Take nothing from whoever is measured now."""
        self._process.send_signal(signal.SIGSTOP)

    def go(self) -> None:
        """Go on."""
        self._process.send_signal(signal.SIGCONT)

    @property
    def output(self) -> str:
        """All that it has printed."""
        return os.pread(self._output.fileno(), 1 << 26, 0).decode(errors="replace")

    def end(self) -> int:
        """Ask it to end, and make it where it does not; returns its status."""
        self.go()
        self._process.terminate()
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._output.close()
        self._reserved.close()
        return status

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while asyncio.run(send(self.port, Ask("/health", method="GET"))).status != 200:
            if self._process.poll() is not None:
                raise SideFailed(f"[{self.name}] its process ended: {self._last_words()}")
            if time.monotonic() > deadline:
                raise SideFailed(
                    f"[{self.name}] not ready after {_READY_SECONDS:.0f} s: {self._last_words()}"
                )
            time.sleep(0.1)

    def _last_words(self) -> str:
        said = [line.strip() for line in self.output.splitlines() if line.strip()]
        return said[-1] if said else f"status {self._process.returncode}"


def ferrum_server(model: Path, **settings: object) -> Server:
    """ferrum-serve on an export; settings as the runtime's and the server's are named."""
    variables = {f"FERRUM_{name.upper()}": str(value) for name, value in settings.items()}
    command = [*module_command("ferrum.runtime.serve.cli"), str(model)]
    return Server("ferrum-serve", command, variables)


def llama_server(
    program: Path, gguf: Path, *, repack: bool, slots: int, tokens: int, threads: int
) -> Server:
    """llama.cpp's server: `slots` sequences at once in caches of `tokens` tokens in all.

    Flash attention as in ferrum-bench; weights where they lie in the file, or copied into another
    layout first, which is its default.
    """
    command = [
        str(program), "-m", str(gguf), "--host", HOST, "-np", str(slots), "-c", str(tokens),
        "-fa", "on", "-t", str(threads), "--repack" if repack else "--no-repack",
    ]  # fmt: skip
    return Server("llama-server repack" if repack else "llama-server in place", command)


def reserved_port() -> socket.socket:
    """A socket on a free port that the system gives to nobody who asks for any.

    A server that asks for this one may have it nevertheless: both say that they share, with the
    option that it has or the other, and this socket never listens.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((HOST, 0))
    return reserved
