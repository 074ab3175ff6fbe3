r"""What the contract of PAD says (sections 1.2, 1.3, 3, 4, 5), done a second time: plain, slow and without the package.

It takes the legacy rows and the reference rows as dicts and gives the rows of the four targets, rejected rows and the
accounting. Nothing of `dtx_assets` is imported, so that a misreading has to be made twice to go unseen. Comments cite
the contract where the reading is not obvious. Tests that compare the two are elsewhere.

A value is `str`, None (a database's NULL) or `bytes` (what is not UTF-8). In a CSV `\N` and `NULL` are still text here.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

Value = str | bytes | None
RawRow = Mapping[str, Value]
Row = dict[str, Any]

LEGACY = "personal_account_dealing"
REQUEST, APPROVAL, EXECUTION, AUDIT = "pad_request", "pad_approval", "pad_execution", "audit_log"
TARGETS = (REQUEST, APPROVAL, EXECUTION, AUDIT)


KINDS = {
    "integer": "id",
    "person": "employee auth_manager auth_compliance last_modified_by",
    "time": "requested_date auth_manager_date auth_compliance_date last_modified_date",
    "decimal": "trade_size value",
    "code": "status status_manager status_compliance buysell is_deleted_yn related_yn broker_reporting_yn "
    "derivative_contract_yn leveraged_yn inside_info_yn existing_pos_yn signed_yn restricted_yn holding_period_yn "
    "conflicts_yn two_business_days_execution_yn contract_notes_received_yn",
    "identifier": "isin sedol bloomberg ticker inst_symbol currency",
    "text": "name relation security_description justification conflict_comments other_comments comments_manager "
    "comments_compliance",
}
COLUMNS = {column: kind for kind, columns in KINDS.items() for column in columns.split()}

FLAGS = {
    "is_related_party": "related_yn",
    "is_derivative": "derivative_contract_yn",
    "is_leveraged": "leveraged_yn",
    "existing_position": "existing_pos_yn",
    "signed_declaration": "signed_yn",
    "is_restricted": "restricted_yn",
    "has_conflict": "conflicts_yn",
    "executed_within_two_days": "two_business_days_execution_yn",
}
TEXTS = {
    "security_name": "security_description",
    "isin": "isin",
    "sedol": "sedol",
    "bloomberg_ticker": "bloomberg",
    "ticker": "ticker",
    "relation": "relation",
    "justification": "justification",
    "conflict_comments": "conflict_comments",
    "other_comments": "other_comments",
}
TRIMMED = ("isin", "sedol", "bloomberg", "ticker", "currency")
LENGTHS = {
    "security_name": 200,
    "isin": 12,
    "sedol": 7,
    "bloomberg_ticker": 50,
    "ticker": 20,
    "currency": 3,
    "relation": 100,
    "related_party_name": 250,
}
DIGITS = {"quantity": (18, 4), "estimated_value": (15, 2), "execution_price": (15, 4)}
WITH_LEGACY = (
    "name",
    "inst_symbol",
    "holding_period_yn",
    "status",
    "status_manager",
    "status_compliance",
    "is_deleted_yn",
    "contract_notes_received_yn",
)
IDENTIFIERS = ("isin", "sedol", "bloomberg", "ticker")
DETAILS = {"source": "legacy_migration", "original_table": LEGACY}

OPTIONS = {
    "name": ("ignore", "related_party_name", "when_related"),
    "broker_reporting": ("column", "compliance_assessment", "both"),
    "compliance_assessment": ("holding_period", "with_legacy"),
    "deleted": ("last_modified", "cutover", "drop"),
    "request_already_approved": ("as_planned", "by_approvals"),
    "approved_without_compliance": ("reject", "pending_compliance", "approved"),
    "executed_status": ("approved", "executed"),
    "unknown_security": ("null", "reject", "by_identifiers"),
    "ambiguous_security": ("reject", "narrow", "null"),
    "people": ("id", "id_or_mako_id"),
    "unknown_approver": ("reject", "null"),
    "undecided_approval": ("reject", "skip"),
    "undated_approval": ("reject", "last_modified"),
    "manager_checks": ("none", "copied"),
    "execution_when": ("either_set", "either_true"),
    "execution_unapproved": ("migrate", "reject"),
    "execution_values": ("approximate", "approximate_marked", "null"),
    "audit_entries": ("three", "none"),
    "surplus_decimals": ("reject", "round"),
    "unknown_currency": ("keep", "reject"),
    "leavers_open_requests": ("keep", "soft_delete"),
}


@dataclass
class Inputs:
    """All that a migration depends on; `existing`: rows that others have written into the targets, by table."""

    rows: Sequence[RawRow]
    employees: Sequence[RawRow]
    securities: Sequence[RawRow]
    currencies: Sequence[RawRow]
    cutover_at: datetime
    timezone: str = "UTC"
    dialect: str = "csv"
    decisions: Mapping[str, str] = field(default_factory=dict)
    existing: Mapping[str, Sequence[Row]] = field(default_factory=dict)

    def decided(self, decision: str) -> str:
        return self.decisions.get(decision, OPTIONS[decision][0])


@dataclass(frozen=True, order=True)
class Rejected:
    source_key: str
    reasons: tuple[str, ...]
    partial: bool


@dataclass
class Account:
    """The accounting of one target, in rows of the legacy table."""

    read: int = 0
    migrated: int = 0
    rejected: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    coerced: Counter[str] = field(default_factory=Counter)


@dataclass
class Result:
    """By target table: rows by (source key, part), what is rejected, and the books."""

    rows: dict[str, dict[tuple[str, str], Row]] = field(default_factory=lambda: {name: {} for name in TARGETS})
    rejected: dict[str, list[Rejected]] = field(default_factory=lambda: {name: [] for name in TARGETS})
    accounting: dict[str, Account] = field(default_factory=lambda: {name: Account() for name in TARGETS})

    def drop(self, target: str, rule: str) -> None:
        self.accounting[target].dropped[rule] += 1

    def reject(self, target: str, key: str, reasons: set[str]) -> None:
        self.accounting[target].rejected += 1
        self.rejected[target].append(Rejected(key, tuple(sorted(reasons)), partial=False))

    def reject_part(self, target: str, key: str, reasons: set[str]) -> None:
        self.rejected[target].append(Rejected(key, tuple(sorted(reasons)), partial=True))

    def write(self, target: str, key: str, parts: Mapping[str, Row], coerced: Sequence[str] = ()) -> None:
        self.accounting[target].migrated += 1
        self.accounting[target].coerced.update(coerced)
        self.rows[target] |= {(key, part): row for part, row in parts.items()}


class Unreadable(Exception):
    """A value that has no meaning of its kind."""


# --- 1.2: how values are read -----------------------------------------------------------------------------------------


def read(column: str, value: Value, dialect: str) -> Value:
    """The value, or None where the contract calls it NULL."""
    if dialect == "csv" and value in (r"\N", "NULL"):
        return None
    # "Empty or blank is NULL in every kind but text, from a database too; an empty text stays empty."
    if COLUMNS.get(column, "text") != "text" and isinstance(value, str) and not value.strip():
        return None
    return value


def integer(value: Value) -> int | None:
    """ "`-?[0-9]+`, with or without `.0`, trimmed, of 64 bits"; None for anything else."""
    if not isinstance(value, str):
        return None
    found = re.fullmatch(r"(-?[0-9]+)(\.0)?", value.strip())
    number = int(found[1]) if found else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def instant(value: Value, timezone: str) -> datetime:
    """The instant in UTC; Unreadable where it is not one of the forms of the contract, or no date of the calendar."""
    if not isinstance(value, str):
        raise Unreadable
    found = re.fullmatch(
        r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
        r"([ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?",
        value,
    )
    if not found:
        raise Unreadable
    year, month, day = (int(found[number]) for number in (1, 2, 3))
    hour, minute, second = (int(found[number] or 0) for number in (5, 6, 7))
    microsecond = int((found[8] or ".0")[1:7].ljust(6, "0"))  # "cut after six digits"
    try:
        local = datetime(year, month, day, hour, minute, second, microsecond)  # noqa: DTZ001
        if not found[9]:
            # fold=0 is "the earlier one" of two, and what the clocks skip is read with the offset before the change,
            # which is an hour later on the clocks after it.
            return local.replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC)
        return (local - offset(found[9])).replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Unreadable from error


def offset(text: str) -> timedelta:
    if text == "Z":
        return timedelta()
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError(text)
    return (1 if text[0] == "+" else -1) * timedelta(hours=hours, minutes=minutes)


def decimal(value: Value) -> Decimal:
    if not isinstance(value, str) or not re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)", value):
        raise Unreadable
    return Decimal(value)


def code(value: Value) -> str | None:
    """ "trimmed, without case; `1.0` and `2.0` are `1` and `2`"; "" for what is no text, which is no known code."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return ""
    known = value.strip().lower()
    return {"1.0": "1", "2.0": "2"}.get(known, known)


