r"""What sections 1.2, 4.1 to 4.3 and 5 of the contract say, done a second time: plain, slow and without the package.

Sections 4.4 to 4.6, and `migrate`, which does it all: `oracle_options`.

It takes legacy tables as lists of dicts of text and gives target rows, rejected rows and the accounting. Nothing of
`dtx_assets` is imported, so that a misreading has to be made twice to go unseen. Comments cite the contract where the
reading is not obvious. Tests that compare the two are elsewhere.

A value is `str`, None (a database's NULL) or `bytes` (what is not UTF-8). In a CSV `\N` and `NULL` are still text here.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

Value = str | bytes | None
RawRow = Mapping[str, Value]

# The contract says what is counted, not what the counts are called.
USER_NOT_FOUND = "user_not_found"
ZERO_DATE = "zero_date"
INVALID_TIME = "invalid_time"
AMBIGUOUS_TIME = "ambiguous_time"
SKIPPED_TIME = "skipped_time"
TRIMMED = "trimmed"
SENTINEL_DATE = "sentinel_date"
EXPIRY_LOST = "expiry_lost"


@dataclass
class Inputs:
    """All that a migration depends on. `other_areas` holds rows of target tables by table name, as text."""

    legacy: Mapping[str, Sequence[RawRow]]
    crosswalks: Mapping[str, Sequence[RawRow]]
    other_areas: Mapping[str, Sequence[RawRow]]
    value_maps: Mapping[str, Sequence[Mapping[str, str]]]
    decisions: Mapping[str, str]
    cutover_at: datetime
    timezone: str = "UTC"
    dialect: str = "csv"
    files: Path | None = None
    """The root of the file repository."""
    documents: Mapping[int, int] = field(default_factory=dict)
    """The Document that an earlier load made of a legacy file."""


@dataclass(frozen=True, order=True)
class Rejected:
    source_table: str
    source_key: str
    reasons: tuple[str, ...]
    partial: bool


@dataclass
class Account:
    """The accounting of one (source table → target)."""

    read: int = 0
    migrated: int = 0
    rejected: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    coerced: Counter[str] = field(default_factory=Counter)


@dataclass
class Result:
    """Target rows and rejected rows by model, accounting by (source table, model).

    `links` are (model, source table, source key, identity of the target row): what the mapping will hold.
    """

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rejected: dict[str, list[Rejected]] = field(default_factory=dict)
    accounting: dict[tuple[str, str], Account] = field(default_factory=dict)
    links: set[tuple[str, str, str, str]] = field(default_factory=set)
    details: dict[tuple[str, str], tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """Sentence and whole row of what was rejected, by (source table, source key); the oracle leaves it empty."""

    def link(self, model: str, source: "Source", row: Mapping[str, Any]) -> None:
        self.links.add((model, source.table, source.key, identity(model, row)))


IDENTITIES = {
    "NotificationSchedule": ("account_id", "type", "sequence"),
    "EmailTemplate": ("entity_type", "entity_id", "name", "language"),
    "DocRequirement": ("id",),
    "AccountEmail": ("account_id", "email", "email_type"),
    "AccountMeta": ("account_id", "key"),
    "ResponseMetric": ("account_id", "record_id", "event"),
}


def identity(model: str, row: Mapping[str, Any]) -> str:
    """A text that tells a target row from others; all its values where the target has no natural key."""
    return json.dumps([row[name] for name in IDENTITIES.get(model, sorted(row))], default=str, sort_keys=True)


# --- 1.2: reading legacy tables ---------------------------------------------------------------------------------------

KEYS = {
    "notification": ("notification_id",),
    "notification_webhook": ("customer_id", "type", "selector"),
    "notification_lookup": ("customer_id",),
    "letter": ("customer_id", "type", "selector"),
    "exemption": ("exemption_id",),
    "reviewer_address": ("reviewer_address_id",),
    "keyword": ("customer_id", "keyword"),
    "form_field": ("form_field_id",),
    "envelope": ("envelope_id",),
    "imap_upload": ("imap_upload_id",),
    "repo_file": ("repo_file_id",),
    "vornado_feed": (),
}
MAY_REPEAT = {"notification_webhook", "notification_lookup", "letter"}
CODE_COLUMNS = {"type", "selector", "send_hold", "item_type", "ExemptReviewStatus", "status", "event"}
INTEGER_COLUMNS = {"dow_bitmap", "level", "clicks", "size", "filesize"}


def is_text(column: str) -> bool:
    if column.endswith(("_id", "Setting", "_dow_bitmap")) or column in INTEGER_COLUMNS:
        return False
    if column.endswith(("_time", "_date")) or column == "ExemptExpDate":
        return False
    return not (column.endswith(("_send_hold", "Timing")) or column in CODE_COLUMNS)


def read_value(column: str, value: Value, dialect: str) -> Value:
    if dialect == "csv":
        if value in (r"\N", "NULL"):
            return None
        if value == "" and not is_text(column):
            return None
    return value


def integer(value: Value) -> int | None:
    """`-?[0-9]+`, with or without `.0`; None where it is anything else, NULL included."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.0)?", value):
        return int(value.removesuffix(".0"))
    return None


