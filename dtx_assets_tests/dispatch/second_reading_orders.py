"""dispatch.md 4.3 to 4.5 and the states of 4.7, read a second time: courses, instructions, states, projects."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from dtx_assets_tests.dispatch.second_reading_books import Books, empty, target_id
from dtx_assets_tests.dispatch.second_reading_people import People
from dtx_assets_tests.dispatch.second_reading_values import (
    Row,
    Source,
    fits,
    is_blank,
    json_object,
    no_case,
    safe_name,
    trimmed,
)

STANDARD_TYPES = ("Main", "Refinement", "Replacement", "Retainer", "Emergency")
STATES = {
    1: "submitted",
    2: "under_review",
    3: "planning",
    4: "approved",
    5: "in_production",
    6: "quality_check",
    7: "shipped",
    8: "delivered",
    9: "completed",
    10: "on_hold",
    11: "cancelled",
}
SUBMITTED = 1
PROJECT_TYPES = {0: "scan", 3: "treatment_plan"}
PROJECT_STATUSES = {0: "draft"}
DATA = {
    "integer": "order model scanner upper_jaw_id lower_jaw_id",
    "text": "scanner_notes exports conditions complaint objective suffix",
    "boolean": "cbct accept_extraction comprehensive",
}
EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass
class Orders:
    """What later sections ask: what a course became."""

    order_types: dict[int, str] = field(default_factory=dict)


def migrate_orders(books: Books, people: People) -> Orders:
    orders = Orders()
    _migrate_courses(books, orders)
    _judge_states(books)
    _migrate_instructions(books, people, orders)
    _migrate_states(books)
    _migrate_projects(books, people)
    return orders


# --- 4.3 --------------------------------------------------------------------------------------------------------------


def _migrate_courses(books: Books, orders: Orders) -> None:
    sound: list[Source] = []
    for source in books.to_judge("dispatch_course"):
        source.check_id(is_written=True)
        name = source.text("name")
        if source.raw("name") is None or (name is not None and is_blank(name)):
            source.reasons.add("schema_violation")
        source.text("description")
        source.money("price")
        source.boolean("active")
        if not source.reasons and name is not None:
            sound.append(source)
    keys = {no_case(name) for name in STANDARD_TYPES}
    unseen = {no_case(name): name for name in STANDARD_TYPES}
    owners: dict[str, Source] = {}
    named: list[tuple[Source, str]] = []
    for source in sorted(sound, key=lambda each: each.id or 0):
        name = trimmed(str(source.text("name")))
        if no_case(name) in owners and books.decided("course_name_clash", "merge"):
            identity = target_id("dispatch_course", owners[no_case(name)].id)
            orders.order_types[source.id or 0] = identity
            books.map(source, "order_types", identity)
            continue
        while no_case(name) in owners:  # a name that was made may be another course's, too
            name = f"{name} (course {source.id})"
        owners[no_case(name)] = source
        if standard := unseen.pop(no_case(name), None):
            _write_course(books, orders, source, standard, no_case(name))
        else:
            named.append((source, name))
    for source, name in named:
        key = key_of(name) or f"course-{source.id}"
        while key in keys:
            key = f"{key}-{source.id}"
        keys.add(key)
        _write_course(books, orders, source, name, key)
    for plain, name in unseen.items():
        row = {**_order_type(name, plain), "legacy_course_id": None, "is_active": True}
        books.write("order_types", target_id("order_type", plain), row, standard=True)
    books.settle("dispatch_course")


def key_of(name: str) -> str:
    """ "NFKD, what is not ASCII dropped, lower case, runs of anything but letters and digits → `-`"."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", letters).strip("-")


def _order_type(name: str, key: str) -> Row:
    return {**empty("description", "category", "base_price", "schema", "created_at", "updated_at"), "name": name} | {
        "key": key
    }


