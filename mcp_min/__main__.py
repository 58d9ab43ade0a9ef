"""Look into any MCP server, call it, or serve one of your own.

python -m mcp_min list   SERVER                        tools, resources, prompts
python -m mcp_min call   TOOL [KEY=VALUE ...] SERVER
python -m mcp_min read   URI SERVER
python -m mcp_min prompt NAME [KEY=VALUE ...] SERVER
python -m mcp_min listen [URI ...] SERVER              changes, until Ctrl-C
python -m mcp_min serve  FILE.py[:NAME] | MODULE[:NAME] [--transport http ...]
python -m mcp_min tour                                 one call, step by step
python -m mcp_min vendor DEST | DEST.pyz [--core] [--check]   a copy to keep

SERVER is -- COMMAND [ARG ...], a program that speaks on its stdin and stdout,
or --url URL [--header 'NAME: VALUE' ...], or --config FILE --server NAME.

KEY=VALUE is text, or JSON where the tool asks for anything but text: limit=5.
KEY:=JSON is any value; KEY=@FILE and KEY:=@FILE are what the file holds.
--json prints the raw result, --trace every message, on stderr.
--timeout SECONDS without an answer or progress; 60, or none at a terminal.
Exit status: 0 done, 1 the tool or the server failed, 2 wrong usage.

python -m mcp_min call search_files pattern='*.py' \\
    -- python -m mcp_min.examples.files .
"""

# The text above is what `python -m mcp_min` prints. This file joins `terminal.py` to the doors of
# `serving.py` and `client.py`: it reads the command, opens the connection, and turns whatever goes
# wrong into one line and an exit status. A command imports what it needs when it runs, so that none
# pays for the others.
#
# Deliberately absent: a configuration of its own; every run says all it needs.

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from . import terminal
from .jsonrpc import Message, Result, RpcError
from .terminal import Misuse, say

if TYPE_CHECKING:
    from .client import Client
    from .server import Server
    from .targets import Target

Options = argparse.Namespace
# What a command asks a server: it returns the raw result, and the same for people.
Action = Callable[["Client", Options], Awaitable[tuple[Result, str]]]