def code(value: Value) -> str | None:
    """How a code is compared: trimmed and without case."""
    return value.strip().lower() if isinstance(value, str) else None


def calendar_date(value: Value) -> date | None:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}( 00:00:00)?", value):
        return None
    try:
        return date.fromisoformat(value[:10])
    except ValueError:
        return None


def instant(value: Value, timezone: str) -> datetime | None:
    if not isinstance(value, str):
        return None
    found = re.fullmatch(r"([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?", value)
    if not found:
        return None
    *whole, fraction = found.groups()
    microseconds = int((fraction or ".0")[1:7].ljust(6, "0"))
    try:
        year, month, day, hour, minute, second = map(int, whole)
        local = datetime(year, month, day, hour, minute, second, microseconds, tzinfo=ZoneInfo(timezone))
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def clock_changes(value: Value, timezone: str) -> list[str]:
    """Whether a time is none, or one of two, on the clocks of the zone."""
    if not isinstance(value, str) or instant(value, timezone) is None:
        return []
    local = datetime.fromisoformat(value[:19]).replace(tzinfo=ZoneInfo(timezone))
    gained = local.replace(fold=1).utcoffset() - local.utcoffset()
    return [SKIPPED_TIME] if gained > timedelta() else [AMBIGUOUS_TIME] if gained < timedelta() else []


def cannot_be_written(value: Value) -> bool:
    return isinstance(value, bytes) or (value is not None and "\0" in value)


@dataclass
class Source:
    """A source row on its way: what was read, and what is wrong with it."""

    table: str
    row: int
    key: str
    values: dict[str, Value]
    rule: str | None = None
    reasons: set[str] = field(default_factory=set)
    coercions: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return self.rule is None and not self.reasons

    def __getitem__(self, column: str) -> Value:
        return self.values.get(column)


def key_value(column: str, value: Value) -> str | None:
    number = integer(value) if column.endswith("_id") else None
    if number is not None:
        return str(number)
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def read_table(inputs: Inputs, table: str) -> list[Source]:
    """The rows of a table with their keys, and what becomes of those whose key occurs again."""
    columns = KEYS[table]
    sources = []
    seen: Counter[tuple[str | None, ...]] = Counter()
    for number, raw in enumerate(inputs.legacy.get(table, ()), 1):
        values = {column: read_value(column, value, inputs.dialect) for column, value in raw.items()}
        parts = tuple(key_value(column, values.get(column)) for column in columns)
        seen[parts] += 1
        # "Where a key may repeat, or there is none, rows are told apart by an ordinal."
        ordinal = [str(seen[parts])] if table in MAY_REPEAT and seen[parts] > 1 else []
        if not columns:
            key: str | None = str(number)
        elif len(columns) == 1 and table not in MAY_REPEAT:
            key = parts[0]
        else:
            key = json.dumps([*parts, *ordinal], ensure_ascii=False, separators=(",", ":"))
        # The bookkeeping needs a text PostgreSQL can hold, even where the key is no key.
        name = f"row {number}" if key is None else key.replace("\0", r"\x00")
        sources.append(Source(table, number, name, values))
    if columns and table not in MAY_REPEAT:
        judge_repeated_keys(sources, columns)
    return sources