def _write_course(books: Books, orders: Orders, source: Source, name: str, key: str) -> None:
    identity = target_id("dispatch_course", source.id)
    is_active = source.boolean("active")
    row = {
        **_order_type(name, key),
        "legacy_course_id": source.id,
        "description": source.text("description"),
        "base_price": source.money("price"),
        "is_active": True if is_active is None else is_active,
    }
    books.write("order_types", identity, row)
    books.map(source, "order_types", identity)
    orders.order_types[source.id or 0] = identity


# --- 4.4 and the states of 4.7 ----------------------------------------------------------------------------------------


def _check_code(books: Books, source: Source, code: int | None) -> None:
    """ "a code beyond the eleven: `add_state` makes the state …; `reject`: `unmapped_value`"."""
    if code is None or code in STATES:
        return
    if books.decided("unknown_status", "reject"):
        source.reasons.add("unmapped_value")
    elif not fits(code):
        source.reasons.add("schema_violation")


def _judge_states(books: Books) -> None:
    """All that makes a state row migratable but its instruction."""
    for source in books.to_judge("dispatch_state"):
        source.check_id(is_written=True)
        _check_code(books, source, source.integer("status", needed=True))
        source.boolean("on", needed=True)
        source.instant("changed_at")
        source.integer("instruction_id", needed=True)
        source.small("actor_id")


def _latest_states(books: Books) -> dict[int, int]:
    """The status of the migratable row that is on and has the latest `changed_at`, by instruction."""
    rows: dict[int, list[Source]] = defaultdict(list)
    for source in books.to_judge("dispatch_state"):
        instruction = source.peek("instruction_id")
        if not source.reasons and instruction is not None and source.boolean("on"):
            rows[instruction].append(source)
    latest = {
        number: max(sources, key=lambda source: (source.instant("changed_at") or EARLIEST, source.id))
        for number, sources in rows.items()
    }
    return {number: source.peek("status") or 0 for number, source in latest.items()}


def _migrate_instructions(books: Books, people: People, orders: Orders) -> None:
    latest = _latest_states(books) if books.decided("current_state", "latest_state") else {}
    for source in books.to_judge("dispatch_instruction"):
        if books.decided("deleted_instruction", "drop") and _is_deleted(source):
            source.rule = "deleted"
            continue
        row, code = _instruction(books, people, orders, source, latest)
        if not source.reasons:
            identity = target_id("dispatch_instruction", source.id)
            books.write("orders", identity, row)
            books.map(source, "orders", identity)
            _write_state(books, code)
    for code in STATES:
        _write_state(books, code)
    books.settle("dispatch_instruction")


def _is_deleted(source: Source) -> bool:
    return str(source.raw("deleted")).lower() in ("t", "true", "1")


def _instruction(
    books: Books, people: People, orders: Orders, source: Source, latest: dict[int, int]
) -> tuple[Row, int]:
    source.check_id(is_written=True)
    patient = books.refer(source, "patient_id", "dispatch_patient", needed=True)
    doctor, office = _doctor_and_office(books, people, source, patient) if patient else (0, 0)
    course = books.refer(source, "course_id", "dispatch_course", needed=True)
    code = _current_state(books, source, latest)
    price = source.money("price") or Decimal(0)
    submitted, updated = source.instant("submitted_at"), source.instant("updated_at")
    if source.raw("submitted_at") is None:  # whatever `updated_at` is
        source.coerced.append("not_submitted")
    number = source.id or 0
    data = {column: getattr(source, kind)(column) for kind, columns in DATA.items() for column in columns.split()}
    row = {
        "legacy_instruction_id": source.id,
        "order_number": f"ORD-{'-' if number < 0 else ''}{abs(number):08}",
        "order_type_id": orders.order_types.get(course.id or 0) if course else None,
        "patient_id": people.patient_profiles.get(patient.id or 0) if patient else None,
        "patient_type": "patient",
        "doctor_id": target_id("auth_user", doctor),
        "doctor_type": "doctor",
        "office_id": target_id("dispatch_office", office),
        "current_state_id": target_id("order_state", code),
        **empty("title", "description", "completed_at", "cancelled_at"),
        "priority": "normal",
        "subtotal": price,
        "tax_amount": Decimal(0),
        "total_amount": price,
        "currency": "USD",
        "data": json_object(**data),
        "notes": source.text("notes"),
        "metadata": json_object(deleted=source.boolean("deleted") or None),
        "created_at": submitted or updated,
        "updated_at": updated,
    }
    return row, code


