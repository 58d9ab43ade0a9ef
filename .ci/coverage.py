"""Checks that each module reaches 100 % line coverage by its own test file alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = {"__main__": "test_main.py", "__init__": "test_shape.py"}


def check(module: Path) -> tuple[Path, bool, str]:
    """Run one module's tests under coverage, child processes not included, and report what they missed."""
    test = ROOT / "tests" / TESTS.get(module.stem, f"test_{module.stem}.py")
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"COVERAGE_FILE": str(Path(folder) / "data")}
        command = [sys.executable, "-m", "coverage"]
        run = [*command, "run", "--source=mcp_min", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
        tested = subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        report = [*command, "report", "-m", "--fail-under=100", f"--include={module}"]
        reported = subprocess.run(report, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    good = tested.returncode == 0 and reported.returncode == 0
    return module, good, reported.stdout if tested.returncode == 0 else tested.stdout + tested.stderr


def main() -> int:
    package = ROOT / "mcp_min"
    modules = [*sorted(package.glob("*.py")), *sorted(package.glob("extras/[!_]*.py"))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(check, modules))
    for module, good, text in results:
        if not good:
            print(f"-- {module.relative_to(ROOT)}\n{text}")
    missed = sum(not good for _, good, _ in results)
    print(f"{len(results) - missed} of {len(modules)} modules are covered by their own tests alone")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
