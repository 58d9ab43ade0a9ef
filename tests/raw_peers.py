"""Servers written by hand, for tests in which a server must misbehave: in memory, and over HTTP byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from mcp_min.dispatcher import Call, Dispatcher

PATIENCE = 5  # seconds after which a test gives up on what should happen at once


class Scripted:
    """A server in memory that answers each method as the test says: a result, an error, or a function of the params.

    `server__discover` is `server/discover`. What it was asked stands in `heard`, with the params in `asked`.
    """

    def __init__(self, **answers: Any) -> None:
        self.heard: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.methods = {name.replace("__", "/"): self._handler(name, answer) for name, answer in answers.items()}

    def _handler(self, name: str, answer: Any) -> Callable[[dict[str, Any], Call], Awaitable[dict[str, Any]]]:
        async def handler(params: dict[str, Any], call: Call) -> dict[str, Any]:
            self.heard.append(name)
            self.asked.append(params)
            found = answer(params) if callable(answer) else answer
            found = await found if isinstance(found, Awaitable) else found
            if isinstance(found, Exception):
                raise found
            return dict(found)

        return handler

    async def dispatch(self, message: dict[str, Any], call: Call) -> Any:
        return await Dispatcher(self.methods).dispatch(message, call)


def initialized(version: str, **more: Any) -> dict[str, Any]:
    """What a server says to `initialize`."""
    described = {"capabilities": {"tools": {}}, "serverInfo": {"name": "old"}, "instructions": "i"}
    return {"protocolVersion": version, **described, **more}


class Request(NamedTuple):
    """One request, as a site has received it."""

    verb: str
    path: str
    headers: dict[str, str]
    message: dict[str, Any]
    writer: asyncio.StreamWriter  # for answers that are streams

    @property
    def method(self) -> str:
        return str(self.message.get("method", ""))


class Answer(NamedTuple):
    """What a site answers: a result under the request's id, or a whole message, or with another status nothing."""

    result: dict[str, Any] | None = None
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012
    message: dict[str, Any] | None = None


class Site:
    """An HTTP server that answers as `respond(request)` says, which may wait; with None it hangs up."""

    def __init__(self, respond: Callable[[Request], Any]) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.url = ""

    def heard(self) -> list[str]:
        """The methods, and the verbs where there was none."""
        return [request.method or request.verb for request in self.requests]

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(ConnectionError, EOFError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                verb, path, _ = head.split(" ", 2)
                headers = {key.lower(): value for key, value in re.findall(r"([^\r\n:]+): ?([^\r\n]*)", head)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                request = Request(verb, path, headers, json.loads(body or b"{}"), writer)
                self.requests.append(request)
                answer = self.respond(request)
                answer = await answer if isinstance(answer, Awaitable) else answer
                if answer is None:
                    break
                writer.write(_encoded(answer, request))


def _encoded(answer: Answer, request: Request) -> bytes:
    message = answer.message
    if answer.result is not None:
        message = {"jsonrpc": "2.0", "id": request.message["id"], "result": answer.result}
    body = b"" if message is None else json.dumps(message).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def site(respond: Callable[[Request], Any]) -> AsyncIterator[Site]:
    """Serve on a free port of the loopback address."""
    here = Site(respond)
    listening = await asyncio.start_server(here.connected, "127.0.0.1", 0)
    here.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/mcp"
    try:
        yield here
    finally:
        listening.close()
        for task in here.tasks:
            task.cancel()
        await asyncio.gather(*here.tasks, return_exceptions=True)


async def until(holds: Callable[[], object]) -> None:
    """Wait for what has no event of its own."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)


def others() -> set[asyncio.Task[Any]]:
    """The tasks that run besides the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