def _doctor_and_office(books: Books, people: People, source: Source, patient: Source) -> tuple[int, int]:
    """ "Doctor and office come through the patient row that the instruction names"."""
    there = Source("dispatch_patient", patient.values, patient.key, patient.id, patient.timezone)
    doctor = books.refer(there, "doctor_id", "auth_user")
    if there.raw("doctor_id") is None or (doctor and not people.is_doctor(doctor.id or 0)):
        there.reasons.add("no_matching_row")
        doctor = None
    office = books.refer(there, "office_id", "dispatch_office")
    office_id = office.id if office else None
    if there.raw("office_id") is None:
        if books.decided("order_office", "reject"):
            there.reasons.add("no_matching_row")
        elif doctor:  # a doctor who was not found has no primary office to look for
            office_id = people.primary.get(doctor.id or 0)
            if office_id is None:
                there.reasons.add("no_matching_row")
            else:
                source.coerced.append("office_of_the_doctor")
    source.reasons |= there.reasons
    return (doctor.id if doctor else None) or 0, office_id or 0


def _current_state(books: Books, source: Source, latest: dict[int, int]) -> int:
    if source.id in latest:
        return latest[source.id]
    code = source.integer("status")
    _check_code(books, source, code)
    if source.raw("status") is None:
        source.coerced.append("no_status")
        return SUBMITTED
    return code or 0


def _write_state(books: Books, code: int) -> None:
    """The state of a code, where it is not there yet."""
    identity = target_id("order_state", code)
    if identity in books.result.rows["order_states"]:
        return
    key = STATES.get(code, f"legacy_{code}")
    row = {
        "legacy_state_id": code,
        "name": key.replace("_", " ").title() if code in STATES else f"Legacy status {code}",
        "key": key,
        **empty("description", "color", "created_at", "updated_at"),
        "sequence_order": code if code in STATES else None,
        "is_initial": code == 1,
        "is_final": code in (9, 11),
        "metadata": {},
    }
    books.write("order_states", identity, row, standard=True)


def _migrate_states(books: Books) -> None:
    histories: dict[str, list[tuple[datetime, Source, str, str | None]]] = defaultdict(list)
    for source in books.to_judge("dispatch_state"):
        instruction = source.peek("instruction_id")
        if instruction is not None and books.found("dispatch_instruction", instruction) is None:
            source.reasons.add("orphan_reference")
        changed_by = books.refer_or_null(source, "actor_id")
        if source.reasons or source.id is None:
            continue
        changed_at = source.instant("changed_at")
        if changed_at is None:
            source.coerced.append("no_changed_at")
        code = source.peek("status") or 0
        order_id, identity = target_id("dispatch_instruction", instruction), target_id("dispatch_state", source.id)
        row = {
            "legacy_state_id": source.id,
            "order_id": order_id,
            "status_code": code,
            "is_active": source.boolean("on"),
            "changed_by_id": changed_by,
            "changed_at": changed_at,
            "notes": None,
            "metadata": {},
            "legacy_instruction_id": instruction,
            "legacy_actor_id": source.peek("actor_id"),
        }
        books.write("instruction_states", identity, row)
        books.map(source, "instruction_states", identity)
        _write_state(books, code)
        if row["is_active"] and changed_at is not None:
            histories[order_id].append((changed_at, source, target_id("order_state", code), changed_by))
    for order_id, entries in histories.items():
        _write_history(books, order_id, sorted(entries, key=lambda entry: (entry[0], entry[1].id or 0)))
    books.settle("dispatch_state")