TIMEOUT = 60.0  # seconds, where nobody sits who could press Ctrl-C


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line."""

    def error(self, message: str) -> Any:
        raise Misuse(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; an error is one line on stderr."""
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:  # closed by whoever started us
            setattr(sys, stream, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    name, *words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        if name in ("-h", "--help"):
            print((__doc__ or "").replace("-m mcp_min", f"-m {__package__}"), end="")
            return 0
        if name not in _COMMANDS:
            raise Misuse(f"there is no command {name!r}, only {', '.join(_COMMANDS)}")
        status = _COMMANDS[name](Parser(f"python -m {__package__} {name}", allow_abbrev=False), words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `… | head` has seen enough; what is left in the buffer goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    # From its second line on, ConnectionClosed repeats the child's stderr, which has been seen.
    except (RpcError, ConnectionError, TimeoutError) as error:
        return _fail(1, str(error).partition("\n")[0])
    except ModuleNotFoundError as error:
        return _fail(2, f"this copy of the package has no {error.name}")
    except (Misuse, OSError, OverflowError, ValueError) as error:  # OverflowError: a port that no machine has
        return _fail(2, error)
    except KeyboardInterrupt:
        return 130


def _fail(status: int, error: object) -> int:
    say(f"error: {error}")
    return status


# --- asking a server -----------------------------------------------------------------------------


def _connect(action: Action, positionals: dict[str, str | None], parser: Parser, words: list[str]) -> int:
    """Read the options that all clients share, open the connection, and do what the command does."""
    command = []
    if "--" in words:
        words, command = words[: words.index("--")], words[words.index("--") + 1 :]
    for name, number in positionals.items():
        parser.add_argument(name.lower(), metavar=name, nargs=number, default=[])
    for flag in ("--url", "--config", "--server"):
        parser.add_argument(flag)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--timeout", type=_seconds, default=None if sys.stdin.isatty() else TIMEOUT)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_intermixed_args(words)
    " ".join(words).encode()  # what is not UTF-8 cannot be sent
    target = _target(options, command)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # better an escape than half an answer

    import asyncio

    result, text = asyncio.run(_session(action, options, target))
    failed = bool(result.get("isError"))
    if failed and not options.json:
        return _fail(1, text)
    if text:  # a file or another program gets it as it is
        print(terminal.printable(text) if sys.stdout.isatty() else text)
    return int(failed)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d*\.?\d+", text):
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text!r}")
    return float(text)


async def _session(action: Action, options: Options, target: Target) -> tuple[Result, str]:
    from .client import Client
    from .connection import invalid_result

    async with Client(
        target,
        on_elicit=terminal.elicit,
        capabilities={"elicitation": {"form": {}, "url": {}}},
        on_log=terminal.log,
        on_message=_trace if options.trace else None,
        timeout=options.timeout,
        retries=0,  # the person who typed can type again
    ) as client:
        try:
            result, text = await action(client, options)
            return result, terminal.pretty(result) if options.json and result else text
        # A result is what the server made it, and nobody has checked its members.
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise invalid_result(repr(error)) from None


def _trace(direction: str, message: Message) -> None:
    print(direction, json.dumps(message), file=sys.stderr, flush=True)


def _target(options: Options, command: list[str]) -> Target:
    if (bool(command), options.url is not None, options.config is not None).count(True) != 1:
        raise Misuse("name one server: -- COMMAND [ARG ...], or --url URL, or --config FILE --server NAME")
    for given, option, other in ((options.header, "header", "url"), (options.server, "server", "config")):
        if given and getattr(options, other) is None:
            raise Misuse(f"--{option} goes with --{other}")
    if options.url is not None:
        from .targets import HttpServerParameters

        pairs = [header.partition(":") for header in options.header]
        if not all(colon for _, colon, _ in pairs):
            raise Misuse("--header is 'NAME: VALUE'")
        return HttpServerParameters(options.url, {name.strip(): value.strip() for name, _, value in pairs})
    if options.config is not None:
        from .extras.config import load_config

        servers = load_config(options.config)
        if options.server not in servers:
            raise Misuse(f"--server: {options.config} has {', '.join(servers) or 'none'}")
        return servers[options.server]
    return command


async def _list(client: Client, options: Options) -> tuple[Result, str]:
    offers = client.capabilities
    found: dict[str, Any] = {
        "serverInfo": client.server_info,
        "protocolVersion": client.protocol_version,
        "capabilities": offers,
        "instructions": client.instructions,
        "tools": await client.list_tools() if "tools" in offers else [],
        "resources": await client.list_resources() if "resources" in offers else [],
        "resourceTemplates": await client.list_resource_templates() if "resources" in offers else [],
        "prompts": await client.list_prompts() if "prompts" in offers else [],
    }
    return found, "\n".join(terminal.listing(found))


async def _call(client: Client, options: Options) -> tuple[Result, str]:
    listed = await client.list_tools() if options.arguments else []
    schemas = [tool["inputSchema"] for tool in listed if tool["name"] == options.tool]
    arguments = terminal.arguments(options.arguments, schemas[0].get("properties", {}) if schemas else {})
    try:
        result = await client.call_tool(options.tool, arguments, on_progress=terminal.progress)
    finally:
        terminal.draw("")
    return result, terminal.answer(result)


async def _read(client: Client, options: Options) -> tuple[Result, str]:
    result = await client.read_resource(options.uri)
    if options.json or sys.stdout.isatty():
        return result, "\n".join(terminal.content(item) for item in result["contents"])
    for item in result["contents"]:  # a file or another program wants the contents and nothing else
        sys.stdout.buffer.write(b64decode(item["blob"]) if "blob" in item else item["text"].encode())
    return result, ""


async def _prompt(client: Client, options: Options) -> tuple[Result, str]:
    arguments = terminal.arguments(options.arguments, {})
    if not all(isinstance(value, str) for value in arguments.values()):
        raise Misuse("the arguments of a prompt are text: write KEY=VALUE or KEY=@FILE")
    result = await client.get_prompt(options.name, arguments)
    said = [f"{message['role']}: {terminal.content(message['content'])}" for message in result["messages"]]
    return result, "\n".join(said)


async def _listen(client: Client, options: Options) -> tuple[Result, str]:
    async for change in client.listen(tools=True, prompts=True, resource_list=True, resources=options.uris):
        line = terminal.one_line(f"{change['method']} {change['params'].get('uri', '')}")
        print(json.dumps(change) if options.json else line, flush=True)
    return {}, ""


# --- being a server, and the package itself ------------------------------------------------------


def _serve(parser: Parser, words: list[str]) -> int:
    from .request_state import RequestState

    parser.add_argument("target", metavar="FILE.py[:NAME] | MODULE[:NAME]")
    parser.add_argument("--transport", default=os.environ.get("TRANSPORT") or "stdio")
    flags = [(parser.add_argument(flag, **settings), transports) for flag, transports, settings in _FLAGS]
    options = {name: value for name, value in vars(parser.parse_args(words)).items() if value is not None}
    for flag, transports in flags:
        if flag.dest in options and options["transport"] not in transports:
            raise Misuse(f"{flag.option_strings[0]} is for --transport {' or '.join(transports)}")
    if options["transport"] == "unix" and "path" not in options:
        raise Misuse("--transport unix needs --path SOCKET")
    if "api_key" in options:
        from .extras.auth import Auth

        options["auth"] = Auth(api_keys={options.pop("api_key"): "api-key"})
    cert, key = options.pop("certfile", None), options.pop("keyfile", None)
    if cert is not None:
        import ssl

        options["ssl"] = context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(cert, key)
        except OSError as error:  # OpenSSL's own is one too, and names no file
            raise ValueError(f"--certfile {cert} --keyfile {key}: not a certificate and its key: {error}") from None
    elif key is not None:  # everything would be sent in the clear
        raise Misuse("--keyfile goes with --certfile")
    server = _load(options.pop("target"))
    if "state_key" in options:
        server.request_state = RequestState(options.pop("state_key").encode())
    server.run(**options)
    return 0


def _secret(variable: str) -> str:
    """Return the secret in a variable: on the command line everybody could read it."""
    if not os.environ.get(variable):
        raise argparse.ArgumentTypeError(f"the environment has no {variable}")
    return os.environ[variable]


def _load(target: str) -> Server:
    import importlib
    import runpy
    import traceback

    from .server import Server

    path, colon, name = target.rpartition(":")
    if not colon or not name.isidentifier():
        path, name = target, ""
    is_file = path.endswith(".py")
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)) if is_file else os.getcwd())
    try:
        found = runpy.run_path(path) if is_file else vars(importlib.import_module(path))
    # Whatever the user's file does when it is run.
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
        raise Misuse(f"{path} cannot be loaded: {problem}") from None
    servers = {key: value for key, value in found.items() if isinstance(value, Server)}
    if name in servers or (not name and len(servers) == 1):
        return servers[name or next(iter(servers))]
    raise Misuse(f"{path} defines these servers: {', '.join(servers) or 'none'}; name one as {path}:NAME")


