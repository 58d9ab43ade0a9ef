"""Real child processes on both sides: what stdin and stdout may be, what may come over them, how a child may end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_min import stdio
from mcp_min.dispatcher import Dispatcher
from mcp_min.jsonrpc import MAX_LINE, ConnectionClosed
from mcp_min.peer import Peer
from mcp_min.stdio import ChildProcess, FileStream, StdioServerParameters, connect_stdio, standard_streams
from mcp_min.stream import HIGH_WATER

ROOT = str(Path(__file__).parent.parent)
DEADLINE = 20  # seconds that nothing here takes, unless it hangs

SERVER = """
import asyncio, os, signal, subprocess, sys
from mcp_min.dispatcher import Dispatcher
from mcp_min.peer import Peer
from mcp_min.stdio import standard_streams
from mcp_min.stream import LineTransport

async def main(max_line):
    here, all_here, ended = 0, asyncio.Event(), asyncio.Event()

    async def echo(params, call):
        return params

    async def make(params, call):
        nonlocal here
        here += 1
        return {"text": "x" * params["size"]}

    async def noise(params, call):
        print("print")
        os.write(1, b"write\\n")
        subprocess.run("echo child; cat", shell=True)
        return {}

    async def together(params, call):
        nonlocal here
        here += 1
        if here == params["of"]:
            all_here.set()
        await all_here.wait()
        return params

    async def after_the_end(params, call):
        await ended.wait()
        return params

    def report():
        memory = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        os.write(2, b"%d %d\\n" % (here, int(memory.split()[1])))

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, report)
    handlers = {"echo": echo, "make": make, "noise": noise, "together": together, "after_the_end": after_the_end}
    async with standard_streams() as stream:
        transport = LineTransport(stream, "answer", max_line)
        peer = Peer(transport.write, Dispatcher(handlers).dispatch)
        await peer.run(transport.read())
        ended.set()
        await peer.drain(10)
        await transport.close()

asyncio.run(main(int(sys.argv[1])))
"""

ECHO = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": message["params"]}), flush=True)
"""


def server(max_line: int = MAX_LINE) -> list[str]:
    return [sys.executable, "-c", SERVER, str(max_line)]


def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ROOT}, **options)


