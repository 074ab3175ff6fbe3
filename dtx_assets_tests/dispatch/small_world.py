"""A legacy database of Dispatch in small, for examples worked out by hand: one row of each table, and changes to it."""

from collections.abc import Mapping
from typing import Any

from dtx_assets_tests.dispatch.second_reading import Inputs, Result, migrate
from dtx_assets_tests.dispatch.second_reading_books import Rejected
from dtx_assets_tests.dispatch.second_reading_values import COLUMNS, RawRow, Row, Value

UID = "123e4567-e89b-12d3-a456-426614174000"
ROWS: Mapping[str, Mapping[str, Value]] = {
    "django_content_type": {"id": "10", "app_label": "dispatch", "model": "instruction"},
    "auth_user": {"id": "1", "username": "ann", "first_name": "Ann", "last_name": "Lee", "is_active": "t"},
    "auth_group": {"id": "1", "name": "Doctor"},
    "auth_user_groups": {"id": "1", "user_id": "2", "group_id": "1"},
    "dispatch_patient": {"id": "7", "user_id": "1", "doctor_id": "2", "office_id": "3"},
    "dispatch_office": {"id": "3", "doctor_id": "2", "name": "Smile"},
    "dispatch_office_doctors": {"id": "1", "office_id": "3", "user_id": "2"},
    "dispatch_course": {"id": "5", "name": "Aligner"},
    "dispatch_instruction": {"id": "9", "patient_id": "7", "course_id": "5", "status": "1"},
    "dispatch_project": {"id": "4", "uid": UID, "creator_id": "2", "name": "scan.stl", "type": "0", "status": "0"},
    "dispatch_record": {"id": "6", "content_type_id": "10", "object_id": "9", "type": "0", "text": "Hello"},
    "dispatch_file": {"id": "8", "content_type_id": "10", "object_id": "9", "name": "a.stl"},
    "dispatch_state": {"id": "11", "status": "1", "on": "t", "instruction_id": "9"},
    "dispatch_template": {"id": "12", "task_name": "Scan", "function": "1"},
}


def row(table: str, **changed: Value) -> RawRow:
    return {**dict.fromkeys(COLUMNS[table].split()), **ROWS[table], **changed}


def world(**tables: list[RawRow]) -> dict[str, list[RawRow]]:
    """One row of each table, a second user, who is a doctor, and content types; `tables` take the place of these."""
    there = {table: [row(table)] for table in COLUMNS if table not in ("dispatch_file", "dispatch_record")}
    there["auth_user"].append(row("auth_user", id="2", first_name="Dee", last_name="Ng"))
    models = ("project", "patient", "record", "oldthing")
    there["django_content_type"] += [
        *(row("django_content_type", id=str(11 + place), model=model) for place, model in enumerate(models)),
        row("django_content_type", id="1", app_label="auth", model="user"),
    ]
    return {**there, "dispatch_record": [], "dispatch_file": [], **tables}


def migrated(tables: Mapping[str, list[RawRow]], form: str = "csv", **more: Any) -> Result:
    names = ("files", "timezone", "generic_keys")
    told = {name: more.pop(name) for name in names if name in more}
    return migrate(Inputs(tables, form, more, **told))


def rows_of(result: Result, target: str, column: str) -> dict[Any, Row]:
    """The rows of a target by one of their columns."""
    return {each[column]: each for each in result.rows[target].values()}


def only(result: Result, target: str) -> Row:
    (found,) = result.rows[target].values()
    return found


def reasons(result: Result, table: str, *, partial: bool = False) -> dict[str, tuple[str, ...]]:
    """What is rejected of a table: key → reasons."""
    listed: list[Rejected] = [each for each in result.rejected if (each.source_table, each.partial) == (table, partial)]
    return {each.source_key: each.reasons for each in listed}
