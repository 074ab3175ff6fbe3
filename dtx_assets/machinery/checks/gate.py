"""The gate of the load: what keeps rows from being written, and what was accepted all the same.

A rehearsal is stopped by wrong structure only. A cutover is stopped by each blocking check that is red, that was not
evaluated for what is to be loaded, by open decisions and actions, and by questions that only people can answer, unless
each of them is accepted by name, with a reason. Policy: `design.md`, failure policy. What an obstacle is: `obstacles`.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError
from dtx_assets.machinery.checks.obstacles import Obstacle, count_of_kinds, each_once
from dtx_assets.machinery.system.question import Question

RESTORE_POINT = "restore_point"
NEVER_EVALUATED = "never_evaluated"
"""What stands for all checks together that no run has evaluated: each is accepted by its own name."""
NOT_FINISHED = "not_finished"
"""What stands for all checks together that a run began and did not come to: it was interrupted, or goes on."""
NOT_EVALUATED = "have it evaluated: run again what it looks at"


@dataclass(frozen=True)
class GatedCheck:
    """A check that closes the gate, and its last evaluation. `made_at`: when what it looks at was made last.

    `state` is that of `run.CheckState`. `upstream` names the target models that are made from what it looks at.
    `found` is what it is red for, where it is; `owner` answers for what it looks at.
    """

    name: str
    state: str
    structure: bool
    upstream: Collection[str]
    at: datetime | None = None
    made_at: datetime | None = None
    count: int | None = None
    found: tuple[Obstacle, ...] = ()
    owner: str = ""

    @property
    def is_stale(self) -> bool:
        return self.at is not None and self.made_at is not None and self.at < self.made_at

    def red_for(self) -> tuple[Obstacle, ...]:
        """What it found; of an evaluation that does not say what, that it failed."""
        count = "" if self.count is None else f" ({self.count:,} found)"
        found = self.found or (self._itself(f"failed{count}", "mend it where it comes from, and run again"),)
        return tuple(replace(obstacle, checks=obstacle.checks | {self.name}) for obstacle in found)

    def not_evaluated(self) -> Obstacle:
        return self._itself("was evaluated for older rows" if self.is_stale else f"is {self.state}", NOT_EVALUATED)

    def _itself(self, says: str, remedy: str) -> Obstacle:
        about = self.name.rpartition(":")[0]
        return Obstacle("check", self.name, about, says, self.owner, remedy, checks=frozenset([self.name]))


def obstacles(
    checks: Iterable[GatedCheck],
    questions: Sequence[Question],
    chosen: Mapping[str, str],
    *,
    cutover: bool,
    models: Collection[str],
    restore_point: str | None = None,
    owner: str = "",
) -> list[Obstacle]:
    """What keeps `models` from being loaded, accepted or not, each once, the worst first.

    `owner` answers for what a cutover asks and nobody else is named for.
    """
    found: list[Obstacle] = []
    never: list[str] = []
    unfinished: list[GatedCheck] = []
    for check in checks:
        concerned = any(model in check.upstream for model in models)
        if check.state == "failed":
            if check.structure and concerned:
                found += [replace(obstacle, kind="structure") for obstacle in check.red_for()]
            elif cutover:
                found += check.red_for()
        elif cutover and concerned and check.state == "never run":
            never.append(check.name)
        elif cutover and concerned and check.state in ("not finished", "running"):
            unfinished.append(check)
        elif cutover and concerned and (check.state not in ("passed", "warned") or check.is_stale):
            found.append(check.not_evaluated())
    if never:
        found.append(never_evaluated(never, owner))
    found += not_finished(unfinished, owner)
    if cutover:
        found += asked(questions, chosen, restore_point, owner)
    return each_once(found)


def never_evaluated(checks: Sequence[str], owner: str) -> Obstacle:
    """Checks that no run has evaluated yet: one thing to do, however many they are."""
    says = f"{checks[0]} was never evaluated" if len(checks) == 1 else f"{len(checks):,} checks were never evaluated"
    return Obstacle(
        "check", NEVER_EVALUATED, "the rows as they are", says, owner, "rehearse: dtx run", checks=frozenset(checks)
    )


def not_finished(checks: Sequence[GatedCheck], owner: str) -> list[Obstacle]:
    """Checks that a run began: several are one thing to do, as those that none has begun."""
    if len(checks) < 2:
        return [check.not_evaluated() for check in checks]
    says = f"{len(checks):,} checks are {' or '.join(sorted({check.state for check in checks}))}"
    names = frozenset(check.name for check in checks)
    return [Obstacle("check", NOT_FINISHED, "the rows as they are", says, owner, NOT_EVALUATED, checks=names)]


def asked(
    questions: Iterable[Question], chosen: Mapping[str, str], restore_point: str | None, owner: str
) -> list[Obstacle]:
    """What a cutover asks people."""
    point = Obstacle(
        "question",
        RESTORE_POINT,
        "asked at the cutover",
        "no restore point of the target database is named",
        owner,
        "make a snapshot, and give its name or id: --restore-point NAME",
    )
    return [
        *([] if restore_point else [point]),
        *(
            Obstacle(
                "question",
                question.name,
                "asked at the cutover",
                question.text,
                question.owner or owner,
                f"answer it: --accept '{question.name}=…'",
            )
            for question in questions
            if question.asked_when(chosen)
        ),
    ]


def not_accepted(found: Iterable[Obstacle], accepted: Collection[str]) -> list[Obstacle]:
    return [obstacle for obstacle in found if not obstacle.is_accepted(accepted)]


def require_open(found: Sequence[Obstacle], accepted: Collection[str], what: str) -> None:
    """LoadError that names every obstacle that is not accepted; `what` is not loaded then."""
    if left := not_accepted(found, accepted):
        raise LoadError(
            f"{what} is not loaded, {len(left)} thing(s) are in the way ({count_of_kinds(left)}):\n{listed(left)}",
            remedy=remedy_of(left),
        )


def require_nothing_but_rows(
    needs_no_row: Sequence[Obstacle], found_before: Sequence[Obstacle], accepted: Collection[str]
) -> None:
    """LoadError where something is in the way of a cutover that no row can change: it is refused before it reads any.

    `found_before` is what earlier runs and plans found in rows. It refuses nothing, since it may be mended by now; it
    is told with the rest so that all of it can be seen to at once.
    """
    left = not_accepted(needs_no_row, accepted)
    if not left:
        return
    names = {obstacle.name for obstacle in left}
    before = [obstacle for obstacle in not_accepted(found_before, accepted) if obstacle.name not in names]
    also = f"\n  found before, in rows, {len(before)} ({count_of_kinds(before)}):\n{listed(before)}" if before else ""
    raise LoadError(
        f"the cutover is refused before anything is read, {len(left)} thing(s) are in its way that need no row"
        f" ({count_of_kinds(left)}):\n{listed(left)}{also}",
        remedy=remedy_of(left),
    )


def listed(found: Iterable[Obstacle]) -> str:
    return "\n".join(f"    {obstacle.name}: {obstacle.finding} [{obstacle.answers_for_it}]" for obstacle in found)


def remedy_of(left: Iterable[Obstacle]) -> str:
    if any(obstacle.structure for obstacle in left):
        return "mend the structure and run again; it cannot be accepted"
    return (
        "mend them and run again, or accept each by name: --accept 'NAME=why' (a check's name alone stands for"
        " all its assets; in the UI: resources → migration → accept)"
    )


def require_known(accepted: Mapping[str, str], known: Collection[str]) -> None:
    """ConfigurationError where something is accepted that there is not, or without a reason."""
    for name, reason in accepted.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise ConfigurationError(
                f"there is no check and no question {name!r} to accept",
                where="--accept",
                remedy=f"did you mean {', '.join(near)}?" if near else "`dtx todo` lists what is in the way",
            )
        if not reason.strip():
            raise ConfigurationError(
                f"{name} is accepted without a reason", where="--accept", remedy=f"say why: --accept '{name}=…'"
            )
