r"""How the contract of Dispatch reads legacy values (dispatch.md 1.1, dtx.md 1.2): kinds, keys, repeated rows.

Plain and without the package. A value is `str`, None (a database's NULL) or `bytes` (what is not UTF-8). In a CSV `\N`
and `NULL` are still text. What the values come to is in `second_reading.py`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

Value = str | bytes | None
RawRow = Mapping[str, Value]
Row = dict[str, Any]

COLUMNS = {
    "django_content_type": "id app_label model",
    "auth_user": "id username password first_name last_name email is_superuser is_staff is_active date_joined "
    "last_login",
    "auth_group": "id name",
    "auth_user_groups": "id user_id group_id",
    "dispatch_patient": "id user_id doctor_id office_id birthdate sex status archived suspended schemes suffix "
    "submitted_at updated_at",
    "dispatch_office": "id doctor_id name address apt city state zip country phone tax_rate valid sq_customer_id "
    "emails",
    "dispatch_office_doctors": "id office_id user_id",
    "dispatch_course": "id name description price active",
    "dispatch_instruction": "id patient_id course_id order model scanner upper_jaw_id lower_jaw_id notes scanner_notes "
    "exports conditions complaint objective price status cbct accept_extraction comprehensive deleted suffix "
    "submitted_at updated_at",
    "dispatch_project": "id uid creator_id name size public type status created_at",
    "dispatch_record": "id content_type_id object_id author_id group_id type text public created_at",
    "dispatch_file": "id uid name size content_type_id object_id created_at",
    "dispatch_state": "id status on changed_at actor_id instruction_id",
    "dispatch_template": "id task_name function predefined status action_name text_name duration category_id course_id",
}
"""Of the generic keys the usual names: others are told to `Inputs`."""

INTEGERS = {"id", "order", "model", "scanner", "status", "type", "function", "duration", "size", "sex"}
BOOLEANS = {"public", "predefined", "archived", "suspended", "valid", "emails", "active", "deleted", "cbct"}
BOOLEANS |= {"accept_extraction", "comprehensive", "on"}
NUMBERS = {"price", "tax_rate"}
TIMES = {"date_joined", "last_login"}

WHITE = "".join(map(chr, [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F]))
WHITE += "\u205f\u3000"
"""Unicode's White_Space. (Python's `strip` takes U+001C to U+001F for it, too.)"""


def kind_of(table: str, column: str) -> str:
    """The kind that dispatch.md 1.1 gives a column."""
    if (table, column) in (("django_content_type", "model"), ("dispatch_office", "sq_customer_id")):
        return "text"
    if column in INTEGERS or column.endswith("_id"):
        return "integer"
    if column in BOOLEANS or column.startswith("is_"):
        return "boolean"
    if column in NUMBERS:
        return "number"
    if column == "birthdate":
        return "date"
    if column in TIMES or column.endswith("_at"):
        return "time"
    return "uuid" if column == "uid" else "text"


class Unreadable(Exception):
    """A value that has no meaning of its kind."""


def trimmed(text: str) -> str:
    return text.strip(WHITE)


def is_blank(text: str | None) -> bool:
    return text is None or not trimmed(text)


def no_case(text: str) -> str:
    return text.lower()


def as_text(value: Value) -> str:
    """ "A NUL, or bytes that are not text …, in a value that would be written"."""
    if not isinstance(value, str) or "\0" in value:
        raise Unreadable
    return value


def as_integer(value: Value) -> int:
    """ "An integer is `-?[0-9]+`, with or without `.0`, read as the integer"; of 64 bits."""
    found = re.fullmatch(r"(-?[0-9]+)(\.0)?", value) if isinstance(value, str) else None
    number = int(found[1]) if found else 2**63
    if not -(2**63) <= number < 2**63:
        raise Unreadable
    return number


def as_boolean(value: Value) -> bool:
    known = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}
    if not isinstance(value, str) or value.lower() not in known:
        raise Unreadable
    return known[value.lower()]


def as_number(value: Value) -> Decimal:
    if not isinstance(value, str) or not re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)", value):
        raise Unreadable
    return Decimal(value)


def as_date(value: Value) -> date:
    """ "exactly `YYYY-MM-DD`, with or without ` 00:00:00`"."""
    found = re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2})( 00:00:00)?", value) if isinstance(value, str) else None
    if not found:
        raise Unreadable
    try:
        return date.fromisoformat(found[1])
    except ValueError as error:
        raise Unreadable from error


def as_instant(value: Value, timezone: str) -> datetime:
    """`YYYY-MM-DD HH:MM:SS`, "with or without fraction, `T` and offset"; in UTC."""
    found = None
    if isinstance(value, str):
        found = re.fullmatch(
            r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?"
            r"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?",
            value,
        )
    if not found:
        raise Unreadable
    try:
        day = date.fromisoformat(found[1])
        microsecond = int((found[5] or ".0")[1:7].ljust(6, "0"))  # what PostgreSQL has no place for is cut
        clock = (int(found[2]), int(found[3]), int(found[4]), microsecond)
        local = datetime(day.year, day.month, day.day, *clock)  # noqa: DTZ001
        if found[6] is None:
            return local.replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC)
        return (local - _offset(found[6])).replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Unreadable from error


def _offset(text: str) -> timedelta:
    if text == "Z":
        return timedelta()
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError(text)
    return (1 if text[0] == "+" else -1) * timedelta(hours=hours, minutes=minutes)


def as_uuid(value: Value) -> str:
    """The form of the object's name: lower case, hyphens."""
    form = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}"
    if not isinstance(value, str) or not re.fullmatch(form, value):
        raise Unreadable
    return str(UUID(value))