def request(id: int | str, method: str = "echo", **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n"


def answers(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def converse(data: bytes, max_line: int = MAX_LINE) -> tuple[list[dict[str, Any]], str]:
    """Give a server all of its input at once; return its answers and its stderr."""
    with start(server(max_line), stdin=-1, stdout=-1, stderr=-1) as process:
        out, err = process.communicate(data, timeout=DEADLINE)
    assert process.returncode == 0, err
    return answers(out), err.decode()


# --- the server's side ---------------------------------------------------------------------------


def filled(kind: str, data: bytes, path: Path, files: contextlib.ExitStack) -> int:
    """Return a stdin that holds `data` and then ends."""
    if kind == "pipe":
        theirs, ours = os.pipe()
        os.write(ours, data)
        os.close(ours)
    elif kind == "socket":
        near, far = socket.socketpair()
        files.enter_context(near).sendall(data)
        near.shutdown(socket.SHUT_WR)
        theirs = far.detach()
    elif kind == "console":
        ours, theirs = os.openpty()
        files.callback(os.close, ours)
        os.write(ours, data + b"\x04")  # end of input, as it is typed
    else:
        path.write_bytes(data)
        theirs = os.open(path, os.O_RDONLY)
    files.callback(os.close, theirs)
    return theirs


def empty(kind: str, path: Path, files: contextlib.ExitStack) -> tuple[int, int]:
    """Return where to read what comes out, and a stdout."""
    if kind == "pipe":
        ours, theirs = os.pipe()
    elif kind == "socket":
        ours, theirs = (end.detach() for end in socket.socketpair())
    elif kind == "console":
        ours, theirs = os.openpty()
    else:
        theirs = os.open(path, os.O_WRONLY | os.O_CREAT)
        ours = os.open(path, os.O_RDONLY)
    files.callback(os.close, ours)
    files.callback(os.close, theirs)
    return ours, theirs


@pytest.mark.parametrize(
    ("stdin", "stdout"),
    [
        ("pipe", "pipe"),
        ("file", "file"),
        ("socket", "socket"),
        ("console", "console"),
        ("file", "pipe"),
        ("socket", "file"),
    ],
)
def test_stdin_and_stdout_may_be_anything(stdin: str, stdout: str, tmp_path: Path) -> None:
    data = b"".join(request(id) for id in range(3))
    with contextlib.ExitStack() as files:
        theirs_in = filled(stdin, data, tmp_path / "in", files)
        ours, theirs_out = empty(stdout, tmp_path / "out", files)
        with start(server(), stdin=theirs_in, stdout=theirs_out) as process:
            assert process.wait(DEADLINE) == 0
        assert [answer["id"] for answer in answers(os.read(ours, 2**16))] == [0, 1, 2]


def test_neither_print_nor_a_child_process_of_a_handler_touches_the_protocol() -> None:
    out, err = converse(request(1, "noise") + request(2))
    assert [answer["id"] for answer in out] == [1, 2]
    assert {"print", "write", "child"} <= set(err.splitlines())


SIZES = [65_535, 65_536, 65_537, MAX_LINE]


@pytest.mark.parametrize("size", SIZES)
def test_a_line_may_have_any_size_up_to_the_limit(size: int) -> None:
    text = "x" * (size + 1 - len(request(1, text="")))  # the newline does not count
    made = size - len('{"jsonrpc":"2.0","id":2,"result":{"text":""}}')
    out, _ = converse(request(1, text=text) + request(2, "make", size=made))
    assert [len(answer["result"]["text"]) for answer in out] == [len(text), made]


def test_a_longer_line_is_answered_and_skipped() -> None:
    out, _ = converse(request(1, text="x" * 1000) + request(2), max_line=1000)
    assert [(answer.get("id"), answer.get("error", {}).get("code")) for answer in out] == [(None, -32600), (2, None)]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"hello", -32700),
        (b"\xff\xfe", -32700),
        (b'{"a":' * 100_000, -32700),
        (b'{"jsonrpc":"2.0","id":9,"method":"echo","params":{"a":%s}}' % (b"1" * 5000), -32700),
        (b"{}", -32600),
    ],
)
def test_garbage_is_answered_and_the_next_line_served(line: bytes, code: int) -> None:
    out, _ = converse(line + b"\n" + request(2))
    assert [out[0]["error"]["code"], out[1]["id"]] == [code, 2]


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\n\n"])
def test_the_last_line_may_end_in_any_way(end: bytes) -> None:
    out, _ = converse(request(1).strip() + end)
    assert [answer["id"] for answer in out] == [1]


def test_the_end_of_input_ends_reading_only() -> None:
    out, _ = converse(b"".join(request(id, "after_the_end") for id in range(100)))
    assert sorted(answer["id"] for answer in out) == list(range(100))


def test_ten_thousand_calls_in_flight_are_answered_once_each() -> None:
    out, _ = converse(b"".join(request(id, "together", of=10_000) for id in range(10_000)))
    assert sorted(answer["id"] for answer in out) == list(range(10_000))


def test_an_id_is_a_number_or_a_string() -> None:
    out, _ = converse(request(1, "together", of=2) + request("1", "together", of=2))
    assert sorted(repr(answer["id"]) for answer in out) == ["'1'", "1"]


def test_a_reader_that_does_not_read_costs_bounded_memory_and_the_loop_lives() -> None:
    count, size = 5000, 2**14  # 82 MB of answers
    data = b"".join(request(id, "make", size=size) for id in range(count))
    with start(server(), stdin=-1, stdout=-1, stderr=-1) as process:
        writer = threading.Thread(target=lambda: (process.stdin.write(data), process.stdin.close()))
        writer.start()
        first = process.stdout.readline()
        seen = [-1, -2, -3]
        while len(set(seen[-3:])) > 1:  # until it makes no more
            process.send_signal(signal.SIGUSR1)
            made, memory = map(int, process.stderr.readline().split())
            seen.append(made)
        assert seen[-1] < count
        assert memory < 70_000  # KiB
        out = process.stdout.read()
        writer.join()
        assert process.wait(DEADLINE) == 0
    assert len(answers(first + out)) == count


def identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def piped() -> Iterator[tuple[int, int]]:
    """Put pipes in the place of this process's own stdin and stdout, and lend the other ends."""
    saved = os.dup(0), os.dup(1)
    (theirs_in, ours_in), (ours_out, theirs_out) = os.pipe(), os.pipe()
    os.dup2(theirs_in, 0)
    os.dup2(theirs_out, 1)
    os.close(theirs_in)
    os.close(theirs_out)
    yield ours_in, ours_out
    for fd, copy in enumerate(saved):
        os.dup2(copy, fd)
        os.close(copy)
    os.close(ours_in)
    os.close(ours_out)


async def test_stdin_and_stdout_are_lent_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with piped() as (into, out), os.fdopen(1, "w", closefd=False) as buffered:
        before, open_files = (identity(0), identity(1)), os.listdir("/dev/fd")
        monkeypatch.setattr(sys, "stdout", buffered)
        async with standard_streams() as stream:
            assert (identity(0), identity(1)) == (identity_of(os.devnull), identity(2))
            os.write(into, b"question")
            assert await stream.receive() == b"question"
            print("in the buffer")
            await stream.send(b"answer")
        assert (identity(0), identity(1)) == before
        assert os.listdir("/dev/fd") == open_files
        assert os.get_blocking(0)
        assert os.get_blocking(1)
        buffered.flush()
        assert os.read(out, 100) == b"answer"


def identity_of(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


# --- two files as one byte stream ----------------------------------------------------------------


class Ends:
    """A FileStream over two pipes, and our ends of them."""

    def __init__(self) -> None:
        (self.source, self.into), (self.out, self.target) = os.pipe(), os.pipe()
        self.stream = FileStream(os.fdopen(self.source, "rb", 0), os.fdopen(self.target, "wb", 0))

    def watched(self) -> bool:
        loop = asyncio.get_running_loop()
        return loop.remove_reader(self.source) or loop.remove_writer(self.target)


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = Ends()
    yield ends
    for fd in (ends.into, ends.out):
        with contextlib.suppress(OSError):
            os.close(fd)
    await ends.stream.close()


async def test_what_nobody_receives_stays_in_the_pipe(ends: Ends) -> None:
    os.write(ends.into, b"1")
    assert await ends.stream.receive() == b"1"
    os.set_blocking(ends.into, False)
    written = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            written += os.write(ends.into, bytes(4096))
            await asyncio.sleep(0)
    assert written < 10 * 2**16  # the pipe's, and no more
    assert not ends.watched()
    received = 0
    while received < written:
        received += len(await ends.stream.receive())
    assert received == written


async def test_send_waits_while_too_much_is_unsent_and_blocks_nobody(ends: Ends) -> None:
    data = bytes(2 * HIGH_WATER)
    sending = asyncio.ensure_future(ends.stream.send(data))
    await asyncio.wait([sending], timeout=0.05)
    assert not sending.done()
    read = 0
    while not sending.done():
        read += len(await asyncio.to_thread(os.read, ends.out, 2**16))
    flushing = asyncio.ensure_future(ends.stream.flush())
    while read < len(data):
        read += len(await asyncio.to_thread(os.read, ends.out, 2**16))
    await flushing
    assert not ends.watched()


async def test_messages_sent_together_leave_together(ends: Ends) -> None:
    for text in (b"1", b"2", b"3"):
        await ends.stream.send(text)
    assert await asyncio.to_thread(os.read, ends.out, 10) == b"123"


async def test_no_answer_reaches_a_reader_that_has_gone(ends: Ends) -> None:
    os.close(ends.out)
    for _ in range(2):
        with pytest.raises(ConnectionClosed, match="Broken pipe"):
            await ends.stream.send(b"1")


async def test_the_rest_of_an_answer_is_dropped_when_its_reader_has_gone(ends: Ends) -> None:
    os.close(ends.out)
    await ends.stream.send(bytes(HIGH_WATER))
    with pytest.raises(ConnectionClosed, match="Broken pipe"):
        await ends.stream.send(b"1")


async def test_the_first_reason_for_the_end_stays(ends: Ends) -> None:
    os.close(ends.out)
    with pytest.raises(ConnectionClosed, match="Broken pipe"):
        await ends.stream.send(b"1")
    await ends.stream.close()
    with pytest.raises(ConnectionClosed, match="Broken pipe"):
        await ends.stream.send(b"2")


@pytest.mark.parametrize("times", [1, 2])
async def test_close_flushes_and_ends_both_directions(ends: Ends, times: int) -> None:
    receiving = asyncio.ensure_future(ends.stream.receive())
    await ends.stream.send(bytes(1000))
    await asyncio.gather(*(ends.stream.close() for _ in range(times)))
    assert len(os.read(ends.out, 2000)) == 1000
    assert await receiving == await ends.stream.receive() == b""
    assert not ends.watched()
    with pytest.raises(ConnectionClosed, match="closed"):
        await ends.stream.send(b"1")


async def test_close_waits_for_a_reader_that_does_not_read_and_not_for_ever(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "FLUSH_TIMEOUT", 0.02)
    sending = asyncio.ensure_future(ends.stream.send(bytes(2 * HIGH_WATER)))
    await asyncio.sleep(0)
    await asyncio.wait_for(ends.stream.close(), DEADLINE)
    await asyncio.wait_for(sending, DEADLINE)


async def test_a_reset_ends_the_input(caplog: pytest.LogCaptureFixture) -> None:
    near, far = socket.socketpair()
    with near:
        stream = FileStream(os.fdopen(far.detach(), "rb", 0), os.fdopen(os.dup(2), "wb", 0))
        await stream.send(b"1")
        near.sendall(b"2")
        assert await stream.receive() == b"2"
        os.write(stream._source.fileno(), b"unread")
    assert await stream.receive() == b""
    assert caplog.text == ""
    await stream.close()


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "POLLS", False)


