"""The package, copied: it works under any name, and what was changed since is told."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mcp_min.extras import vendor

PING = '{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
SERVER = "from deps._mcp import Server\nServer('copied').run()\n"


def run(*words: str, cwd: Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I" if words[0].endswith(".pyz") else "-s", *words]
    return subprocess.run(command, cwd=cwd, input=typed, capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture(params=["deps/_mcp", "mcp.pyz"])
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    copy = tmp_path / request.param
    vendor.copy(str(copy))
    return copy


def change(copy: Path, name: str, text: str | None) -> None:
    """Change, add, or without a text remove, a file of a copy."""
    if copy.is_dir() and text is None:
        (copy / name).unlink()
    elif copy.is_dir():
        (copy / name).write_text(text or "")
    else:
        with zipfile.ZipFile(copy) as archive:
            files = {item: archive.read(item) for item in archive.namelist()}
        files["mcp_min/" + name] = (text or "").encode()
        if text is None:
            del files["mcp_min/" + name]
        with zipfile.ZipFile(copy, "w") as archive:
            for item, data in files.items():
                archive.writestr(item, data)


def test_a_folder_works_under_any_name(tmp_path: Path) -> None:
    count = vendor.copy(str(tmp_path / "deps" / "_mcp"), core=True)
    files = {path.relative_to(tmp_path / "deps" / "_mcp").as_posix() for path in (tmp_path / "deps").rglob("*.*")}
    assert {"jsonrpc.py", "py.typed", "__main__.py"} <= files
    assert not [name for name in files if name.startswith(("extras", "examples", "__pycache__"))]
    assert count == len(files) + len(["LICENSE", "SHA256SUMS"])
    served = run("-c", SERVER, cwd=tmp_path, typed=PING)
    assert json.loads(served.stdout)["result"] == {}, served.stderr
    assert run("-c", "from deps._mcp import *; Client, Server", cwd=tmp_path).stderr == ""
    assert "python -m deps._mcp list " in run("-m", "deps._mcp", cwd=tmp_path).stdout
    assert run("-m", "deps._mcp", "tour", cwd=tmp_path).stderr == (
        "error: this copy of the package has no deps._mcp.extras\n"
    )


def test_one_file_runs(tmp_path: Path) -> None:
    vendor.copy(str(tmp_path / "mcp.pyz"))
    assert (tmp_path / "mcp.pyz").read_bytes().startswith(b"#!/usr/bin/env python3\nPK")
    assert (tmp_path / "mcp.pyz").stat().st_mode & 0o111 == 0o111
    (tmp_path / "server.py").write_text("from mcp_min import Server\nserver = Server('zipped')\n")
    served = run("mcp.pyz", "serve", "server.py", cwd=tmp_path, typed=PING)
    assert json.loads(served.stdout)["result"] == {}, served.stderr
    assert run("mcp.pyz", "nothing", cwd=tmp_path).returncode == 2
    assert "files of" in run("mcp.pyz", "tour", cwd=tmp_path).stdout
    # A copy can be copied on.
    assert run("mcp.pyz", "vendor", "again.pyz", cwd=tmp_path).returncode == 0
    assert (tmp_path / "again.pyz").read_bytes() == (tmp_path / "mcp.pyz").read_bytes()
    assert run("mcp.pyz", "vendor", "folder", cwd=tmp_path).returncode == 0
    assert run("-m", "folder", "vendor", "again", cwd=tmp_path).returncode == 0
    assert (tmp_path / "again" / vendor.MANIFEST).read_text() == (tmp_path / "folder" / vendor.MANIFEST).read_text()


def test_the_manifest_is_one_that_sha256sum_reads(tmp_path: Path) -> None:
    vendor.copy(str(tmp_path / "copy"))
    lines = (tmp_path / "copy" / vendor.MANIFEST).read_text().splitlines()
    assert all(len(line.split("  ")[0]) == 64 and (tmp_path / "copy" / line.split("  ")[1]).is_file() for line in lines)


def test_check(copy: Path) -> None:
    prefix = "" if copy.is_dir() else "mcp_min/"
    assert vendor.check(str(copy)) == []
    change(copy, "peer.py", "changed")
    change(copy, "stream.py", None)
    change(copy, "mine.py", "added")
    assert vendor.check(str(copy)) == [
        f"changed {prefix}peer.py",
        f"missing {prefix}stream.py",
        f"added {prefix}mine.py",
    ]


def test_what_python_compiled_is_no_change(tmp_path: Path) -> None:
    vendor.copy(str(tmp_path / "copy"))
    (tmp_path / "copy" / "__pycache__").mkdir()
    (tmp_path / "copy" / "__pycache__" / "peer.cpython-311.pyc").write_bytes(b"")
    assert vendor.check(str(tmp_path / "copy")) == []


def test_a_copy_is_replaced(copy: Path) -> None:
    change(copy, "peer.py", None)
    vendor.copy(str(copy), core=True)
    assert vendor.check(str(copy)) == []
    names = zipfile.ZipFile(copy).namelist() if copy.is_file() else [str(path) for path in copy.rglob("*.py")]
    assert [name for name in names if name.endswith("peer.py")]
    assert not [name for name in names if "extras" in name]


@pytest.mark.parametrize("name", ["peer.py", "mine.py"])
def test_a_copy_with_changes_is_not_replaced(name: str, copy: Path) -> None:
    change(copy, name, "mine")
    with pytest.raises(FileExistsError, match=rf"is no longer as it was copied \(\w+ (mcp_min/)?{name}\); move your"):
        vendor.copy(str(copy))
    assert len(vendor.check(str(copy))) == 1


def test_what_is_no_copy_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with zipfile.ZipFile(tmp_path / "zip.pyz", "w") as archive:
        archive.writestr("__main__.py", "mine")
    for name in (".", "file", "zip.pyz"):
        with pytest.raises(FileExistsError, match="is there and is no copy of this package; give another name"):
            vendor.copy(str(tmp_path / name))
        with pytest.raises(FileNotFoundError, match="is no copy of this package: it has no SHA256SUMS"):
            vendor.check(str(tmp_path / name))
    assert {path.name for path in tmp_path.iterdir()} == {"file", "zip.pyz"}
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    vendor.copy(str(tmp_path))
    assert vendor.check(str(tmp_path)) == []


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        vendor.check(str(tmp_path / "nothing"))
