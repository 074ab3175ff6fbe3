"""A plan that is kept in a file: what a dry run said, so that a cutover can demand that it would do just that."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.base.private import private_file
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model


class PlannedLoad(BaseModel):
    """What would become of the rows of a target. `content`: a digest of all that is prepared for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    content: str
    counts: dict[str, int]


class KeptPlan(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    made_at: datetime
    limit: int | None = Field(None, description="the first source rows of each table; null: all")
    decisions: dict[str, str]
    loads: list[PlannedLoad]


@dataclass(frozen=True)
class Place:
    """Where what is prepared lies, and under which decisions."""

    system: str
    lake: Lake
    decisions: Mapping[str, str]


def plan_to_keep(place: Place, found: Mapping[str, Any], made_at: datetime, limit: int | None) -> KeptPlan:
    """What a dry run found just now, as it is kept."""
    loads = [
        PlannedLoad(
            model=load["model"],
            content=content_of(place, load["model"]),
            counts={name: value for name, value in load.items() if isinstance(value, int)},
        )
        for load in found["loads"]
    ]
    return KeptPlan(
        system=place.system, made_at=made_at, limit=limit, decisions=dict(sorted(place.decisions.items())), loads=loads
    )


def content_of(place: Place, model: str) -> str:
    """The digest of the rows that are prepared for a target, those of each part by their values."""
    parts = place.lake.require((place.system, "prepared", model)).metadata["parts"]
    return sha256(json.dumps(sorted([part["part"], part["digest"]] for part in parts)).encode()).hexdigest()


def write_plan(path: Path, plan: KeptPlan) -> None:
    with private_file(path) as file:
        file.write(plan.model_dump_json(indent=2) + "\n")


def read_plan(path: Path) -> KeptPlan:
    """ConfigurationError with file and line where it is no plan."""
    findings = Findings()
    plan = parse_model(YamlFile(path), KeptPlan, findings)
    findings.raise_if_any()
    if plan is None:
        raise TypeError("a file without findings has a content")
    return plan


def differences(kept: KeptPlan, now: KeptPlan) -> list[str]:
    """In words, what would be done now and was not planned so."""
    told = []
    if kept.system != now.system:
        told.append(f"it is a plan of {kept.system}, not of {now.system}")
    if kept.limit != now.limit:
        words = ["all rows" if limit is None else f"the first {limit:,} rows" for limit in (kept.limit, now.limit)]
        told.append(f"planned were {words[0]} of each table, now it is {words[1]}")
    for key in sorted({*kept.decisions, *now.decisions}):
        planned, chosen = (plan.decisions.get(key, "nothing") for plan in (kept, now))
        if planned != chosen:
            told.append(f"decision {key}: planned was {planned}, now it is {chosen}")
    before = {load.model: load for load in kept.loads}
    for load in now.loads:
        planned_load = before.pop(load.model, None)
        if planned_load is None:
            told.append(f"{load.model} was not planned")
            continue
        counts = [
            f"{planned_load.counts.get(name, 0):,} {name} planned, {rows:,} now"
            for name, rows in load.counts.items()
            if planned_load.counts.get(name, 0) != rows
        ]
        if not counts and planned_load.content != load.content:
            counts = ["as many rows as planned, with other values"]
        told += [f"{load.model}: {each}" for each in counts]
    return told + [f"{model} was planned, and is no target now" for model in before]


def require_as_planned(path: Path, kept: KeptPlan, now: KeptPlan) -> None:
    """LoadError that names each difference; nothing is written then."""
    if told := differences(kept, now):
        listed = "".join(f"\n    {each}" for each in told)
        raise LoadError(
            f"the run would not do what was planned at {kept.made_at:%Y-%m-%d %H:%M} UTC:{listed}",
            where=str(path),
            remedy="look at it with `dtx plan`, have the new plan agreed to, and keep it: dtx plan --out FILE",
        )