def cannot_be_written(value: Value) -> bool:
    return isinstance(value, bytes) or (value is not None and "\0" in value)


# --- 1.3: reference tables --------------------------------------------------------------------------------------------


def folded(value: Value) -> str | None:
    """How identifiers and log-in names are compared: trimmed and without case; None for what equals nothing."""
    return (value.strip().lower() or None) if isinstance(value, str) else None


class References:
    """Employees, securities and currencies, as the look-ups of 1.2 and 4.1 need them."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.employees = {integer(row["id"]): row for row in inputs.employees}
        self.by_mako_id: dict[str | None, list[int | None]] = {}
        for row in inputs.employees:
            self.by_mako_id.setdefault(folded(row.get("mako_id")), []).append(integer(row["id"]))
        # "Rows of `oracle_bloomberg` whose `is_deleted_yn` is `Y` (trimmed, without case) do not count."
        self.securities = [row for row in inputs.securities if folded(row.get("is_deleted_yn")) != "y"]
        self.currencies = {row["currency"] for row in inputs.currencies}

    def person(self, value: Value) -> int | None:
        """The id of the employee that the value names; None where it is not found."""
        number = integer(value)
        if number is not None:
            return number if number in self.employees else None
        if self.inputs.decided("people") == "id_or_mako_id" and isinstance(value, str):
            found = self.by_mako_id.get(folded(value), [])
            return found[0] if len(found) == 1 else None  # "two hits: not found"
        return None

    def leaving_day(self, employee: int) -> date | None:
        text = self.employees[employee].get("end_date")
        return date.fromisoformat(text[:10]) if isinstance(text, str) and text.strip() else None


# --- 4.1: pad_request -------------------------------------------------------------------------------------------------


class Source:
    """One row of the legacy table on its way to `pad_request`."""

    def __init__(self, number: int, raw: RawRow, inputs: Inputs, references: References) -> None:
        self.inputs, self.references = inputs, references
        self.values = {column: read(column, value, inputs.dialect) for column, value in raw.items()}
        self.id = integer(self["id"])
        self.key = self._key(number)
        self.rule: str | None = None
        self.reasons: set[str] = set()
        self.coerced: list[str] = []
        self.row: Row = {}

    def _key(self, number: int) -> str:
        if self.id is not None:
            return str(self.id)  # "`source_key` is the integer's text"
        value = self["id"]
        if value is None:
            return f"row {number}"
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        return text.replace("\0", r"\x00")

    def __getitem__(self, column: str) -> Value:
        return self.values.get(column)

    def decided(self, decision: str) -> str:
        return self.inputs.decided(decision)

    @property
    def is_deleted(self) -> bool:
        return code(self["is_deleted_yn"]) == "y"

    @property
    def has_execution(self) -> bool:
        """Whether 4.4 does not drop the row as `not_executed`."""
        codes = [code(self[name]) for name in ("two_business_days_execution_yn", "contract_notes_received_yn")]
        no = (None,) if self.decided("execution_when") == "either_set" else (None, "2")
        return any(each not in no for each in codes)

    def judge(self) -> None:
        """Fills `row`, `reasons` and `coerced`; checks that do not depend on one another all run."""
        if self["id"] is None:
            self.reasons.add("schema_violation")
        elif self.id is None:
            self.reasons.add("unparseable")
        self.row = dict.fromkeys(("reference_id", "google_uid", "deleted_by_id"))
        self.row["id"] = self.id
        self._people()
        self._codes()
        self._texts()
        self._security()
        self._currency()
        self._numbers()
        self._times()
        self._status()
        self._assessment()
        self._leaver()

    def _people(self) -> None:
        self.row["employee_id"] = self.references.person(self["employee"])
        if self.row["employee_id"] is None:
            self.reasons.add("orphan_reference")
        self.row["updated_by_id"] = self.references.person(self["last_modified_by"])
        if self["last_modified_by"] is not None and self.row["updated_by_id"] is None:
            self.coerced.append("person_not_found")

    def flag(self, column: str) -> bool | None:
        known = {"1": True, "2": False, None: None}  # "not answered is not 'no'"
        value = code(self[column])
        if value not in known:
            self.reasons.add("unmapped_value")
            return None
        return known[value]

    def _codes(self) -> None:
        self.row["direction"] = {"b": "BUY", "s": "SELL"}.get(code(self["buysell"]) or "")
        if self.row["direction"] is None:
            self.reasons.add("unmapped_value")
        for target, column in FLAGS.items():
            self.row[target] = self.flag(column)
        informed = self.flag("inside_info_yn")
        self.row["insider_info_declaration"] = None if informed is None else not informed
        # "An unknown value rejects under every option."
        self.broker_reporting = self.flag("broker_reporting_yn")
        in_column = self.decided("broker_reporting") != "compliance_assessment"
        self.row["broker_reporting"] = self.broker_reporting if in_column else None
        self.holding_period = self.flag("holding_period_yn")
        if code(self["is_deleted_yn"]) not in ("y", "n", None):
            self.reasons.add("unmapped_value")

    def text(self, target: str, value: Value) -> Value:
        if cannot_be_written(value):
            self.reasons.add("unparseable")
        elif value is not None and target in LENGTHS and len(value) > LENGTHS[target]:
            self.reasons.add("schema_violation")  # "an overlong value is a `schema_violation`, never cut"
        return value

    def identifier(self, column: str) -> Value:
        value = self[column]
        if not isinstance(value, str):
            return value
        if column in TRIMMED and value != value.strip():
            self.coerced.append("trimmed")
        return value.strip()

    def _texts(self) -> None:
        for target, column in TEXTS.items():
            self.row[target] = self.text(target, self.identifier(column) if column in TRIMMED else self[column])
        option = self.decided("name")
        named = option == "related_party_name" or (option == "when_related" and self.row["is_related_party"])
        self.row["related_party_name"] = self.text("related_party_name", self["name"] if named else None)

    def _security(self) -> None:
        self.row["security_id"] = None
        symbol = self["inst_symbol"]
        wanted = symbol.strip() if isinstance(symbol, str) else None
        # "`inst_symbol` is compared trimmed, with case."
        found = [row for row in self.references.securities if wanted and strip(row.get("inst_symbol")) == wanted]
        if len(found) == 1:
            self.row["security_id"] = integer(found[0]["id"])
        elif found:
            self._ambiguous(found)
        elif self.decided("unknown_security") == "by_identifiers":
            self._by_identifiers()
        elif symbol is not None:
            if self.decided("unknown_security") == "reject":
                self.reasons.add("orphan_reference")
            else:
                self.coerced.append("security_not_found")

    def _ambiguous(self, found: Sequence[RawRow]) -> None:
        option = self.decided("ambiguous_security")
        if option == "null":
            self.coerced.append("security_ambiguous")
            return
        if option == "narrow":
            for column in ("isin", "sedol", "bloomberg"):
                same = [row for row in found if self._agrees(row, column)]
                if len(same) == 1:
                    self.row["security_id"] = integer(same[0]["id"])
                    return
        self.reasons.add("no_matching_row")

    def _agrees(self, security: RawRow, column: str) -> bool:
        """ "These four are compared trimmed and without case."""
        return folded(self[column]) is not None and folded(security.get(column)) == folded(self[column])

    def _by_identifiers(self) -> None:
        for column in IDENTIFIERS:
            same = [row for row in self.references.securities if self._agrees(row, column)]
            if len(same) == 1:
                self.row["security_id"] = integer(same[0]["id"])
                self.coerced.append("security_by_identifier")
                return
        if any(self[column] is not None for column in (*IDENTIFIERS, "inst_symbol")):
            self.coerced.append("security_not_found")

    def _currency(self) -> None:
        value = self.identifier("currency")
        self.row["currency"] = value
        if value is not None and value not in self.references.currencies:
            text = value if isinstance(value, str) else ""
            spellings = {each for each in self.references.currencies if folded_case(each) == text.lower()}
            # "but never for two capitals and a small letter: `GBp` is a hundredth of `GBP`"
            if len(spellings) == 1 and not re.fullmatch("[A-Z]{2}[a-z]", text):
                self.row["currency"] = value = spellings.pop()
                self.coerced.append("currency_spelling")
            elif self.decided("unknown_currency") == "reject":
                self.reasons.add("unmapped_value")
        self.text("currency", value)

    def number(self, target: str, column: str) -> Decimal | None:
        if self[column] is None:
            return None
        try:
            exact = decimal(self[column])
        except Unreadable:
            self.reasons.add("unparseable")
            return None
        rounded = half_away_from_zero(exact, DIGITS[target][1])
        if rounded != exact:
            if self.decided("surplus_decimals") == "reject":
                self.reasons.add("schema_violation")
                return None
            self.coerced.append("rounded")
        if too_large(rounded, target):
            self.reasons.add("schema_violation")
        return rounded

    def _numbers(self) -> None:
        self.row["quantity"] = self.number("quantity", "trade_size")
        self.row["estimated_value"] = self.number("estimated_value", "value")

    def time(self, column: str) -> datetime | None:
        if self[column] is None:
            return None
        try:
            return instant(self[column], self.inputs.timezone)
        except Unreadable:
            self.reasons.add("unparseable")
            return None

    def _times(self) -> None:
        self.row["created_at"] = self.time("requested_date")
        if self["requested_date"] is None:
            self.reasons.add("schema_violation")
        self.row["updated_at"] = self.time("last_modified_date")
        if self["last_modified_date"] is None:
            self.row["updated_at"] = self.row["created_at"]
            self.coerced.append("no_modified_date")
        at_cutover = self.decided("deleted") == "cutover"
        deleted_at = self.inputs.cutover_at.astimezone(UTC) if at_cutover else self.row["updated_at"]
        self.row["deleted_at"] = deleted_at if self.is_deleted else None

    def _status(self) -> None:
        self.row["status"] = self._planned_status()
        if self.row["status"] is None:
            self.reasons.add("unmapped_value")
        elif self.row["status"] == "approved" and self.decided("executed_status") == "executed" and self.has_execution:
            self.row["status"] = "executed"

    def _planned_status(self) -> str | None:
        """4.2: "The first line that fits counts"."""
        status, manager, compliance = (code(self[name]) for name in ("status", "status_manager", "status_compliance"))
        decisions = ("approved", "declined", "pending", None)
        if status not in ("request", "approved", "declined") or manager not in decisions or compliance not in decisions:
            return None
        if "declined" in (status, manager, compliance):
            return "declined"
        if status == "approved":
            without = self.decided("approved_without_compliance")
            undecided = None if without == "reject" else without
            return {"approved": "approved", "pending": "pending_compliance", None: undecided}[compliance]
        if manager == "approved" and self.decided("request_already_approved") == "by_approvals":
            return "approved" if compliance == "approved" else "pending_compliance"
        return "pending_manager"

    def _assessment(self) -> None:
        found: Row = {}
        if self.holding_period is not None:
            found["holding_period"] = self.holding_period
        if self.broker_reporting is not None and self.decided("broker_reporting") != "column":
            found["broker_reporting"] = self.broker_reporting
        if self.decided("compliance_assessment") == "with_legacy":
            unnamed = [column for column in self.values if column not in COLUMNS]
            kept = {name: self[name] for name in (*WITH_LEGACY, *unnamed) if self[name] is not None}
            if any(cannot_be_written(value) for value in kept.values()):
                self.reasons.add("unparseable")
            if kept:
                found["legacy"] = kept
        self.row["compliance_assessment"] = found or None

    def _leaver(self) -> None:
        if self.decided("leavers_open_requests") != "soft_delete" or self.is_deleted or self.reasons:
            return
        left = self.references.leaving_day(self.row["employee_id"])
        zone = ZoneInfo(self.inputs.timezone)
        if not self.row["status"].startswith("pending_") or left is None:
            return
        if left < self.inputs.cutover_at.astimezone(zone).date():
            start = datetime.combine(left, time(), zone).astimezone(UTC)
            self.row["deleted_at"] = max(start, self.row["created_at"])
            self.coerced.append("leaver_closed")


