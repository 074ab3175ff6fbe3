"""dispatch.md 1.2, 4.6 and the templates of 4.7, read a second time: generic keys, messages, attachments, workflows."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from dtx_assets_tests.dispatch.second_reading_books import Books, empty, target_id
from dtx_assets_tests.dispatch.second_reading_orders import Orders
from dtx_assets_tests.dispatch.second_reading_people import People
from dtx_assets_tests.dispatch.second_reading_values import (
    WHITE,
    Row,
    Source,
    Unreadable,
    as_integer,
    is_blank,
    json_object,
    trimmed,
)

MESSAGE_TYPES = {
    0: ("general", "General Message", "user"),
    1: ("status_update", "Status Update", "system"),
    2: ("question", "Question", "user"),
    3: ("instruction", "Instruction", "workflow"),
    4: ("approval_request", "Approval Request", "workflow"),
    5: ("system_notification", "System Notification", "system"),
}
MODELS = {
    ("dispatch", "instruction"): "dispatch_instruction",
    ("dispatch", "project"): "dispatch_project",
    ("dispatch", "patient"): "dispatch_patient",
    ("auth", "user"): "auth_user",
    ("dispatch", "record"): "dispatch_record",
}
MESSAGE_COLUMNS = {
    "dispatch_instruction": "order_id",
    "dispatch_project": "project_id",
    "dispatch_patient": "patient_id",
    "auth_user": "profile_id",
}
FILE_TARGETS = {"dispatch_record": "messages", "dispatch_instruction": "orders", "dispatch_project": "projects"}
FUNCTIONS = {1: "submit", 2: "archive", 4: "process"}
MOST_HOURS = (2**63 - 1) // 3_600_000_000
"""PostgreSQL's intervals are microseconds of 64 bits: more hours are "overlong" (dtx.md 2)."""


def migrate_messages(books: Books, people: People, orders: Orders) -> None:
    for key, name, category in MESSAGE_TYPES.values():
        row = {"key": key, "name": name, "category": category, "target_state_id": None}
        row |= empty("description", "template", "created_at", "updated_at")
        books.write("message_types", target_id("message_type", key), row, standard=True)
    for source in books.to_judge("dispatch_record"):
        row = _message(books, people, source)
        if not source.reasons:
            identity = target_id("dispatch_record", source.id)
            books.write("messages", identity, row)
            books.map(source, "messages", identity)
    books.settle("dispatch_record")
    if "dispatch_file" in books.inputs.tables:
        _migrate_files(books)
    _migrate_templates(books, orders)


# --- 1.2 --------------------------------------------------------------------------------------------------------------


def _columns_of(books: Books, table: str) -> tuple[str, str]:
    return books.inputs.generic_keys.get(table, ("content_type_id", "object_id"))


def _model_of(books: Books, source: Source) -> str | None:
    """The legacy table that the type column names; None: none that the plan can hold."""
    number = source.peek(_columns_of(books, source.table)[0])
    found = books.winners("django_content_type").get(number) if number is not None else None
    if found is None:
        return None
    return MODELS.get((str(found.raw("app_label")), str(found.raw("model"))))


def _resolve(books: Books, source: Source, can_hold: Mapping[str, Any]) -> Source | None:
    """The row that a generic key names. Of a type that cannot be held "the id is not looked at", be it NULL."""
    type_column, id_column = _columns_of(books, source.table)
    kind = source.integer(type_column, needed=True)
    table = _model_of(books, source)
    if kind is not None and table not in can_hold:
        source.reasons.add("unmapped_value")
        return None
    identity = source.raw(id_column)
    try:
        # "a type or id that is no integer (blanks around the id aside)"
        number = as_integer(identity.strip(WHITE) if isinstance(identity, str) else identity)
    except Unreadable:
        source.reasons.add("schema_violation" if identity is None else "unparseable")
        return None
    if kind is None:
        return None
    found = books.found(table, number)
    if found is None:
        source.reasons.add("orphan_reference")
    return found


# --- 4.6 --------------------------------------------------------------------------------------------------------------


def _target_of(people: People, found: Source) -> str:
    """The id of the row that a legacy row became."""
    if found.table == "dispatch_patient":
        return people.patient_profiles[found.id or 0]
    return target_id(found.table, found.id)


def _message(books: Books, people: People, source: Source) -> Row:
    source.check_id(is_written=True)
    can_hold = MESSAGE_COLUMNS
    if books.decided("message_target", "reject"):
        can_hold = {table: column for table, column in can_hold.items() if column in ("order_id", "project_id")}
    found = _resolve(books, source, can_hold)
    about = dict.fromkeys(MESSAGE_COLUMNS.values())
    if found is not None:
        about[MESSAGE_COLUMNS[found.table]] = _target_of(people, found)
    code = source.integer("type")
    if source.raw("type") is None:
        source.coerced.append("no_type")
    elif code is not None and code not in MESSAGE_TYPES:
        source.reasons.add("unmapped_value")
    return {
        "legacy_record_id": source.id,
        "message_type_id": target_id("message_type", MESSAGE_TYPES.get(code or 0, ("",))[0]),
        **about,
        "sender_id": books.refer_or_null(source, "author_id"),
        "recipient_id": None,
        "subject": None,
        "body": source.text("text", needed=True),
        "is_read": False,
        **empty("read_at", "response_due_date", "updated_at"),
        "attachments": [],
        "metadata": json_object(group_id=source.integer("group_id"), public=source.boolean("public"), type=code),
        "created_at": source.instant("created_at"),
    }


