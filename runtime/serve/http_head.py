"""The head of an HTTP request as its bytes come: where it ends, and without its wish for another
protocol.

curl --http2 and Java's HttpClient offer HTTP/2 with every request ("Upgrade: h2c"), which a server
may ignore (RFC 9110, 7.8). httptools would leave the body of such a request unread.
"""

from __future__ import annotations

_UPGRADE, _IGNORED = b"upgrade:", b"ignored:"  # equally long


class HttpHead:
    """One request's first line and headers."""

    def __init__(self) -> None:
        self.size = 0  # bytes so far
        self._held = b""  # a line's beginning that may become _UPGRADE, or the blank line
        self._begun = False  # the request's first line has come
        self._fresh = True  # what comes next begins a line

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What there is to parse of the head now, and what comes behind it."""
        self.size += len(data)
        data, self._held = self._held + data, b""
        lines, at = [], 0
        while at < len(data):
            end = data.find(b"\n", at) + 1
            line = data[at : end or None]
            if not end and self._may_matter(line):
                self._held = line
                break
            blank = self._fresh and line in (b"\r\n", b"\n")
            lines.append(self._ignoring(line))
            self._fresh = bool(end)
            at += len(line)
            if blank and self._begun:
                self.size -= len(data) - at
                return b"".join(lines), data[at:]
            self._begun = self._begun or not blank
        return b"".join(lines), b""

    def _may_matter(self, start: bytes) -> bool:
        """Whether a line that begins so is to be seen as a whole."""
        in_name = self._begun and _UPGRADE.startswith(start.lower())
        return self._fresh and (in_name or start == b"\r")

    def _ignoring(self, line: bytes) -> bytes:
        named = self._begun and self._fresh and line[: len(_UPGRADE)].lower() == _UPGRADE
        return _IGNORED + line[len(_UPGRADE) :] if named else line
