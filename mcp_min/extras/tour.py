"""One call, followed: every function of the package that a message enters, and the bytes at each border.

`python -m mcp_min tour` prints what this file measures, and the tests hold it to a budget: a server
that can be read is one whose messages take a short way. A real server answers a real `tools/call`
over a socket, on the stream that stdio uses or over HTTP, while the interpreter reports each function
that it enters (`sys.setprofile`), from the arrival of the request to the write of its reply.

Counted are the functions of this package, each once, on the server's side only. A lambda or a
comprehension belongs to the function that it stands in; methods that a dataclass writes itself have
no lines and are not counted. The call that is followed is the second of its connection, so that what is
done once for each client is not in the way: over HTTP, the guards know it already.

Deliberately absent: time. Profiling slows everything down; the benchmark measures.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import io
import os
import socket
import sys
import tokenize
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from .. import jsonrpc, spec
from ..headers import request_headers
from ..jsonrpc import Message
from ..server import Server
from ..serving import serve_http
from ..stdio import FileStream
from ..stream import LineTransport, answer

ERAS = (spec.LEGACY[0], spec.MODERN[0])
_PACKAGE = __name__.removesuffix("extras.tour")  # "mcp_min.", whatever the package is called here
Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter, Callable[[Message, str], bytes]]
_PUT = asyncio.Queue.put_nowait.__code__

server = Server("tour")


@server.tool
async def add(a: int, b: int) -> int:
    """Stand for the user's function, at the end of the way."""
    return a + b


@dataclass
class Hops:
    """The way of one message through the package."""

    request: bytes  # as it arrived
    reply: bytes = b""
    steps: list[tuple[int, str, str]] = field(default_factory=list)  # (depth, place, what happens there), in order
    files: dict[str, int] = field(default_factory=dict)  # name -> lines, with their prose
    functions: dict[str, int] = field(default_factory=dict)  # "file:line name" -> lines of code
    total_lines: int = 0  # of all files
    code_lines: int = 0  # of all functions
    queues: int = 0  # how often something was put into an asyncio.Queue

    def observe(self, frame: FrameType, event: str, argument: Any) -> None:
        """Take one report of the interpreter; the write of the reply is the last."""
        code, module = frame.f_code, _module(frame)
        if event == "c_call" and (argument is os.write or argument.__qualname__ == "socket.send"):
            sys.setprofile(None)
        elif code is add.__code__ and event in ("call", "return"):
            text = f"add() is called with {frame.f_locals}" if event == "call" else f"add() returns {argument!r}"
            self.steps.append((_depth(frame), "your function", text))
        elif event == "call" and code is _PUT:
            self.queues += 1
        elif event == "call" and module.startswith(_PACKAGE) and module != __name__ and code.co_filename != "<string>":
            self._enter(module.removeprefix(_PACKAGE) + ".py", code, _depth(frame), _outline(module))

    def _enter(self, file: str, code: CodeType, depth: int, outline: tuple[set[int], int, list[range]]) -> None:
        lines, self.files[file], spans = outline
        first = code.co_firstlineno
        *_, span = [range(first, first + 1), *(span for span in spans if first in span)]  # the innermost comes last
        place, name = f"{file}:{span.start}", code.co_qualname.split(".<locals>.<")[0]
        if f"{place} {name}" not in self.functions:
            self.steps.append((depth, place, name))
            self.functions[f"{place} {name}"] = len(lines.intersection(span))
            self.total_lines, self.code_lines = sum(self.files.values()), sum(self.functions.values())


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _depth(frame: FrameType | None) -> int:
    """Count the package's functions that wait for this one; below them is only the event loop."""
    depth = -1
    while frame is not None and _module(frame) != "asyncio.events":
        depth += _module(frame).startswith(_PACKAGE)
        frame = frame.f_back
    return depth