async def test_without_poll_a_thread_reads_and_the_loop_writes(no_poll: None, ends: Ends) -> None:
    os.write(ends.into, b"1")
    assert await ends.stream.receive() == b"1"
    await ends.stream.send(b"2")
    await ends.stream.flush()
    assert os.read(ends.out, 10) == b"2"


# --- the client's side ---------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def reaper() -> Iterator[None]:
    """Have the children of children that died given to us, so that `assert_gone` can wait for their end."""
    prctl, PR_SET_CHILD_SUBREAPER = ctypes.CDLL(None).prctl, 36
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def assert_gone(group: int) -> None:
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("a process was left behind"))
    signal.alarm(DEADLINE)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-group, 0)
    signal.alarm(0)
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def python(code: str, **options: Any) -> StdioServerParameters:
    return StdioServerParameters(sys.executable, ["-c", code], **{"grace": 5.0, **options})


class Connection:
    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.child: ChildProcess = transport.stream
        self.group = self.child._process.pid
        self.peer = Peer(transport.write, Dispatcher({}).dispatch)
        self.reading = asyncio.ensure_future(self.peer.run(transport.read()))

    async def echo(self, **params: Any) -> Any:
        return await asyncio.wait_for(self.peer.request("echo", params), DEADLINE)


@contextlib.asynccontextmanager
async def connected(parameters: StdioServerParameters) -> AsyncIterator[Connection]:
    """A connection to a child which, and all that it has started, must be gone afterwards."""
    connection = Connection(await connect_stdio(parameters))
    try:
        yield connection
    finally:
        await asyncio.wait_for(connection.transport.close(), DEADLINE)
        await asyncio.wait_for(connection.reading, DEADLINE)
        assert_gone(connection.group)


async def test_a_child_answers_and_is_gone_when_closed() -> None:
    async with connected(python(ECHO)) as connection:
        assert await asyncio.gather(*(connection.echo(n=n) for n in range(100))) == [{"n": n} for n in range(100)]
    assert connection.child._process.returncode == 0


@pytest.mark.parametrize("size", SIZES)
async def test_an_answer_may_have_any_size_up_to_the_limit(size: int) -> None:
    text = "x" * (size - len('{"jsonrpc": "2.0", "id": 1, "result": {"text": ""}}'))
    async with connected(python(ECHO)) as connection:
        assert await connection.echo(text=text) == {"text": text}


async def test_an_answer_that_is_longer_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    async with connected(python("print('x' * 2000)" + ECHO, max_line=1000)) as connection:
        assert await connection.echo() == {}
    assert "more than 1000 bytes" in caplog.text


