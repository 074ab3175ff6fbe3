"""What a migration of Dispatch depends on and leaves behind: inputs, rows, mapping, rejected rows, accounting.

The rules of dispatch.md section 4 are in `second_reading_people`, `_orders` and `_messages`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

from dtx_assets_tests.dispatch.second_reading_values import RawRow, Row, Source, sources_of

NAMESPACE = UUID("c447fb6d-893e-5c24-a80b-001facee4dd0")
STANDARD = "standard"

OPTIONS = {
    "profile_type": ("groups", "plan"),
    "several_roles": ("split", "patient_first"),
    "patient_without_user": ("reject", "own_profile"),
    "several_patients": ("merge", "latest_only"),
    "sex_codes": ("iso_5218", "keep_code"),
    "primary_office": ("owner_then_first", "owner_only"),
    "order_office": ("doctor_primary", "reject"),
    "current_state": ("instruction_status", "latest_state"),
    "unknown_status": ("add_state", "reject"),
    "deleted_instruction": ("migrate", "drop"),
    "course_name_clash": ("suffix", "merge"),
    "unknown_code": ("default", "reject"),
    "project_office": ("creator_primary", "none"),
    "project_file": ("keep_row", "reject"),
    "message_target": ("extra_columns", "reject"),
    "template_grouping": ("one_per_row", "per_course"),
    "embedding_identifiers": ("omit", "include"),
    "long_text": ("chunk", "truncate"),
    "on_target_conflict": ("keep_target", "overwrite"),
}

PAIRS = {
    "auth_user": ("profiles",),
    "dispatch_patient": ("profiles",),
    "auth_user_groups": ("profiles",),
    "dispatch_office": ("offices",),
    "dispatch_office_doctors": ("doctor_offices",),
    "dispatch_course": ("order_types",),
    "dispatch_instruction": ("orders",),
    "dispatch_project": ("projects",),
    "dispatch_record": ("messages",),
    "dispatch_file": ("messages", "orders", "projects"),
    "dispatch_state": ("instruction_states",),
    "dispatch_template": ("workflow_templates",),
}
"""dispatch.md 5: what is counted against what."""

TARGETS = (
    "profiles",
    "offices",
    "order_types",
    "order_states",
    "doctor_offices",
    "orders",
    "projects",
    "message_types",
    "messages",
    "instruction_states",
    "order_state_history",
    "workflow_templates",
    "workflow_tasks",
)


@dataclass
class Inputs:
    """All that a migration depends on. `form`: csv or database. `files`: the project files by name.

    `generic_keys`: (type column, id column) of `dispatch_record` and of `dispatch_file`.
    """

    tables: Mapping[str, Sequence[RawRow]]
    form: str = "csv"
    decisions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    timezone: str = "UTC"
    generic_keys: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def decided(self, key: str, option: str) -> bool:
        if option not in OPTIONS[key]:
            raise KeyError(option)
        return self.decisions.get(key, OPTIONS[key][0]) == option


@dataclass(frozen=True, order=True)
class Rejected:
    source_table: str
    source_key: str
    target_table: str
    reasons: tuple[str, ...]
    partial: bool = False


@dataclass(frozen=True, order=True)
class Mapped:
    """`part`: what the contract calls it, else empty. The key of a standard row is not the contract's: empty."""

    source_table: str
    source_key: str
    target_table: str
    target_id: str
    part: str = ""


@dataclass
class Account:
    read: int = 0
    migrated: int = 0
    rejected: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    coerced: Counter[str] = field(default_factory=Counter)


@dataclass
class Result:
    """`rows`: of each target by id. `coerced` of an account has kinds of this reading's own: only counts compare."""

    rows: dict[str, dict[str, Row]] = field(default_factory=lambda: {name: {} for name in TARGETS})
    rejected: list[Rejected] = field(default_factory=list)
    mapping: set[Mapped] = field(default_factory=set)
    accounting: dict[tuple[str, str], Account] = field(default_factory=dict)

    @property
    def legacy_ids(self) -> set[tuple[str, str, str, str]]:
        """The rows of the view `compat.legacy_id` (section 5), without standard rows."""
        return {
            (each.source_table, each.source_key, each.target_table, each.target_id)
            for each in self.mapping
            if each.source_table != STANDARD
        }


