"""What a client can be pointed at: a command, a URL, a server in the same process, a transport.

`stream.py`, `stdio.py` and `http_transport.py` each know one way to a server; this file chooses.

    ["python", "server.py"]          a child process, as StdioServerParameters are with more to say
    "http://127.0.0.1:8000/mcp"      Streamable HTTP or HTTP+SSE, with headers as HttpServerParameters
    Server("files")                  a server in this process, whose messages are bytes all the same
    await connect_tcp(host, port)    any transport

A server in memory is served by a task that the client's end of the connection owns.

Deliberately absent: configuration files, which name targets; `extras/config.py` reads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from .dispatcher import Dispatch
from .jsonrpc import MAX_LINE
from .stream import ConnectionStream, LineTransport, Transport, answer, memory_pair

Target = Any  # a command, StdioServerParameters, a URL, HttpServerParameters, a Server, or a Transport


class HttpServerParameters(str):
    """A URL that brings its headers along; wherever a URL is a target, this is one.

    headers: sent with every request, unless a client is given others.
    """

    headers: Mapping[str, str]

    def __new__(cls, url: str, headers: Mapping[str, str] | None = None) -> HttpServerParameters:
        parameters = super().__new__(cls, url)
        parameters.headers = dict(headers or {})
        return parameters


async def open_transport(target: Target, *, older: bool = False, **options: Any) -> Transport:
    """Return the transport that a target needs; options are those of HttpTransport, older means HTTP+SSE.

    Raises OSError or RpcError when it cannot be opened, TypeError or ValueError for what is no target.
    """
    if isinstance(target, str):
        from .http_transport import HttpTransport, SseTransport  # only those who use HTTP load it

        if isinstance(target, HttpServerParameters):
            options = {"headers": target.headers} | options
        return await SseTransport(target, **options).open() if older else HttpTransport(target, **options)
    if options:
        raise TypeError(f"{', '.join(options)}: for URLs only, and {target!r:.100} is none")
    if hasattr(target, "dispatch"):
        return MemoryTransport(target.dispatch)
    if hasattr(target, "read") and hasattr(target, "write"):
        given: Transport = target
        return given
    from . import stdio

    if isinstance(target, (list, tuple)) and target:
        target = stdio.StdioServerParameters(target[0], target[1:])
    if not isinstance(target, stdio.StdioServerParameters):
        kinds = "a command as a list, StdioServerParameters, a URL, a Server, or a Transport"
        raise TypeError(f"a client connects to {kinds}, and not to {target!r:.100}")
    return await stdio.connect_stdio(target)


async def connect_unix(path: str, *, max_line: int = MAX_LINE) -> LineTransport:
    """Return the client's end of a Unix socket. Raises OSError."""
    return LineTransport(ConnectionStream(*await asyncio.open_unix_connection(path)), "skip", max_line)


async def connect_tcp(host: str, port: int, *, max_line: int = MAX_LINE) -> LineTransport:
    """Return the client's end of a TCP connection. Raises OSError."""
    return LineTransport(ConnectionStream(*await asyncio.open_connection(host, port)), "skip", max_line)


class MemoryTransport(LineTransport):
    """The client's end of a connection to a server in this process, which is served until this end closes."""

    def __init__(self, dispatch: Dispatch) -> None:
        ours, theirs = memory_pair()
        super().__init__(ours.stream, "skip")
        self._serving = asyncio.get_running_loop().create_task(answer(theirs, dispatch, drain=0))

    async def close(self) -> None:
        await super().close()
        await asyncio.wait([self._serving])