def strip(value: Value) -> Value:
    return value.strip() if isinstance(value, str) else value


def folded_case(value: Value) -> str | None:
    return value.lower() if isinstance(value, str) else None


def half_away_from_zero(number: Decimal, scale: int) -> Decimal:
    with localcontext(prec=2_000):
        return number.quantize(Decimal(1).scaleb(-scale), rounding="ROUND_HALF_UP")


def too_large(number: Decimal, target: str) -> bool:
    precision, scale = DIGITS[target]
    return abs(number) >= Decimal(10) ** (precision - scale)


# --- 4.3 to 4.5: what a request brings along --------------------------------------------------------------------------


@dataclass
class Part:
    """An approval on its way."""

    row: Row
    reasons: set[str] = field(default_factory=set)
    coerced: list[str] = field(default_factory=list)


def approval(source: Source, who: str) -> Part | None:
    """The approval of the manager or of compliance; None where there is no such part."""
    decision = code(source[f"status_{who}"])
    undecided = decision in ("pending", None)
    # "under `skip` there is no such part, whatever else is wrong with it"
    if source[f"auth_{who}"] is None or (undecided and source.decided("undecided_approval") == "skip"):
        return None
    copies = who == "compliance" or source.decided("manager_checks") == "copied"
    part = Part(
        {
            "request_id": source.id,
            "approval_type": who,
            "approver_id": source.references.person(source[f"auth_{who}"]),
            "approver_google_uid": None,
            "decision": decision,
            "comments": source[f"comments_{who}"],
            "restricted_check": source.row["is_restricted"] if copies else None,
            "holding_period_check": source.holding_period if who == "compliance" else None,
            "conflict_check": source.row["has_conflict"] if copies else None,
        }
    )
    if part.row["approver_id"] is None:
        if source.decided("unknown_approver") == "null":
            part.coerced.append("approver_not_found")
        else:
            part.reasons.add("orphan_reference")
    if undecided:
        part.reasons.add("unmapped_value")
    if cannot_be_written(source[f"comments_{who}"]):
        part.reasons.add("unparseable")
    decide_when(source, source[f"auth_{who}_date"], part)
    return part


