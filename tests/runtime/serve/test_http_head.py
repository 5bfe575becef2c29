"""Where a request's head ends, however its bytes come."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.serve.http_head import HttpHead

HEAD = (
    b"\r\nPOST /upgrade: HTTP/1.1\r\nHost: a\r\nUPGRADE: h2c\r\nX-Upgrade: 1\r\n"
    b"upgrade-insecure-requests: 1\r\nupgrade:websocket\r\nUp: 1\r\n\r\n"
)
PARSED = HEAD.replace(b"UPGRADE: h2c", b"ignored: h2c").replace(b"\nupgrade:w", b"\nignored:w")
BODY = b"\r\nupgrade: of the body\r\n\r\n"


@given(st.lists(st.integers(0, len(HEAD + BODY)), max_size=8))
def test_any_cuts_give_the_same_head_and_body(cuts: list[int]) -> None:
    head, parsed, body = HttpHead(), b"", b""
    bounds = [0, *sorted(cuts), len(HEAD + BODY)]
    for start, end in itertools.pairwise(bounds):
        piece = (HEAD + BODY)[start:end]
        if len(parsed) == len(HEAD):  # its end has been told
            body += piece
        else:
            some, body = head.take(piece)
            parsed += some
    assert (parsed, body) == (PARSED, BODY)
    assert head.size == len(HEAD)


@pytest.mark.parametrize("start", [b"\x16\x03\x01", b"hello", b"U"])
def test_a_first_line_is_handed_on_as_it_comes(start: bytes) -> None:
    assert HttpHead().take(start) == (start, b"")
