"""The command line: exit status, stdout and stderr of every command, against real child processes."""

from __future__ import annotations

import io
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_min import terminal
from mcp_min.__main__ import main
from mcp_min.request_state import RequestState

ROOT = Path(__file__).parent.parent
DEADLINE = 20  # seconds that nothing here takes, unless it hangs

SERVER = f"""
import asyncio, os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from mcp_min import Context, Server, ToolError, image, text

server = Server("demo", "1.0", instructions="To be tried.")

@server.tool
async def add(a: int, b: int = 2) -> int:
    "Add two numbers."
    return a + b

@server.tool
async def show(value: str) -> str:
    return "got " + value

@server.tool
async def fail():
    raise ToolError("this\\nis\\x1b[31m bad")

@server.tool
async def picture():
    return [text("a picture"), image(b"123", "image/png")]

@server.tool
async def climb(ctx: Context) -> str:
    await ctx.log("warning", "high\\nup")
    await ctx.progress(1, 2, "half way")
    return "on top"

@server.tool
async def delete(ctx: Context) -> str:
    answer = await ctx.elicit("Delete?", {{"type": "object", "properties": {{"sure": {{"type": "boolean"}}}}}})
    return answer["action"]

@server.tool
async def die():
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)

@server.tool
async def interrupt():
    os.kill(os.getppid(), signal.SIGINT)
    await asyncio.Event().wait()

@server.tool
async def hang():
    await asyncio.Event().wait()

@server.tool
async def change() -> str:
    server.resource_updated("demo://text")
    return "changed"

@server.resource("demo://text")
def words() -> str:
    return "h\\u00e9llo"

@server.resource("demo://bytes", mime_type="image/png")
def data() -> bytes:
    return bytes(range(256))

@server.prompt
def review(code: str) -> str:
    "Review code."
    return "Look at " + code

other = Server("other")

if __name__ == "__main__":
    server.run()
"""

# Answers to everything, but not what was asked for.
NONSENSE = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}, "tools": [5],
            "content": 5, "contents": [{}], "messages": None}
        error = {"code": -32601, "message": "no"}
        body = {"error": error} if message["method"] == "server/discover" else {"result": result}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **body}), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("main")
    (folder / "server.py").write_text(SERVER)
    (folder / "nonsense.py").write_text(NONSENSE)
    (folder / "one.py").write_text("from mcp_min import Server\nserver = Server('one')\n")
    (folder / "broken.py").write_text("\n1 / 0\n")
    (folder / "leaving.py").write_text("import sys\nsys.exit('bye')\n")
    (folder / "text").write_text("from a file")
    (folder / "mcp.json").write_text("{}")
    return folder


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What comes after the double dash; run in the folder of the test's files."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return ["--", sys.executable, "server.py"]


# --- asking a server -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        ("list", 0, r"demo 1\.0  \(protocol 2026-07-28\)\n  To be tried\.\n\nTools\n  add  Add two(.|\n)*", ""),
        ("call add a=1", 0, "3\n", ""),
        ("call add a=1 b:=5", 0, "6\n", ""),
        ("call --timeout 30 add a=1", 0, "3\n", ""),
        ("call show value=1", 0, "got 1\n", ""),
        ("call show value=@text", 0, "got from a file\n", ""),
        ("call picture", 0, r"a picture\n\[image/png, 3 bytes\]\n", ""),
        ("call climb", 0, "on top\n", ""),
        ("call delete", 0, "decline\n", "declined, since nobody can be asked here: Delete\\?\n"),
        ("read demo://text", 0, "héllo", ""),
        ("prompt review code=x", 0, "user: Look at x\n", ""),
        # The tool or the server reports an error.
        ("call fail", 1, "", r"error: this is\[31m bad\n"),
        ("call add a=1.5", 1, "", r"error: arguments\.a: 1\.5 is not an? integer\n"),
        ("call nothing", 1, "", r"error: Invalid params \(-32602\): name: there is no tool 'nothing'\n"),
        ("call die", 1, "", r"error: the server '.*' exited with code 3\n"),
        ("call hang --timeout 0.2", 1, "", r"error: no answer .*within 0\.2 seconds.*\n"),
        ("read demo://nothing", 1, "", r"error: Resource not found \(-32602\).*\n"),
        ("prompt review", 1, "", r"error: Invalid params \(-32602\): arguments: 'code' is required\n"),
        # Wrong usage.
        ("call", 2, "", r"error: the following arguments are required: TOOL; see python -m mcp_min call --help\n"),
        ("call add a=x", 2, "", r"error: a: 'x' is not integer\n"),
        ("call add a", 2, "", r"error: 'a' is no argument: .*\n"),
        ("call add a=@nothing", 2, "", r"error: .*No such file.*\n"),
        ("prompt review code:=5", 2, "", r"error: the arguments of a prompt are text: .*\n"),
        ("call add --timeout soon", 2, "", r"error: argument --timeout: not a number of seconds: 'soon'; .*\n"),
        ("call add --timeout -1", 2, "", r"error: argument --timeout: not a number of seconds: '-1'; .*\n"),
        ("call add --timeout nan", 2, "", r"error: argument --timeout: not a number of seconds: 'nan'; .*\n"),
        ("call add a=@.", 2, "", r"error: .*Is a directory: '\.'\n"),
        ("call add a:=x", 2, "", r"error: a: 'x' is not JSON\n"),
        ("list --url http://127.0.0.1/mcp", 2, "", r"error: name one server: .*\n"),
        ("call show value=\udcff", 2, "", r"error: 'utf-8' codec can't encode .*\n"),
    ],
)  # fmt: skip
def test_asking(
    words: str, status: int, out: str, err: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), *command]) == status
    shown = capsys.readouterr()
    assert re.fullmatch(out, shown.out)
    assert re.fullmatch(err, shown.err)