def decide_when(source: Source, value: Value, part: Part) -> None:
    if value is None:
        if source.decided("undated_approval") == "last_modified":
            part.row["decided_at"] = source.row["updated_at"]
            part.coerced.append("undated_approval")
        else:
            part.reasons.add("schema_violation")
        return
    try:
        part.row["decided_at"] = instant(value, source.inputs.timezone)
    except Unreadable:
        part.reasons.add("unparseable")
        return


def execution(source: Source) -> Part:
    part = Part(
        {
            "request_id": source.id,
            "executed_at": None,
            "execution_price": None,
            "execution_quantity": None,
            "broker_reference": None,
            "contract_note_path": None,
            "contract_note_verified": False,
            "verification_metadata": None,
            "recorded_by_id": None,
        }
    )
    notes = {"1": True, "2": False, None: None}
    received = code(source["contract_notes_received_yn"])
    part.row["contract_note_received"] = notes.get(received)
    if received not in notes:
        part.reasons.add("unmapped_value")
    unapproved = source.row["status"] not in ("approved", "executed")
    if unapproved and source.decided("execution_unapproved") == "reject":
        part.reasons.add("no_matching_row")
    if source.decided("execution_values") != "null":
        approximate(source, part)
    if source.decided("execution_values") == "approximate_marked":
        names = ("executed_at", "execution_price", "execution_quantity", "recorded_by_id")
        made_up = sorted(name for name in names if part.row[name] is not None)
        part.row["verification_metadata"] = {"source": "legacy_migration", "approximated": made_up}
    return part


