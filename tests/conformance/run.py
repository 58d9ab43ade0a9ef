"""Runs the official conformance suite against both fixtures and prints the scores.

    python tests/conformance/run.py [server|client] [--revision 2026-07-28] [--times 5] [--verbose]

Installs the pinned suite, and a Node that can run it, by npm from the lock file beside this file, into
$MCP_MIN_CACHE or ~/.cache/mcp_min. A scenario counts as passed when it holds a SUCCESS and neither a
FAILURE nor a WARNING, which is stricter than the suite's own exit status.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
REVISIONS = ("2025-11-25", "2026-07-28")
# What is not built: the tasks extension on servers, authorization on clients.
LATER = {"server": "tasks-", "client": "auth/"}
DATE = re.compile(r"-20\d\d-\d\d-\d\dT")  # where the name of a result's folder ends
TIMEOUT = 300  # seconds for one run of a set


def install() -> list[str]:
    """Return the command that starts the suite."""
    cache = Path(os.environ.get("MCP_MIN_CACHE") or Path.home() / ".cache" / "mcp_min")
    lock = (HERE / "package-lock.json").read_bytes()
    folder = cache / f"conformance-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True, timeout=TIMEOUT)
        (folder / "complete").touch()
    binaries = folder / "node_modules" / ".bin"
    return [str(binaries / "node"), str(binaries / "conformance")]


def scenarios(suite: list[str], revision: str, role: str) -> tuple[list[str], list[str]]:
    """Return the required and the unscored scenarios of a set, as the suite lists them."""
    listing = subprocess.run(
        [*suite, "list", "--requirements", revision], capture_output=True, text=True, check=True, timeout=TIMEOUT
    ).stdout
    required, unscored, heading = [], [], ""
    for line in listing.splitlines():
        if line.strip().startswith("- "):
            name, _, kind = line.strip()[2:].partition(" [")
            if kind.startswith(role):
                unscored.append(name)
            elif not kind and heading.lower().startswith(role):
                required.append(name)
        elif line and not line.startswith(" "):
            heading = line
    return required, unscored


@contextlib.contextmanager
def our_server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(HERE / "server.py"), str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def run(suite: list[str], role: str, revision: str, results: Path) -> None:
    options = ["--requirements", revision, "-o", str(results)]
    with contextlib.ExitStack() as stack:
        if role == "server":
            target = ["--url", stack.enter_context(our_server())]
        else:
            target = ["--command", f"{sys.executable} {HERE / 'client.py'}"]
        # Its exit status is not ours: it forgives warnings and scenarios that checked nothing.
        subprocess.run([*suite, role, *target, *options], capture_output=True, timeout=TIMEOUT, check=False)


def verdict(results: Path, role: str, name: str) -> str:
    """Return "passed", or what went wrong."""
    flat = f"{'server-' if role == 'server' else ''}{name}"
    folders = [path.parent for path in results.rglob("checks.json")]
    mine = [folder for folder in folders if DATE.split(str(folder.relative_to(results)))[0] == flat]
    if not mine:
        return "the suite left no result"
    checks = [check for folder in mine for check in json.loads((folder / "checks.json").read_text())]
    bad = [check for check in checks if check["status"] in ("FAILURE", "WARNING")]
    if bad:
        return "; ".join(f"{check['id']}: {check['status']} {check.get('errorMessage', '')}" for check in bad)
    return "passed" if any(check["status"] == "SUCCESS" for check in checks) else "nothing was checked"


def score(suite: list[str], role: str, revision: str, verbose: bool) -> bool:
    """Print one line of scores, and a line for each scenario that should have passed; True when all did."""
    required, unscored = scenarios(suite, revision, role)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run(suite, role, revision, Path(folder))
        verdicts = {name: verdict(Path(folder), role, name) for name in required + unscored}
    due = [name for name in required + unscored if not name.startswith(LATER[role])]
    failed = [name for name in due if verdicts[name] != "passed"]
    counts = [f"{sum(verdicts[name] == 'passed' for name in names)}/{len(names)}" for names in (required, unscored)]
    print(
        f"{role} {revision}: required {counts[0]}, unscored {counts[1]}, due {len(due) - len(failed)}/{len(due)} "
        f"({time.monotonic() - start:.1f} s)",
        flush=True,
    )
    for name in verdicts if verbose else failed:
        print(f"    {name}: {verdicts[name]}")
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", nargs="?", choices=["server", "client"])
    parser.add_argument("--revision", choices=REVISIONS)
    parser.add_argument("--times", type=int, default=1, help="how often, one after another")
    parser.add_argument("--verbose", action="store_true", help="a line for every scenario")
    options = parser.parse_args()
    suite = install()
    roles = [options.role] if options.role else ["server", "client"]
    revisions = [options.revision] if options.revision else REVISIONS
    good = True
    for _ in range(options.times):
        for role in roles:
            for revision in revisions:
                good = score(suite, role, revision, options.verbose) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
