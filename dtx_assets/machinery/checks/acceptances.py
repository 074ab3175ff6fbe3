"""A file of what a cutover is accepted with: by what name, why, by whom, and until when. It can be reviewed.

A dry run writes it with the names that are in the way; people write the rest.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

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

    @property
    def is_blank(self) -> bool:
        """Whether nobody has filled it in: a name that a form shows, and not accepted."""
        return not self.reason.strip() and not self.by.strip() and self.until is None


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

    def where(place: int, key: str | None) -> str:
        return file.where(["accepts", place, *([key] if key else [])])

    reasons = _reasons(said.accepts if said else (), today, where, findings)
    findings.raise_if_any("what is accepted")
    return reasons


def accepted_in_form(entries: Iterable[Mapping[str, Any]], today: date, form: str) -> dict[str, str]:
    """The same of the entries of a form, but for those that nobody filled in: they stand there for their names.

    `form` is what to call it in an error.
    """
    findings = Findings()
    filled = []
    for entry in entries:
        try:
            said = Acceptance(**{**entry, "until": entry.get("until") or None})
        except ValidationError:
            findings.add(
                f"{entry['name']}: {entry['until']!r} is no day",
                f"{form} → {entry['name']} → until",
                f"write one, such as {today.isoformat()}",
            )
        else:
            filled += [] if said.is_blank else [said]

    def where(place: int, key: str | None) -> str:
        return " → ".join([form, filled[place].name, *([key] if key else [])])

    reasons = _reasons(filled, today, where, findings)
    findings.raise_if_any("what is accepted")
    return reasons


def _reasons(
    entries: Iterable[Acceptance], today: date, where: Callable[[int, str | None], str], findings: Findings
) -> dict[str, str]:
    """What each entry says, by name; `where` tells the place of an entry, or of what it says under a key."""
    reasons: dict[str, str] = {}
    for place, entry in enumerate(entries):
        if entry.name in reasons:
            findings.add(f"{entry.name} is accepted twice", where(place, None), "remove one of the two")
        for key, missing in (("reason", "no reason"), ("by", "nobody who answers for it")):
            if not getattr(entry, key).strip():
                findings.add(f"{entry.name} has {missing}", where(place, key), f"write `{key}`, or remove the entry")
        if entry.until is None:
            findings.add(
                f"{entry.name} has no day until which it is accepted",
                where(place, "until"),
                f"write one, such as `until: {today.isoformat()}`",
            )
        elif entry.until < today:
            findings.add(
                f"{entry.name} was accepted until {entry.until.isoformat()}",
                where(place, "until"),
                "have it accepted anew, or mend it",
            )
        reasons[entry.name] = f"{entry.reason.strip()} (accepted by {entry.by.strip()} until {entry.until})"
    return reasons
