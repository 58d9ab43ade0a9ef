"""The HTTP client against servers that follow a script, byte for byte, on real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mcp_min import http_client
from mcp_min.http_client import HttpClient, HttpError, Timeouts, find_proxy, split_url

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n03 \r\nllo\r\n0\r\n\r\n"
FORGED = b"HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n"
HOLD = None  # say nothing more, wait until the client has gone

# Self-signed, for localhost and example.test, valid from 2020 to 2120, and trusted by nobody but these tests.
CERTIFICATE = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgyazrH2TSKM/15e/3
Jqz8XmkhHBTjSLInyttvMOpcQgOhRANCAASv0HLuYq9riV/FEXzKgZtDZ5xi5A1W
jpx5hBK1KId1bY2lmGQijj5UFXXFouTwTM3YJuUBAJ+Kb4NiHOtVFMkq
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBdDCCARugAwIBAgIBATAKBggqhkjOPQQDAjAXMRUwEwYDVQQDDAxtY3BfbWlu
IHRlc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBcxFTATBgNV
BAMMDG1jcF9taW4gdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABK/Qcu5i
r2uJX8URfMqBm0NnnGLkDVaOnHmEErUoh3VtjaWYZCKOPlQVdcWi5PBMzdgm5QEA
n4pvg2Ic61UUySqjVjBUMCIGA1UdEQQbMBmCCWxvY2FsaG9zdIIMZXhhbXBsZS50
ZXN0MA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0OBBYEFPwjSSwDu5p+V2/O4Q521du5
buNNMAoGCCqGSM49BAMCA0cAMEQCIEITVCkRCLoTT4ZyuEZBBv7ZC6OqUeK1ZXUj
7m0ygZq6AiAE9wYDPkPpY/o4k94WtIwANcgYpM8xYHxdsyVcISr1Ag==
-----END CERTIFICATE-----
"""

Script = list[bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]] | None]


