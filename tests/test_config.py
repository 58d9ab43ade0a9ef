"""Configuration files as the hosts write them, and what is said of those that make no sense."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_min import Client, HttpServerParameters, Server, StdioServerParameters, load_config, serve_http

ROOT = Path(__file__).parent.parent

CLAUDE_DESKTOP = """
{
  "mcpServers": {
    "filesystem": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-filesystem", "/Users/me/Desktop"],
      "env": {"DEBUG": "1"}
    },
    "switched off": {"command": "x", "disabled": true},
    "switched on": {"command": "x", "disabled": false}
  }
}
"""

CLAUDE_CODE = """
{
  "mcpServers": {
    "api": {
      "type": "http",
      "url": "${API_BASE:-https://api.example.com}/mcp",
      "headers": {"Authorization": "Bearer ${SECRET}"}
    },
    "old": {"type": "sse", "url": "https://example.com/sse"},
    "database": {"command": "${HOME}/bin/db", "args": ["--url", "${EMPTY:-none}"], "env": {"LEVEL": "${EMPTY}"}}
  }
}
"""

CURSOR = """
{
  "mcpServers": {
    "remote": {"url": "http://localhost:3000/mcp", "headers": {"X-API-Key": "${env:SECRET}"}},
    "local": {
      "type": "stdio",
      "command": "${workspaceFolder}${/}bin${pathSeparator}server",
      "args": ["--home", "${userHome}", "--name", "${workspaceFolderBasename}", "--port", 8000],
      "envFile": ".env",
      "env": {"OVER": "stronger"},
      "cwd": "sub"
    }
  }
}
"""

ENV_FILE = """\ufeff# a comment
PLAIN=a b  # why
export SPACED = x#y
QUOTED="a # b"
SINGLE='${SECRET}'   # left alone

