"""Mistakes on a command line are told in one line."""

from __future__ import annotations

import pytest

from ferrum.runtime.one_line_parser import OneLineParser


def test_a_mistake_is_one_line_with_the_way_to_help(capsys: pytest.CaptureFixture[str]) -> None:
    parser = OneLineParser(prog="some-program", usage="", description="", epilog="")
    parser.add_argument("--size", type=int)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--size", "many"])
    printed = capsys.readouterr()
    assert (end.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert printed.err.startswith("some-program: argument --size: invalid int value: 'many'; ")
    assert printed.err.endswith("see some-program --help\n")
