"""The README's promises: its Python runs, its sessions go as shown, its tour is what `tour` prints.

After a change that moves lines, `python tests/test_readme.py` writes the tour anew.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
CONFIG = re.findall(r"^```json\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[0]
SESSIONS = re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
TOUR = re.compile(r"(<!-- tour -->\n\n```text\n).*?(```\n)", re.DOTALL)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where the package is found and `python` is this one."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}
    return subprocess.run(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n\n", 1)[-1].strip().split("\n")[0])
def test_python_blocks_run(block: str, tmp_path: Path) -> None:
    """Servers are given no input, and end; clients find the first block's server and the configuration beside them."""
    (tmp_path / "mcp_min").symlink_to(ROOT / "mcp_min")  # a child process does not inherit PYTHONPATH
    (tmp_path / "calculator.py").write_text(BLOCKS[0])
    (tmp_path / "mcp.json").write_text(CONFIG)
    (tmp_path / "block.py").write_text(block)
    done = run([sys.executable, "block.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    if "calculator.py" in block:
        assert "['add']" in done.stdout
        assert "'text': '3'" in done.stdout
    if "ClientGroup" in block:
        assert done.stdout.startswith("without payroll: mcp.json: server 'payroll': ")
        assert "['files__search_files', 'files__read_file', 'notes__add_note', " in done.stdout
        assert "'structuredContent': ['mcp.json']" in done.stdout


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.split("\n", 1)[0][2:60])
def test_sessions_go_as_shown(session: str, tmp_path: Path) -> None:
    """Each command prints, on stdout and stderr, what stands below it; when a change is heard of is left to chance."""
    (tmp_path / "mcp_min").symlink_to(ROOT / "mcp_min")
    (tmp_path / "mcp.json").write_text(CONFIG)
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
        done = run(["sh", "-c", f"{{ {command}; }} 2>&1"], tmp_path)
        printed, expected = (re.sub(r".*notifications/.*\n", "", text) for text in (done.stdout, shown))
        assert printed == expected, command


def test_the_first_two_blocks_are_short() -> None:
    for block in BLOCKS[:2]:
        lines = [line for line in block.splitlines() if line.strip() and not line.strip().startswith(('"""', "import"))]
        assert len(lines) <= 8
        ast.parse(block)


def test_the_first_command() -> None:
    command = next(line.strip() for line in README.splitlines() if "call search_files" in line)
    done = run(["sh", "-c", command], ROOT)
    assert done.returncode == 0, done.stderr
    assert "mcp_min/server.py" in done.stdout


def tour() -> str:
    """Return the tour's first call, as it is printed."""
    done = run([sys.executable, "-m", "mcp_min", "tour"], ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n\n")[0] + "\n"


def test_the_tour_is_what_is_printed() -> None:
    match = TOUR.search(README)
    assert match is not None
    assert match[0] == f"{match[1]}{tour()}{match[2]}", "run `python tests/test_readme.py`"


if __name__ == "__main__":
    new = TOUR.sub(lambda match: f"{match[1]}{tour()}{match[2]}", README)
    (ROOT / "README.md").write_text(new)
