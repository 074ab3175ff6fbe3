"""Looks up what requirements.lock names among the known vulnerabilities: `make audit`, a part of `make check`.

Exit code 1 for one that pyproject.toml does not list under `[tool.audit]` with a reason, and for an entry there that no
longer applies. Where the service cannot be reached nothing is known, which is said and is no error.
"""

import json
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
SERVICE = "https://pypi.org/pypi"
SECONDS = 5
SECONDS_IN_ALL = 120
UNREACHABLE = "vulnerabilities were not looked up: {why}"


def pinned(lock: str) -> list[tuple[str, str]]:
    """The names and versions of a lock file."""
    lines = (line.partition("#")[0].strip().partition("==") for line in lock.splitlines())
    return [(name, version) for name, _, version in lines if name]


def why_unreachable(service: str, package: tuple[str, str]) -> str | None:
    """Why the service does not tell what it knows of a package; None where it does."""
    try:
        with urllib.request.urlopen(f"{service}/{package[0]}/{package[1]}/json", timeout=SECONDS) as answer:
            known = json.load(answer)
    except (OSError, ValueError) as error:
        return f"{service} cannot be reached ({type(error).__name__}: {error})"
    return None if "vulnerabilities" in known else f"{service} does not tell vulnerabilities"


def judge(report: Mapping[str, Any], ignored: Mapping[str, str]) -> tuple[int, list[str]]:
    """The exit code and what is said of a report of pip-audit."""
    found = {
        (package["name"], package["version"], known["id"]): {known["id"], *known.get("aliases", ())}
        for package in report["dependencies"]
        for known in package.get("vulns", ())
    }
    wrong = [f"[tool.audit] ignores {name} without a reason" for name, why in ignored.items() if not why.strip()]
    wrong += [
        f"{package} {version} has the vulnerability {name}: take a version without it, or give a reason in [tool.audit]"
        for (package, version, name), names in found.items()
        if not names & set(ignored)
    ]
    named = set[str]().union(*found.values())
    wrong += [f"[tool.audit] ignores {name}, which was not found: remove it" for name in ignored if name not in named]
    skipped = sum("skip_reason" in package for package in report["dependencies"])
    audited = len(report["dependencies"]) - skipped
    said = f"{audited} packages were looked up, {skipped} are not known to the service; {len(found)} vulnerabilities"
    return (1 if wrong else 0), [*wrong, said]


def main(service: str = SERVICE) -> int:
    lock = PROJECT / "requirements.lock"
    if why := why_unreachable(service, pinned(lock.read_text())[0]):
        print(UNREACHABLE.format(why=why))
        return 0
    ignored = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["audit"]["ignored"]
    options = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", str(SECONDS), "--format", "json")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", "--requirement", str(lock), *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_IN_ALL,
        )
    except subprocess.TimeoutExpired:
        print(UNREACHABLE.format(why=f"{service} took more than {SECONDS_IN_ALL} seconds"))
        return 0
    try:
        code, said = judge(json.loads(done.stdout), ignored)
    except ValueError:
        lost = "ConnectionError" in done.stderr or "Could not connect" in done.stderr or "timed out" in done.stderr
        if lost:
            print(UNREACHABLE.format(why=f"{service} was lost on the way"))
            return 0
        print(done.stderr[-2000:])
        return 1
    print("\n".join(said))
    return code


if __name__ == "__main__":
    sys.exit(main())