def approximate(source: Source, part: Part) -> None:
    date_of_compliance = source["auth_compliance_date"]
    if date_of_compliance is None:
        part.coerced.append("no_execution_time")
    else:
        try:
            part.row["executed_at"] = instant(date_of_compliance, source.inputs.timezone)
        except Unreadable:
            part.reasons.add("unparseable")
    part.row["execution_quantity"] = source.row["quantity"]
    part.row["recorded_by_id"] = source.references.person(source["auth_compliance"])
    if source["auth_compliance"] is not None and part.row["recorded_by_id"] is None:
        part.coerced.append("person_not_found")
    if source["value"] is None or source["trade_size"] is None or decimal(source["trade_size"]) == 0:
        part.coerced.append("no_price")
        return
    price = rounded_quotient(decimal(source["value"]), decimal(source["trade_size"]), DIGITS["execution_price"][1])
    part.row["execution_price"] = price
    if too_large(price, "execution_price"):
        part.reasons.add("schema_violation")


def rounded_quotient(value: Decimal, size: Decimal, scale: int) -> Decimal:
    """ "exactly, then rounded half away from zero": in whole numbers, so that nothing is rounded twice."""
    (over, under), (other_over, other_under) = value.as_integer_ratio(), size.as_integer_ratio()
    numerator, denominator = over * other_under * 10**scale, under * other_over
    negative = (numerator < 0) != (denominator < 0)
    whole, rest = divmod(abs(numerator), abs(denominator))
    whole += 2 * rest >= abs(denominator)
    with localcontext(prec=2_000):
        return Decimal(-whole if negative else whole).scaleb(-scale)


