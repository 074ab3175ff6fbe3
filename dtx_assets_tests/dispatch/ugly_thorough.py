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
    # More minutes than 32 bits hold lie between the last two of them.
    ("dispatch_state", "changed_at"): ("0001-01-01 00:00:00", "9999-12-31 23:59:59"),
    ("dispatch_template", "duration"): ("2147483648", "2562047788", "2562047789"),
}
"""Values that are ugly in one column."""
COURSES_NAMED_AS_OTHERS: Mapping[str, Value] = {
    "901": "Twice",
    "902": "twice",
    "903": "TWICE (course 902)",
    "904": "Same key",
    "905": "Same key 906",
    "906": "Same key!",
}
"""Courses whose names, or whose keys, are what is made for another one."""
GROUP_NAMES: Mapping[str, Value] = {"901": b"a\xffb", "902": "a\0b", "903": None, "904": " ", "905": " é"}


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
    for number, name in COURSES_NAMED_AS_OTHERS.items():
        tables["dispatch_course"].append({**row("dispatch_course"), "id": number, "name": name})
    for number, name in GROUP_NAMES.items():
        tables["auth_group"].append({"id": number, "name": name})
        tables["auth_user_groups"].append({"id": number, "user_id": "1", "group_id": number})
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
