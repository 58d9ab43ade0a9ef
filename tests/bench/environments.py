"""Virtual environments for the peers that this project is measured against and tried with.

Each peer lives in an environment of its own, made from the interpreter that runs the script, so that no two
peers can share a dependency and mcp_min is never run with anything installed beside it:

    $MCP_MIN_CACHE or ~/.cache/mcp_min/
        cp311-bare/            nothing installed: mcp_min (by PYTHONPATH) and the hand-written floors
        cp311-mcp-2.3.0/       pip install mcp==2.3.0
        node-sdk-1.32.2/       npm install @modelcontextprotocol/sdk@1.32.2

An environment is made once and used again. A marker file, written last, tells a finished one from one whose
installation was interrupted; a lock lets two scripts start at the same moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the checkout: the folder that holds mcp_min/
INSTALL_TIMEOUT = 600.0  # seconds for one pip or npm
BARE = ""  # the requirement of an environment with nothing in it
# asyncio reads up to 256 KiB at once, and it is chance whether glibc maps memory anew for each read, which doubles the
# CPU of the smallest servers. With these two numbers (bytes) it never does, in no server.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**22)}


def cache_dir() -> Path:
    """Return the cache directory, made when it is not there."""
    path = Path(os.environ.get("MCP_MIN_CACHE") or Path.home() / ".cache" / "mcp_min")
    path.mkdir(parents=True, exist_ok=True)
    return path


def python_for(requirement: str = BARE) -> Path:
    """Return the interpreter of an environment with `requirement` (`mcp==2.3.0`) installed, or with nothing."""
    label = requirement.replace("==", "-") or "bare"
    home = cache_dir() / f"cp{sys.version_info.major}{sys.version_info.minor}-{label}"
    python = home / "bin" / "python"
    with _unfinished(home) as unfinished:
        if unfinished:
            run([sys.executable, "-m", "venv", str(home)], timeout=INSTALL_TIMEOUT)
            if requirement:
                pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
                run([*pip, requirement], timeout=INSTALL_TIMEOUT)
    return python


def node_modules_for(label: str, packages: list[str]) -> Path:
    """Return a folder whose node_modules/ holds `packages` (`name@1.2.3`)."""
    home = cache_dir() / f"node-{label}"
    with _unfinished(home) as unfinished:
        if unfinished:
            home.mkdir(parents=True, exist_ok=True)
            command = ["npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "--no-save", "--silent"]
            run([*command, *packages], timeout=INSTALL_TIMEOUT)
    return home


def environment() -> dict[str, str]:
    """Return the environment variables of every child: mcp_min from this checkout, nothing else of the caller's."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, **ALLOCATOR, "PYTHONPATH": str(ROOT)}


def run(command: list[str], timeout: float) -> None:
    """Run one command to its end; a failure stops the script with the command's own output."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout.decode(errors='replace')}")


@contextlib.contextmanager
def _unfinished(home: Path) -> Iterator[bool]:
    # Yields whether the environment must be made; a body that ends without an exception finishes it.
    ready = home / "ready"
    with open(home.with_name(home.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ready.exists():
            yield False
            return
        shutil.rmtree(home, ignore_errors=True)
        yield True
        ready.touch()