def _tour(parser: Parser, words: list[str]) -> int:
    from .extras.tour import tell

    parser.add_argument("--http", action="store_true", help="over HTTP instead of stdio")
    for line in tell(http=parser.parse_args(words).http):
        print(line)
    return 0


def _vendor(parser: Parser, words: list[str]) -> int:
    from .extras.vendor import check, copy

    parser.add_argument("dest", metavar="DEST | DEST.pyz")
    parser.add_argument("--core", action="store_true", help="without extras and examples")
    parser.add_argument("--check", action="store_true", help="tell what was changed since")
    options = parser.parse_args(words)
    if options.check:
        changes = check(options.dest)
        print("\n".join(changes) or "unchanged")
        return int(bool(changes))
    print(f"{copy(options.dest, core=options.core)} files copied to {options.dest}")
    return 0


_HTTP = ("http", "sse")
_ON: dict[str, Any] = {"action": "store_const", "const": True}
_SECRET: dict[str, Any] = {"metavar": "VARIABLE", "type": _secret}
_FLAGS: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
    ("--path", ("unix",), {"metavar": "SOCKET"}),
    ("--host", ("tcp", *_HTTP), {}),
    ("--port", ("tcp", *_HTTP), {"type": int}),
    ("--allow-unauthenticated", ("tcp", *_HTTP), _ON),
    ("--stateless", _HTTP, _ON),
    ("--reuse-port", _HTTP, _ON),
    ("--allowed-host", _HTTP, {"action": "append", "dest": "allowed_hosts"}),
    ("--allowed-origin", _HTTP, {"action": "append", "dest": "allowed_origins"}),
    ("--rate", _HTTP, {"type": float, "help": "requests a second for each client"}),
    ("--api-key-env", _HTTP, _SECRET | {"dest": "api_key", "help": "holds the key that clients send as X-API-Key"}),
    ("--state-key-env", _HTTP, _SECRET | {"dest": "state_key", "help": "holds a secret that all instances share"}),
    ("--certfile", _HTTP, {"metavar": "PEM", "help": "certificates, for https"}),
    ("--keyfile", _HTTP, {"metavar": "PEM", "help": "their key, where it is not in the same file"}),
]
_COMMANDS: dict[str, Callable[[Parser, list[str]], int]] = {
    "list": partial(_connect, _list, {}),
    "call": partial(_connect, _call, {"TOOL": None, "ARGUMENTS": "*"}),
    "read": partial(_connect, _read, {"URI": None}),
    "prompt": partial(_connect, _prompt, {"NAME": None, "ARGUMENTS": "*"}),
    "listen": partial(_connect, _listen, {"URIS": "*"}),
    "serve": _serve,
    "tour": _tour,
    "vendor": _vendor,
}

if __name__ == "__main__":
    sys.exit(main())
