"""A server on a transport: `run` by the TRANSPORT variable, `serve_stdio`, `serve_http`, `serve_unix`, `serve_tcp`.

`server.py` answers messages and the transports carry them; here the two meet. `serve_*` run inside
your event loop and do what asyncio programs expect: cancel the task, or leave the `async with`, and
they stop. `run` is for a program that is nothing but a server: it starts the loop, handles signals,
and alone may end the process. Each owns the connections it has accepted, and returns when they are gone.

Spec: 2026-07-28 basic/transports/stdio#shutdown; basic/transports/streamable-http#security--endpoint.

Deliberately absent: configuration of logging. Attach a handler to the loggers "mcp_min" and "mcp_min.access".
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .jsonrpc import MAX_LINE
from .server import Server
from .stdio import standard_streams
from .stream import ConnectionStream, Garbage, LineTransport, Transport, answer

if TYPE_CHECKING:
    from ssl import SSLContext

    from .guards import Auth
    from .sessions import Sessions

T = TypeVar("T")
THREADS = 32  # `def` handlers that run at once under `run`
THREADS_DEADLINE = 0.2  # seconds that threads get to end, once all that can be answered has been
_POOL = "mcp_min handler"  # what their names begin with
DEADLINE = 5.0  # seconds that HTTP requests in flight get at the end
LOOPBACK = ("127.0.0.1", "::1", "localhost")


# --- a program that is a server ------------------------------------------------------------------


def run(server: Server, transport: str | None = None, **options: Any) -> None:
    """Serve until the end of input, SIGTERM or SIGINT, then return; nothing is left running.

    transport: "stdio", "http", "unix" or "tcp", by default the environment variable TRANSPORT, else stdio;
    "sse" is "http", which serves the older clients too.
    options: those of the `serve_…` function. Raises ValueError for another transport, RuntimeError
    inside a running event loop. A `def` handler that does not end within the deadline is not waited
    for: the process ends with exit status 0.
    """
    name = transport or os.environ.get("TRANSPORT") or "stdio"
    if name not in _SERVE:
        raise ValueError(f"transport {name!r}: there are {', '.join(_SERVE)}")
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("run() starts an event loop; inside one, await serve_stdio(…) or async with serve_http(…)")
    # A descriptor that was closed when we started would be the event loop's own, and then be taken for our input.
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    serving = _SERVE[name](server, **options)
    asyncio.run(_run(serving if name == "stdio" else _until_cancelled(serving)))


async def _run(serving: Awaitable[None]) -> None:
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix=_POOL)
    loop.set_default_executor(pool)
    task = asyncio.ensure_future(serving)
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
            loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    pool.shutdown(wait=False, cancel_futures=True)
    give_up_at = time.monotonic() + THREADS_DEADLINE
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_POOL)]
    for thread in threads:
        thread.join(max(0.0, give_up_at - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        # Nobody waits for what they compute, and a thread cannot be stopped.
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or None since the start
                stream.flush()
        os._exit(0)


async def _until_cancelled(serving: contextlib.AbstractAsyncContextManager[Any]) -> None:
    async with serving as listening:
        where = getattr(listening, "url", None) or [each.getsockname() for each in listening.sockets]
        print("listening on", where, file=sys.stderr)
        await asyncio.Event().wait()


# --- one connection ------------------------------------------------------------------------------


async def serve(server: Server, transport: Transport) -> None:
    """Serve one connection over any transport until its client closes it."""
    await answer(transport, server.dispatch)


async def serve_stdio(server: Server, *, max_line: int = MAX_LINE, drain: float = 30) -> None:
    """Serve the process that started this one, until it closes our standard input.

    Meanwhile file descriptor 1 points at stderr and 0 at the null device, so that neither print() nor a
    child process can touch the protocol. max_line is in bytes; drain in seconds: what calls in flight
    get to finish after the end of input.
    """
    async with standard_streams() as stream:
        await answer(LineTransport(stream, "answer", max_line), server.dispatch, drain=drain)


# --- many connections ----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serve_unix(server: Server, path: str, *, max_line: int = MAX_LINE) -> AsyncIterator[asyncio.Server]:
    """Serve every client of a Unix socket while the `async with` lasts. Only the same user may connect.

    Raises OSError where the path is taken; a socket that a killed server has left there is replaced.
    """
    with socket.socket(socket.AF_UNIX) as listening:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode) and listening.connect_ex(path) == errno.ECONNREFUSED:
                os.unlink(path)
        listening.bind(path)
        try:
            os.chmod(path, 0o600)  # before it listens, so that nobody can be faster
            async with _listening(server, "answer", max_line, asyncio.start_unix_server, sock=listening) as serving:
                yield serving
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def serve_tcp(
    server: Server,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    max_line: int = MAX_LINE,
    allow_unauthenticated: bool = False,
) -> contextlib.AbstractAsyncContextManager[asyncio.Server]:
    """Serve every client of a TCP port while the `async with` lasts; port 0 takes a free one.

    Raises ValueError for an address beyond loopback unless allow_unauthenticated is True, since
    nothing on such a socket says who is there.
    """
    if host not in LOOPBACK and not allow_unauthenticated:
        raise ValueError(f"host {host!r}: anybody could call; give allow_unauthenticated=True, or serve HTTP with auth")
    return _listening(server, "close", max_line, asyncio.start_server, host=host, port=port)


@contextlib.asynccontextmanager
async def _listening(
    server: Server, garbage: Garbage, max_line: int, start: Callable[..., Awaitable[asyncio.Server]], **where: Any
) -> AsyncIterator[asyncio.Server]:
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not listening.is_serving():  # accepted in the moment of the end
            writer.transport.abort()
            return
        transport = LineTransport(ConnectionStream(reader, writer), garbage, max_line)
        connection = asyncio.ensure_future(answer(transport, server.dispatch))
        connections.add(connection)
        connection.add_done_callback(connections.discard)

    listening = await start(connected, **where)
    try:
        yield listening
    finally:
        listening.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await listening.wait_closed()


# --- HTTP ----------------------------------------------------------------------------------------


class HttpServing(NamedTuple):
    """An HTTP server that listens."""

    url: str  # http://127.0.0.1:8000/mcp
    port: int
    sessions: Sessions | None  # what is remembered of clients; None when stateless


@contextlib.asynccontextmanager
async def serve_http(
    server: Server,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    stateless: bool = False,
    auth: Auth | None = None,
    allow_unauthenticated: bool = False,
    ssl: SSLContext | None = None,
    reuse_port: bool = False,
    deadline: float = DEADLINE,
    **options: Any,
) -> AsyncIterator[HttpServing]:
    """Serve every HTTP client of every revision while the `async with` lasts; port 0 takes a free one.

    stateless: no sessions, so that any instance may answer any request. auth: who may call, see
    `extras/auth.py`. ssl: for https. deadline: seconds that requests in flight get at the end.
    options: the fields of `guards.Guards`, `sessions.SessionLimits` and `http_server.Limits`.
    Raises ValueError for an address beyond loopback without auth, unless allow_unauthenticated is
    True, TypeError for an option that there is not, and OSError where the port is taken.
    """
    # Here and not at the top, so that a server on stdio loads none of it.
    from . import http_server, jsonrpc, sessions, streamable_http
    from .guards import Guards

    if host not in LOOPBACK and auth is None and not allow_unauthenticated:
        raise ValueError(f"host {host!r}: anybody could call; give auth=…, or allow_unauthenticated=True")
    limits = _take(options, http_server.Limits)
    session_limits = _take(options, sessions.SessionLimits)
    guards = _take(options, Guards)
    if options:
        raise TypeError(f"there is no option {', '.join(options)}")
    endpoint = streamable_http.Endpoint(server.dispatch, guards, auth)
    remembered = None if stateless else sessions.Sessions(endpoint, session_limits)

    def error_body(status: int, message: str) -> bytes:
        return jsonrpc.encode(jsonrpc.error(None, jsonrpc.RpcError(jsonrpc.INVALID_REQUEST, message)))

    listener = http_server.HttpServer(endpoint, error_body, limits)
    await listener.start(host, port, ssl=ssl, reuse_port=reuse_port)
    guards.bind(host, listener.port)
    name = f"[{host}]" if ":" in host else host
    try:
        url = f"{'http' if ssl is None else 'https'}://{name}:{listener.port}{streamable_http.PATHS[0]}"
        yield HttpServing(url, listener.port, remembered)
    finally:
        server.end_listeners()
        # Both at once: nobody new is let in while sessions wait for their answers.
        ending = [] if remembered is None else [remembered.close(deadline)]
        await asyncio.gather(listener.close(deadline), *ending)


def _take(options: dict[str, Any], kind: Callable[..., T]) -> T:
    names = [field.name for field in fields(kind) if field.init and field.name in options]  # type: ignore[arg-type]
    return kind(**{name: options.pop(name) for name in names})


_SERVE: dict[str, Callable[..., Any]] = {
    "stdio": serve_stdio,
    "http": serve_http,
    "sse": serve_http,
    "unix": serve_unix,
    "tcp": serve_tcp,
}
