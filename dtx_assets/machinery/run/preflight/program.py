"""This program: Python, the packages that it asks for, its configuration."""

import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from dtx_assets.machinery.base.settings import app_environment
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.preflight.finding import Finding


def program() -> Iterator[Finding]:
    """Python and the packages that the distribution asks for."""
    yield Finding("program", "Python", "yes", sys.version.split()[0])
    try:
        yield packages(asked_for())
    except metadata.PackageNotFoundError as error:
        yield Finding("program", "packages", "warn", f"{error.name} is not installed here", "make install")


def asked_for() -> list[str]:
    """The requirements of this program: of its checkout, whose installation may be older, else as it was installed."""
    project = Path(__file__).parents[4] / "pyproject.toml"
    if project.is_file():
        asked: list[str] = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
        return asked
    return metadata.requires(__name__.partition(".")[0].replace("_", "-")) or []


def packages(asked: Sequence[str]) -> Finding:
    """Whether what is installed is of the versions that are asked for; extras are for development."""
    wrong = []
    requirements = [Requirement(text) for text in asked]
    needed = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, and {requirement.specifier} is needed")
    if wrong:
        return Finding("program", "packages", "no", "; ".join(wrong), "make install")
    versions = {each.name: metadata.version(each.name) for each in needed}
    shown = ", ".join(f"{name} {versions[name]}" for name in ("dagster", "polars", "psycopg") if name in versions)
    return Finding("program", "packages", "yes", f"{len(needed)} as they should be: {shown}")


def configuration(environment: RunEnvironment) -> Finding:
    chosen = environment.decisions.chosen
    says = f"APP_ENV {app_environment()}, mode {environment.mode}, {len(chosen)} decisions"
    if shown := environment.decisions.demonstration:
        return Finding("program", "configuration", "warn", f"{says}. {shown.told}")
    return Finding("program", "configuration", "yes", says)