class Scripted:
    """A server whose connections each follow a script: per request one answer, then the connection is closed."""

    def __init__(self, scripts: list[Script]) -> None:
        self.scripts = scripts
        self.requests: list[bytes] = []  # as they came
        self.accepted = 0
        self.ended: list[asyncio.Event] = [asyncio.Event() for _ in scripts]
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.accepted = self.accepted, self.accepted + 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(ConnectionError, EOFError):
            for step in self.scripts[number]:
                await self.follow(step, reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        self.ended[number].set()

    async def follow(self, step, reader, writer) -> None:
        if step is HOLD:
            while await reader.read(2**16):
                pass
        elif callable(step):
            await step(reader, writer)
        else:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            self.requests.append(head + await reader.readexactly(int(length[1]) if length else 0))
            writer.write(step)
            await writer.drain()


@contextlib.asynccontextmanager
async def serving(
    *scripts: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Scripted]:
    """Follow the scripts; at the end every connection must have ended, or the test fails."""
    server = Scripted(list(scripts))
    listener = await asyncio.start_server(server.connected, host, 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
        async with asyncio.timeout(5):
            await asyncio.gather(*server.tasks)
    finally:
        listener.close()
        for task in server.tasks:
            task.cancel()


@pytest.fixture
async def client():
    client = HttpClient(timeouts=Timeouts(connect=5, write=5, head=5, read=5))
    yield client
    client.close()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def get(client: HttpClient, url: str) -> tuple[int, bytes]:
    response = await client.request("GET", url, {})
    return response.status, await response.read()


async def post(client: HttpClient, url: str) -> tuple[int, bytes]:
    response = await client.request("POST", url, {}, b"{}")
    return response.status, await response.read()


# --- requests ------------------------------------------------------------------------------------


async def test_what_is_sent(client):
    async with serving([OK, OK, OK]) as server:
        headers = {"Accept": "application/json, text/event-stream", "X-Text": "caf\xe9\t!", "X-Empty": ""}
        response = await client.request("POST", f"{server.url}/mcp?a=b#c", headers, b"{}")
        assert await response.read() == b"hello"
        await post(client, server.url)
        await get(client, f"{server.url}?a=b")
        client.close()
    host = f"Host: 127.0.0.1:{server.port}\r\nAccept-Encoding: identity\r\n".encode()
    assert server.requests == [
        b"POST /mcp?a=b HTTP/1.1\r\n" + host + b"Accept: application/json, text/event-stream\r\n"
        b"X-Text: caf\xe9\t!\r\nX-Empty: \r\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n" + host + b"Content-Length: 2\r\n\r\n{}",
        b"GET /?a=b HTTP/1.1\r\n" + host + b"\r\n",
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nY: b"},
        {"X": "a\n"},
        {"X": "a\rb"},
        {"X": "a\0"},
        {"X": "\u20ac"},
        {"X\r\nY": "a"},
        {"X: a": "b"},
        {"X Y": "a"},
        {"": "a"},
        {"Host": "evil"},
        {"content-length": "1"},
        {"Transfer-Encoding": "chunked"},
        {"connection": "upgrade"},
        {"Accept-encoding": "gzip"},
    ],
)
async def test_headers_that_cannot_be_sent(client, headers):
    with pytest.raises(ValueError, match="cannot be sent") as caught:
        await client.request("GET", "http://127.0.0.1:1", headers)
    assert repr(next(iter(headers))) in str(caught.value)


@pytest.mark.parametrize(
    ("url", "origin", "host", "port", "target"),
    [
        ("http://example.com", "http://example.com", "example.com", 80, "/"),
        ("https://example.com", "https://example.com", "example.com", 443, "/"),
        ("HTTP://Example.COM:80/A?b=/@c", "http://example.com", "example.com", 80, "/A?b=/@c"),
        ("https://example.com:443?q=a@b", "https://example.com", "example.com", 443, "/?q=a@b"),
        ("https://example.com:80/", "https://example.com:80", "example.com", 80, "/"),
        ("http://localhost:8000/mcp#part", "http://localhost:8000", "localhost", 8000, "/mcp"),
        ("http://[::1]:8000/mcp", "http://[::1]:8000", "::1", 8000, "/mcp"),
        ("http://[FE80::1]", "http://[fe80::1]", "fe80::1", 80, "/"),
        ("http://a_b.example./%20", "http://a_b.example.", "a_b.example.", 80, "/%20"),
    ],
)
def test_urls(url, origin, host, port, target):
    where, path = split_url(url)
    assert (str(where), where.host, where.port, path) == (origin, host, port, target)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:secret@example.com/", "must not hold a user name"),
        ("http://secret@example.com", "must not hold a user name"),
        ("http://user:secret@example.com?x", "must not hold a user name"),
        ("ftp://example.com", "is no URL"),
        ("example.com/mcp", "is no URL"),
        ("http:///mcp", "is no URL"),
        ("http://", "is no URL"),
        ("", "is no URL"),
        ("http://exa mple.com", "is no URL"),
        ("http://example.com/a b", "is no URL"),
        ("http://example.com/\r\nX: y", "is no URL"),
        ("http://example.com/\u20ac", "is no URL"),
        ("http://ex\u20acmple.com/", "is no URL"),
        ("http://example.com\\@evil", "must not hold"),
        ("http://a..b/", "is no URL"),
        ("http://" + "a" * 64, "is no URL"),
        ("http://::1/", "is no URL"),
        ("http://[::1%25eth0]/", "is no URL"),
        ("http://example.com:/", "is no URL"),
        ("http://example.com:+80/", "is no URL"),
        ("http://example.com:0/", "port between"),
        ("http://example.com:65536/", "port between"),
    ],
)
async def test_urls_that_are_refused(client, url, words):
    with pytest.raises(ValueError, match=words) as caught:
        await client.request("GET", url, {})
    assert "secret" not in str(caught.value)


# --- bodies and the pool -------------------------------------------------------------------------


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    await reader.readuntil(b"\r\n\r\n")
    for i in range(len(answer)):
        writer.write(answer[i : i + 1])
        await writer.drain()
        await asyncio.sleep(0)  # lets the client read, so that it sees the cuts


