"""A command line whose mistakes are told in one line."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


def tell(program: str, text: str) -> None:
    """Say something in one line, whatever its length."""
    print(f"{program}: {' '.join(text.split())}", file=sys.stderr)


def complain(program: str, error: Exception | str, status: int) -> int:
    """Say in one line what is wrong; returns the exit status."""
    tell(program, str(error))
    return status


class OneLineParser(argparse.ArgumentParser):
    """Complains in one line: a usage of forty options would bury it.

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