@pytest.mark.parametrize(
    ("words", "status", "err"),
    [
        ("list", 2, "error: name one server: -- COMMAND [ARG ...], or --url URL, or --config FILE --server NAME"),
        ("list --", 2, "error: name one server: -- COMMAND"),
        ("list -- no-such-command", 2, "error: "),
        ("list --header A:b -- x", 2, "error: --header goes with --url"),
        ("list --url ftp://x", 2, "error: 'ftp://x' is no URL"),
        ("list --url http://127.0.0.1:1/ --header A", 2, "error: --header is 'NAME: VALUE'"),
        ("list --url http://127.0.0.1:1/ --header :b", 2, "error: header '' cannot be sent"),
        ("list --url http://127.0.0.1:1/ --header A:\u20ac", 2, "error: header 'a' cannot be sent"),
        ("list --url http://127.0.0.1:1/", 1, "error: http://127.0.0.1:1: connecting: "),
        ("list --url http://no-such-host.invalid/", 1, "error: http://no-such-host.invalid: connecting: "),
        ("list --url http://", 2, "error: 'http://' is no URL"),
        ("list --url http://me:secret@127.0.0.1/", 2, "error: a URL must not hold a user name or password"),
        ("list --url http://127.0.0.1:99999/", 2, "error: 'http://127.0.0.1:99999/' has no port between"),
        ("nothing", 2, "error: there is no command 'nothing', only list, call, "),
        ("serve", 2, "error: the following arguments are required"),
        ("serve nothing.py", 2, "error: nothing.py cannot be loaded: FileNotFoundError"),
        ("serve nothing_at_all", 2, "error: nothing_at_all cannot be loaded: ModuleNotFoundError"),
        ("serve broken.py", 2, "error: broken.py cannot be loaded: ZeroDivisionError: division by zero ("),
        ("serve leaving.py", 2, "error: leaving.py cannot be loaded: SystemExit: bye ("),
        ("serve server.py", 2, "error: server.py defines these servers: server, other; name one as server.py:NAME"),
        ("serve one.py:two", 2, "error: one.py defines these servers: server; name one as one.py:NAME"),
        ("serve one.py --transport pigeon", 2, "error: transport 'pigeon': there are "),
        ("serve one.py --port 1", 2, "error: --port is for --transport tcp or http or sse"),
        ("serve one.py --transport http --path x", 2, "error: --path is for --transport unix"),
        ("serve one.py --transport http --port 99999", 2, "error: bind(): port must be 0-65535"),
        ("serve one.py --transport http --keyfile x", 2, "error: --keyfile goes with --certfile"),
        ("list --server s -- true", 2, "error: --server goes with --config"),
        ("serve one.py --prt 1", 2, "error: unrecognized arguments: --prt 1; see "),
        ("serve one.py --transport unix", 2, "error: --transport unix needs --path SOCKET"),
        ("serve one.py --transport tcp --host 0.0.0.0", 2, "error: host '0.0.0.0': anybody could call"),
        (
            "serve one.py --transport http --api-key-env NO_SUCH",
            2,
            "error: argument --api-key-env: the environment has no NO_SUCH; see",
        ),
        ("tour now", 2, "error: unrecognized arguments: now; see python -m mcp_min tour --help"),
        ("vendor", 2, "error: the following arguments are required"),
        ("vendor .", 2, "error: . is there and is no copy of this package; give another name"),
        ("vendor nothing --check", 2, "error: nothing is no copy of this package: it has no SHA256SUMS"),
    ],
)
def test_misuse(words: str, status: int, err: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(err)
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_the_program_explains_itself_in_one_screen(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for name in ("list", "call", "read", "prompt", "listen", "serve", "tour", "vendor"):
        assert any(line.startswith(f"python -m mcp_min {name} ") for line in lines)


@pytest.mark.parametrize("name", ["list", "call", "read", "prompt", "listen", "serve", "tour", "vendor"])
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: python -m mcp_min {name} ")


@pytest.mark.parametrize(
    ("words", "status", "members"),
    [
        ("list", 0, {"serverInfo": {"name": "demo", "version": "1.0"}, "protocolVersion": "2026-07-28"}),
        ("call add a=1", 0, {"structuredContent": 3}),
        ("call fail", 1, {"isError": True}),
        ("read demo://text", 0, {"contents": [{"uri": "demo://text", "mimeType": "text/plain", "text": "héllo"}]}),
        ("prompt review code=x", 0, {"description": "Review code."}),
    ],
)
def test_json(
    words: str, status: int, members: dict[str, Any], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), "--json", *command]) == status
    shown = capsys.readouterr()
    assert members.items() <= json.loads(shown.out).items()
    assert shown.err == ""


