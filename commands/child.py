"""Modules of ours as processes of their own."""

from __future__ import annotations

import sys

_RUN = """import sys
if sys.path[0] == "":
    del sys.path[0]
import runpy
runpy.run_module({!r}, run_name="__main__", alter_sys=True)
"""


def module_command(name: str) -> list[str]:
    """The command that runs a module of the package; its arguments come behind.

    As `python -m`, but what lies in the current folder is not taken for a module.
    """
    return [sys.executable, "-c", _RUN.format(name)]
