"""The required 2020-12 cases of the JSON-Schema-Test-Suite that need no second document, run and counted.

    python tests/json_schema_suite.py

The suite travels in the sdist of `jsonschema`, which pip downloads once into $XDG_CACHE_HOME/mcp_min
(~/.cache/mcp_min); nothing is installed and nothing is unpacked. Left out are `optional/` and every
group whose schema refers outside of itself: a `$ref`, `$dynamicRef` or `$schema` that resolves to a
document which is not an `$id` within the same schema. The rule looks at the schema alone, never at
what json_schema.py makes of it, and each group left out is listed.

Exit status 0 when every other case passes, 1 when one fails, 2 when the suite cannot be had.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin

sys.path.insert(0, str(Path(__file__).parent.parent))

from mcp_min.json_schema import DIALECT, Schema

VERSION = "4.25.1"
SHA256 = "e4a9655ce0da0c0b67a085847e00a3a51449e1157f4f75e9fb5aa545e122eb85"
CASES = f"jsonschema-{VERSION}/json/tests/draft2020-12/"


def fetch() -> Path:
    """Return the path of the sdist, downloaded unless it is in the cache; SystemExit 2 when it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcp_min" / "json_schema_suite"
    sdist = cache / f"jsonschema-{VERSION}.tar.gz"
    if not sdist.exists():
        # pip asks an sdist for its name and version, which takes its build backend: only jsonschema may not be a wheel.
        download = ["download", "--quiet", "--no-deps", "--no-binary", "jsonschema", "--dest", str(cache)]
        done = subprocess.run([sys.executable, "-m", "pip", *download, f"jsonschema=={VERSION}"])
        if done.returncode:
            give_up("pip could not download the suite")
    if hashlib.sha256(sdist.read_bytes()).hexdigest() != SHA256:
        give_up(f"{sdist} is not the release that was pinned: remove it and try again")
    return sdist


def give_up(reason: str) -> None:
    print(reason, file=sys.stderr)
    raise SystemExit(2)


def groups(sdist: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with tarfile.open(sdist) as archive:
        for name in sorted(archive.getnames()):
            folder, _, file = name.rpartition("/")
            if f"{folder}/" == CASES and file.endswith(".json"):
                content = archive.extractfile(name)
                assert content is not None, f"{name} is no file"
                for group in json.load(content):
                    yield file, group


def outside(schema: Any) -> set[str]:
    """Return the URIs of the documents that a schema refers to and does not hold."""
    held: set[str] = {""}
    wanted: set[str] = set()

    def walk(part: Any, base: str) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("$id"), str):
                base = urldefrag(urljoin(base, part["$id"])).url
                held.add(base)
            for keyword in ("$ref", "$dynamicRef", "$schema"):
                target = part.get(keyword)
                if isinstance(target, str) and not target.startswith("#"):
                    wanted.add(urldefrag(urljoin(base, target)).url)
        # `enum` and `const` hold values that look like schemas and are none.
        inner = (
            {key: value for key, value in part.items() if key not in ("enum", "const")}
            if isinstance(part, dict)
            else {}
        )
        for value in [*inner.values(), *(part if isinstance(part, list) else [])]:
            walk(value, base)

    walk({key: value for key, value in schema.items() if (key, value) != ("$schema", DIALECT)}, "")
    return wanted - held


def failures(group: dict[str, Any]) -> list[str]:
    try:
        schema = Schema(group["schema"])
    except ValueError as error:
        return [f"{test['description']}: {error}" for test in group["tests"]]
    wrong = []
    for test in group["tests"]:
        errors = schema.errors(test["data"])
        if (not errors) != test["valid"]:
            wrong.append(f"{test['description']}: {errors or 'accepted'}")
    return wrong


def main() -> int:
    passed = failed = left_out = 0
    for file, group in groups(fetch()):
        documents = outside(group["schema"]) if isinstance(group["schema"], dict) else set()
        if documents:
            left_out += len(group["tests"])
            print(f"left out  {file}: {group['description']} ({len(group['tests'])}), needs {', '.join(documents)}")
            continue
        wrong = failures(group)
        failed += len(wrong)
        passed += len(group["tests"]) - len(wrong)
        for problem in wrong:
            print(f"FAILED    {file}: {group['description']}: {problem}")
    print(f"{left_out} cases that need a second document left out")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
