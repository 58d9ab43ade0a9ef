"""The subprocess, and the process's own stdin and stdout.

`stream.py` speaks over sockets; this file adds the channel that MCP uses most: a server that the client starts as its
child. Both ends are the same thing, two files as one byte stream; what differs is the duty. The server keeps the
print() calls and the child processes of its handlers off the protocol. The client finds the command, notices the death
of its child, and leaves no process behind.

Spec: 2026-07-28 basic/transports/stdio; 2025-11-25 basic/lifecycle#shutdown.
Wire:
    stdin   {"jsonrpc":"2.0","id":1,"method":"tools/list","params":{…}}
    stdout  {"jsonrpc":"2.0","id":1,"result":{…}}
    stderr  anything, for people

Whoever enters `standard_streams` or calls `connect_stdio` closes what it got; a stream owns its two files. A child has
two daemon threads: one waits for its exit, one drains its stderr.

Deliberately absent: restarting a child (`client.py`), and signals sent to us (`serving.py`). Windows has neither poll()
nor process groups: there a reader that does not read holds up the loop, and a child's own children are not ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from subprocess import PIPE, Popen
from typing import IO

from .jsonrpc import MAX_LINE, ConnectionClosed
from .stream import CHUNK, HIGH_WATER, LineTransport

FLUSH_TIMEOUT = 1.0  # seconds that a reader has to take what is unsent at the end, and last words to arrive
TAIL = 8 * 2**10  # bytes of a child's stderr in the error that reports its death
POLLS = hasattr(select, "poll")  # False on Windows, where an event loop cannot watch files either
PIPE_BUF = getattr(select, "PIPE_BUF", 512)  # bytes that a writable pipe takes without blocking, says POSIX
SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)
kill_group = getattr(os, "killpg", os.kill)

# --- two files as one byte stream ----------------------------------------------------------------


class FileStream:
    """A byte stream over two unbuffered files: pipes and sockets, which the loop watches, or anything else.

    Non-blocking mode belongs to the open file, which a parent or a terminal may share, so it is left alone. Instead a
    file is read when the loop calls it readable and written, PIPE_BUF bytes at a time, when poll() calls it writable:
    neither blocks then.
    """

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        self._loop = asyncio.get_running_loop()
        self._source, self._target = source, target
        self._watchable = POLLS and not source.seekable()  # no loop watches a file on disk
        self._readable = asyncio.Event()
        self._fetched = b""  # what a thread has read
        self._unsent = bytearray()
        self._room = asyncio.Event()  # set when few bytes are unsent
        if POLLS:
            self._writable = select.poll()
            self._writable.register(target, select.POLLOUT)
        self._broken = ""  # why nothing more can be sent

    async def receive(self) -> bytes:
        if self._source.closed:
            return b""
        self._readable.clear()
        if self._watchable:
            # Only while somebody waits: what nobody reads stays in the pipe, so that a fast writer has to wait.
            self._loop.add_reader(self._source, self._readable.set)
        else:
            # A thread of asyncio's, when blocked, would keep the process alive.
            threading.Thread(target=self._fetch, daemon=True).start()
        try:
            await self._readable.wait()
        finally:
            if self._watchable and not self._source.closed:
                self._loop.remove_reader(self._source)
        try:
            return os.read(self._source.fileno(), CHUNK) if self._watchable else self._fetched
        except (OSError, ValueError):  # a socket that was reset, a terminal that hung up, a file closed meanwhile
            return b""

    def _fetch(self) -> None:
        self._fetched = b""
        with contextlib.suppress(OSError, ValueError):
            self._fetched = os.read(self._source.fileno(), CHUNK)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._readable.set)

    async def send(self, data: bytes) -> None:
        if self._broken:
            raise ConnectionClosed(self._broken)
        if not self._unsent and len(data) <= PIPE_BUF and (not POLLS or self._writable.poll(0)):
            try:
                data = data[os.write(self._target.fileno(), data) :]
            except OSError as error:
                self._broken = f"the connection broke: {error}"
                raise ConnectionClosed(self._broken) from None
        if data:
            self._unsent += data
            self._flush()
            await self._until_unsent(HIGH_WATER)

    async def _until_unsent(self, size: int) -> None:
        while len(self._unsent) > size:
            self._room.clear()
            await self._room.wait()

    def _flush(self) -> None:
        try:
            while self._unsent and (not POLLS or self._writable.poll(0)):
                del self._unsent[: os.write(self._target.fileno(), self._unsent[:PIPE_BUF])]
        except OSError as error:
            self._broken = self._broken or f"the connection broke: {error}"
            self._unsent.clear()
        if self._unsent:
            self._loop.add_writer(self._target, self._flush)
        elif POLLS:
            self._loop.remove_writer(self._target)
        if len(self._unsent) <= HIGH_WATER:
            self._room.set()

    async def flush(self) -> None:
        """Take no more, and wait until all is sent, for FLUSH_TIMEOUT at most."""
        self._broken = self._broken or "the connection is closed"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until_unsent(0), FLUSH_TIMEOUT)

    def close_target(self) -> None:
        """Forget what is unsent, and let the other end see the end."""
        if self._unsent:
            self._unsent.clear()
            self._flush()
        self._target.close()

    def abort(self) -> None:
        """Close both files, whoever holds their other ends; `receive` returns b"" from now on."""
        self.close_target()
        if self._watchable and not self._source.closed:
            self._loop.remove_reader(self._source)
        self._source.close()
        self._readable.set()

    async def close(self) -> None:
        await self.flush()
        self.abort()


# --- the server's side ---------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def standard_streams() -> AsyncIterator[FileStream]:
    """Lend the process's own stdin and stdout, whatever they are, as a byte stream.

    Spec: 2026-07-28 basic/transports/stdio.
    Meanwhile file descriptor 0 is the null device and 1 is stderr, so that neither print() nor a child process of a
    handler can touch the protocol.
    """
    null = os.open(os.devnull, os.O_RDWR)
    saved = os.dup(0), os.dup(1)
    stream = FileStream(os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0))
    os.dup2(null, 0)
    # MUST NOT write anything to stdout that is not a valid message (2026-07-28 basic/transports/stdio).
    os.dup2(2, 1)
    os.close(null)
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError, ValueError):
            print(end="", flush=True)  # what a handler printed may still be in the buffer
        for fd, copy in enumerate(saved):
            os.dup2(copy, fd)
            os.close(copy)
        await stream.close()  # last, since it may be cancelled


# --- the client's side ---------------------------------------------------------------------------

# What a child needs to find its files, its language and its terminal; our secrets are not among them.
INHERITED = """PATH HOME USER LOGNAME SHELL TERM TMPDIR TMP TEMP TZ LANG LANGUAGE LC_ALL LC_CTYPE LC_MESSAGES
    PATHEXT COMSPEC SYSTEMROOT SYSTEMDRIVE APPDATA LOCALAPPDATA USERPROFILE USERNAME PROGRAMFILES"""


@dataclass(frozen=True)
class StdioServerParameters:
    """How to start a server.

    command: looked for on the child's PATH; no shell is involved.
    env: added to those of our variables that INHERITED names; `os.environ` passes on all.
    forward_stderr: copy its stderr to ours; the last of it is kept either way, for the error when it dies.
    max_line: bytes. grace: seconds that each step of the shutdown waits.
    """

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] | None = None
    cwd: str | os.PathLike[str] | None = None
    forward_stderr: bool = True
    max_line: int = MAX_LINE
    grace: float = 2.0


async def connect_stdio(parameters: StdioServerParameters) -> LineTransport:
    """Start a server and return the client's end.

    Raises FileNotFoundError, PermissionError or another OSError when it cannot be started.
    """
    return LineTransport(ChildProcess(parameters), "skip", parameters.max_line)


class ChildProcess(FileStream):
    """A server as our child, in a session and a process group of its own, as a byte stream."""

    def __init__(self, parameters: StdioServerParameters) -> None:
        self._parameters = parameters
        self._process = process = _start(parameters)
        assert process.stdin and process.stdout  # noqa: PT018
        super().__init__(process.stdout, process.stdin)
        self._tail = b""  # of its stderr
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        threading.Thread(target=self._await_exit, args=[process.stderr], daemon=True).start()

    def _await_exit(self, stderr: IO[bytes]) -> None:
        drain = threading.Thread(target=self._drain, args=[stderr], daemon=True)
        drain.start()
        self._process.wait()
        # At once, before its number can be somebody else's: whatever it has started and not ended.
        self._signal(SIGKILL)
        drain.join(FLUSH_TIMEOUT)
        with contextlib.suppress(RuntimeError):  # the loop was closed first
            self._loop.call_soon_threadsafe(self._on_exit)

    def _drain(self, stderr: IO[bytes]) -> None:
        with stderr:
            while data := stderr.read(CHUNK):
                self._tail = (self._tail + data)[-TAIL:]
                if self._parameters.forward_stderr:
                    with contextlib.suppress(OSError):  # we may have none
                        os.write(2, data)

    def _on_exit(self) -> None:
        code = self._process.returncode
        end = f"exited with code {code}" if code >= 0 else f"was ended by signal {-code}"
        self._broken = f"the server {self._parameters.command!r} {end}\n{self._tail.decode(errors='replace')}".strip()
        self._exited.set_result(None)
        self._loop.call_later(FLUSH_TIMEOUT, self.abort)  # a process that has left the group may hold the pipes

    def _signal(self, number: int) -> None:
        if not self._exited.done():
            with contextlib.suppress(OSError):  # nobody is left
                kill_group(self._process.pid, number)

    async def receive(self) -> bytes:
        data = await super().receive()
        if not data and self._closing is None:
            await asyncio.wait([self._exited], timeout=FLUSH_TIMEOUT)
            raise ConnectionClosed(self._broken or f"the server {self._parameters.command!r} closed its stdout")
        return data

    async def send(self, data: bytes) -> None:
        try:
            await super().send(data)
        except ConnectionClosed:
            await asyncio.wait([self._exited], timeout=FLUSH_TIMEOUT)  # how it ended says more than a broken pipe
            raise ConnectionClosed(self._broken) from None

    async def close(self) -> None:
        """Close its stdin, then ask, then kill, `grace` seconds apart; returns when nothing is left.

        Spec: 2026-07-28 basic/transports/stdio#shutdown.
        When cancelled, all this goes on by itself.
        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._shut_down())
        await asyncio.wait([self._closing])

    async def _shut_down(self) -> None:
        try:
            await self.flush()
            self.close_target()
            await asyncio.wait([self._exited], timeout=self._parameters.grace)
            self._signal(signal.SIGTERM)
            await asyncio.wait([self._exited], timeout=self._parameters.grace)
        finally:
            self._signal(SIGKILL)
            await asyncio.wait([self._exited], timeout=self._parameters.grace)
            self.abort()


def _start(parameters: StdioServerParameters) -> Popen[bytes]:
    import shutil  # slow to import, and a server does not need it

    env = {name: os.environ[name] for name in INHERITED.split() if name in os.environ} | dict(parameters.env or {})
    path = env.get("PATH", os.defpath)
    command = [shutil.which(parameters.command, path=path) or parameters.command, *parameters.args]
    cwd = parameters.cwd
    try:
        return Popen(command, 0, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=cwd, env=env, start_new_session=True)
    except (FileNotFoundError, PermissionError) as error:
        problem = f"cannot start the server: {error.strerror} (PATH is {path}, option env)"
        raise type(error)(error.errno, problem, error.filename) from None