def audit_entry(
    source: Source, action: str, at: datetime, actor: int | None, more: Row, status: str = "success"
) -> Row:
    return {
        "timestamp": at,
        "action_type": action,
        "action_status": status,
        "actor_type": "user",
        "actor_id": actor,
        "google_uid": None,
        "entity_type": "pad_request",
        "entity_id": source.id,
        "request_id": source.id,
        "details": {**DETAILS, **more},
    }


def audit_entries(source: Source, approvals: Mapping[str, Part]) -> dict[str, Row]:
    created_at, employee = source.row["created_at"], source.row["employee_id"]
    entries = {"request_submitted": audit_entry(source, "request_submitted", created_at, employee, {})}
    for who, part in approvals.items():
        if not part.reasons:
            row = part.row
            more = {"decision": row["decision"], "comments": row["comments"]}
            status = {"approved": "success", "declined": "blocked"}[row["decision"]]
            action = f"approval_{who}"
            entries[action] = audit_entry(source, action, row["decided_at"], row["approver_id"], more, status)
    return entries


# --- 5: cascade and accounting ----------------------------------------------------------------------------------------


def migrate(inputs: Inputs) -> Result:
    references = References(inputs)
    sources = [Source(number, raw, inputs, references) for number, raw in enumerate(inputs.rows, 1)]
    judge_repeated_keys(sources)
    result = Result()
    for source in sources:
        if source.rule is None and source.is_deleted and inputs.decided("deleted") == "drop":
            source.rule = "deleted"
        if source.rule is None:
            source.judge()
            if not source.reasons and taken_by_others(inputs, source.row):
                source.reasons.add("target_conflict")
        for target, settle in SETTLED_BY.items():
            result.accounting[target].read += 1
            if source.rule is None:
                settle(result, source)
            else:
                result.drop(target, source.rule)
    return result