async def test_a_stray_print_of_the_server_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    async with connected(python("print('Welcome!')" + ECHO)) as connection:
        assert await connection.echo() == {}
    assert "skipped a line" in caplog.text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("exit(3)", "'.*python.*' exited with code 3\nlast words"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9\nlast words"),
        # What it has started holds its pipes.
        ("import subprocess; subprocess.Popen(['sleep', '1000']); exit(3)", "code 3\nlast words"),
        ("import os; os.close(1); sys.stdin.read()", "closed its stdout"),
    ],
)
async def test_a_child_that_dies_fails_every_call_at_once(
    code: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "FLUSH_TIMEOUT", 0.1)
    die = f"import sys; sys.stdin.readline(); print('last words', file=sys.stderr, flush=True); {code}"
    async with connected(python(die)) as connection:
        calls = await asyncio.gather(*(connection.echo() for _ in range(10)), return_exceptions=True)
        assert [type(call) for call in calls] == [ConnectionClosed] * 10
        with pytest.raises(ConnectionClosed, match=words):
            raise calls[0]
        with pytest.raises(ConnectionClosed):
            await connection.echo()


async def write_on(stream: ChildProcess) -> None:
    while True:
        await stream.send(b"{}\n")
        await asyncio.sleep(0)


@pytest.mark.parametrize("end", ["exit(3)", "os.close(0); exit(3)"])
async def test_how_a_child_ended_is_what_a_writer_hears_of(end: str) -> None:
    stream = ChildProcess(python(f"import os; {end}"))
    try:
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionClosed, match="exited with code 3"):
                await write_on(stream)
    finally:
        await stream.close()


async def test_a_daemon_that_a_child_leaves_behind_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "FLUSH_TIMEOUT", 0.05)
    leave = "import subprocess as s, sys; p = s.Popen(['sleep', '1000'], start_new_session=True)"
    async with connected(python(f"{leave}; print(p.pid, file=sys.stderr)")) as connection:
        try:
            with pytest.raises(ConnectionClosed, match="code 0"):
                await connection.echo()
        finally:
            os.kill(int(connection.child._tail), signal.SIGKILL)


async def test_the_last_words_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowlyDrained(ChildProcess):
        def _drain(self, stderr: Any) -> None:
            self._process.wait()
            super()._drain(stderr)

    child = SlowlyDrained(python("import sys; sys.stderr.write('last words')"))
    with pytest.raises(ConnectionClosed, match="last words"):
        await child.receive()
    await child.close()


async def test_close_sends_what_is_unsent() -> None:
    child = ChildProcess(python("import sys; sys.stderr.write(sys.stdin.read())", forward_stderr=False))
    await child.send(b"x" * 5 * 2**16 + b"the last line")  # more than a pipe holds
    await child.close()
    assert child._tail.endswith(b"the last line")


async def test_after_the_death_send_tells_of_it_too() -> None:
    child = ChildProcess(python("exit(3)"))
    with pytest.raises(ConnectionClosed, match="code 3"):
        await child.receive()
    with pytest.raises(ConnectionClosed, match="code 3"):
        await child.send(b"1")
    await child.close()


@pytest.mark.parametrize("forward", [True, False])
async def test_a_megabyte_on_stderr_stops_nobody(forward: bool, capfd: pytest.CaptureFixture[str]) -> None:
    flood = "import sys; sys.stderr.write('x' * 2**20 + 'the end')\n"
    async with connected(python(flood + ECHO, forward_stderr=forward)) as connection:
        assert await connection.echo() == {}
    assert len(capfd.readouterr().err) == (2**20 + len("the end") if forward else 0)
    assert connection.child._tail.endswith(b"the end")
    assert len(connection.child._tail) == stdio.TAIL


STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "


OBEDIENT = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); "


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import time; time.sleep(1000)", -signal.SIGTERM),  # does not look at its stdin
        (OBEDIENT + "print(flush=True); signal.pause()", 3),  # it gets the time that a handler of signals needs
        (STUBBORN + "import time; print(flush=True); time.sleep(1000)", -signal.SIGKILL),
        # The grandchild, too, ignores both.
        (
            STUBBORN + "import subprocess; subprocess.Popen(['sleep', '1000']); print(flush=True); sys.stdin.read()",
            0,
        ),
    ],
)
async def test_close_ends_a_child_that_does_not_want_to_go(code: str, status: int) -> None:
    child = ChildProcess(python(code, grace=1 if status == 3 else 0.1))
    if "print" in code:
        assert await child.receive() == b"\n"
    await asyncio.wait_for(child.close(), DEADLINE)
    assert child._process.returncode == status
    assert await child.receive() == b""
    assert_gone(child._process.pid)


async def test_close_does_not_wait_for_a_child_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "FLUSH_TIMEOUT", 0.1)
    child = ChildProcess(python("import time; time.sleep(1000)", grace=0.1))
    sending = asyncio.ensure_future(child.send(bytes(2 * HIGH_WATER)))
    await asyncio.sleep(0)
    await asyncio.wait_for(child.close(), DEADLINE)
    await sending
    assert_gone(child._process.pid)


async def test_any_task_may_close_and_more_than_once(monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[int] = []
    monkeypatch.setattr(stdio, "kill_group", lambda group, number: (signals.append(number), os.killpg(group, number)))
    child = ChildProcess(python(STUBBORN + "print(flush=True); signal.pause()", grace=0.1))
    await child.receive()
    await asyncio.wait_for(asyncio.gather(child.close(), child.close()), DEADLINE)
    assert signals.count(signal.SIGTERM) == 1
    signals.clear()
    await child.close()
    child._signal(signal.SIGTERM)
    assert signals == [], "its number may be somebody else's by now"
    assert_gone(child._process.pid)


async def test_a_cancelled_close_goes_on() -> None:
    child = ChildProcess(python(STUBBORN + "print(flush=True); sys.stdin.read(); signal.pause()", grace=0.1))
    await child.receive()
    closing = asyncio.ensure_future(child.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert await asyncio.wait_for(child.receive(), DEADLINE) == b""
    await child.close()
    assert_gone(child._process.pid)


def test_the_end_of_the_loop_during_close_kills() -> None:
    async def main() -> int:
        child = ChildProcess(python(STUBBORN + "print(flush=True); signal.pause()"))
        await child.receive()
        await asyncio.wait([asyncio.ensure_future(child.close())], timeout=0.01)
        return child._process.pid

    assert_gone(asyncio.run(main()))


@pytest.mark.parametrize(
    ("command", "kind"),
    [("no-such-command", FileNotFoundError), ("./none", FileNotFoundError), (__file__, PermissionError)],
)
async def test_a_command_that_cannot_be_started_is_named(command: str, kind: type[OSError]) -> None:
    with pytest.raises(kind, match=r"cannot start the server: .*PATH is /bin.*" + command):
        await connect_stdio(StdioServerParameters(command, env={"PATH": "/bin"}))


async def test_the_command_is_looked_for_where_the_child_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, code in (("ours", "exit(1)"), ("theirs", ECHO)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "command").write_text(f"#!{sys.executable}\n{code}")
        (tmp_path / folder / "command").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "ours"))
    theirs = str(tmp_path / "theirs")
    for command, options in (("command", {"env": {"PATH": theirs}}), ("./command", {"cwd": theirs})):
        async with connected(StdioServerParameters(command, **options)) as connection:
            assert await connection.echo() == {}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (None, {"LANG": "C.UTF-8"}),
        ({"EXTRA": "1"}, {"LANG": "C.UTF-8", "EXTRA": "1"}),
        ({"LANG": "C"}, {"LANG": "C"}),
        (os.environ, {"LANG": "C.UTF-8", "SECRET": "1"}),
    ],
)
async def test_the_environment_is_a_safe_list_and_what_is_given(
    env: dict[str, str] | None, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("SECRET", "1")
    tell = "import json, os; print(json.dumps({'jsonrpc': '2.0', 'id': 1, 'result': dict(os.environ)}), flush=True)"
    async with connected(python(f"input(); {tell}; input()", env=env)) as connection:
        seen = await connection.echo()
    assert {name: seen.get(name) for name in ("LANG", "EXTRA", "SECRET") if name in seen} == expected