# answer, its body, whether the connection serves a second request
ANSWERS = {
    "sized": (OK, b"hello", True),
    "chunked": (CHUNKED, b"hello", True),
    "empty": (b"HTTP/1.1 202 Accepted\r\ncontent-length:0\r\n\r\n", b"", True),
    "empty and chunked": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n", b"", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", False),
    "no content, with content": (b"HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\nhello", b"", False),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", False),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    "close": (OK.replace(b"\r\n\r\n", b"\r\nConnection: Keep-Alive, Close\r\n\r\n"), b"hello", False),
    "HTTP/1.0": (OK.replace(b"1.1", b"1.0"), b"hello", False),
    "trailers": (CHUNKED[:-2] + b"X: y\r\n\r\n", b"hello", False),
    "100 before it": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, b"hello", True),
    "an error": (OK.replace(b"200 OK", b"503 Busy"), b"hello", True),
}


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(("answer", "body", "kept"), ANSWERS.values(), ids=ANSWERS)
async def test_bodies(client, answer, body, kept, cut):
    first = (lambda reader, writer: trickle(reader, writer, answer)) if cut else answer
    async with serving([first, OK if kept else FORGED], [OK]) as server:
        assert (await get(client, server.url))[1] == body
        assert bool(client._idle.get(split_url(server.url)[0])) is kept
        assert await get(client, server.url) == (200, b"hello")
        client.close()
        assert server.accepted == (1 if kept else 2)


