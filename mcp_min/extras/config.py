"""Targets out of a configuration file, as Claude Desktop, Claude Code, VS Code and Cursor write them.

`targets.py` knows what a client can be pointed at; this file reads which. Two rules cover the hosts'
differences. Reading a file starts nothing and judges only the file: whether it is JSON, and where its
servers stand. A server is judged, and its variables are looked up, when it is asked for, so that what
is wrong with one keeps nobody from the others.

File: {"mcpServers": {"files": {"command": "npx", "args": ["-y", "server-files", "${HOME}"]},
                      "tickets": {"url": "https://example.com/mcp",
                                  "headers": {"Authorization": "Bearer ${env:TOKEN}"}}}}

| In the file | Means |
| --- | --- |
| `mcpServers`, or VS Code's `servers` | name → server |
| `command`, `args`, `env`, `envFile`, `cwd` | a child process; the last two start at the workspace folder |
| `url`, `headers` | a server on the network |
| `type` or `transport` | what it has to have, see KINDS; which kind of HTTP the client finds out |
| `disabled` | true leaves the server out |
| `${NAME}`, `${env:NAME}`, `${NAME:-text}` | a variable of our environment; text where that is not set or empty |
| `${input:ID}` | what the caller of `load_config` gives, or the default that stands in the file's `inputs` |
| `${workspaceFolder}`, `${workspaceFolderBasename}` | of the file, or of the `.vscode` or `.cursor` that it lies in |
| `${userHome}`, `${pathSeparator}`, `${/}` | as the words say |

Comments and trailing commas are allowed, as in VS Code. Keys that are not in this table are ignored.

Deliberately absent: writing such files, looking for them, and asking anybody for an input.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ..stdio import StdioServerParameters
    from ..targets import HttpServerParameters, Target

T = TypeVar("T", dict[str, Any], list[Any])

# What a server of each type cannot do without.
KINDS = dict.fromkeys(("stdio", "local"), "command")
KINDS |= dict.fromkeys(("http", "streamable-http", "streamableHttp", "sse"), "url")

# A string is matched first, so that what stands in one is left alone.
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_OF_ENVIRONMENT = re.compile(r"(?:env:)?(\w+)(?::-([^$]*))?")
_ENV_LINE = re.compile(r"""(?:export\s+)?(\w+)\s*=\s*(?:'([^']*)'|"([^"]*)"|(.*?))(?:\s+#.*)?""")


def load_config(path: str | os.PathLike[str], *, inputs: Mapping[str, str] | None = None) -> Servers:
    """Return the servers that a configuration file names.

    inputs: what `${input:ID}` stands for, by ID. Raises OSError for a file that cannot be read, and
    ValueError for one that names no servers.
    """
    file = Path(path)
    try:
        content = _parse(file.read_text(encoding="utf-8-sig"))
        found = next((content[key] for key in ("mcpServers", "servers") if key in content), None)
        if not isinstance(found, dict):
            raise ValueError("it has neither mcpServers nor servers, an object with a member for each server")
        declared = [item for item in _member(content, "inputs", list) if isinstance(item, dict)]
        defaults = {str(item.get("id")): str(item["default"]) for item in declared if "default" in item}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    return Servers(file, found, defaults | dict(inputs or {}))


def _parse(text: str) -> dict[str, Any]:
    for unwanted in (_COMMENT, _LAST_COMMA):  # blanks in their place, so that an error names the right line
        text = unwanted.sub(lambda match: match[1] or re.sub(r"\S", " ", match[0]), text)
    content = json.loads(text)
    return content if isinstance(content, dict) else {}


