"""What comes before a request's body, byte by byte."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn
from asgi import echo
from starlette.types import Receive, Scope, Send

from ferrum.runtime.serve import http_protocol
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.http_protocol import MOST_HEAD, HttpProtocol
from ferrum.runtime.serve.listen import listen

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it is sent, at /refused before it is; at /begun it never ends."""
    if scope["path"] == "/begun":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await receive()
    elif scope["path"] == "/refused":
        await ApiError(413, "no").response()(scope, receive, send)
    else:
        await echo(scope, receive, send)


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that answers with what it is sent."""
    config = uvicorn.Config(app, http=HttpProtocol, lifespan="off", log_config=None, ws="none",
                            timeout_keep_alive=600)  # fmt: skip
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads must come within a moment."""
    monkeypatch.setattr(http_protocol, "SECONDS", 0.2)


@pytest.fixture
def impatient_later(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, but for a connection's first head: a busy machine may send that late."""
    usual = HttpProtocol._give_up

    def give_up(self: HttpProtocol) -> None:
        if self.cycle is not None:
            usual(self)

    monkeypatch.setattr(HttpProtocol, "_give_up", give_up)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def refusal(connection: socket.socket) -> bytes:
    """An answer with a body of JSON, on a connection that stays."""
    received = b""
    while not received.endswith(b"}"):
        some = connection.recv(1 << 16)
        assert some, received
        received += some
    return received


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of all that comes until the server closes."""
    received = b""
    while some := connection.recv(1 << 16):
        received += some
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


def test_a_request_may_come_in_pieces(port: int) -> None:
    with connect(port) as connection:
        for (
            byte
        ) in b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n":
            connection.send(bytes([byte]))
        connection.send(b"\r\n")
        connection.send(b"hi")
        assert answer(connection) == (200, b"hi")


def test_one_connection_serves_many_requests(port: int) -> None:
    with connect(port) as connection:
        for _ in range(3):
            connection.send(GET + b"X: " + b"x" * (MOST_HEAD // 2) + b"\r\n\r\n")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.send(GET + b"Connection: close\r\n\r\n")
        assert answer(connection)[0] == 200


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_offer_of_http_2_is_passed_over(port: int, framing: str, at_once: bool) -> None:
    """As curl --http2 and Java's HttpClient make with every request."""
    body = b"Content-Length: 2\r\n\r\nhi"
    if framing == "chunked":
        body = b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"
    sent = b"POST / HTTP/1.1\r\nHost: localhost\r\n" + H2C + body
    with connect(port) as connection:
        for _ in range(2):  # the connection stays of use
            for part in [sent] if at_once else [bytes([byte]) for byte in sent]:
                connection.sendall(part)
            received = b""
            while b"hi" not in received:
                received += connection.recv(1 << 16)
            assert received.startswith(b"HTTP/1.1 200")
            assert received.count(b"HTTP/1.1") == 1


def test_requests_that_come_before_their_answers_are_told_apart(port: int) -> None:
    """Wherever one packet ends and the next begins."""
    body = b"Content-Length: 4\r\n\r\n\r\nhi"
    sent = 2 * (b"POST / HTTP/1.1\r\nHost: localhost\r\n" + H2C + body)
    with connect(port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(len(sent)):
            connection.sendall(sent[:cut])
            connection.sendall(sent[cut:])
            received = b""
            while received.count(b"\r\nhi") < 2:
                some = connection.recv(1 << 16)
                assert some
                received += some
            assert received.count(b"HTTP/1.1 200") == 2


def test_a_request_right_behind_chunks_is_400(port: int) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    sent = b"POST / HTTP/1.1\r\nHost: localhost\r\n" + chunked
    with connect(port) as connection:
        connection.sendall(sent + b"\r\n")  # some end their requests so
        received = b""
        while not received.endswith(b"\r\na"):
            received += connection.recv(1 << 16)
        connection.sendall(2 * sent)
        assert answer(connection)[0] == 400


def test_a_head_behind_a_body_is_measured_too(port: int) -> None:
    first = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
    with connect(port) as connection:
        connection.sendall(first + GET + b"X: " + b"x" * MOST_HEAD + b"\r\n\r\n")
        received = b""
        while some := connection.recv(1 << 16):
            received += some
        assert received.count(b"HTTP/1.1 431") == 1


def test_a_head_that_comes_in_one_piece_is_measured_too(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(GET + b"X: " + b"x" * MOST_HEAD + b"\r\n\r\n")
        assert answer(connection)[0] == 431


def test_a_body_that_is_not_what_it_says_is_400(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")  # fmt: skip
        assert answer(connection)[0] == 400


def test_a_body_may_be_longer_than_a_head(port: int) -> None:
    body = b"x" * (3 * MOST_HEAD)
    with connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                           b"Content-Length: %d\r\n\r\n%b" % (len(body), body))  # fmt: skip
        assert answer(connection) == (200, body)


@pytest.mark.parametrize("endless", [b"X: ", b"X: y\r\n", b""])
def test_a_head_without_an_end_is_431(port: int, endless: bytes) -> None:
    with connect(port) as connection:
        connection.send(GET)
        sent = 0
        try:
            while sent < 4 * MOST_HEAD:
                sent += connection.send(endless * 500 or b"x" * 1000)
        except OSError:  # closed already
            pass
        try:
            status, body = answer(connection)
        except ConnectionResetError:  # what was not read any more takes the answer along
            return
        assert status in (431, 400)
        assert json.loads(body)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "nonsense", [b"hello\r\n\r\n", b"\x16\x03\x01\x00\xa5", b"GET / HTTP/9\r\n\r\n"]
)
def test_what_is_no_http_is_400_as_other_errors_read(port: int, nonsense: bytes) -> None:
    with connect(port) as connection:
        connection.send(nonsense)
        status, body = answer(connection)
        assert status == 400
        assert json.loads(body)["error"]["message"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
def test_a_connection_that_says_no_more_is_closed(port: int, said: bytes) -> None:
    with connect(port) as connection, suppress(ConnectionError):  # closed before it was said
        connection.send(said)
        assert connection.recv(1000) == b""


def drip(
    connection: socket.socket, times: int, despite: tuple[type[Exception], ...] = (OSError,)
) -> None:
    """Send one header after the other, until the server has had enough."""
    with suppress(*despite):
        for _ in range(times):
            connection.send(b"X: y\r\n")
            time.sleep(0.05)


@pytest.mark.usefixtures("impatient")
def test_dripping_does_not_keep_a_connection(port: int) -> None:
    with connect(port) as connection:
        connection.send(GET)
        drip(connection, 1000)
        with pytest.raises(OSError):  # noqa: PT011  closed or reset
            drip(connection, 2, despite=())


@pytest.mark.usefixtures("impatient_later")
def test_an_answer_that_takes_longer_than_a_head_may_is_not_cut(port: int) -> None:
    with connect(port) as connection:
        connection.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                        b"Content-Length: 4\r\n\r\n")  # fmt: skip
        for byte in b"slow":
            time.sleep(0.15)
            connection.send(bytes([byte]))
        assert answer(connection) == (200, b"slow")


def refused(length: bytes) -> bytes:
    """The head of a request that is answered before its body is there."""
    return b"POST /refused HTTP/1.1\r\nHost: localhost\r\nContent-Length: %b\r\n\r\n" % length


def test_a_body_that_is_not_wanted_may_come_after_its_answer(port: int) -> None:
    with connect(port) as connection:
        body = b"x" * 300_000
        connection.sendall(refused(b"%d" % len(body)))
        assert refusal(connection).startswith(b"HTTP/1.1 413")
        connection.sendall(body)
        connection.sendall(GET + b"Connection: close\r\n\r\n")
        assert answer(connection)[0] == 200


def test_but_not_without_an_end(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "MOST_UNREAD", 1 << 20)
    with connect(port) as connection:
        connection.sendall(refused(b"1" + b"0" * 12))
        assert refusal(connection).startswith(b"HTTP/1.1 413")
        with pytest.raises(OSError):  # noqa: PT011  closed or reset
            connection.sendall(b"x" * (64 << 20))


def test_an_answer_that_has_begun_gets_no_second_one_in_its_midst(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"POST /begun HTTP/1.1\r\nHost: localhost\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n")  # fmt: skip
        received = connection.recv(1 << 16)
        while b"begun" not in received:
            received += connection.recv(1 << 16)
        connection.sendall(b"nonsense\r\n")
        with suppress(ConnectionResetError):
            while some := connection.recv(1 << 16):
                received += some
        assert received.count(b"HTTP/1.1") == 1


def test_bodies_that_are_not_wanted_are_counted_for_each_request(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "MOST_UNREAD", 100_000)
    with connect(port) as connection:
        for _ in range(5):
            connection.sendall(refused(b"60000"))
            assert refusal(connection).startswith(b"HTTP/1.1 413")
            connection.sendall(b"x" * 60_000)
        connection.sendall(GET + b"Connection: close\r\n\r\n")
        assert answer(connection)[0] == 200


@pytest.mark.usefixtures("impatient_later")
def test_and_not_drop_by_drop(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(refused(b"100000"))
        assert refusal(connection).startswith(b"HTTP/1.1 413")
        drip(connection, 1000)
        with pytest.raises(OSError):  # noqa: PT011  closed or reset
            drip(connection, 2, despite=())