def _migrate_files(books: Books) -> None:
    entries: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for source in books.to_judge("dispatch_file"):
        source.check_id(is_written=False)
        found = _resolve(books, source, FILE_TARGETS)
        entry = json_object(
            legacy_file_id=source.id, uid=source.uuid("uid"), name=source.text("name"), size=source.integer("size")
        )
        if found is None or source.reasons:
            continue
        target, identity = FILE_TARGETS[found.table], target_id(found.table, found.id)
        entries[target, identity].append(entry)
        books.map(source, target, identity, f"file:{source.id}")
    for (target, identity), listed in entries.items():
        listed.sort(key=lambda entry: entry["legacy_file_id"])
        row = books.result.rows[target][identity]
        if target == "messages":
            row["attachments"] = listed
        else:
            row["metadata"]["files"] = listed
    books.settle("dispatch_file", lambda source: FILE_TARGETS.get(_model_of(books, source) or "", "messages"))


# --- the templates of 4.7 ---------------------------------------------------------------------------------------------


def _migrate_templates(books: Books, orders: Orders) -> None:
    tasks: list[tuple[Source, Row, str | None]] = []
    for source in books.to_judge("dispatch_template"):
        task, order_type = _task(books, orders, source)
        if not source.reasons:
            tasks.append((source, task, order_type))
    if books.decided("template_grouping", "one_per_row"):
        for source, task, order_type in tasks:
            _write_workflow(books, target_id("dispatch_template", source.id), task["task_name"], order_type, [source])
            _write_task(books, target_id("dispatch_template", source.id), source, task, 1)
    else:
        _group_by_course(books, tasks)
    books.settle("dispatch_template")


def _task(books: Books, orders: Orders, source: Source) -> tuple[Row, str | None]:
    source.check_id(is_written=True)
    name = source.text("task_name")
    if source.raw("task_name") is None or (name is not None and is_blank(name)):
        source.reasons.add("schema_violation")
    course = books.refer(source, "course_id", "dispatch_course")
    hours = source.integer("duration")
    if hours is not None and not 0 <= hours <= MOST_HOURS:
        source.reasons.add("schema_violation")
    code = source.integer("function")
    metadata = json_object(category_id=source.integer("category_id"), status=source.integer("status"))
    if code not in FUNCTIONS and (code is not None or source.raw("function") is None):
        if books.decided("unknown_code", "reject"):
            source.reasons.add("unmapped_value")
        source.coerced.append("unknown_function")
        metadata |= json_object(legacy_function=code)
    source.boolean("predefined")
    action, prompt = source.text("action_name"), source.text("text_name")
    task = {
        "legacy_template_id": source.id,
        "task_name": trimmed(name or ""),
        "function_type": FUNCTIONS.get(code or 0, "process"),
        "action_name": None if is_blank(action) else action,
        "text_prompt": None if is_blank(prompt) else prompt,
        "estimated_duration": None if hours is None or source.reasons else timedelta(hours=hours),
        **empty("required_roles", "predecessor_tasks", "created_at"),
        "metadata": metadata,
    }
    return task, orders.order_types.get(course.id or 0) if course else None


def _group_by_course(books: Books, tasks: list[tuple[Source, Row, str | None]]) -> None:
    by_type: dict[str | None, list[tuple[Source, Row]]] = defaultdict(list)
    for source, task, order_type in sorted(tasks, key=lambda each: each[0].id or 0):
        by_type[order_type].append((source, task))
    for order_type, rows in by_type.items():
        identity = target_id("workflow_template", order_type or "none")
        name = books.result.rows["order_types"][order_type]["name"] if order_type else "General"
        _write_workflow(books, identity, name, order_type, [source for source, _ in rows])
        for number, (source, task) in enumerate(rows, 1):
            _write_task(books, identity, source, task, number)


def _write_workflow(books: Books, identity: str, name: str, order_type: str | None, sources: list[Source]) -> None:
    row = {
        "legacy_template_id": min(source.id or 0 for source in sources),
        "name": name,
        "description": None,
        "order_type_id": order_type,
        "is_predefined": all(source.boolean("predefined") for source in sources),
        "metadata": {},
        **empty("created_at", "updated_at"),
    }
    books.write("workflow_templates", identity, row)
    for source in sources:
        books.map(source, "workflow_templates", identity)


def _write_task(books: Books, template: str, source: Source, task: Row, number: int) -> None:
    identity = target_id("workflow_task", source.id)
    books.write("workflow_tasks", identity, {**task, "workflow_template_id": template, "task_order": number})
    books.map(source, "workflow_tasks", identity)
