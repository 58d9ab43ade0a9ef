"""The programs of the grid, and how each is started."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench"))

import environments  # noqa: E402

MODERN, LEGACY = "2026-07-28", "2025-11-25"
LIFETIME = 200.0  # seconds after which a server is killed, whatever it does
START = 20.0  # seconds for a server to listen
EVERYTHING = "@modelcontextprotocol/server-everything"


@dataclass(frozen=True)
class Driver:
    """One program under this folder, and what it needs installed."""

    name: str
    program: str
    requirement: str = environments.BARE
    eras: tuple[str, ...] = (MODERN, LEGACY)
    node: bool = False  # whether it needs Node too
    cells: str = "fixture"

    def runnable(self) -> bool:
        """Whether this machine has what the program needs."""
        return not self.node or shutil.which("node") is not None

    def command(self) -> list[str]:
        """Return the command that starts the program."""
        return [str(environments.python_for(self.requirement)), str(HERE / self.program)]

    @contextlib.contextmanager
    def serve(self, transport: str) -> Iterator[list[str]]:
        """Yield what a client is to connect to: a command on stdio, or the URL of a server that runs meanwhile."""
        command = [*self.command(), "--transport", transport]
        if transport == "stdio":
            yield command
            return
        with _running(command) as process:
            assert process.stdout is not None
            yield [process.stdout.readline().decode().strip()]


@dataclass(frozen=True)
class Everything(Driver):
    """The official example server, which has a command line of its own and announces nothing."""

    def command(self) -> list[str]:
        """Return the command that starts the server, without its transport."""
        label, _, version = self.program.rpartition("@")
        home = environments.node_modules_for(f"everything-{version}", [self.program])
        return ["node", str(home / "node_modules" / label / "dist" / "index.js")]

    @contextlib.contextmanager
    def serve(self, transport: str) -> Iterator[list[str]]:
        """Yield a command or a URL, as `Driver.serve` does."""
        if transport == "stdio":
            yield [*self.command(), "stdio"]
            return
        port = _free_port()
        with _running([*self.command(), "streamableHttp" if transport == "http" else "sse"], PORT=str(port)):
            _wait_for(port)
            yield [f"http://127.0.0.1:{port}/{'mcp' if transport == 'http' else 'sse'}"]


OUR_SERVER = Driver("mcp_min", "our_server.py")
OUR_CLIENT = Driver("mcp_min", "our_client.py")
SERVER_V2 = Driver("mcp 2.3.0", "official_server_v2.py", "mcp==2.3.0")
SERVER_V1 = Driver("mcp 1.30.0", "official_server_v1.py", "mcp==1.30.0", (LEGACY,))
CLIENT_V2 = Driver("mcp 2.3.0", "official_client_v2.py", "mcp==2.3.0")
CLIENT_V1 = Driver("mcp 1.30.0", "official_client_v1.py", "mcp==1.30.0", (LEGACY,))
CLIENT_TS = Driver("TypeScript SDK 1.32.2", "official_client_ts.py", eras=(LEGACY,), node=True)
SERVER_TS = Everything("everything", f"{EVERYTHING}@2026.8.31", eras=(LEGACY,), node=True, cells="everything")

CLIENTS = (CLIENT_V2, CLIENT_V1, CLIENT_TS)
SERVERS = (SERVER_V2, SERVER_V1, SERVER_TS)
OURS = [*((client, OUR_SERVER) for client in CLIENTS), *((OUR_CLIENT, server) for server in SERVERS)]
# The same walks without mcp_min: they tell a fault of ours from one of theirs.
BASELINE = [(client, server) for client in CLIENTS for server in SERVERS]


def child_variables() -> dict[str, str]:
    """Return the environment variables of every program of the grid."""
    return environments.environment()


@contextlib.contextmanager
def _running(command: list[str], **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environments.environment(), **variables},
    )
    watchdog = threading.Timer(LIFETIME, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port} after {START:.0f} s")