def read(table: str, column: str, value: Value, form: str) -> Value:
    """The value, or None where dtx.md 1.2 calls it NULL."""
    if form == "database":
        return value
    if value in (r"\N", "NULL") or (value == "" and kind_of(table, column) != "text"):
        return None
    return value


@dataclass
class Source:
    """One legacy row on its way. Its readers add `unparseable` to `reasons` and give None."""

    table: str
    values: Mapping[str, Value]
    key: str
    id: int | None
    timezone: str
    rule: str | None = None
    reasons: set[str] = field(default_factory=set)
    coerced: list[str] = field(default_factory=list)
    is_beaten: bool = False

    def raw(self, column: str) -> Value:
        return self.values.get(column)

    @property
    def counts(self) -> bool:
        """Whether it is the row of its key: not another one's copy, and not beaten by a later one."""
        return self.rule is None and not self.is_beaten

    def _read(self, column: str, reader: Any, needed: bool) -> Any:
        value = self.raw(column)
        if value is None:
            if needed:
                self.reasons.add("schema_violation")
            return None
        try:
            return reader(value)
        except Unreadable:
            self.reasons.add("unparseable")
            return None

    def text(self, column: str, *, needed: bool = False) -> str | None:
        return self._read(column, as_text, needed)

    def integer(self, column: str, *, needed: bool = False) -> int | None:
        return self._read(column, as_integer, needed)

    def small(self, column: str, *, needed: bool = False) -> int | None:
        """An integer for a column of 32 bits: what does not fit is a `schema_violation` (dtx.md 2, "overlong")."""
        number = self.integer(column, needed=needed)
        if number is not None and not fits(number):
            self.reasons.add("schema_violation")
        return number

    def boolean(self, column: str, *, needed: bool = False) -> bool | None:
        return self._read(column, as_boolean, needed)

    def number(self, column: str) -> Decimal | None:
        return self._read(column, as_number, False)

    def money(self, column: str) -> Decimal | None:
        """dispatch.md 4.3: "beyond numeric(10,2), or with more than two decimals that are not 0"."""
        amount = self.number(column)
        if amount is not None and (abs(amount) >= 10**8 or amount != round(amount, 2)):
            self.reasons.add("schema_violation")
        return amount

    def date(self, column: str) -> date | None:
        return self._read(column, as_date, False)

    def instant(self, column: str) -> datetime | None:
        return self._read(column, lambda value: as_instant(value, self.timezone), False)

    def uuid(self, column: str, *, needed: bool = False) -> str | None:
        return self._read(column, as_uuid, needed)

    def peek(self, column: str) -> int | None:
        """The integer that stands there, where it is one; whoever needs it otherwise complains."""
        try:
            return as_integer(self.raw(column))
        except Unreadable:
            return None

    def check_id(self, *, is_written: bool) -> None:
        """ "an `id` that does not [read], always"."""
        number = self.small("id", needed=True) if is_written else self.integer("id", needed=True)
        assert number == self.id


def fits(number: int) -> bool:
    return -(2**31) <= number < 2**31


def sources_of(table: str, rows: Iterable[RawRow], form: str, timezone: str) -> list[Source]:
    """The rows of a table, with repeated ones marked (dtx.md 1.2). `password` is never read."""
    found = []
    for number, raw in enumerate(rows, 1):
        values = {column: read(table, column, value, form) for column, value in raw.items() if column != "password"}
        value = values.get("id")
        try:
            identity = as_integer(value)
        except Unreadable:
            identity = None
        key = str(identity) if identity is not None else unreadable_key(value, number)
        found.append(Source(table, values, key, identity, timezone))
    _mark_repeated(found)
    return found


def unreadable_key(value: Value, number: int) -> str:
    if value is None:
        return f"row {number}"
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return text.replace("\0", r"\x00")


def _mark_repeated(sources: Sequence[Source]) -> None:
    groups: dict[str, list[Source]] = {}
    for source in sources:
        if source.raw("id") is not None:
            groups.setdefault(source.key, []).append(source)
    for group in groups.values():
        distinct: list[Source] = []
        for source in group:
            if any(source.values == other.values for other in distinct):
                source.rule = "identical"
            else:
                distinct.append(source)
        for loser in distinct[:-1]:
            loser.is_beaten = True
            loser.reasons.add("duplicate_key")


def safe_name(name: str) -> str:
    r"""dtx.md 4.5: "what follows its last `/` or `\`, without control characters, at most 150 bytes …"."""
    last = re.split(r"[/\\]", name)[-1]
    last = "".join(letter for letter in last if not (ord(letter) < 32 or 127 <= ord(letter) < 160))
    if len(last.encode()) > 150:
        stem, dot, extension = last.rpartition(".")
        ending = f".{extension}" if dot and stem and len(extension.encode()) < 150 else ""
        stem = stem if ending else last
        last = stem.encode()[: 150 - len(ending.encode())].decode(errors="ignore") + ending
    return last if last not in ("", ".", "..") else "file"


def is_valid_email(address: str) -> bool:
    """dtx.md 4.1: "exactly one `@`, something before it, and a dot …, and no white space after trimming"."""
    before, at, after = address.partition("@")
    if not at or not before or "@" in after or any(letter in WHITE for letter in address):
        return False
    return "." in after[1:-1]


def json_object(**members: Any) -> Row:
    """ "JSON objects hold just the keys named, without those whose value is NULL"."""
    return {name: value for name, value in members.items() if value is not None}
