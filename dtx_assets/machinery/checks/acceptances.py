"""A file of what a cutover is accepted with: by what name, why, by whom, and until when. It can be reviewed.

A dry run writes it with the names that are in the way; people write the rest.
"""

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.private import private_file
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model
from dtx_assets.machinery.checks.obstacles import Obstacle

HEAD = """\
# What a cutover of {system} is accepted with. Of each entry: why it is no reason to wait, who answers for that, and the
# last day on which it holds. Remove what is to be mended. Then: `dtx run {system} --mode cutover --accepts {file}`
accepts:
"""


class Acceptance(BaseModel):
    """One thing that a cutover goes on in spite of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="an obstacle, a question or a check, as `dtx todo` calls it")
    reason: str = Field("", description="why it is no reason to wait")
    by: str = Field("", description="who answers for it")
    until: date | None = Field(None, description="the last day on which it holds, as 2026-12-31")


class AcceptanceFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    accepts: list[Acceptance]


def require_unwritten(path: Path) -> None:
    """ConfigurationError where the file is there: people may have written what it holds."""
    if path.exists():
        raise ConfigurationError(
            "the file is there already, and may hold what people wrote",
            where=str(path),
            remedy="name another one, or remove it",
        )


def write_acceptances(path: Path, system: str, found: Iterable[Obstacle]) -> int:
    """Write the names of what is in the way, to be filled in; how many. A structural fault cannot be accepted."""
    require_unwritten(path)
    names = 0
    with private_file(path) as file:
        file.write(HEAD.format(system=system, file=path.name))
        for obstacle in found:
            if obstacle.structure:
                continue
            names += 1
            told = " ".join(f"{obstacle.finding} [{obstacle.answers_for_it}]".split())
            file.write(f"  # {''.join(sign if sign.isprintable() else '?' for sign in told)}\n")
            entry = yaml.safe_dump([{"name": obstacle.name}], allow_unicode=True, width=1_000)
            file.write("".join(f"  {line}\n" for line in entry.splitlines()))
            file.write('    reason: ""\n    by: ""\n    until:\n')
        if not names:
            file.write("  []\n")
    return names


def read_acceptances(path: Path, today: date) -> dict[str, str]:
    """The reasons by name, with who answers for each and until when.

    ConfigurationError with file and line where one has no reason, nobody, or no day, or where its day is over.
    """
    findings = Findings()
    file = YamlFile(path)
    said = parse_model(file, AcceptanceFile, findings)
    reasons: dict[str, str] = {}
    for place, entry in enumerate(said.accepts if said else ()):
        at: list[str | int] = ["accepts", place]
        if entry.name in reasons:
            findings.add(f"{entry.name} is accepted twice", file.where(at), "remove one of the two")
        for key, missing in (("reason", "no reason"), ("by", "nobody who answers for it")):
            if not getattr(entry, key).strip():
                findings.add(
                    f"{entry.name} has {missing}", file.where([*at, key]), f"write `{key}`, or remove the entry"
                )
        if entry.until is None:
            findings.add(
                f"{entry.name} has no day until which it is accepted",
                file.where([*at, "until"]),
                f"write one, such as `until: {today.isoformat()}`",
            )
        elif entry.until < today:
            findings.add(
                f"{entry.name} was accepted until {entry.until.isoformat()}",
                file.where([*at, "until"]),
                "have it accepted anew, or mend it",
            )
        reasons[entry.name] = f"{entry.reason.strip()} (accepted by {entry.by.strip()} until {entry.until})"
    findings.raise_if_any()
    return reasons