def judge_repeated_keys(sources: Sequence[Source]) -> None:
    """dtx.md 1.2: the first of identical rows counts; of others with one key the later one wins."""
    groups: dict[str, list[Source]] = {}
    for source in sources:
        if source["id"] is not None:
            groups.setdefault(source.key, []).append(source)
    for group in groups.values():
        distinct: list[Source] = []
        for source in group:
            if any(source.values == other.values for other in distinct):
                source.rule = "identical"
            else:
                distinct.append(source)
        for loser in distinct[:-1]:
            loser.reasons.add("duplicate_key")


def taken_by_others(inputs: Inputs, row: Row) -> bool:
    """Whether the id is of a request that somebody else wrote with other values (dtx.md 6.3)."""
    return any(
        other["id"] == row["id"] and any(other[name] != value for name, value in row.items())
        for other in inputs.existing.get(REQUEST, ())
    )


def settle_request(result: Result, source: Source) -> None:
    if source.reasons:
        result.reject(REQUEST, source.key, source.reasons)
    else:
        result.write(REQUEST, source.key, {"": source.row}, source.coerced)


def named_approvers(source: Source) -> list[str]:
    return [who for who in ("manager", "compliance") if source[f"auth_{who}"] is not None]


def undecided(source: Source, who: str) -> bool:
    return code(source[f"status_{who}"]) in ("pending", None)