async def test_an_empty_body_need_not_be_read(client):
    async with serving([b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", OK]) as server:
        response = await client.request("POST", server.url, {}, b"{}")
        assert await get(client, server.url) == (200, b"hello")
        client.close()
        assert server.accepted == 1
        assert await response.read() == b""


@pytest.mark.parametrize("body", [b"", b"hello"])
async def test_a_body_without_a_length_ends_with_the_connection(client, body):
    async with serving([b"HTTP/1.1 200 OK\r\n\r\n" + body]) as server:
        assert await get(client, server.url) == (200, body)
        assert not client._idle.get(split_url(server.url)[0])


async def test_headers_of_an_answer(client):
    head = b"HTTP/1.1 404 \xe9\r\nA:1\r\nB: \t2 \t\r\na:  3\r\nX-\xc3: \xe9\r\n".replace(b"X-\xc3", b"X")
    async with serving([head + b"Empty:\r\nContent-Length: 0\r\n\r\n"]) as server:
        response = await client.request("GET", server.url, {})
        assert response.status == 404
        assert response.headers == {"a": "1, 3", "b": "2", "x": "\xe9", "empty": "", "content-length": "0"}
        assert await response.read() == b""


async def test_bytes_after_the_announced_length_are_no_second_answer(client):
    async with serving([OK + FORGED, OK], [OK]) as server:
        assert await get(client, server.url) == (200, b"hello")
        assert await post(client, server.url) == (200, b"hello")
        client.close()
        assert server.accepted == 2


async def test_a_body_is_read_in_pieces_as_they_come(client):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for word in (b"one", b"two"):
            writer.write(b"3\r\n%b\r\n" % word)
            await asked.wait()
            asked.clear()
        writer.write(b"0\r\n\r\n")

    asked = asyncio.Event()
    async with serving([talk, OK]) as server:
        response = await client.request("GET", server.url, {})
        for word in (b"one", b"two"):
            assert await response.read_some() == word
            asked.set()
        assert await response.read_some() == b""
        assert await response.read_some() == b""
        response.close()
        assert await get(client, server.url) == (200, b"hello")  # closing what was read to its end drops nothing
        client.close()
        assert server.accepted == 1


async def test_closing_a_response_drops_its_connection(client):
    async with serving([b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: \n\n", HOLD]) as server:
        response = await client.request("GET", server.url, {})
        assert await response.read_some() == b": \n\n"
        response.close()
        response.close()
        await server.ended[0].wait()
        assert await response.read_some() == b""


async def test_closing_the_client_drops_what_is_being_read(client):
    async with serving([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", HOLD]) as server:
        response = await client.request("GET", server.url, {})
        assert await response.read_some() == b"hello"
        client.close()
        with pytest.raises(HttpError, match="the connection was closed before its end"):
            await response.read_some()
        await server.ended[0].wait()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"])
async def test_cancelling_drops_the_connection(client, answer):
    async def take(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        begun.set()

    begun = asyncio.Event()
    async with serving([take, HOLD]) as server:
        task = asyncio.create_task(get(client, server.url))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.ended[0].wait()


async def test_requests_at_once_have_a_connection_each(client, monkeypatch):
    monkeypatch.setattr(http_client, "MAX_IDLE", 2)
    async with serving(*[[OK] * 3 for _ in range(3)]) as server:
        responses = [await client.request("GET", server.url, {}) for _ in range(3)]
        assert server.accepted == 3
        for response in responses:
            assert await response.read() == b"hello"
        await server.ended[2].wait()  # two are kept, one is too many
        for _ in range(2):
            await get(client, server.url)
        assert server.accepted == 3
        client.close()


async def test_origins_do_not_share_connections(client):
    async with serving([OK]) as one, serving([OK]) as other:
        await get(client, one.url)
        await get(client, other.url)
        assert one.accepted == other.accepted == 1
        client.close()


async def test_a_connection_kept_too_long_is_replaced(client, monkeypatch):
    async with serving([OK, HOLD], [OK]) as server:
        await get(client, server.url)
        monkeypatch.setattr(http_client, "IDLE", -1.0)
        await post(client, server.url)
        assert len(client._connections) == 1
        client.close()
        assert server.accepted == 2


async def until_noticed(client: HttpClient) -> None:
    """Wait until the client's loop has seen the end of the one connection that it keeps."""
    [[(reader, writer, _)]] = client._idle.values()
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    assert reader.at_eof() or writer.is_closing()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SOL_SOCKET, SO_LINGER: RST
    writer.transport.abort()


@pytest.mark.parametrize("end", [[], [reset]], ids=["closed", "reset"])
async def test_a_connection_closed_while_idle_is_replaced_whatever_the_request(client, end):
    async with serving([OK, *end], [OK]) as server:
        await get(client, server.url)
        await until_noticed(client)
        assert await post(client, server.url) == (200, b"hello")
        client.close()


@pytest.mark.parametrize("last_words", [b"", b"H"], ids=["silently", "after a byte"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_a_request_is_sent_once_also_where_a_kept_connection_breaks(client, method, last_words):
    async def take_and_close(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(last_words)

    async with serving([OK, take_and_close], [OK]) as server:
        await get(client, server.url)
        with pytest.raises(HttpError, match="waiting for the answer: the connection was closed") as caught:
            await client.request(method, server.url, {})
        assert caught.value.sent
        assert server.accepted == 1
        assert await get(client, server.url) == (200, b"hello")
        client.close()


# --- hostile servers -----------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
HOSTILE = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", "the answer is not HTTP: it begins with b'S'"),
    "nothing at all": (b"", "the connection was closed"),
    "HTTP/0.9": (b"<html>", "the answer is not HTTP"),
    "HTTP/2": (b"HTTP/2 200 OK\r\n\r\n", "malformed head"),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n\r\n", "malformed head"),
    "a long status": (b"HTTP/1.1 2000 OK\r\n\r\n", "malformed head"),
    "a status of zeros": (b"HTTP/1.1 000 OK\r\n\r\n", "malformed head"),
    "a status that is no number": (b"HTTP/1.1 2x0 OK\r\n\r\n", "malformed head"),
    "a header without a colon": (HEAD + b"X\r\n\r\n", "malformed head"),
    "a space before the colon": (HEAD + b"X : y\r\n\r\n", "malformed head"),
    "a folded header": (HEAD + b"X: y\r\n z\r\n\r\n", "malformed head"),
    "a header without a name": (HEAD + b": y\r\n\r\n", "malformed head"),
    "NUL in a header": (HEAD + b"X: \0\r\n\r\n", "malformed head"),
    "a bare CR in a header": (HEAD + b"X: a\rY: b\r\n\r\n", "malformed head"),
    "a bare LF in a header": (HEAD + b"X: a\nY: b\r\n\r\n", "malformed head"),
    "an endless header": (HEAD + b"X: " + b"y" * 200_000, "no end within 65536 bytes"),
    "endless headers": (HEAD + b"X: y\r\n" * 30_000, "no end within 65536 bytes"),
    "a head that is too long": (HEAD + b"X: " + b"y" * 65_536 + b"\r\n\r\n", "no end within 65536 bytes"),
    "a head that stops": (HEAD + b"X: y\r\n", "the connection was closed"),
    "endless interim answers": (b"HTTP/1.1 100 Continue\r\n\r\n" * 10 + OK, "more than 10 interim answers"),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "'5, 5' is no number"),
    "a negative length": (HEAD + b"Content-Length: -5\r\n\r\nhello", "'-5' is no number"),
    "a signed length": (HEAD + b"Content-Length: +5\r\n\r\nhello", "is no number"),
    "a length with a score": (HEAD + b"Content-Length: 1_0\r\n\r\nhello", "is no number"),
    "a length that is empty": (HEAD + b"Content-Length:\r\n\r\nhello", "is no number"),
    "a length in superscript": (HEAD + b"Content-Length: \xb2\r\n\r\nhello", "is no number"),
    "a length of 5,000 digits": (HEAD + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", "is no number"),
    "a length over the limit": (HEAD + b"Content-Length: 101\r\n\r\nhello", "more than 100 bytes .option max_body"),
    "a length and a coding": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "'chunked' and Content",
    ),
    "two codings": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "'gzip, chunked'"),
    "chunked twice": (HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n", "'chunked, chunked'"),
    "a length that lies": (HEAD + b"Content-Length: 6\r\n\r\nhello", "the connection was closed before its end"),
    "an endless body": (HEAD + b"\r\n" + b"x" * 101, "more than 100 bytes .option max_body"),
    "endless chunks": (CHUNKED[:47] + b"1\r\nx\r\n" * 101, "more than 100 bytes .option max_body"),
    "a huge chunk": (CHUNKED[:47] + b"fffffffffffffff\r\nx", "more than 100 bytes"),
    "a chunk size of 16 digits": (CHUNKED[:47] + b"0000000000000001\r\n", "is no chunk size"),
    "a negative chunk size": (CHUNKED[:47] + b"-1\r\n", "b'-1.r.n' is no chunk size"),
    "an empty chunk size": (CHUNKED[:47] + b"\r\n1\r\nx\r\n0\r\n\r\n", "is no chunk size"),
    "an endless chunk size": (CHUNKED[:47] + b"0" * 200_000, "no end within 65536 bytes"),
    "a chunk longer than it says": (CHUNKED[:47] + b"1\r\nxyz\r\n0\r\n\r\n", "does not end where it should"),
    "a chunk ended by LF": (CHUNKED[:47] + b"1\r\nx\n0\r\n\r\n", "does not end where it should"),
    "a chunk that stops": (CHUNKED[:47] + b"5\r\nhel", "the connection was closed before its end"),
    "no last chunk": (CHUNKED[:47] + b"2\r\nhe\r\n", "the connection was closed"),
}


@pytest.mark.parametrize(("answer", "words"), HOSTILE.values(), ids=HOSTILE)
async def test_hostile_answers(answer, words):
    client = HttpClient(max_body=100, timeouts=Timeouts(5, 5, 5, 5))
    async with serving([answer]) as server:
        with pytest.raises(HttpError, match=words) as caught:
            await get(client, server.url)
    assert re.match(rf"{server.url}: (waiting for the answer|reading the body): ", str(caught.value))
    assert str(caught.value).count(server.url) == 1
    assert not client._idle.get(split_url(server.url)[0])


@pytest.mark.parametrize("answer", [b"HTTP/1.1 100 Continue\r\n\r\n" + OK, CHUNKED], ids=["sized", "chunked"])
async def test_a_hang_up_at_every_byte(client, answer):
    async with serving(*[[answer[:end]] for end in range(len(answer))]) as server:
        for _ in range(len(answer)):
            with pytest.raises(HttpError, match="the connection was closed"):
                await post(client, server.url)


async def test_a_reset_in_the_answer(client):
    async with serving([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", reset]) as server:
        response = await client.request("GET", server.url, {})
        with pytest.raises(HttpError, match=r"reading the body: .*reset"):
            await response.read()


DEAF = b"deaf"
SILENT = {
    "connecting": (Timeouts(connect=0.01), "https", [HOLD], b""),
    "sending the request": (Timeouts(write=0.01), "http", [DEAF], b"x" * 2**25),
    "waiting for the answer": (Timeouts(head=0.01), "http", [HOLD], b""),
    "reading the body": (Timeouts(read=0.01), "http", [HEAD + b"Content-Length: 5\r\n\r\nhell", HOLD], b""),
}


@pytest.mark.parametrize("phase", SILENT)
async def test_silence(phase):
    timeouts, scheme, script, body = SILENT[phase]

    async def never_read(reader, writer):
        await given_up.wait()

    given_up = asyncio.Event()
    async with serving([never_read if step is DEAF else step for step in script]) as server:
        client = HttpClient(timeouts=timeouts)
        with pytest.raises(HttpError, match=rf"//127.0.0.1:{server.port}: {phase}: not done within 0.01 s"):
            await (await client.request("POST", f"{scheme}://127.0.0.1:{server.port}", {}, body)).read()
        given_up.set()


async def test_silence_of_a_stream_is_the_callers(client):
    async with serving([b"HTTP/1.1 200 OK\r\n\r\nhello", HOLD]) as server:
        response = await client.request("GET", server.url, {})
        assert await response.read_some() == b"hello"
        with pytest.raises(HttpError, match=r"reading the body: not done within 0\.01 s"):
            await response.read_some(silence=0.01)


async def test_nobody_listens(client):
    async with serving() as server:
        pass
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(
            HttpError, match=f"http://{host}:{server.port}: connecting: .*(refused|Connect call)"
        ) as caught:
            await client.request("POST", f"http://{host}:{server.port}", {}, b"{}")
        assert not caught.value.sent


@pytest.mark.parametrize("problem", [OSError(-2, "Name or service not known"), ConnectionResetError()])
async def test_a_host_that_does_not_exist(client, monkeypatch, problem):
    async def no_such_host(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_such_host)
    words = str(problem) or "ConnectionResetError"  # some of asyncio's errors have no text of their own
    with pytest.raises(HttpError, match=re.escape(f"http://nowhere.test: connecting: {words}")):
        await client.request("GET", "http://nowhere.test", {})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_localhost_is_either_family(client, host):
    with contextlib.suppress(OSError):  # a machine without IPv6 has nothing to show
        async with serving([OK], [OK], host=host) as server:
            assert await get(client, f"http://localhost:{server.port}") == (200, b"hello")
            literal = f"[{host}]" if ":" in host else host
            await get(client, f"http://{literal}:{server.port}")
            assert f"Host: {literal}:{server.port}\r\n".encode() in server.requests[1]
            client.close()


# --- redirects -----------------------------------------------------------------------------------


def redirect(status: int, location: str) -> bytes:
    return f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nmoved".encode("latin-1")


@pytest.mark.parametrize(
    ("method", "status", "location", "target"),
    [
        ("POST", 307, "/mcp/", "/mcp/"),
        ("POST", 308, "mcp/?a=b", "/a/mcp/?a=b"),
        ("GET", 301, "../x#y", "/x"),
        ("GET", 302, "http://127.0.0.1:PORT", "/"),
        ("GET", 303, "//127.0.0.1:PORT/x", "/x"),
    ],
)
async def test_a_redirect_within_the_origin_is_followed(client, method, status, location, target):
    script = lambda: [redirect(status, location.replace("PORT", str(server.port)))]  # noqa: E731
    async with serving([], [OK]) as server:
        server.scripts[0] += script()
        headers = {"Authorization": "Bearer secret"}
        response = await client.request(method, f"{server.url}/a/mcp", headers, b"{}")
        assert await response.read() == b"hello"
        first, second = server.requests
        assert second == first.replace(f"{method} /a/mcp ".encode(), f"{method} {target} ".encode())
        assert len(client._connections) == 1  # that of the redirect is not left open
        client.close()


@pytest.mark.parametrize(
    ("method", "status", "location", "words"),
    [
        ("GET", 302, "http://evil.example/x", "GET is not redirected by 302 to http://evil.example/x"),
        ("POST", 307, "https://127.0.0.1:PORT/", "POST is not redirected by 307 to https://127.0.0.1:PORT/"),
        ("POST", 307, "http://localhost:PORT/", "to http://localhost:PORT/; use that if you trust it"),
        ("POST", 308, "//127.0.0.1:1/", "to http://127.0.0.1:1/;"),
        ("POST", 302, "/x", "POST is not redirected by 302 to http://127.0.0.1:PORT/x;"),
        ("POST", 303, "/x", "POST is not redirected by 303"),
        ("GET", 302, "ftp://127.0.0.1:PORT/", "redirected to an unusable address: 'ftp:"),
        ("GET", 302, "http://[", "redirected to an unusable address"),
        ("GET", 302, "/\xe9", "redirected to an unusable address"),
        ("GET", 302, "http://user:secret@127.0.0.1:PORT/", "an unusable address: a URL must not hold a user name"),
    ],
)
async def test_a_redirect_elsewhere_is_not_followed(client, method, status, location, words):
    async with serving([]) as server:
        server.scripts[0].append(redirect(status, location.replace("PORT", str(server.port))))
        with pytest.raises(HttpError, match=re.escape(words.replace("PORT", str(server.port)))) as caught:
            await client.request(method, server.url, {}, b"{}")
    assert str(caught.value).startswith(server.url)
    assert "secret" not in str(caught.value)


async def test_redirects_end(client):
    async with serving(*[[redirect(307, f"/{n}")] for n in range(6)]) as server:
        with pytest.raises(HttpError, match=f"{server.url}: more than 5 redirects"):
            await client.request("GET", server.url, {})
        assert len(server.requests) == 6


@pytest.mark.parametrize("status", [201, 300, 304])
async def test_a_location_alone_is_no_redirect(client, status):
    async with serving([redirect(status, "/x")]) as server:
        with contextlib.closing(await client.request("GET", server.url, {})) as response:
            assert response.status == status


async def test_a_redirect_to_nowhere_is_an_answer(client):
    async with serving([OK.replace(b"200", b"307")]) as server:
        assert await get(client, server.url) == (307, b"hello")
        client.close()


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def server_tls(tmp_path):
    file = tmp_path / "certificate.pem"
    file.write_text(CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
async def trusting(server_tls):
    client = HttpClient(ssl_context=ssl.create_default_context(cadata=CERTIFICATE))
    yield client
    client.close()


async def test_tls(trusting, server_tls):
    async with serving([CHUNKED, OK], tls=server_tls) as server:
        for _ in range(2):
            assert await get(trusting, f"https://localhost:{server.port}") == (200, b"hello")
        trusting.close()
        assert server.accepted == 1


@pytest.mark.parametrize(
    ("trust", "host", "words"),
    [(False, "localhost", "CERTIFICATE_VERIFY_FAILED"), (True, "127.0.0.1", "IP address mismatch")],
)
async def test_a_certificate_is_checked(trusting, client, server_tls, trust, host, words):
    async with serving([HOLD], tls=server_tls) as server:
        with pytest.raises(HttpError, match=rf"https://{host}:{server.port}: connecting: .*{words}") as caught:
            await get(trusting if trust else client, f"https://{host}:{server.port}")
        assert not caught.value.sent


async def test_plain_http_where_tls_is_expected(trusting):
    async def hang_up(reader, writer):
        await reader.read(1)

    for script in ([hang_up], [lambda reader, writer: trickle_now(writer, OK)]):
        async with serving(script) as server:
            with pytest.raises(HttpError, match=r"connecting: \S"):
                await get(trusting, f"https://localhost:{server.port}")


async def trickle_now(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


# --- proxies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("http://a.test", {}, None),
        ("http://a.test", {"HTTP_PROXY": "http://p.test:3128"}, "http://p.test:3128"),
        ("http://a.test", {"HTTP_PROXY": "p.test:3128/"}, "http://p.test:3128"),
        ("http://none", {"HTTP_PROXY": "http://p.test"}, "http://p.test"),
        ("http://a.test", {"HTTP_PROXY": "http://x.test", "http_proxy": "http://p.test"}, "http://p.test"),
        ("https://a.test", {"HTTP_PROXY": "http://p.test"}, None),
        ("https://a.test", {"HTTPS_PROXY": "http://p.test"}, "http://p.test"),
        ("http://a.test", {"HTTP_PROXY": "http://p.test", "NO_PROXY": "b.test, a.test"}, None),
        ("http://a.test", {"HTTP_PROXY": "http://p.test", "no_proxy": "A.TEST"}, None),
        ("http://b.a.test", {"HTTP_PROXY": "http://p.test", "NO_PROXY": "a.test"}, None),
        ("http://b.a.test", {"HTTP_PROXY": "http://p.test", "NO_PROXY": ".a.test"}, None),
        ("http://b.a.test", {"HTTP_PROXY": "http://p.test", "NO_PROXY": "*.a.test"}, None),
        ("http://ba.test", {"HTTP_PROXY": "http://p.test", "NO_PROXY": "a.test"}, "http://p.test"),
        ("http://a.test:81", {"HTTP_PROXY": "http://p.test", "NO_PROXY": "a.test:81"}, None),
        ("http://a.test:82", {"HTTP_PROXY": "http://p.test", "NO_PROXY": "a.test:81"}, "http://p.test"),
        ("http://a.test", {"HTTP_PROXY": "http://p.test", "NO_PROXY": "*"}, None),
        ("http://a.test", {"HTTP_PROXY": "http://p.test", "NO_PROXY": ",, ,"}, "http://p.test"),
        ("http://localhost:8000", {"HTTP_PROXY": "http://p.test"}, None),
        ("http://127.0.0.1:8000", {"HTTP_PROXY": "http://p.test"}, None),
        ("http://[::1]:8000", {"HTTP_PROXY": "http://p.test"}, None),
    ],
)
def test_which_proxy(monkeypatch, url, environment, proxy):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = find_proxy(split_url(url)[0])
    assert (None if found is None else (str(found[0]), found[1])) == (proxy and (proxy, ""))


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("https://p.test", "HTTP_PROXY must be http://host:port; https:// proxies"),
        ("socks5://user:secret@p.test", "socks5:// proxies are not supported"),
        ("http://", "is no URL"),
    ],
)
async def test_proxies_that_are_refused(client, monkeypatch, proxy, words):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(ValueError, match=words) as caught:
        await get(client, "http://a.test/")
    assert "secret" not in str(caught.value)


CREDENTIALS = b"Proxy-Authorization: Basic " + base64.b64encode(b"user:p@ss") + b"\r\n"


async def test_http_through_a_proxy(client, monkeypatch):
    async with serving([OK, OK]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        for _ in range(2):
            assert await get(client, "http://a.test:81/x?y") == (200, b"hello")
        client.close()
        start = b"GET http://a.test:81/x?y HTTP/1.1\r\nHost: a.test:81\r\n" + CREDENTIALS
        assert [request[: len(start)] for request in proxy.requests] == [start, start]


@pytest.mark.parametrize(
    ("url", "target"), [("https://example.test", b"example.test:443"), ("https://example.test:81", b"example.test:81")]
)
async def test_https_through_a_proxy(trusting, monkeypatch, server_tls, url, target):
    async def start_tls(reader, writer):
        await writer.start_tls(server_tls)

    async with serving([b"HTTP/1.1 200 Connected\r\n\r\n", start_tls, OK, OK]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"user:p%40ss@127.0.0.1:{proxy.port}")
        for _ in range(2):
            assert await get(trusting, f"{url}/x") == (200, b"hello")
        trusting.close()
        connect, *requests = proxy.requests
        assert connect == b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target) + CREDENTIALS + b"\r\n"
        authority = url.removeprefix("https://").encode()
        assert requests == [b"GET /x HTTP/1.1\r\nHost: " + authority + b"\r\nAccept-Encoding: identity\r\n\r\n"] * 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n", "refused a tunnel with status 407"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", "does not keep to its tunnel"),
        (b"garbage", "not HTTP"),
        (b"", "the connection was closed"),
    ],
)
async def test_a_proxy_that_gives_no_tunnel(trusting, monkeypatch, answer, words):
    async def answer_connect(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with serving([answer_connect]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(HttpError, match=f"https://example.test: connecting: .*{words}") as caught:
            await get(trusting, "https://example.test/")
        assert not caught.value.sent


# --- the module ----------------------------------------------------------------------------------


def test_nothing_heavy_is_imported():
    heavy = {"email", "http.client", "urllib.request", "urllib.parse"}
    program = "import sys; before = set(sys.modules); import mcp_min.http_client; "
    program += f"print({heavy} & (set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


def test_the_defaults_wait_for_no_phase_for_ever():
    assert None not in Timeouts()
