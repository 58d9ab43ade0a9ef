"""A server as a child process: started, watched, its CPU time read, and always reaped.

CPU time comes from the kernel's own clock of the process (every thread of it, user and system, in nanoseconds), so it
does not count the load generator, and waiting costs nothing. It is the figure to trust on a shared machine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import environments

LIFETIME = 300.0  # seconds after which a child is killed, whatever it does
GRACE = 5.0  # seconds for a child that closed its stdout to end


class Child:
    """One server process, used as a context manager; its stdin and stdout are unbuffered pipes."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCH_STDERR") else subprocess.DEVNULL,  # it would mix with the table
            bufsize=0,
            env=environments.environment(),
        )
        self._watchdog = threading.Timer(LIFETIME, self.process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()
        self._rest = b""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()  # there is nothing to save, and an HTTP server does not end with its stdin
        self.process.wait()
        self._watchdog.cancel()
        self.stdin.close()
        self.stdout.close()

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to the child."""
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from the child."""
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, data: bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.stdin.fileno(), view) :]

    def lines(self) -> list[bytes]:
        """Return the complete lines of the next read that completes any.

        Raises RuntimeError when the child ended.
        """
        while True:
            chunk = os.read(self.stdout.fileno(), 1 << 16)
            if not chunk:
                status = self.process.wait(GRACE)
                raise RuntimeError(f"{self.process.args!r} ended with {status} (BENCH_STDERR=1 shows its words)")
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            if whole:
                return whole

    def line(self) -> bytes:
        """Return the next line, when exactly one can come."""
        (line,) = self.lines()
        return line

    def cpu_ns(self) -> int:
        """Return the CPU time of the process so far, in nanoseconds."""
        return cpu_ns(self.process.pid)

    @functools.cached_property
    def port(self) -> int:
        """The port of an HTTP server, which prints its URL as its first line."""
        return int(self.line().decode().rpartition(":")[2].split("/")[0])

    def private_bytes(self) -> int:
        """Return the memory of the process that belongs to no file: heap and stacks."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Anonymous":
                return int(value.split()[0]) * 1024
        raise RuntimeError("no Anonymous in smaps_rollup")


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process, in nanoseconds."""
    if not sys.platform.startswith("linux"):
        raise SystemExit("the benchmark reads Linux's per-process CPU clock; run it on Linux")
    # clock_getcpuclockid(3) as a formula: the inverted pid above three bits that say "scheduler's clock, process".
    return time.clock_gettime_ns((~pid << 3) | 2)


@contextlib.contextmanager
def wall_ns() -> Iterator[list[int]]:
    """Measure the body: the list yielded holds its wall time in nanoseconds once it ended."""
    spent: list[int] = []
    start = time.perf_counter_ns()
    yield spent
    spent.append(time.perf_counter_ns() - start)