def _write_history(books: Books, order_id: str, entries: list[tuple[datetime, Source, str, str | None]]) -> None:
    before: tuple[datetime, str] | None = None
    for changed_at, source, state, changed_by in entries:
        minutes = (changed_at - before[0]) // timedelta(minutes=1) if before else None
        row = {
            "order_id": order_id,
            "from_state_id": before[1] if before else None,
            "to_state_id": state,
            "changed_by_id": changed_by,
            "reason": None,
            "duration_minutes": minutes,
            "metadata": {},
            "created_at": changed_at,
        }
        before = (changed_at, state)
        if minutes is not None and not fits(minutes):  # some four thousand years
            books.reject_part(source, "order_state_history", "schema_violation")
            continue
        identity = target_id("order_state_history", source.id)
        books.write("order_state_history", identity, row)
        books.map(source, "order_state_history", identity)


# --- 4.5 --------------------------------------------------------------------------------------------------------------


def _migrate_projects(books: Books, people: People) -> None:
    by_uid: dict[str, list[tuple[Source, Row]]] = defaultdict(list)
    for source in books.to_judge("dispatch_project"):
        row = _project(books, people, source)
        if not source.reasons:
            by_uid[row["legacy_uid"]].append((source, row))
    for rows in by_uid.values():
        (source, row), *others = sorted(rows, key=lambda each: each[0].id or 0)
        for loser, _ in others:
            loser.reasons.add("duplicate_key")
        identity = target_id("dispatch_project", source.id)
        books.write("projects", identity, row)
        books.map(source, "projects", identity)
    books.settle("dispatch_project")


def _project(books: Books, people: People, source: Source) -> Row:
    source.check_id(is_written=True)
    uid = source.uuid("uid", needed=True)
    creator = books.refer(source, "creator_id", "auth_user", needed=True)
    name = source.text("name")
    if source.raw("name") is None or (name is not None and is_blank(name)):
        source.coerced.append("project_without_name")
    size = source.integer("size")
    if size is not None and size < 0:
        source.reasons.add("schema_violation")
    metadata: Row = {}
    project_type = _decode(books, source, "type", PROJECT_TYPES, "other", metadata)
    status = _decode(books, source, "status", PROJECT_STATUSES, "draft", metadata)
    office = None
    if creator and books.decided("project_office", "creator_primary") and people.is_doctor(creator.id or 0):
        primary = people.primary.get(creator.id or 0)
        office = target_id("dispatch_office", primary) if primary is not None else None
    return {
        "legacy_project_id": source.id,
        "legacy_uid": uid,
        "order_id": None,
        "office_id": office,
        "creator_id": target_id("auth_user", creator.id) if creator else None,
        "project_number": f"P-{source.id}",
        "name": "Untitled Project" if is_blank(name) else trimmed(name or ""),
        **empty("description", "mime_type", "parent_project_id", "started_at", "completed_at", "updated_at"),
        "project_type": project_type,
        "status": status,
        "file_size": size,
        "storage_bucket": "projects",
        **_project_file(books, source, uid, name),
        "version": 1,
        "is_public": source.boolean("public") or False,
        "metadata": metadata,
        "created_at": source.instant("created_at"),
    }


def _project_file(books: Books, source: Source, uid: str | None, name: str | None) -> Row:
    content = books.inputs.files.get(uid) if uid is not None else None
    if content is not None:
        key = f"projects/{uid}/{'file' if name is None or is_blank(name) else safe_name(trimmed(name))}"
        return {"content_hash": hashlib.sha256(content).hexdigest(), "storage_path": key}
    if uid is not None:
        if books.decided("project_file", "reject"):
            source.reasons.add("file_missing")
        else:
            source.coerced.append("file_missing")
    return empty("content_hash", "storage_path")


def _decode(
    books: Books, source: Source, column: str, known: dict[int, str], otherwise: str, metadata: Row
) -> str | None:
    """A code that nobody explained: decision `unknown_code`."""
    code = source.integer(column)
    if code is None and source.raw(column) is not None:
        return None
    if code in known:
        return known[code]
    if books.decided("unknown_code", "reject"):
        source.reasons.add("unmapped_value")
    source.coerced.append(f"unknown_{column}")
    metadata |= json_object(**{f"legacy_{column}": code})
    return otherwise
