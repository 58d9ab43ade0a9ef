"""The package, copied: into a folder under any name, or into one file to run.

All imports inside the package are relative, so a copy works where it lands: `project/_mcp/` is the
same package, and `mcp.pyz` is it as a zip that Python runs. A copy carries `SHA256SUMS`, one line a
file, as the command sha256sum writes and checks them. By it `check` tells, long after, what was
changed, and `copy` knows an old copy from files that are none of its business.

Wire: 0263829989b6fd954f72baaf2fc64bc2e2f01d692d4de72986ea808f6e99813f  jsonrpc.py

Deliberately absent: the network. What is copied is the package that runs, be it a copy itself.
"""

from __future__ import annotations

import hashlib
import zipfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

MANIFEST = "SHA256SUMS"
_START = b"import sys\n\nfrom mcp_min.__main__ import main\n\nsys.exit(main())\n"  # of a .pyz


def copy(destination: str, *, core: bool = False) -> int:
    """Copy the package to a folder, or to one file if the name ends with .pyz; return the number of files.

    core: leave out extras and examples. A copy of before is replaced. Raises FileExistsError for a copy
    that was changed and for anything else that is there, OSError for what cannot be written.
    """
    target = Path(destination)
    before = _files_in(target)
    if before and MANIFEST not in before:
        raise FileExistsError(f"{target} is there and is no copy of this package; give another name")
    changes = [change for change in _changes(before) if not change.startswith("missing")]
    if changes:
        raise FileExistsError(f"{target} is no longer as it was copied ({changes[0]}); move your changes away first")
    package = _collect(resources.files(__package__.rpartition(".")[0]), ("extras", "examples") if core else ())
    package.pop(MANIFEST, None)  # of the copy that this package is
    if target.suffix == ".pyz":
        package = {"__main__.py": _START} | {f"mcp_min/{name}": data for name, data in package.items()}
    package[MANIFEST] = "".join(f"{_digest(data)}  {name}\n" for name, data in package.items()).encode()
    if target.suffix == ".pyz":
        target.write_bytes(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(target, "a") as archive:
            for name, data in package.items():
                # Without a date, so that the same package is the same file.
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        target.chmod(0o755)
    else:
        for name in before:
            (target / name).unlink()
        for name, data in package.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(data)
    return len(package)


def check(destination: str) -> list[str]:
    """Return what is different since the copy was made: "changed NAME", "missing NAME", "added NAME".

    Raises FileNotFoundError when there is no copy.
    """
    files = _files_in(Path(destination))
    if MANIFEST not in files:
        raise FileNotFoundError(f"{destination} is no copy of this package: it has no {MANIFEST}")
    return _changes(files)


def _changes(files: dict[str, bytes]) -> list[str]:
    lines = files.get(MANIFEST, b"").decode(errors="replace").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {name: _digest(data) for name, data in files.items() if name != MANIFEST}
    changed = [f"changed {name}" for name in found if name in expected and found[name] != expected[name]]
    missing = [f"missing {name}" for name in expected if name not in found]
    return changed + missing + [f"added {name}" for name in found if name not in expected]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _files_in(target: Path) -> dict[str, bytes]:
    """Return the files of a copy, by name; of anything else the names alone, since it may be large."""
    if zipfile.is_zipfile(target):
        with zipfile.ZipFile(target) as archive:
            names = archive.namelist()
            return {name: archive.read(name) if MANIFEST in names else b"" for name in names}
    if target.is_dir():
        return _collect(target) if (target / MANIFEST).is_file() else {item.name: b"" for item in target.iterdir()}
    return {target.name: b""} if target.exists() else {}


def _collect(folder: Traversable, left_out: tuple[str, ...] = ()) -> dict[str, bytes]:
    files = {}
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_file():
            files[item.name] = item.read_bytes()
        elif item.name not in (*left_out, "__pycache__"):
            files |= {f"{item.name}/{name}": data for name, data in _collect(item).items()}
    return files
