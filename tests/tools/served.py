"""ferrum-serve as a process of its own, for tests that are its clients."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

PROGRAM = Path(sys.executable).with_name("ferrum-serve")


@dataclass(frozen=True)
class Served:
    """A server that listens."""

    process: subprocess.Popen[str]
    ready: str  # the line that it has printed
    url: str

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=60, **options)

    def end(self) -> tuple[int, str]:
        """Wait for its end; exit status, and what it has written to the standard error."""
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@contextmanager
def served(
    model: Path,
    *options: Any,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = (str(PROGRAM),),
) -> Iterator[Served]:
    """A server of a model on a free port while the block runs, killed where it has not ended."""
    words = [*command, str(model), "--port", "0", *map(str, options)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready, process.communicate()[1]
            yield Served(process, ready, ready.split(" at ")[1].split(",")[0])
        finally:
            process.kill()
