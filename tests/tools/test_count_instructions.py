"""Instructions are told by the library that they lie in, and by the work that they are for."""

from __future__ import annotations

from pathlib import Path

from count_instructions import Case, own, table

DUMP = """\
version: 1
positions: line
events: Ir

ob=/usr/bin/python
fn=call
0 500
cob=/lib/libferrum_ops.so
cfn=kernel
calls=1 0
0 70

ob=/lib/libferrum_ops.so
fn=kernel
0 40
12 20
cob=/lib/libc.so.6
cfn=memcpy
calls=2 0
0 9
13 1

ob=/lib/libc.so.6
fn=memcpy
0 9

totals: 570
"""


def test_a_library_s_own_instructions_leave_callers_and_called_out(tmp_path: Path) -> None:
    dump = tmp_path / "calls.1"
    dump.write_text(DUMP)
    assert own(dump, "/lib/libferrum_ops.so") == 61
    assert own(dump, "/lib/libc.so.6") == 9


def test_a_figure_is_what_more_work_takes_beyond_less() -> None:
    cases = [Case("product", isa, "entry", ((), ()), 1024) for isa in ("avx2", "generic")]
    text = table(cases, [1000, 1400, 1000, 9000], ["avx2", "generic"])
    assert text.splitlines()[-1] == "| product | 100.0 | 2,000.0 |"
