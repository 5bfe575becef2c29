"""A command's line and its end: mistakes told in one line, and an exit status that fits."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


def tell(program: str, text: str) -> None:
    """Say something in one line, whatever its length."""
    with suppress(OSError):  # no one listens
        print(f"{program}: {' '.join(text.split())}", file=sys.stderr)


def complain(program: str, error: Exception | str, status: int) -> int:
    """Say in one line what is wrong; returns the exit status."""
    tell(program, str(error))
    return status


class OneLineParser(argparse.ArgumentParser):
    """Complains in one line: a usage of many options would bury it.

    Its help shows texts as they are laid out, and options are spelled whole.
    """

    def __init__(self, *, prog: str, usage: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise SystemExit(complain(self.prog, f"{message}; see {self.prog} --help", 2))


def run_command(program: str, work: Callable[[], int]) -> int:
    """Do a command's whole work, imports included, and return its exit status.

    Ctrl-C is one line and 130. What is left of the standard output is written here, so that an
    error of that comes to a line too.
    """
    _open_streams()
    try:
        return show(program, work())
    except KeyboardInterrupt:
        return complain(program, "stopped", 130)
    except SystemExit as end:  # --help, a wrong option, a signal
        if isinstance(end.code, str):
            complain(program, end.code, 1)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise SystemExit(show(program, status)) from None


def show(program: str, status: int, write: Callable[[], None] = lambda: None) -> int:
    """Let `write` print to the standard output; returns the exit status.

    A reader that has gone has seen enough, and `status` stays. Anything else that keeps the text
    from being written is told, and 2 where `status` is 0.
    """
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        message = f"[standard output] cannot be written: {error.strerror}"
        return complain(program, message, status or 2)
    return status


def _open_streams() -> None:
    """Make the standard streams ones that take any text.

    The next file to be opened would take the number of one that is closed, and with it all that
    is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # names in files are of any characters
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Python would complain once more when it writes what is left at its end."""
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
