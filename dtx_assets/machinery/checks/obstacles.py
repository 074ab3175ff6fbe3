"""What stands in the way of a cutover, as facts with an owner, each counted once.

A check may be red for several facts (the decisions that concern a table), and a fact may turn several checks red (a
decision that concerns seven tables). What is shown, counted and accepted is the fact. When it refuses is `gate`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from dtx_assets.machinery.mapping.decisions import Action, Decision, Decisions
from dtx_assets.machinery.prepare.parts import read_names
from dtx_assets.machinery.system.system import System

Kind = Literal["structure", "decision", "action", "rejected", "check", "question"]
KINDS: Mapping[Kind, tuple[str, str]] = {
    "structure": ("structural fault", "structural faults"),
    "decision": ("decision to confirm", "decisions to confirm"),
    "action": ("action to do", "actions to do"),
    "rejected": ("kind of rejected rows to mend", "kinds of rejected rows to mend"),
    "check": ("finding of a check to clear up", "findings of checks to clear up"),
    "question": ("question to answer", "questions to answer"),
}
"""The kinds, the first to see to first, as one and as several are called."""
NOBODY = "nobody named"
"""Who answers for what has no owner."""

REMEDIES = {
    "unmapped_value": "Add the value to the value map that is named, or correct it in the source.",
    "unparseable": "Correct the value in the source; the sentence says which column and what was expected.",
    "orphan_reference": (
        "What it refers to is not there: mend that row, have the id added to the crosswalk, or leave this one behind on"
        " purpose."
    ),
    "duplicate_key": "Another row of this key counts. Nothing to do, unless it is the wrong one: correct it then.",
    "no_matching_row": "What to link to is not there: see whether it was rejected itself, or is another area's.",
    "invalid_email": "Correct the address in the source; valid addresses of the same row were kept.",
    "unsafe_path": "The path leads out of the file repository: correct it in the source. It was not opened.",
    "file_missing": "Restore the file under its path, or leave the row behind on purpose.",
    "schema_violation": "The target does not take the value: correct it in the source, or have the column changed.",
    "parent_rejected": "The row that it belongs to was rejected: mend that one, and this one comes with it.",
    "target_conflict": "Someone else made or changed the row in the target: decide which of the two is right.",
}
"""What to do about rows that were rejected for a reason of spec 5."""
EXAMPLES_TOLD = 2


@dataclass(frozen=True)
class Obstacle:
    """One thing that stands in the way: what it is about, what was found, who has to do what, how it is accepted.

    `name` is what it is accepted by; `rows` are those concerned, where it is known; `checks` are the whole names of the
    checks that are red for it, all of which accepted stand for it too.
    """

    kind: Kind
    name: str
    about: str
    finding: str
    owner: str = ""
    remedy: str = ""
    rows: int | None = None
    checks: frozenset[str] = frozenset()

    @property
    def structure(self) -> bool:
        """What is wrong with the structure cannot be accepted."""
        return self.kind == "structure"

    @property
    def is_asked_at_cutover(self) -> bool:
        """What people answer at the cutover itself, and cannot before: it makes no no-go."""
        return self.kind == "question"

    @property
    def answers_for_it(self) -> str:
        return self.owner or NOBODY

    def is_accepted(self, accepted: Collection[str]) -> bool:
        """By its name; or by each check that is red for it, whose name alone stands for that check of every asset."""
        if self.structure:
            return False
        return self.name in accepted or bool(
            self.checks and all(names_of_check(check) & set(accepted) for check in self.checks)
        )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "checks": sorted(self.checks)}


def is_go(left: Iterable[Obstacle]) -> bool:
    """Whether nothing is left in the way but what the cutover itself asks."""
    return all(obstacle.is_asked_at_cutover for obstacle in left)


def names_of_check(whole: str) -> set[str]:
    return {whole, whole.rpartition(":")[2]}


def from_json(entry: Mapping[str, Any]) -> Obstacle:
    """What `as_json` made."""
    return Obstacle(**{**entry, "checks": frozenset(entry["checks"])})


def of_plan(plan: Mapping[str, Any]) -> list[Obstacle]:
    """What a dry run found in the way, but for what it was told to accept."""
    return [
        from_json({name: value for name, value in found.items() if name != "accepted"})
        for found in plan["in_the_way"]
        if not found["accepted"]
    ]


def each_once(found: Iterable[Obstacle]) -> list[Obstacle]:
    """The obstacles, those of one name as one, the kinds to see to first before the others."""
    by_name: dict[str, Obstacle] = {}
    for obstacle in found:
        same = by_name.get(obstacle.name, obstacle)
        kind = "structure" if obstacle.structure else same.kind
        by_name[obstacle.name] = replace(same, kind=kind, checks=same.checks | obstacle.checks)
    order = list(KINDS)
    return sorted(by_name.values(), key=lambda obstacle: order.index(obstacle.kind))


def count_of_kinds(found: Iterable[Obstacle]) -> str:
    """`12 decisions to confirm, 1 action to do`."""
    kinds = [obstacle.kind for obstacle in found]
    return ", ".join(
        f"{kinds.count(kind):,} {one if kinds.count(kind) == 1 else several}"
        for kind, (one, several) in KINDS.items()
        if kind in kinds
    )


def by_owner(found: Iterable[Obstacle]) -> dict[str, list[Obstacle]]:
    """The obstacles of each owner, whoever has most of them first, what nobody answers for last."""
    owners: dict[str, list[Obstacle]] = {}
    for obstacle in found:
        owners.setdefault(obstacle.answers_for_it, []).append(obstacle)
    return dict(sorted(owners.items(), key=lambda entry: (entry[0] == NOBODY, -len(entry[1]), entry[0])))


# --- decisions and actions --------------------------------------------------------------------------------------------


def open_decision(decision: Decision, decisions: Decisions) -> Obstacle:
    chosen = decisions.chosen.get(decision.key)
    says = f"not confirmed: {decision.title}" + (f"; chosen is {chosen}" if chosen else "")
    return Obstacle(
        "decision",
        decision.key,
        f"A{decision.area} #{decision.number}",
        says,
        decision.confirm_by or "",
        "have it confirmed, and set `status: confirmed` in decisions.yaml",
    )


def undone_action(action: Action, decisions: Decisions) -> Obstacle:
    return Obstacle(
        "action",
        action.id,
        f"A{action.area} action {action.number}",
        f"not done: {action.text}",
        decisions.owner_of(action),
        "do it, and set `status: done` in decisions.yaml",
    )


def pairs_concerned(
    system: System, decision: Decision, pairs: Collection[tuple[str, str]], affected: Collection[str]
) -> set[tuple[str, str]]:
    """Of pairs of a legacy table and where its rows go, those that a decision is about; `affected` are places.

    Of tables that one option migrates and another does not; else of the places that it affects, and where it leaves
    nothing to choose, of the tables that are declared to be its.
    """
    by_option = [
        {source for flow in system.flows_under(chosen) for source, _ in flow.accounted}
        for chosen in ({**system.decisions.chosen, decision.key: option} for option in decision.options)
    ]
    about = {table for tables in by_option for table in tables}
    about = {table for table in about if not all(table in tables for tables in by_option)}
    if about:
        return {pair for pair in pairs if pair[0] in about}
    if not decision.options:
        about = {
            table.name for table in system.legacy_tables.values() if decision in system.decisions.named(table.decision)
        }
    return {(source, place) for source, place in pairs if place in affected or source in about}


# --- rejected rows ----------------------------------------------------------------------------------------------------


def rejected_kinds(system: System, model: str, source: str, reasons: Iterable[tuple[str, int]]) -> list[Obstacle]:
    """The rejected rows of a source by their first reason, each row counted once.

    `reasons`: the reasons of rows, joined by `, `, and how many rows have them.
    """
    rows: dict[str, int] = {}
    others: dict[str, dict[str, int]] = {}
    for combination, count in reasons:
        first, *more = combination.split(", ")
        rows[first] = rows.get(first, 0) + count
        for reason in more:
            also = others.setdefault(first, {})
            also[reason] = also.get(reason, 0) + count
    return [
        Obstacle(
            "rejected",
            rejected_name(model, source, reason),
            f"{source} → {model}",
            f"{count:,} {'row is' if count == 1 else 'rows are'} rejected: {reason}"
            + "".join(f", {also:,} of them {other} too" for other, also in others.get(reason, {}).items()),
            owner_of_reason(system, model, source, reason),
            REMEDIES.get(reason, "See the sentence beside the row."),
            count,
        )
        for reason, count in rows.items()
    ]


def rejected_name(model: str, source: str, reason: str) -> str:
    return f"{model}/{source}/{reason}"


def rejected_names(system: System) -> set[str]:
    """What rejected rows can be accepted by, found or not."""
    return {
        rejected_name(model, source, reason)
        for flow in system.flows
        for source, model in flow.accounted
        for reason in REMEDIES
    }


def owner_of_reason(system: System, model: str, source: str, reason: str) -> str:
    """Who can mend rows of a source that are rejected for a reason: of its look-ups, of the target, or of the table."""
    if reason in ("target_conflict", "schema_violation"):
        return system.owner_of("target", model) or system.owner_of("legacy", source)
    kind = {"unmapped_value": "value_map", "orphan_reference": "crosswalk"}.get(reason)
    mapping = system.mappings.targets.get(model)
    entry = mapping.sources.get(source) if mapping else None
    read = read_names(entry) if entry else []
    names = [asset.name for asset in system.mapping_assets if asset.kind == kind and asset.name in read]
    owners = [owner for name in names if (owner := system.owners.get(("mapping", name)))]
    return ", ".join(dict.fromkeys(owners)) or system.owner_of("legacy", source)


def owned_now(obstacle: Obstacle, system: System, asset: tuple[str, str]) -> Obstacle:
    """What an evaluation noted, with who answers for it now: owners may have been named since."""
    if obstacle.kind == "rejected":
        model, _, rest = obstacle.name.partition("/")
        source, _, reason = rest.rpartition("/")
        return replace(obstacle, owner=owner_of_reason(system, model, source, reason))
    return replace(obstacle, owner=system.owner_of(*asset))


# --- any other check --------------------------------------------------------------------------------------------------


def found_by_check(
    system: System, name: str, asset: tuple[str, str], count: int | None, facts: Mapping[str, Any]
) -> Obstacle:
    """What a check found that knows no finer facts. `name` is its whole one; `facts` are those of its outcome."""
    rows = facts.get("rows")
    return Obstacle(
        "check",
        name,
        "/".join(asset),
        finding_of(name.rpartition(":")[2], count, facts),
        system.owner_of(*asset),
        str(facts.get("do") or "mend it where it comes from, and run again"),
        rows if isinstance(rows, int) else None,
        frozenset([name]),
    )


def finding_of(check: str, count: int | None, facts: Mapping[str, Any]) -> str:
    """What was found, in a line: how many, against what, and examples, which are masked as the facts are."""
    said = f"failed ({count:,} found): " if count is not None else "failed: "
    said += f"not so that {check.replace('_', ' ')}"
    told = [text for example in _examples(facts) if (text := _example_text(example))]
    return said + (f", such as {'; '.join(told[:EXAMPLES_TOLD])}" if told else "")


def _examples(facts: Mapping[str, Any]) -> list[Any]:
    """Of what was found: the first list, or the names of a tally of what there should be nothing of."""
    for name in ("undecided", "open"):
        if isinstance(listed := facts.get(name), Mapping) and listed:
            return list(listed)
    examples = facts.get("examples")
    return list(examples) if isinstance(examples, list | tuple) else []


def _example_text(example: Any) -> str:
    if not isinstance(example, Mapping):
        return str(example)
    told = ", ".join(f"{name} = {value}" for name, value in example.items() if name != "key")
    return f"{told} (row {example['key']})" if told and "key" in example else told or f"row {example.get('key')}"
