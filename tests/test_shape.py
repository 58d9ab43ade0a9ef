"""The shape of the package: reading order, layers, size, what a message passes through. Rules, not wishes."""

from __future__ import annotations

import ast
import io
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import mcp_min
from mcp_min.extras import tour

PACKAGE = Path(mcp_min.__file__).parent

# The reading order; a module imports, at its top, only modules above it.
ORDER = [
    *("jsonrpc", "spec", "dispatcher", "peer"),
    *("stream", "stdio", "sse", "headers", "guards", "streamable_http", "sessions"),
    *("http_server", "http_client", "http_transport"),
    *("json_schema", "uri_template", "signature", "content", "request_state", "context", "listener"),
    *("features", "catalogue", "server"),
    *("targets", "connection", "questions", "subscription", "cache", "client"),
    *("serving", "terminal", "__main__"),
]
EXTRAS = sorted(path.stem for path in (PACKAGE / "extras").glob("*.py") if path.stem != "__init__")
CORE = [name for name in ORDER if (PACKAGE / f"{name}.py").exists()]

MAX_FILE, MAX_FUNCTION = 300, 40  # code lines
# What the package has now, in code lines; the design wants 2,600 and 4,000. It may shrink, and not grow.
MAX_CORE, MAX_ALL = 4_876, 5_548


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


def sources() -> Iterator[Path]:
    yield from PACKAGE.glob("*.py")
    yield from PACKAGE.glob("extras/*.py")
    yield from PACKAGE.glob("examples/*.py")


def code_lines(path: Path) -> set[int]:
    """The lines that hold a token which is neither comment nor docstring."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENCODING}
    skipped |= {tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.tokenize(io.BytesIO(path.read_bytes()).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree_of(path)):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documented and ast.get_docstring(node, clean=False) is not None:
            lines.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def imports(nodes: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """(level, module) of each import; `from . import a, b` counts as .a and .b."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.level, node.module
            else:
                yield from ((node.level, alias.name) for alias in node.names)


def all_imports(path: Path) -> set[tuple[int, str]]:
    return set(imports([node for node in ast.walk(tree_of(path)) if isinstance(node, ast.stmt)]))


def test_every_module_has_its_place() -> None:
    found = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert found == set(CORE)
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"} == {"extras", "examples"}
    preface = mcp_min.__doc__.partition("from mcp_min import")[0]
    names = [name for name in preface.split() if name in found]
    assert names == [name for name in CORE if name in names], "the preface lists the modules in another order"
    assert set(names) == found, "the preface lists every module"


@pytest.mark.parametrize("name", CORE)
def test_imports_look_up(name: str) -> None:
    above = set(CORE[: CORE.index(name)])
    for level, module in imports(tree_of(PACKAGE / f"{name}.py").body):
        if level:
            assert module.split(".")[0] in above, f"{name} imports {module}, which comes after it"


def test_only_the_doors_know_extras() -> None:
    for path in PACKAGE.glob("*.py"):
        if path.stem not in ("serving", "__main__", "__init__"):
            assert not [m for level, m in all_imports(path) if level and m.startswith("extras")], path.name