def test_trace(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", "add", "a:=1", "--trace", *command]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line[0] for line in lines] == ["→", "←"] * 3
    messages = [json.loads(line[2:]) for line in lines]
    assert [message["method"] for message in messages[::2]] == ["server/discover", "tools/list", "tools/call"]
    assert messages[5]["result"]["structuredContent"] == 3


@pytest.mark.parametrize("words", ["list", "call add a=1", "call add", "read a://b", "prompt review"])
def test_a_server_that_talks_nonsense(words: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), "--", sys.executable, "nonsense.py"]) == 1
    assert re.fullmatch(
        r"error: the server's answer has not the form it should have: .* \(-32600\)\n", capsys.readouterr().err
    )


@pytest.mark.parametrize("words", ["list", "call add a=1 --json"])
def test_an_answer_that_is_nested_too_deeply(
    words: str, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From Python 3.12 on, more can be read than can be walked through."""

    def walk(answer: Any) -> str:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(terminal, "listing" if words == "list" else "pretty", walk)
    assert main([*words.split(), *command]) == 1
    assert re.fullmatch("error: the server's answer has not the form .*RecursionError.*\n", capsys.readouterr().err)


def test_bytes_reach_a_pipe_as_they_are(command: list[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["read", "demo://bytes", *command]) == 0
    assert capfdbinary.readouterr().out == bytes(range(256))


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is a bar, which is gone at the end; questions are asked; bytes are only spoken of."""
    for name, stream in (("stdin", Tty("yes\n")), ("stdout", Tty()), ("stderr", Tty())):
        monkeypatch.setattr(sys, name, stream)
    out, err = sys.stdout, sys.stderr
    assert isinstance(out, Tty)
    assert isinstance(err, Tty)
    assert main(["call", "climb", *command]) == 0
    assert "\r[###############               ]  50% half way" in err.getvalue()
    assert err.getvalue().endswith(f"\r{' ' * 79}\r")
    assert main(["call", "delete", *command]) == 0
    assert main(["read", "demo://bytes", *command]) == 0
    assert main(["call", "show", "value=a\n\tb\x1b[31m\x9b31m", *command]) == 0  # which paint nothing
    assert out.getvalue() == "on top\naccept\n[image/png, 256 bytes]\ngot a\n\tb[31m31m\n"


def test_log_messages_are_shown(command: list[str], capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """A legacy server sends them unasked."""
    legacy = "import server; server.server.methods.pop('server/discover'); server.server.run()"
    assert main(["call", "climb", "--", sys.executable, "-c", legacy]) == 0
    assert capsys.readouterr().err == "warning: high up\n"


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_server_on_the_network_that_says_nothing(deaf: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--url", f"http://127.0.0.1:{deaf}/mcp", "--timeout", "0.1"]) == 1
    assert re.fullmatch(r"error: no answer to server/discover within 0\.1 seconds.*\n", capsys.readouterr().err)


def test_a_server_that_does_not_speak_tls(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(5)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert main(["list", "--url", f"https://127.0.0.1:{listening.getsockname()[1]}/mcp"]) == 1
        thread.join()
    assert re.fullmatch(r"error: https://127\.0\.0\.1:\d+: connecting: .*\n", capsys.readouterr().err)


# A legacy server that logs, tells how far it is, and asks, all of it beside the point.
HOSTILE = """
import json, sys
def say(**message): print(json.dumps({"jsonrpc": "2.0"} | message), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    id, method, params = message.get("id"), message.get("method"), message.get("params")
    if method == "server/discover": say(id=id, error={"code": -32601, "message": "no"})
    elif method == "initialize":
        say(id=id, result={"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}})
    elif method == "tools/call":
        call = id
        say(method="notifications/message", params={"level": {}, "data": ["\x1b[2J"]})
        for progress, total in ((1, "x"), (10**400, 1), (10**400, None), (1, 1e-300)):
            token = params["_meta"]["progressToken"]
            say(method="notifications/progress", params={"progressToken": token, "progress": progress, "total": total})
        say(id="ours", method="elicitation/create", params={"message": "\x1b[2J?", "requestedSchema": []})
    elif id == "ours":
        say(id=call, result={"content": [{"type": "text", "text": json.dumps(message["result"])}]})
"""


@pytest.mark.parametrize("at_terminal", [False, True])
def test_hostile_questions(
    at_terminal: bool, command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if at_terminal:
        for name in ("stdin", "stderr"):
            monkeypatch.setattr(sys, name, Tty())
    err = sys.stderr
    assert main(["call", "x", "--", sys.executable, "-c", HOSTILE]) == 0
    shown = capfd.readouterr()
    assert shown.out == '{"action": "decline"}\n'
    said = err.getvalue() if isinstance(err, Tty) else shown.err
    assert "Traceback" not in said + shown.err
    assert "declined, since" in said
    assert "\x1b" not in said


def test_interrupted(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The server presses Ctrl-C for us: it sends its parent the signal."""
    assert main(["call", "interrupt", *command]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_has_seen_enough(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        assert main(["call", "add", "a=1", *command]) == 1


@pytest.mark.parametrize(
    ("redirection", "out", "err", "status"),
    [
        ("<&-", "3\n", "", 0),
        (">&-", "", "", 0),
        ("2>&-", "3\n", "", 0),
        ("<&- >&- 2>&-", "", "", 0),
        (">/dev/full", "", "error: [Errno 28] No space left on device\n", 2),
    ],
)
def test_streams_that_are_closed_or_full(
    redirection: str, out: str, err: str, status: int, command: list[str], folder: Path
) -> None:
    words = ["call", "add", "a=1", *command]
    line = f"{shlex.join([sys.executable, '-m', 'mcp_min', *words])} {redirection}"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", line], env=env, cwd=folder, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.stdout, done.stderr, done.returncode) == (out, err, status)


def test_what_the_terminal_cannot_show_is_escaped(start: Callable[..., subprocess.Popen[str]]) -> None:
    program = start("call", "show", "value=\u20ac5", "--", sys.executable, "server.py", PYTHONIOENCODING="ascii")
    assert program.communicate(timeout=DEADLINE) == ("got \\u20ac5\n", "")
    assert program.returncode == 0


def test_streams_that_python_found_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert main(["list"]) == 2
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()


def test_a_pipe_that_closes_early(command: list[str], folder: Path) -> None:
    listing = shlex.join([sys.executable, "-m", "mcp_min", "list", "--json", *command])
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    line = f"{{ {listing}; echo $? >&2; }} | true"
    done = subprocess.run(["sh", "-c", line], env=env, cwd=folder, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.stdout, done.stderr) == ("", "1\n")


@pytest.mark.parametrize("example", ["files", "notes"])
def test_lists_fit_80_columns(example: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    server = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from mcp_min.examples import {example} as e; e.server.run()"
    )
    assert main(["list", "--", sys.executable, "-c", server]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2:4] == ["", "Tools"]


# --- other ways to a server ----------------------------------------------------------------------


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started = []

    def start(*words: str, stdin: int = subprocess.PIPE, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "mcp_min", *words],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line_of(stream: Any) -> str:
    assert select.select([stream], [], [], DEADLINE)[0]
    return str(stream.readline())


def test_url(
    start: Callable[..., subprocess.Popen[str]], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server = start("serve", "server.py:server", "--port", "0", "--api-key-env", "KEY", TRANSPORT="http", KEY="k" * 32)
    url = line_of(server.stderr).removeprefix("listening on ").strip()
    assert main(["call", "add", "a=1", "--url", url, "--header", f"X-API-Key: {'k' * 32}"]) == 0
    assert capsys.readouterr() == ("3\n", "")
    assert main(["call", "add", "a=1", "--url", url]) == 1
    assert re.fullmatch("error: authentication is needed .*\n", capsys.readouterr().err)


def test_serving_on_stdio(start: Callable[..., subprocess.Popen[str]], command: list[str]) -> None:
    """A module beside us, as well as a file; its own `__main__` part is left alone."""
    for target in ("one", "one.py"):
        server = start("serve", target)
        out, err = server.communicate('{"jsonrpc":"2.0","id":1,"method":"ping"}\n', timeout=DEADLINE)
        assert (json.loads(out), err, server.returncode) == ({"jsonrpc": "2.0", "id": 1, "result": {}}, "", 0)


def test_serving_here(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []
    monkeypatch.setattr(
        "mcp_min.server.Server.run", lambda server, **options: served.append((server.info["name"], options))
    )
    monkeypatch.setenv("KEY", "k" * 32)
    assert main(["serve", "server.py:other"]) == 0
    assert main(["serve", "one", "--transport", "unix", "--path", "socket"]) == 0
    http = "--port 80 --stateless --reuse-port --allowed-host a --allowed-host b --rate 5 --api-key-env KEY"
    assert main(["serve", "one.py", "--transport", "http", *http.split()]) == 0
    auth = served[2][1].pop("auth")
    assert auth.metadata is None
    assert served == [
        ("other", {"transport": "stdio"}),
        ("one", {"transport": "unix", "path": "socket"}),
        (
            "one",
            {"transport": "http", "port": 80, "stateless": True, "reuse_port": True, "allowed_hosts": ["a", "b"]}
            | {"rate": 5.0},
        ),
    ]


CONFIG = """{
  "mcpServers": { // as VS Code allows
    "demo": {"command": %r, "args": ["server.py"]},
    "unset": {"command": "x", "env": {"TOKEN": "${NOT_SET}"}},
    "absent": {"command": "no-such-command"},
  },
}"""


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        ("call add a=1 --config demo.json --server demo", 0, "3\n", ""),
        ("list --config demo.json", 2, "", r"error: --server: demo\.json has demo, unset, absent\n"),
        ("list --config demo.json --server nobody", 2, "", r"error: --server: demo\.json has demo, unset, absent\n"),
        (
            "list --config demo.json --server unset",
            2,
            "",
            r"error: demo\.json: server 'unset': env\.TOKEN: .*NOT_SET\n",
        ),
        ("list --config demo.json --server absent", 2, "", "error: .*cannot start the server: .*'no-such-command'\n"),
        ("list --config demo.json --server demo --header A:b", 2, "", "error: --header goes with --url\n"),
        ("list --config text --server demo", 2, "", r"error: text: Expecting value: line 1 column 1 \(char 0\)\n"),
        ("list --config mcp.json --server demo", 2, "", "error: mcp.json: it has neither mcpServers nor servers.*\n"),
        ("list --config none.json --server demo", 2, "", "error: .*No such file or directory: 'none.json'\n"),
        ("list --config none.json --url http://a", 2, "", "error: name one server: .*\n"),
    ],
)
def test_config(
    words: str, status: int, out: str, err: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("demo.json").write_text(CONFIG.replace("%r", json.dumps(sys.executable)))
    assert main(words.split()) == status
    shown = capsys.readouterr()
    assert shown.out == out
    assert re.fullmatch(err, shown.err)


def test_a_copy_without_extras(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp_min.extras.tour", None)
    assert main(["tour"]) == 2
    assert capsys.readouterr().err == "error: this copy of the package has no mcp_min.extras.tour\n"


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_listen(json_too: tuple[str, ...], start: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    """Until Ctrl-C, which is no error worth a word."""
    changing = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = []\n" + CHANGING
    listening = start("listen", "demo://text", *json_too, "--", sys.executable, "-c", changing)
    line = line_of(listening.stdout)
    listening.send_signal(signal.SIGINT)
    assert listening.communicate(timeout=DEADLINE) == ("", "")
    assert listening.returncode == 130
    change = {"method": "notifications/resources/updated", "params": {"uri": "demo://text"}}
    assert json.loads(line) == change if json_too else line == "notifications/resources/updated demo://text\n"


# Its resource changes as soon as somebody wants to know.
CHANGING = """
from mcp_min import Server
server = Server("changing")

@server.resource("demo://text")
def words() -> str: return ""

@server.middleware
async def change(call_next, params, ctx):
    import asyncio
    asyncio.get_running_loop().call_soon(server.resource_updated, "demo://text")
    return await call_next(params, ctx)

server.run()
"""


def test_listening_ends_with_the_server(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    ending = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + CHANGING.replace(
        "return await", "asyncio.get_running_loop().call_later(0.05, server.end_listeners)\n    return await"
    )
    for more in ([], ["--json"]):
        assert main(["listen", "demo://text", *more, "--", sys.executable, "-c", ending]) == 0
        assert capsys.readouterr().out.count("\n") == 1


def test_what_is_heard_paints_nothing(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    server = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    answer = {"result": {"protocolVersion": "2025-11-25", "capabilities": {}}}
    if message["method"] == "server/discover":
        answer = {"error": {"code": -32601, "message": "no"}}
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
    if message["method"] == "resources/subscribe":
        change = {"method": "notifications/resources/updated", "params": {"uri": "a://b/\\x1b[31m"}}
        print(json.dumps({"jsonrpc": "2.0", **change}), flush=True)
        break
"""
    assert main(["listen", "a://b", "--", sys.executable, "-c", server]) == 1
    shown = capsys.readouterr()
    assert shown.out == "notifications/resources/updated a://b/[31m\n"
    assert "exited with code 0" in shown.err


def test_interrupted_at_a_question(start: Callable[..., subprocess.Popen[str]]) -> None:
    """While it waits for a line, not for a message."""
    keyboard, terminal = os.openpty()
    try:
        asking = start("call", "delete", "--", sys.executable, "server.py", stdin=terminal)
        assert asking.stderr is not None
        shown = b""
        while not shown.endswith(b"sure (yes or no): "):
            assert select.select([asking.stderr], [], [], DEADLINE)[0]
            shown += os.read(asking.stderr.fileno(), 1000)
        asking.send_signal(signal.SIGINT)
        assert asking.communicate(timeout=DEADLINE) == ("", "")
        assert asking.returncode == 130
    finally:
        os.close(keyboard)
        os.close(terminal)


# --- the package itself --------------------------------------------------------------------------


def test_tour(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tour"]) == 0
    assert capsys.readouterr().out.startswith("One tools/call of 2025-11-25\n")
    assert main(["tour", "--http"]) == 0
    assert "\nOne tools/call of 2026-07-28, over HTTP without a session\n" in capsys.readouterr().out


def test_vendor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    assert main(["vendor", str(copy), "--core"]) == 0
    assert re.fullmatch(rf"\d+ files copied to {copy}\n", capsys.readouterr().out)
    assert main(["vendor", str(copy), "--check"]) == 0
    assert capsys.readouterr().out == "unchanged\n"
    (copy / "peer.py").write_text("")
    assert main(["vendor", str(copy), "--check"]) == 1
    assert capsys.readouterr().out == "changed peer.py\n"


def test_as_a_program(start: Callable[..., subprocess.Popen[str]]) -> None:
    """The exit status reaches the shell."""
    program = start("nothing")
    out, err = program.communicate(timeout=DEADLINE)
    assert (program.returncode, out, err.count("\n")) == (2, "", 1)


PROBE = """
from mcp_min import Server

class Probe(Server):
    def run(self, **options):
        print(sorted(options), self.request_state.seal({}, 1, "ping", {}, None))

server = Probe("probe")
"""


def test_instances_share_a_state_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    monkeypatch.setenv("STATE", "a secret that all instances share")
    words = ["serve", str(tmp_path / "probe.py"), "--transport", "http", "--state-key-env", "STATE", "--port", "0"]
    assert main(words) == 0
    options, _, state = capsys.readouterr().out.strip().rpartition(" ")
    assert options == "['port', 'transport']"
    assert RequestState(b"a secret that all instances share").open(state, "ping", {}, None) == ({}, 1)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--state-key-env", "NOT_SET"], "the environment has no NOT_SET"),
        (["--certfile", "missing.pem"], "--certfile missing.pem --keyfile None: not a certificate and its key: "),
        (["--certfile", "README.md"], "--certfile README.md --keyfile None: not a certificate and its key: "),
    ],
)
def test_what_serving_http_needs(
    words: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    assert main(["serve", str(tmp_path / "probe.py"), "--transport", "http", *words]) == 2
    assert problem in capsys.readouterr().err
