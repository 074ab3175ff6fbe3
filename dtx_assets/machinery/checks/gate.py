"""The gate of the load: what keeps rows from being written, and what was accepted all the same.

A rehearsal is stopped by wrong structure only. A cutover is stopped by each blocking check that is red, that was not
evaluated for what is to be loaded, by open decisions and actions, and by questions that only people can answer, unless
each of them is accepted by name, with a reason. Policy: `design.md`, failure policy.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.system.question import Question

RESTORE_POINT = "restore_point"


@dataclass(frozen=True)
class GatedCheck:
    """A check that closes the gate, and its last evaluation. `made_at`: when what it looks at was made last.

    `state` is that of `run.CheckState`. `upstream` names the target models that are made from what it looks at.
    """

    name: str
    state: str
    structure: bool
    upstream: Collection[str]
    at: datetime | None = None
    made_at: datetime | None = None
    count: int | None = None
    says: str = ""

    @property
    def is_stale(self) -> bool:
        return self.at is not None and self.made_at is not None and self.at < self.made_at


@dataclass(frozen=True)
class Obstacle:
    """One thing that is in the way. `structure` cannot be accepted."""

    name: str
    text: str
    structure: bool = False

    def is_accepted(self, accepted: Collection[str]) -> bool:
        """By its whole name, or by that of the check alone, which stands for that check of every asset."""
        return not self.structure and (self.name in accepted or self.name.rpartition(":")[2] in accepted)


def obstacles(
    checks: Iterable[GatedCheck],
    questions: Sequence[Question],
    chosen: Mapping[str, str],
    *,
    cutover: bool,
    models: Collection[str],
    restore_point: str | None = None,
) -> list[Obstacle]:
    """What keeps `models` from being loaded, accepted or not, the worst first."""
    found = []
    for check in checks:
        concerned = any(model in check.upstream for model in models)
        if check.state == "failed":
            if (check.structure and concerned) or cutover:
                count = "" if check.count is None else f" ({check.count:,} found)"
                found.append(Obstacle(check.name, f"failed{count}{check.says}", check.structure and concerned))
        elif cutover and concerned and (check.state not in ("passed", "warned") or check.is_stale):
            why = "was evaluated for older rows" if check.is_stale else f"is {check.state}"
            found.append(Obstacle(check.name, why if check.state != "never run" else "was never evaluated"))
    if cutover:
        if not restore_point:
            found.append(
                Obstacle(
                    RESTORE_POINT,
                    "no restore point of the target database is named: make a snapshot, and give its name or id",
                )
            )
        found += [Obstacle(question.name, question.text) for question in questions if question.asked_when(chosen)]
    return sorted(found, key=lambda obstacle: not obstacle.structure)


def require_open(found: Sequence[Obstacle], accepted: Collection[str], model: str) -> None:
    """LoadError that names every obstacle that is not accepted."""
    left = [obstacle for obstacle in found if not obstacle.is_accepted(accepted)]
    if not left:
        return
    listed = "\n".join(f"    {obstacle.name}: {obstacle.text}" for obstacle in left)
    structural = any(obstacle.structure for obstacle in left)
    raise LoadError(
        f"{model} is not loaded, {len(left)} thing(s) are in the way:\n{listed}",
        remedy=(
            "mend the structure and run again; it cannot be accepted"
            if structural
            else "mend them and run again, or accept each by name: --accept 'NAME=why' (a check's name alone stands for"
            " all its assets; in the UI: resources → migration → accept)"
        ),
    )


def require_known(accepted: Mapping[str, str], known: Collection[str]) -> None:
    """ConfigurationError where something is accepted that there is not, or without a reason."""
    for name, reason in accepted.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise ConfigurationError(
                f"there is no check and no question {name!r} to accept",
                where="--accept",
                remedy=f"did you mean {', '.join(near)}?" if near else "`dtx plan` lists what is in the way",
            )
        if not reason.strip():
            raise ConfigurationError(
                f"{name} is accepted without a reason", where="--accept", remedy=f"say why: --accept '{name}=…'"
            )