def target_id(what: str, *legacy: object) -> str:
    """The key of a target row (section 2): `auth_user:17`."""
    return str(uuid5(NAMESPACE, ":".join((what, *map(str, legacy)))))


@dataclass
class Books:
    """The tables as read, and the result as it is being written. Sections of the contract add to it in turn."""

    inputs: Inputs
    result: Result = field(default_factory=Result)

    def __post_init__(self) -> None:
        self.sources = {
            table: sources_of(table, self.inputs.tables.get(table, ()), self.inputs.form, self.inputs.timezone)
            for table in (*PAIRS, "auth_group", "django_content_type")
        }
        for table, targets in PAIRS.items():
            if table in self.inputs.tables or table != "dispatch_file":
                for target in targets:
                    self.result.accounting[table, target] = Account()

    def decided(self, key: str, option: str) -> bool:
        return self.inputs.decided(key, option)

    def to_judge(self, table: str) -> list[Source]:
        return [source for source in self.sources[table] if source.rule is None]

    def winners(self, table: str) -> dict[int, Source]:
        """The rows that count by id, whatever else is wrong with them."""
        return {source.id: source for source in self.sources[table] if source.counts and source.id is not None}

    def found(self, table: str, number: int | None) -> Source | None:
        """The row that has been migrated under an id. (Asked only when its table has been judged.)"""
        source = self._winners[table].get(number) if number is not None else None
        return source if source is not None and source.rule is None and not source.reasons else None

    @cached_property
    def _winners(self) -> dict[str, dict[int, Source]]:
        return {table: self.winners(table) for table in self.sources}

    def refer(self, source: Source, column: str, table: str, *, needed: bool = False) -> Source | None:
        """The migrated row that a column names; none: `orphan_reference`."""
        number = source.integer(column, needed=needed)
        found = self.found(table, number)
        if number is not None and found is None:
            source.reasons.add("orphan_reference")
        return found

    def refer_or_null(self, source: Source, column: str) -> str | None:
        """The profile of the user that a column names, "else NULL" (counted)."""
        number = source.integer(column)
        if number is None:
            return None
        if self.found("auth_user", number) is None:
            source.coerced.append(f"{column}_not_found")
            return None
        return target_id("auth_user", number)

    def write(self, target: str, identity: str, row: Row, *, standard: bool = False) -> None:
        if identity in self.result.rows[target]:
            raise AssertionError(f"{target} {identity} twice")
        self.result.rows[target][identity] = row
        if standard:
            self.result.mapping.add(Mapped(STANDARD, "", target, identity))

    def map(self, source: Source, target: str, identity: str, part: str = "") -> None:
        self.result.mapping.add(Mapped(source.table, source.key, target, identity, part))

    def reject_part(self, source: Source, target: str, reason: str) -> None:
        self.result.rejected.append(Rejected(source.table, source.key, target, (reason,), partial=True))

    def settle(self, table: str, target_of: Any = None) -> None:
        """Counts the rows of a table, when all that is wrong with them is known."""
        for source in self.sources[table]:
            target = target_of(source) if target_of else PAIRS[table][0]
            account = self.result.accounting[table, target]
            account.read += 1
            if source.rule is not None:
                account.dropped[source.rule] += 1
            elif source.reasons:
                account.rejected += 1
                reasons = tuple(sorted(source.reasons))
                self.result.rejected.append(Rejected(table, source.key, target, reasons))
            else:
                account.migrated += 1
                account.coerced.update(source.coerced)


def empty(*columns: str) -> Row:
    """ "What no rule of section 4 fills is NULL"."""
    return dict.fromkeys(columns)


def iso_second(instant: datetime | None) -> str | None:
    """ "ISO 8601, UTC, to the second, `Z`"."""
    if instant is None:
        return None
    at = instant.astimezone(UTC)
    return f"{at.year:04}-{at:%m-%dT%H:%M:%S}Z"
