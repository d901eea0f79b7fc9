"""Looks for known vulnerabilities of the pinned requirements, and says what could not be checked.

pip-audit itself ends with "No known vulnerabilities found" when it could look up nothing. Exits
with 1 when there is a vulnerability, or, with `--strict`, when something could not be checked.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"

#: Vulnerabilities that do not concern us, by their id, and why.
IGNORED: dict[str, str] = {}


def ask(file: Path) -> dict[str, Any]:
    """Return pip-audit's report; one without dependencies when it cannot make any."""
    # Everything is pinned, also what the requirements need themselves.
    options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    ignored = [part for name in IGNORED for part in ("--ignore-vuln", name)]
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "-r", str(file), *options, *ignored],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        sys.stderr.write(done.stderr)
        return {"dependencies": []}
    return report


def judge(report: dict[str, Any]) -> tuple[list[str], int, int]:
    """Return the vulnerabilities, how many packages were checked, and how many were not."""
    packages = report["dependencies"]
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, mended in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in packages
        for vulnerability in package.get("vulns", [])
    ]
    unchecked = sum("skip_reason" in package for package in packages)
    return found, len(packages) - unchecked, unchecked


def main() -> int:
    status = 0
    for name in ("base.txt", "dev.txt"):
        found, checked, unchecked = judge(ask(REQUIREMENTS / name))
        print(f"requirements/{name}: {checked} packages checked, {len(found)} vulnerabilities")
        print(*found, sep="\n", end="\n" if found else "")
        if unchecked or not checked:
            print(f"NOT CHECKED: {unchecked or 'all'} packages; the service has nothing on them")
        if found or ("--strict" in sys.argv and (unchecked or not checked)):
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