def judge_repeated_keys(sources: list[Source], columns: tuple[str, ...]) -> None:
    groups: dict[str, list[Source]] = {}
    for source in sources:
        if len(columns) == 1 and integer(source[columns[0]]) is None:
            source.reasons.add("schema_violation")  # "for what no rule of section 4 names": nothing names this row
        if all(source[column] is not None for column in columns):
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


# --- look-ups ---------------------------------------------------------------------------------------------------------


class LookUps:
    """Crosswalks, rows of other areas and value maps as dicts."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.account = self._crosswalk("crosswalk_account", "customer_id", "account_id", "docutrax_hierarchy_account")
        self.directory = self._crosswalk(
            "crosswalk_account", "customer_id", "directory_id", "docutrax_hierarchy_directory"
        )
        self.user = self._crosswalk("crosswalk_user", "user_id", "target_user_id", "docutrax_users_user")
        self.record = self._crosswalk("crosswalk_record", "vendor_id", "record_id", "docutrax_hierarchy_record")
        self.risk_profile = self._crosswalk(
            "crosswalk_requirements", "requirements_id", "coi_risk_profile_id", "docutrax_profiles_coiriskprofile"
        )
        self.groups: dict[int, set[int]] = {}
        for member in self._rows("docutrax_profiles_requirementsgroupmember"):
            self.groups.setdefault(member["record_id"], set()).add(member["requirements_group_id"])
        names = {row["id"]: row["name"] for row in self._rows("docutrax_profiles_documenttype")}
        self.requirements: dict[tuple[int, str | None], list[int]] = {}
        for row in self._rows("docutrax_profiles_docrequirement"):
            name = code(names[row["document_type_id"]])
            self.requirements.setdefault((row["requirements_group_id"], name), []).append(row["id"])

    def _rows(self, table: str) -> Iterator[dict[str, Any]]:
        for row in self.inputs.other_areas.get(table, ()):
            yield {name: integer(value) if name.endswith("id") else value for name, value in row.items()}

    def _crosswalk(self, name: str, key: str, value: str, target: str) -> dict[int, int]:
        existing = {row["id"] for row in self._rows(target)}
        pairs = ((integer(row[key]), integer(row[value])) for row in self.inputs.crosswalks.get(name, ()))
        # "An id that the target does not have counts as no match."
        return {old: new for old, new in pairs if old is not None and new is not None and new in existing}

    def value_map(self, name: str, key: str) -> dict[str, Mapping[str, str]]:
        return {code(row[key]) or "": row for row in self.inputs.value_maps[name]}


def find(table: Mapping[int, int], value: Value) -> int | None:
    number = integer(value)
    return None if number is None else table.get(number)


def user_or_null(lookups: LookUps, source: Source, column: str) -> int | None:
    found = find(lookups.user, source[column])
    if source[column] is not None and found is None:
        source.coercions.append(USER_NOT_FOUND)
    return found


def instant_or_null(inputs: Inputs, source: Source, column: str) -> datetime | None:
    found = instant(source[column], inputs.timezone)
    if source[column] is not None and found is None:
        is_zero = isinstance(source[column], str) and str(source[column]).startswith("0000-00-00")
        source.coercions.append(ZERO_DATE if is_zero else INVALID_TIME)
    source.coercions += clock_changes(source[column], inputs.timezone)
    return found


def keep_books(result: Result, model: str, sources: Iterable[Source]) -> None:
    for source in sources:
        account = result.accounting.setdefault((source.table, model), Account())
        account.read += 1
        if source.rule:
            account.dropped[source.rule] += 1
        elif source.reasons:
            account.rejected += 1
            result.rejected.setdefault(model, []).append(
                Rejected(source.table, source.key, tuple(sorted(source.reasons)), partial=False)
            )
        else:
            account.migrated += 1
            account.coerced.update(set(source.coercions))


# --- 4.1: notification, notification_webhook → NotificationSchedule ---------------------------------------------------

REQUEST = {"reminder": "CRFRR", "final": "CRSRR", "alert": "CRNRAlert", "restart_notices": "CRRestart"}
DOCUMENT_REQUEST = {"reminder": "DRFRR", "final": "DRSRR", "alert": "DRNRAlert"}
NON_COMPLIANCE = {"reminder": "CNCF", "final": "CNCS", "alert": "CNCAlert", "restart_notices": "CNCRestart"}
EXPIRATION = {
    "soon_to_expire": "CESTE",
    "reminder": "CEFER",
    "expired": "CEEXP",
    "final": "CESER",
    "alert": "CEEXPAlert",
    "restart_notices": "CERestart",
}
ITS_OWN_TIMING = ("reminder", "expired", "final", "alert")
PREFIXES = {"coi": "coi_", "document": "document_"}
SELECTORS = {
    "noncomp": ("non_compliance", "initial"),
    "noncomp_remind_1": ("non_compliance", "reminder"),
    "noncomp_remind_2": ("non_compliance", "final"),
    "expire_soon": ("expiration", "soon_to_expire"),
    "expire_remind_1": ("expiration", "reminder"),
    "expire_remind_2": ("expiration", "final"),
    "expired": ("expiration", "expired"),
    "request_remind_2": ("request", "final"),
}
DAYS_BY_BIT = {
    "sunday_first": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
    "monday_first": ("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
}
MONDAY_TO_SUNDAY = DAYS_BY_BIT["monday_first"]


def stages(source: Source, kind: str, cumulative: bool) -> list[dict[str, Any]]:
    """The stages of one notification row; what is wrong with its settings goes to its reasons."""
    prefix = PREFIXES[kind]
    found: list[dict[str, Any]] = []

    def setting(name: str) -> int | None:
        value = source[f"{name}Setting"]
        if value is None:
            return None
        number = integer(value)
        if number is None or not 0 <= number <= 3650:
            source.reasons.add("unparseable")
            return None
        return number

    def add(suffix: str, sequence: str, days: int, timing: str) -> None:
        found.append({"type": prefix + suffix, "sequence": sequence, "days_after": days, "timing_type": timing})

    chains = {"request": REQUEST if kind == "coi" else DOCUMENT_REQUEST, "non_compliance": NON_COMPLIANCE}
    for suffix, chain in chains.items():
        add(suffix, "initial", 0, "after")
        days_so_far = 0
        for sequence, name in chain.items():
            days = setting(name)
            if days is not None:
                days_so_far += days
                add(suffix, sequence, days if cumulative else days_so_far, "after")
    for sequence, name in EXPIRATION.items():
        if source[f"{name}Setting"] is None:
            continue  # a Timing is "needed only where its setting is not NULL"
        timing = {"soon_to_expire": "before", "restart_notices": "after"}.get(sequence)
        if sequence in ITS_OWN_TIMING:
            timing = code(source[f"{name}Timing"])
            if timing not in ("before", "after"):
                source.reasons.add("unparseable")
        days = setting(name)
        if days is not None and timing is not None:
            add("expiration", sequence, days, timing)
    return found


def send_days(number: int, order: str) -> list[str]:
    days = {day for bit, day in enumerate(DAYS_BY_BIT[order]) if number & (1 << bit)}
    return [day for day in MONDAY_TO_SUNDAY if day in days]


def notification_schedules(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    model = "NotificationSchedule"
    decisions = inputs.decisions
    # "customers with several lookup rows (the last one counts)"
    lookup_of: dict[int, Source] = {}
    for row in read_table(inputs, "notification_lookup"):
        customer = integer(row["customer_id"])
        if customer is not None:
            lookup_of[customer] = row

    notifications = read_table(inputs, "notification")
    made: dict[int, list[dict[str, Any]]] = {}
    competitors: dict[tuple[int, str], list[Source]] = {}
    for source in notifications:
        kind = code(source["type"])
        kind = kind if kind in PREFIXES else None
        if kind is None:
            source.reasons.add("unmapped_value")
        account = find(lookups.account, source["customer_id"])
        if account is None:
            source.reasons.add("orphan_reference")

        send_hold, dow_bitmap = source["send_hold"], source["dow_bitmap"]
        customer = integer(source["customer_id"])
        lookup = lookup_of.get(customer) if customer is not None else None
        if decisions["send_hold_override"] == "lookup_wins" and lookup and kind:
            short = {"coi": "coi", "document": "doc"}[kind]
            send_hold = send_hold if lookup[f"{short}_send_hold"] is None else lookup[f"{short}_send_hold"]
            dow_bitmap = dow_bitmap if lookup[f"{short}_dow_bitmap"] is None else lookup[f"{short}_dow_bitmap"]
        is_active = {"send": True, "hold": False}.get(code(send_hold) or "")
        if is_active is None:
            source.reasons.add("unmapped_value")

        days, metadata = None, None
        if decisions["dow_bitmap"] != "accept_gap" and dow_bitmap is not None:
            number = integer(dow_bitmap)
            if number is None or not 0 <= number <= 127:
                source.reasons.add("unparseable")
            else:
                days = send_days(number, decisions["dow_bit_order"])
                if decisions["dow_bitmap"] == "metadata":
                    days, metadata = None, {"dow_bitmap": number, "send_days": days}

        common = {
            "account_id": account,
            "is_active": is_active and decisions["activation"] == "as_legacy",
            "created_by_id": user_or_null(lookups, source, "user_id"),
            "created": instant_or_null(inputs, source, "create_time"),
            "send_days": days,
            "metadata": metadata,
        }
        if kind:
            rows = stages(source, kind, decisions["timing_semantics"] == "cumulative")
            made[source.row] = [{**row, **common, "email_recipients": []} for row in rows]
        if source.is_sound and account is not None and kind:
            competitors.setdefault((account, kind), []).append(source)

    for (account, kind), group in competitors.items():
        column = {"coi": "coi_notification_id", "document": "doc_notification_id"}[kind]
        # "Two customers that map to one account count as the same account, here": any of their look-up rows names.
        named = {
            integer(lookup[column])
            for customer, lookup in lookup_of.items()
            if lookups.account.get(customer) == account
        }

        def rank(source: Source, named: set[int | None] = named) -> tuple[bool, int]:
            number = integer(source["notification_id"]) or 0
            return number in named, number

        winner = max(group, key=rank)
        for source in group:
            if source is not winner:
                source.reasons.add("duplicate_key")

    schedules: dict[tuple[int, str, str], dict[str, Any]] = {}
    for source in notifications:
        if source.is_sound:
            for schedule in made[source.row]:
                schedules[schedule["account_id"], schedule["type"], schedule["sequence"]] = schedule
                result.link(model, source, schedule)
    webhooks = webhook_rows(inputs, lookups, result, schedules)
    result.rows[model] = list(schedules.values())
    keep_books(result, model, [*notifications, *webhooks])


def webhook_rows(
    inputs: Inputs, lookups: LookUps, result: Result, schedules: dict[tuple[int, str, str], dict[str, Any]]
) -> list[Source]:
    model = "NotificationSchedule"
    webhooks = read_table(inputs, "notification_webhook")
    for source in webhooks:
        leaves = address_leaves(source, "webhook")
        if source.rule:
            continue
        account = find(lookups.account, source["customer_id"])
        prefix = PREFIXES.get(code(source["type"]) or "")
        place = SELECTORS.get(code(source["selector"]) or "")
        if account is None:
            source.reasons.add("orphan_reference")
        if prefix is None or place is None:
            source.reasons.add("unmapped_value")
        schedule = None
        if account is not None and prefix is not None and place is not None:
            schedule = schedules.get((account, prefix + place[0], place[1]))
            if schedule is None:
                source.reasons.add("no_matching_row")
        judged = [(leaf, valid_address(leaf)) for leaf in leaves]
        valid = [address for _, address in judged if address is not None]
        if "unparseable" not in source.reasons and not valid:
            source.reasons.add("invalid_email")
        if source.is_sound and schedule is not None:
            schedule["email_recipients"] = sorted({*schedule["email_recipients"], *valid})
            result.link(model, source, schedule)
            # "the invalid ones go to the rejected rows, one entry each, when the row itself is migrated"
            result.rejected.setdefault(model, []).extend(
                Rejected(source.table, source.key, ("invalid_email",), partial=True)
                for _, address in judged
                if address is None
            )
    return webhooks


def address_leaves(source: Source, column: str) -> list[Any]:
    """The leaves of a value that holds addresses; a rule or a reason where it has none to read."""
    value = source[column]
    if source.rule:
        return []
    if value is None or value in ("", "N;"):
        source.rule = "empty"
        return []
    if isinstance(value, bytes):
        source.reasons.add("unparseable")
        return []
    try:
        parsed = parse_php(value)
    except ValueError:
        source.reasons.add("unparseable")
        return []
    if parsed == {}:
        source.rule = "empty"
        return []
    if not isinstance(parsed, str | dict):
        source.reasons.add("unparseable")
        return []
    leaves = list(flatten(parsed))
    if any(isinstance(leaf, str) and valid_address(leaf) and "\0" in leaf for leaf in leaves):
        source.reasons.add("unparseable")
    return leaves


def valid_address(leaf: Any) -> str | None:
    if not isinstance(leaf, str):
        return None  # "a leaf that is no string is an invalid address"
    address = leaf.strip().lower()
    local, _, domain = address.partition("@")
    if address.count("@") != 1 or not local or "." not in domain[1:-1] or re.search(r"\s", address):
        return None
    return address


def flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for element in value.values():
            yield from flatten(element)
    else:
        yield value


def parse_php(text: str) -> Any:
    """One PHP value without objects; ValueError for anything else."""
    data = text.encode()
    value, end = _parse_php(data, 0, [])
    if end != len(data):
        raise ValueError("something follows the value")
    return value


SCALARS: dict[bytes, tuple[bytes, Callable[[bytes], Any]]] = {
    b"i": (rb"i:([+-]?[0-9]+);", int),
    b"b": (rb"b:([01]);", lambda digit: digit == b"1"),
    b"d": (rb"d:([-+0-9.eE]+|NAN|-?INF);", float),
    b"N": (rb"N(;)", lambda _: None),
}


SERIALISED_OBJECT = re.compile(rb'[OCE]:[0-9]+:"')


def _parse_php(data: bytes, at: int, seen: list[Any]) -> tuple[Any, int]:
    """The value that begins at a byte, and where it ends; `seen` are the values so far, which `R:` refers to."""
    kind = data[at : at + 1]
    if kind in SCALARS:
        pattern, read = SCALARS[kind]
        if found := re.compile(pattern).match(data, at):
            seen.append(read(found[1]))
            return seen[-1], found.end()
    if kind == b"R" and (found := re.compile(rb"R:([0-9]+);").match(data, at)):
        number = int(found[1])
        if 1 < number <= len(seen) and not isinstance(seen[number - 1], dict):
            return seen[number - 1], found.end()
    if kind == b"s" and (found := re.compile(rb's:([0-9]+):"').match(data, at)):
        end = found.end() + int(found[1])
        if data[end : end + 2] == b'";':
            if SERIALISED_OBJECT.match(data, found.end(), end):
                raise ValueError("a serialised object")  # also where a later value of the same key takes its place
            seen.append(data[found.end() : end].decode())
            return seen[-1], end + 2
    if kind == b"a" and (found := re.compile(rb"a:([0-9]+):\{").match(data, at)):
        elements: dict[Any, Any] = {}
        seen.append(elements)
        at = found.end()
        for _ in range(int(found[1])):
            key, at = _parse_php(data, at, [])
            if not isinstance(key, int | str) or isinstance(key, bool):
                raise ValueError("an array key that is no key")
            elements[key], at = _parse_php(data, at, seen)
        if data[at : at + 1] == b"}":
            return elements, at + 1
    raise ValueError(f"not a PHP value at byte {at}")


# --- 4.2: letter → EmailTemplate --------------------------------------------------------------------------------------

MACRO = re.compile(r"__([A-Z0-9]+(?:_[A-Z0-9]+)*)__")
TAG = re.compile(r"<[^>]*>")


def languages(body: str, markers: Sequence[Mapping[str, str]], bilingual: str) -> list[str]:
    text = TAG.sub(" ", body).lower()
    found = {row["language"] for row in markers if row["marker"].lower() in text}
    if "es" not in found:
        return ["en"]
    return ["en", "es"] if "en" in found and bilingual == "both_languages" else ["es"]


def email_templates(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    model = "EmailTemplate"
    letters = read_table(inputs, "letter")
    edited: dict[int, datetime | None] = {}
    made: dict[int, list[dict[str, Any]]] = {}
    for source in letters:
        account = find(lookups.account, source["customer_id"])
        if account is None:
            source.reasons.add("orphan_reference")
        for column in ("type", "selector", "letter_body"):
            if source[column] is None:
                source.reasons.add("schema_violation")
        for column in ("type", "selector", "letter_body", "subject"):
            if cannot_be_written(source[column]):
                source.reasons.add("unparseable")
        edited[source.row] = instant_or_null(inputs, source, "edit_time")
        if not source.is_sound:
            continue
        body, subject = str(source["letter_body"]), str(source["subject"] or "")
        made[source.row] = [
            {
                "entity_type": "account",
                "entity_id": account,
                "name": " ".join(str(source[column]) for column in ("type", "selector")),
                "subject": MACRO.sub(r"{\1}", subject),
                "body_html": MACRO.sub(r"{\1}", body),
                "body_text": None,
                "from_email": None,
                "from_name": None,
                "variables": sorted({found[1] for found in MACRO.finditer(body)}),
                "is_active": True,
                "is_default": False,
                "language": language,
                "created": edited[source.row],
                "modified": edited[source.row],
            }
            for language in languages(body, inputs.value_maps["spanish_markers"], inputs.decisions["bilingual_letters"])
        ]

    competitors: dict[str, list[tuple[Source, dict[str, Any]]]] = {}
    for source in letters:
        for row in made.get(source.row, ()):
            competitors.setdefault(identity(model, row), []).append((source, row))

    def rank(competitor: tuple[Source, dict[str, Any]]) -> tuple[datetime, int]:
        source, _ = competitor
        # "NULL or unparseable is earliest; a tie: the later row of the source"
        return edited[source.row] or datetime.min.replace(tzinfo=UTC), source.row

    winners: dict[int, list[dict[str, Any]]] = {max(group, key=rank)[0].row: [] for group in competitors.values()}
    losers: set[int] = set()
    for group in competitors.values():
        winner = max(group, key=rank)
        winners[winner[0].row].append(winner[1])
        losers |= {source.row for source, _ in group if source is not winner[0]}
    result.rows[model] = [row for rows in winners.values() for row in rows]
    for source in letters:
        for row in winners.get(source.row, ()):
            result.link(model, source, row)
        if source.row in losers and source.row in winners:
            # "Entries about a part of a row that was migrated otherwise … are listed with `partial` true".
            result.rejected.setdefault(model, []).append(
                Rejected(source.table, source.key, ("duplicate_key",), partial=True)
            )
        elif source.row in losers:
            source.reasons.add("duplicate_key")
    keep_books(result, model, letters)


# --- 4.3: exemption → ManualOverride, DocRequirement ------------------------------------------------------------------


def is_sentinel(day: date, patterns: Sequence[str]) -> bool:
    return any(
        day.isoformat().startswith(pattern[:-1]) if pattern.endswith("*") else day.isoformat() == pattern
        for pattern in patterns
    )


def midnight(day: date, timezone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def exemptions(inputs: Inputs, lookups: LookUps, result: Result) -> None:
    sentinels = [row["date"] for row in inputs.value_maps["sentinel_dates"]]
    coverages = lookups.value_map("coverage_type", "item_name")
    renamed = lookups.value_map("document_type", "item_name")
    sources = read_table(inputs, "exemption")
    overrides: list[Source] = []
    documents: list[Source] = []
    notes: dict[int, tuple[int, dict[str, Any]]] = {}
    marks: list[tuple[Source, list[int]]] = []
    result.rows["ManualOverride"] = []
    for source in sources:
        item_type = code(source["item_type"])
        is_document = item_type == "document"
        # "one of an unknown type counts towards ManualOverride"
        (documents if is_document else overrides).append(source)

        day = calendar_date(source["ExemptExpDate"])
        is_real = day is not None and not is_sentinel(day, sentinels)
        if (
            is_document
            and day is not None
            and is_real
            and midnight(day, inputs.timezone) < inputs.cutover_at
            and inputs.decisions["expired_document_exemption"] == "skip"
            and source.rule is None
        ):
            source.rule = "expired"
        if source.rule:
            continue

        if source["ExemptExpDate"] is not None and day is None:
            source.reasons.add("unparseable")
        if item_type not in ("coi", "document"):
            source.reasons.add("unmapped_value")
        if code(source["ExemptReviewStatus"]) != "compliant":
            source.reasons.add("unmapped_value")
        record = find(lookups.record, source["vendor_id"])
        groups = sorted(lookups.groups.get(record, ())) if record is not None else []
        if not groups:
            source.reasons.add("orphan_reference")
        raw_reason = source["ExemptReason"]
        if cannot_be_written(raw_reason):
            source.reasons.add("unparseable")
        reason = "" if raw_reason is None else str(raw_reason).rstrip()
        if raw_reason is not None and reason != raw_reason:
            source.coercions.append(TRIMMED)

        if day is not None and not is_real:
            source.coercions.append(SENTINEL_DATE)
        if item_type == "coi":
            coverage = coverages.get(code(source["item_name"]) or "")
            if coverage is None:
                source.reasons.add("unmapped_value")
            profile = find(lookups.risk_profile, source["requirements_id"])
            if source["requirements_id"] is not None and profile is None:
                source.reasons.add("orphan_reference")
            approved_by = user_or_null(lookups, source, "create_user_id")
            approved_at = instant_or_null(inputs, source, "create_time")
            if day is not None and is_real:
                source.coercions += clock_changes(f"{day.isoformat()} 00:00:00", inputs.timezone)
            if source.is_sound and coverage is not None:
                for group in groups:
                    row = {
                        "requirements_group_id": group,
                        "coi_risk_profile_id": profile,
                        "coverage_type": coverage["coverage_type"],
                        "coverage_subtype": coverage["coverage_subtype"] or None,
                        "item_key": coverage["item_key"] or None,
                        "reason": reason,
                        "status": "approved",
                        "expires_at": midnight(day, inputs.timezone) if day is not None and is_real else None,
                        "approved_by_id": approved_by,
                        "approved_at": approved_at,
                    }
                    result.rows["ManualOverride"].append(row)
                    result.link("ManualOverride", source, row)
        if is_document:
            name = code(source["item_name"])
            if name is not None and name in renamed:
                name = code(renamed[name]["document_type"])
            found = [own for group in groups for own in lookups.requirements.get((group, name), ())]
            if groups and not found:
                source.reasons.add("no_matching_row")
            if source.is_sound:
                if is_real:
                    source.coercions.append(EXPIRY_LOST)
                until = f"(until {day.isoformat()})" if day is not None and is_real else ""
                note = " ".join(part for part in (reason, until) if part)
                number = integer(source["exemption_id"]) or 0
                marks.append((source, found))
                for own in found:
                    # "the highest `exemption_id` gives the note, all count as migrated"
                    if own not in notes or notes[own][0] < number:
                        notes[own] = number, {"id": own, "is_exempted": True, "exemption_note": note}
    result.rows["DocRequirement"] = [row for _, row in notes.values()]
    for source, found in marks:
        for own in found:
            result.link("DocRequirement", source, notes[own][1])
    result.accounting["exemption", "ManualOverride"] = Account()
    result.accounting["exemption", "DocRequirement"] = Account()
    keep_books(result, "ManualOverride", overrides)
    keep_books(result, "DocRequirement", documents)


# --- value maps -------------------------------------------------------------------------------------------------------


def read_value_maps(directory: Path) -> dict[str, list[dict[str, str]]]:
    """The value maps of a directory of CSV files, by name."""
    maps = {}
    for path in sorted(directory.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            maps[path.stem] = list(csv.DictReader(file))
    return maps