class Servers(Mapping[str, "Target"]):
    """Name → StdioServerParameters or HttpServerParameters, in the order of the file.

    A target is made whenever it is asked for. Raises ValueError then, which names the file, the server
    and the key, for what makes no sense and for a variable that is not set.
    """

    def __init__(self, file: Path, entries: dict[str, Any], inputs: Mapping[str, str]) -> None:
        folder = file.absolute().parent
        self._folder = folder.parent if folder.name in (".vscode", ".cursor") else folder
        self._file = file
        off = [name for name, entry in entries.items() if isinstance(entry, dict) and entry.get("disabled") is True]
        self._entries = {name: entry for name, entry in entries.items() if name not in off}
        self._variables = {
            "workspaceFolder": str(self._folder),
            "workspaceFolderBasename": self._folder.name,
            "userHome": os.path.expanduser("~"),
            "pathSeparator": os.sep,
            "/": os.sep,
        } | {f"input:{name}": value for name, value in inputs.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Target:
        entry = self._entries[name]
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"{entry!r:.50} is no object")
            entry = {key: value for key, value in entry.items() if value is not None}  # null is as good as absent
            kind = entry.get("type", entry.get("transport", "http" if "url" in entry else "stdio"))
            if not isinstance(kind, str) or kind not in KINDS:
                raise ValueError(f"type: {kind!r:.50} is none of {', '.join(KINDS)}")
            if KINDS[kind] not in entry:
                raise ValueError(f"{KINDS[kind]}: it is missing; a server has a command or a url")
            return self._child(entry) if KINDS[kind] == "command" else self._remote(entry)
        except ValueError as error:
            raise ValueError(f"{self._file}: server {name!r}: {error}") from None

    def _child(self, entry: dict[str, Any]) -> StdioServerParameters:
        from ..stdio import StdioServerParameters  # which loads asyncio

        args = [self._text(f"args[{n}]", value) for n, value in enumerate(_member(entry, "args", list))]
        env = self._texts(entry, "env")
        if "envFile" in entry:
            env = _read_env(self._folder / self._text("envFile", entry["envFile"])) | env
        cwd = self._folder / self._text("cwd", entry["cwd"]) if "cwd" in entry else None
        return StdioServerParameters(self._text("command", entry["command"]), args, env, cwd)

    def _remote(self, entry: dict[str, Any]) -> HttpServerParameters:
        from ..http_client import split_url
        from ..targets import HttpServerParameters

        url = self._text("url", entry["url"])
        try:
            split_url(url)
        except ValueError as error:
            raise ValueError(f"url: {error}") from None
        return HttpServerParameters(url, self._texts(entry, "headers"))

    def _texts(self, entry: dict[str, Any], key: str) -> dict[str, str]:
        return {name: self._text(f"{key}.{name}", value) for name, value in _member(entry, key, dict).items()}

    def _text(self, key: str, value: Any) -> str:
        # A port among the arguments is often written as a number.
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f"{key}: {value!r:.50} is no text")
        try:
            return _VARIABLE.sub(self._look_up, str(value))
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None

    def _look_up(self, match: re.Match[str]) -> str:
        name = match[1]
        if name in self._variables:
            return self._variables[name]
        if name.startswith("input:"):
            given = f"load_config(…, inputs={{{name[6:]!r}: …}})"
            raise ValueError(f"{match[0]} has no value: give it with {given}, or write ${{env:NAME}} for it")
        if (wanted := _OF_ENVIRONMENT.fullmatch(name)) is None:
            raise ValueError(f"{match[0]} is not understood")
        value = os.environ.get(wanted[1])
        if wanted[2] is not None:
            return value or wanted[2]
        if value is None:
            raise ValueError(f"{match[0]} has no value: the environment has no {wanted[1]}")
        return value


def _member(entry: dict[str, Any], key: str, kind: type[T]) -> T:
    value = entry.get(key)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise ValueError(f"{key}: {value!r:.50} is no {'object' if kind is dict else 'list'}")
    return value


def _read_env(file: Path) -> dict[str, str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n")]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"envFile: {error}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            if (match := _ENV_LINE.fullmatch(line)) is None:
                raise ValueError(f"envFile: line {number} of {file} is not NAME=VALUE")
            found[match[1]] = match[2] or match[3] or match[4] or ""
    return found