@pytest.mark.parametrize("path", sorted(sources()), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_standard_library_only(path: Path) -> None:
    for level, module in all_imports(path):
        assert level or module.split(".")[0] in sys.stdlib_module_names, f"{path.name} imports {module}"
    assert "shell=True" not in path.read_text()
    assert "webbrowser" not in path.read_text()
    assert path.stem.startswith("__") or path.stem not in sys.stdlib_module_names, "shadows the standard library"


# What is not imported, and by whom.
FORBIDDEN = [
    ("asyncio os socket threading subprocess", "jsonrpc spec sse json_schema uri_template signature"),
    ("asyncio os socket threading subprocess", "content request_state headers guards"),
    ("socket subprocess http", "dispatcher peer streamable_http sessions context listener features catalogue server"),
]


@pytest.mark.parametrize(
    ("name", "modules"),
    [(name, modules) for modules, names in FORBIDDEN for name in names.split() if name in CORE],
)
def test_layers(name: str, modules: str) -> None:
    found = {module.split(".")[0] for level, module in all_imports(PACKAGE / f"{name}.py") if not level}
    assert not found & set(modules.split())


def test_server_and_transports_do_not_know_each_other() -> None:
    transports = {"stream", "stdio", "streamable_http", "sessions", "http_server", "http_client"}
    for name in sorted(transports & set(CORE)):
        known = {module for level, module in all_imports(PACKAGE / f"{name}.py") if level}
        assert not known & {"server", "client", "catalogue"}, name
    for name in ("server", "catalogue", "features", "context", "listener"):
        assert not {module for level, module in all_imports(PACKAGE / f"{name}.py") if level} & transports, name


@pytest.mark.parametrize("path", sorted(sources()), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_small(path: Path) -> None:
    lines = code_lines(path)
    assert len(lines) <= MAX_FILE
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            size = len(lines & set(range(node.lineno, node.end_lineno + 1)))
            assert size <= MAX_FUNCTION, f"{path.name}: {node.name} has {size} lines"


def test_the_package_does_not_grow() -> None:
    core = sum(len(code_lines(path)) for path in PACKAGE.glob("*.py"))
    extras = sum(len(code_lines(path)) for path in PACKAGE.glob("extras/*.py"))
    print(f"core {core}, with extras {core + extras} code lines")
    assert core <= MAX_CORE
    assert core + extras <= MAX_ALL


def test_exports() -> None:
    assert set(mcp_min._HOME) - set(mcp_min.__all__) == {"ClientGroup", "load_config"}, "a copy may be without extras"
    for name in mcp_min._HOME:
        assert getattr(mcp_min, name).__name__ == name
    block = next(node for node in tree_of(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    shown = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert shown == set(mcp_min._HOME), "type checkers see what programs see"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mcp_min.nothing  # noqa: B018


def run(program: str, *, cwd: Path | None = None) -> str:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=cwd or PACKAGE.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_server_on_stdio_loads_nothing_of_http() -> None:
    loaded = "import sys, asyncio, json; before = set(sys.modules)\n"
    loaded += "import mcp_min; mcp_min.Server; mcp_min.serve_stdio\n"
    loaded += "print(*sorted(set(sys.modules) - before))"
    names = run(loaded).split()
    unwanted = ("http", "email", "ssl", "urllib.request", "xml")
    assert not [name for name in names if name.split(".")[0] in unwanted or name in unwanted]
    assert not [name for name in names if name.startswith("mcp_min.") and ("http" in name or "extras" in name)]


CALL = """
import asyncio
from NAME import Server
server = Server("s")
@server.tool
def add(a: int, b: int) -> int: return a + b
message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1, "b": 2}}}
PATCH
print(asyncio.run(server.handle(message))["result"]["content"][0]["text"])
"""


def test_the_folder_works_under_any_name(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "vendor" / "_mcp", ignore=shutil.ignore_patterns("__pycache__"))
    assert run(CALL.replace("NAME", "vendor._mcp").replace("PATCH", ""), cwd=tmp_path) == "3\n"


def test_calls_are_served_where_there_are_no_threads_and_no_sockets() -> None:
    """As in a browser's WebAssembly; the event loop itself is made before the doors are shut."""
    patch = """
async def main():
    import socket, threading
    def refuse(*args, **kwargs): raise RuntimeError("there are none here")
    threading.Thread.start = refuse
    socket.socket = refuse
    return await server.handle(message)
print(asyncio.run(main())["result"]["content"][0]["text"]); raise SystemExit
"""
    assert run(CALL.replace("NAME", "mcp_min").replace("PATCH", patch)) == "3\n"


@pytest.mark.parametrize("http", [False, True])
@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
def test_hops_of_a_call(era: str, http: bool) -> None:
    hops = tour.hops(era, http=http)
    assert len(hops.files) <= 7, hops.files
    assert hops.total_lines <= 2000
    assert len(hops.functions) <= 16, hops.functions
    assert hops.code_lines <= 400
    assert hops.queues == 0