@functools.cache
def _outline(module: str) -> tuple[set[int], int, list[range]]:
    """Return a module's lines of code, without comments and docstrings; its number of lines; its functions."""
    source = inspect.getsource(sys.modules[module])
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [token for token in tokens if token.string.strip() and token.type != tokenize.COMMENT]
    lines = {line for token in found for line in range(token.start[0], token.end[0] + 1)}
    spans = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min(part.lineno for part in (node, *node.decorator_list))
            spans.append(range(first, (node.end_lineno or 0) + 1))
            if ast.get_docstring(node) is not None:
                lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines, len(source.splitlines()), spans


def hops(era: str, *, http: bool = False) -> Hops:
    """Make tools/call in this revision, over HTTP without a session, and return the way of the last."""
    return asyncio.run(_follow(era, _over_http if http else _over_stdio))


async def _follow(era: str, transport: Callable[[], AbstractAsyncContextManager[Connected]]) -> Hops:
    async with transport() as (replies, requests, framed):
        try:
            for message in _conversation(era):
                way = Hops(framed(message, era))
                requests.write(way.request)
                sys.setprofile(way.observe)
                way.reply = await _reply(replies)
        finally:
            sys.setprofile(None)
            requests.close()
    return way


@asynccontextmanager
async def _over_stdio() -> AsyncIterator[Connected]:
    ours, theirs = socket.socketpair()
    descriptor = theirs.detach()
    stream = FileStream(io.FileIO(descriptor), io.FileIO(os.dup(descriptor), "w"))
    serving = asyncio.create_task(answer(LineTransport(stream, "answer"), server.dispatch))
    replies, requests = await asyncio.open_connection(sock=ours)
    yield replies, requests, lambda message, era: jsonrpc.encode(message)
    await serving


@asynccontextmanager
async def _over_http() -> AsyncIterator[Connected]:
    async with serve_http(server, port=0, stateless=True) as http:

        def framed(message: Message, era: str) -> bytes:
            body = jsonrpc.encode(message)
            fields = {"host": f"127.0.0.1:{http.port}", "content-type": "application/json", "content-length": len(body)}
            fields |= request_headers(message, {}) if era in spec.MODERN else {spec.VERSION_HEADER: era}
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            return f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + body

        replies, requests = await asyncio.open_connection("127.0.0.1", http.port)
        yield replies, requests, framed


async def _reply(replies: asyncio.StreamReader) -> bytes:
    """Read a line, or an HTTP response: its head, and its body, which is a line too."""
    line = await replies.readline()
    return line + await replies.readuntil(b"\r\n\r\n") + await replies.readline() if line.startswith(b"HTTP") else line


def _conversation(era: str) -> list[Message]:
    who, params = {"name": "tour", "version": "1"}, {"name": "add", "arguments": {"a": 1, "b": 2}}
    opening = jsonrpc.request(0, "initialize", {"protocolVersion": era, "capabilities": {}, "clientInfo": who})
    if era in spec.MODERN:
        meta = {spec.PROTOCOL_VERSION: era, spec.CLIENT_INFO: who, spec.CLIENT_CAPABILITIES: {}}
        params, opening = params | {"_meta": meta}, jsonrpc.request(0, "server/discover", {"_meta": meta})
    return [opening, *(jsonrpc.request(id, "tools/call", params) for id in (1, 2))]


def tell(*, http: bool = False) -> Iterator[str]:
    """Yield the lines that `python -m mcp_min tour` prints."""
    for era in ERAS:
        way = hops(era, http=http)
        yield f"One tools/call of {era}{', over HTTP without a session' if http else ''}"
        yield f"  in   {_shown(way.request)}"
        for depth, place, text in way.steps:
            yield f"  {place:20}{'  ' * depth}{text}"
        yield f"  out  {_shown(way.reply)}"
        size = f"{len(way.files)} files of {way.total_lines} lines, {len(way.functions)} functions of {way.code_lines}"
        yield f"  {size} lines of code, {way.queues} queues\n"


def _shown(data: bytes) -> str:
    return data.decode().strip().replace("\r\n", "\n       ")
