"""Every bad value in every column of every legacy table of Dispatch, one a row, in rows that are sound otherwise."""

from collections.abc import Mapping
from uuid import UUID

from dtx_assets_tests.dispatch.second_reading_values import COLUMNS, Value
from dtx_assets_tests.dispatch.small_world import row, world
from dtx_assets_tests.dispatch.ugly import SPARED, Row, Ugly, ugly_values
from dtx_assets_tests.dispatch.ugly_values import BAD_IDS, BODIES, COURSE_NAMES, EMAILS, PROJECT_NAMES

FIRST_ID = 1_000
MORE: Mapping[tuple[str, str], tuple[Value, ...]] = {
    ("auth_user", "email"): EMAILS,
    ("dispatch_course", "name"): COURSE_NAMES,
    ("dispatch_project", "name"): PROJECT_NAMES,
    ("dispatch_record", "text"): BODIES,
    ("dispatch_record", "object_id"): (" 9 ", "\t9", "9 9", "09", "9.0"),
}
"""Values that are ugly in one column."""


def thorough() -> Ugly:
    tables: dict[str, list[Row]] = {table: [dict(each) for each in rows] for table, rows in world().items()}
    tables["dispatch_record"].append(dict(row("dispatch_record")))
    for table, columns in COLUMNS.items():
        for column in columns.split():
            if column in ("id", "password") or (table, column) in SPARED:
                continue
            for value in (*ugly_values(table, column), *MORE.get((table, column), ())):
                _add(tables, table, {column: value})
        for value in BAD_IDS:
            _add(tables, table, {"id": value})
    files = {str(each["uid"]): b"solid" for each in tables["dispatch_project"][::2] if is_name(each["uid"])}
    return Ugly(tables, files)


def is_name(uid: Value) -> bool:
    return isinstance(uid, str) and uid != "" and "\0" not in uid and uid == uid.strip()


def _add(tables: dict[str, list[Row]], table: str, changed: Mapping[str, Value]) -> None:
    """A sound row with an id of its own, and with what rows of its table must not share."""
    number = FIRST_ID + len(tables[table])
    own: Row = {"id": str(number)}
    if table == "dispatch_patient" and "user_id" not in changed:
        tables["auth_user"].append({**row("auth_user"), "id": str(FIRST_ID + len(tables["auth_user"]))})
        own["user_id"] = tables["auth_user"][-1]["id"]
    if table == "dispatch_course":
        own["name"] = f"Course of {number}"
    if table == "dispatch_project":
        own["uid"] = str(UUID(int=number))
    tables[table].append({**row(table), **own, **changed})
