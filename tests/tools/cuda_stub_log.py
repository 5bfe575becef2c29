"""The calls that the stand-in CUDA libraries were made, as they log them."""

from __future__ import annotations

from pathlib import Path


class Log:
    """What the stand-in libraries were called for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def clear(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)

    def lines(self) -> list[str]:
        """One line a call."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def count(self, start: str) -> int:
        """Calls whose line begins so."""
        return sum(line.startswith(start) for line in self.lines())

    @property
    def launches(self) -> int:
        """Kernels launched one by one: ONNX Runtime's and ferrum's."""
        return self.count("launch ") + self.count("cuLaunchKernel ")

    @property
    def uploads(self) -> int:
        return self.count("memcpy sync 1 ") + self.count("memcpy async 1 ")

    @property
    def downloads(self) -> int:
        return self.count("memcpy sync 2 ") + self.count("memcpy async 2 ")