EMPTY=
OVER=weaker
"""

VS_CODE = """\ufeff// Comments, and commas where VS Code lets them be.
{
  "inputs": [
    {"type": "promptString", "id": "token", "description": "Your token", "password": true},
    {"type": "pickString", "id": "place", "options": ["here", "there"], "default": "here",},
    "nonsense",
  ],
  "servers": {
    "github": {
      "type": "http",
      "url": "https://example.com/mcp//x", /* in a string,
      "url": "https://example.com/other", */
      "headers": {"Authorization": "Bearer ${input:token}", "X-Place": "${input:place}", "X-Quote": "\\\\\\",]"},
    }, // the last
  },
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SECRET", "s3cret")
    monkeypatch.setenv("EMPTY", "")
    for name in ("API_BASE", "NOT_SET"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "project"
    for name in (".vscode", ".cursor"):
        (folder / name).mkdir(parents=True)
    (folder / ".env").write_text(ENV_FILE)
    return folder


def servers(folder: Path, content: str, name: str = "mcp.json", **options: Any) -> Any:
    (folder / name).write_text(content)
    return load_config(folder / name, **options)


# --- each host's files ---------------------------------------------------------------------------


def test_claude_desktop(folder: Path) -> None:
    found = servers(folder, CLAUDE_DESKTOP)
    assert (list(found), len(found)) == (["filesystem", "switched on"], 2)
    assert "switched off" not in found
    arguments = ["-y", "@modelcontextprotocol/server-filesystem", "/Users/me/Desktop"]
    assert found["filesystem"] == StdioServerParameters("npx", arguments, {"DEBUG": "1"})
    assert found["switched on"] == StdioServerParameters("x", [], {})


def test_claude_code(folder: Path) -> None:
    found = servers(folder, CLAUDE_CODE)
    assert isinstance(found["api"], HttpServerParameters)
    assert found["api"] == "https://api.example.com/mcp"
    assert found["api"].headers == {"Authorization": "Bearer s3cret"}
    assert (found["old"], found["old"].headers) == ("https://example.com/sse", {})
    assert found["database"] == StdioServerParameters("/home/me/bin/db", ["--url", "none"], {"LEVEL": ""})


def test_cursor(folder: Path) -> None:
    found = servers(folder, CURSOR, ".cursor/mcp.json")
    assert found["remote"].headers == {"X-API-Key": "s3cret"}
    arguments = ["--home", "/home/me", "--name", "project", "--port", "8000"]
    env = {"PLAIN": "a b", "SPACED": "x#y", "QUOTED": "a # b", "SINGLE": "${SECRET}", "EMPTY": "", "OVER": "stronger"}
    assert found["local"] == StdioServerParameters(f"{folder}/bin/server", arguments, env, folder / "sub")


def test_vs_code(folder: Path) -> None:
    found = servers(folder, VS_CODE, ".vscode/mcp.json", inputs={"token": "t0ken"})
    assert found["github"] == "https://example.com/mcp//x"
    assert found["github"].headers == {"Authorization": "Bearer t0ken", "X-Place": "here", "X-Quote": '\\",]'}
    found = servers(folder, VS_CODE, ".vscode/mcp.json", inputs={"token": "", "place": "there"})
    assert found["github"].headers["X-Place"] == "there"
    with pytest.raises(
        ValueError, match=r"headers\.Authorization: \$\{input:token\} has no value: .*'token'.*env:NAME"
    ):
        load_config(folder / ".vscode/mcp.json")["github"]


@pytest.mark.parametrize("kind", ["http", "streamable-http", "streamableHttp", "sse"])
@pytest.mark.parametrize("key", ["type", "transport"])
async def test_servers_on_the_network(key: str, kind: str, folder: Path) -> None:
    async with serve_http(Server("here"), port=0) as http:
        url = http.url.replace("/mcp", "/sse") if kind == "sse" else http.url
        target = servers(folder, f'{{"mcpServers": {{"a": {{"{key}": "{kind}", "url": "{url}"}}}}}}')["a"]
        async with Client(target) as client:
            assert client.server_info["name"] == "here"


async def test_a_client_takes_what_stands_in_the_file(folder: Path) -> None:
    (folder / "server.py").write_text("import mcp_min, os; mcp_min.Server(os.environ['NAME']).run()")
    env = f'"env": {{"PYTHONPATH": "{ROOT}", "NAME": "${{SECRET}}"}}'
    found = servers(
        folder, f'{{"servers": {{"a": {{"command": "{sys.executable}", "args": ["server.py"], "cwd": ".", {env}}}}}}}'
    )
    async with Client(found["a"], timeout=30) as client:
        assert client.server_info["name"] == "s3cret"


# --- what makes no sense -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "Expecting value: line 1 column 1"),
        ('{"mcpServers": {}\n/* \n */ , x}', "Expecting property name enclosed in double quotes: line 3 column 7"),
        ('{"mcpServers": {"a": "//}}', "Unterminated string"),
        ("[" * 100_000, "maximum recursion depth exceeded"),
        ("[]", "it has neither mcpServers nor servers, an object with a member for each server"),
        ('{"servers": []}', "it has neither mcpServers nor servers"),
        ('{"servers": {}, "inputs": {}}', "inputs: {} is no list"),
        ("\udcff", "'utf-8' codec can't decode"),
    ],
)
def test_a_file_that_names_no_servers(content: str, problem: str, folder: Path) -> None:
    (folder / "mcp.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"mcp\.json: ") as caught:
        load_config(folder / "mcp.json")
    assert problem in str(caught.value)


def test_a_file_that_is_not_there(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_config(folder / "nothing.json")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("5", "5 is no object"),
        ("{}", "command: it is missing; a server has a command or a url"),
        ('{"type": "http", "command": "x"}', "url: it is missing"),
        ('{"type": "stdio", "url": "http://h"}', "command: it is missing"),
        ('{"type": "pigeon", "command": "x"}', "type: 'pigeon' is none of stdio, local, http, "),
        ('{"transport": ["http"], "url": "x"}', "type: ['http'] is none of"),
        ('{"command": ["npx", "x"]}', "command: ['npx', 'x'] is no text"),
        ('{"command": ["x"]}', "command: ['x'] is no text"),
        ('{"command": null, "url": null}', "command: it is missing; a server has a command or a url"),
        ('{"command": "x", "args": "y"}', "args: 'y' is no list"),
        ('{"command": "x", "args": ["y", true]}', "args[1]: True is no text"),
        ('{"command": "x", "args": ["${NOT_SET}"]}', "args[0]: ${NOT_SET} has no value: the environment has no NOT"),
        ('{"command": "x", "args": ["${env:NOT_SET}"]}', "args[0]: ${env:NOT_SET} has no value"),
        ('{"command": "x", "env": ["A=1"]}', "env: ['A=1'] is no object"),
        ('{"command": "x", "env": {"A": null}}', "env.A: None is no text"),
        ('{"command": "x", "env": {"A": "${input:key}"}}', "env.A: ${input:key} has no value: give it with"),
        ('{"command": "x", "cwd": "${command:pick}"}', "cwd: ${command:pick} is not understood"),
        ('{"command": "x", "cwd": "${A:-${B}}"}', "cwd: ${A:-${B} is not understood"),
        ('{"command": "x", "envFile": "nothing.env"}', "envFile: [Errno 2] No such file or directory"),
        ('{"command": "x", "envFile": "bad.env"}', "envFile: line 2 of "),
        ('{"url": "${NOT_SET:-ftp}://x"}', "url: 'ftp://x' is no URL"),
        ('{"url": "http://h", "headers": {"A": {}}}', "headers.A: {} is no text"),
    ],
)  # fmt: skip
def test_a_server_that_makes_no_sense_hurts_nobody_else(entry: str, problem: str, folder: Path) -> None:
    (folder / "bad.env").write_text("A=1\nnonsense\n")
    found = servers(folder, f'{{"mcpServers": {{"bad one": {entry}, "good": {{"command": "x"}}}}}}')
    with pytest.raises(ValueError, match=r"mcp\.json: server 'bad one': ") as caught:
        found["bad one"]
    assert problem in str(caught.value)
    assert "bad one" in found
    assert found["good"].command == "x"
    assert found.get("nobody") is None


def test_reading_a_file_starts_nothing_and_needs_no_event_loop(folder: Path) -> None:
    servers(folder, CURSOR)
    program = f"import sys; from mcp_min import load_config; print(*load_config({str(folder / 'mcp.json')!r}))\n"
    program += "assert not {'asyncio', 'subprocess', 'socket'} & set(sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("remote local\n", "")