def approvals_of(source: Source) -> dict[str, Part]:
    parts = {who: approval(source, who) for who in ("manager", "compliance")}
    return {who: part for who, part in parts.items() if part is not None}


def settle_approvals(result: Result, source: Source) -> None:
    named = named_approvers(source)
    skips = source.decided("undecided_approval") == "skip"
    if not named:
        result.drop(APPROVAL, "no_approval")
    elif skips and all(undecided(source, who) for who in named):
        result.drop(APPROVAL, "undecided")
    elif source.reasons:
        result.reject(APPROVAL, source.key, {"parent_rejected"})
    else:
        parts = approvals_of(source)
        written = {who: part for who, part in parts.items() if not part.reasons}
        if not written:
            result.reject(APPROVAL, source.key, {reason for part in parts.values() for reason in part.reasons})
            return
        for who, part in parts.items():
            if who not in written:
                result.reject_part(APPROVAL, source.key, part.reasons)
        coerced = [kind for part in written.values() for kind in part.coerced]
        result.write(APPROVAL, source.key, {who: part.row for who, part in written.items()}, coerced)


def settle_execution(result: Result, source: Source) -> None:
    if not source.has_execution:
        result.drop(EXECUTION, "not_executed")
    elif source.reasons:
        result.reject(EXECUTION, source.key, {"parent_rejected"})
    else:
        part = execution(source)
        if part.reasons:
            result.reject(EXECUTION, source.key, part.reasons)
        else:
            result.write(EXECUTION, source.key, {"": part.row}, part.coerced)


def settle_audit(result: Result, source: Source) -> None:
    if source.decided("audit_entries") == "none":
        result.drop(AUDIT, "no_audit_entries")
    elif source.reasons:
        result.reject(AUDIT, source.key, {"parent_rejected"})
    else:
        parts = approvals_of(source)
        for part in parts.values():
            if part.reasons:
                result.reject_part(AUDIT, source.key, part.reasons)
        result.write(AUDIT, source.key, audit_entries(source, parts))


SETTLED_BY: dict[str, Callable[[Result, Source], None]] = {
    REQUEST: settle_request,
    APPROVAL: settle_approvals,
    EXECUTION: settle_execution,
    AUDIT: settle_audit,
}
