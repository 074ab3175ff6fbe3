"""The second reading of orders, messages, workflows and texts (dispatch.md 4.4 to 4.7, 6.1) against small examples."""

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from dtx_assets_tests.dispatch.second_reading import Inputs, migrate_and_queue
from dtx_assets_tests.dispatch.second_reading_books import Mapped, target_id
from dtx_assets_tests.dispatch.second_reading_texts import Queued
from dtx_assets_tests.dispatch.second_reading_values import safe_name
from dtx_assets_tests.dispatch.small_world import UID, migrated, only, reasons, row, rows_of, world

# --- 4.4 --------------------------------------------------------------------------------------------------------------


def order(tables=None, *, patient=None, **changed):
    decisions = {name: changed.pop(name) for name in list(changed) if name in DECISIONS}
    there = world(dispatch_instruction=[row("dispatch_instruction", **changed)], **(tables or {}))
    if patient:
        there["dispatch_patient"] = [row("dispatch_patient", **patient)]
    return migrated(there, **decisions)


DECISIONS = ("order_office", "current_state", "unknown_status", "deleted_instruction", "primary_office")


def test_an_order():
    found = only(order(price="12.5", cbct="f", order="3", notes=" n ", updated_at="2024-01-01 00:00:00"), "orders")
    expected = {
        "order_number": "ORD-00000009",
        "patient_id": target_id("auth_user", 1),
        "doctor_id": target_id("auth_user", 2),
        "office_id": target_id("dispatch_office", 3),
        "current_state_id": target_id("order_state", 1),
        "subtotal": Decimal("12.5"),
        "tax_amount": 0,
        "data": {"order": 3, "cbct": False},
        "notes": " n ",
        "metadata": {},
        "created_at": datetime(2024, 1, 1, tzinfo=UTC),
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("patient", "expected"),
    [
        ({"id": "8"}, ("orphan_reference",)),
        ({"doctor_id": None}, ("no_matching_row",)),
        ({"doctor_id": "99"}, ("orphan_reference",)),
        ({"doctor_id": "x", "office_id": "99"}, ("orphan_reference", "unparseable")),
        ({"doctor_id": "99", "office_id": None}, ("orphan_reference",)),
    ],
)
def test_who_does_what_where(patient, expected):
    assert reasons(order(patient=patient), "dispatch_instruction") == {"9": expected}


def test_an_order_without_office():
    without = {"office_id": None}
    found = order(patient=without)
    assert only(found, "orders")["office_id"] == target_id("dispatch_office", 3)
    assert reasons(order(patient=without, order_office="reject"), "dispatch_instruction") == {"9": ("no_matching_row",)}
    nowhere = {"dispatch_office": [row("dispatch_office", doctor_id=None)], "dispatch_office_doctors": []}
    assert reasons(order(nowhere, patient=without), "dispatch_instruction") == {"9": ("no_matching_row",)}


@pytest.mark.parametrize("updated", [None, "2024-01-01 00:00:00"])
def test_a_time_of_submission_that_is_missing_is_counted(updated):
    assert order(updated_at=updated).accounting["dispatch_instruction", "orders"].coerced.total() == 1


def test_states_of_orders():
    assert only(order(status=None), "orders")["current_state_id"] == target_id("order_state", 1)
    added = rows_of(order(status="12"), "order_states", "legacy_state_id")
    assert (added[12]["name"], added[12]["key"], added[12]["sequence_order"]) == ("Legacy status 12", "legacy_12", None)
    assert (added[2]["name"], added[11]["is_final"], len(added)) == ("Under Review", True, 12)
    assert reasons(order(status="12", unknown_status="reject"), "dispatch_instruction") == {"9": ("unmapped_value",)}
    # A rejected row makes no state.
    assert len(order(status="12", course_id=None).rows["order_states"]) == 11


def test_the_latest_state():
    rows = [("1", "5", "2024-01-01 00:00:00", "t"), ("2", "6", "2024-01-01 00:00:00", "t"), ("3", "7", None, "t")]
    rows += [("4", "8", "2024-02-01 00:00:00", "f"), ("5", "9", "x", "t")]
    states = [row("dispatch_state", id=n, status=code, changed_at=at, on=on) for n, code, at, on in rows]
    found = order({"dispatch_state": states}, status="x", current_state="latest_state")
    assert only(found, "orders")["current_state_id"] == target_id("order_state", 6)
    none = order({"dispatch_state": []}, status="3", current_state="latest_state")
    assert only(none, "orders")["current_state_id"] == target_id("order_state", 3)


def test_deleted_instructions():
    assert only(order(deleted="t"), "orders")["metadata"] == {"deleted": True}
    dropped = order(deleted="1", patient_id="x", deleted_instruction="drop")
    assert dropped.accounting["dispatch_instruction", "orders"].dropped == {"deleted": 1}
    # What refers to a row that was not migrated is an orphan.
    assert reasons(dropped, "dispatch_state") == {"11": ("orphan_reference",)}


# --- 4.5 --------------------------------------------------------------------------------------------------------------


def test_a_project_and_its_file():
    project = row("dispatch_project", uid=UID.upper(), name=r" C:\scans\lower.stl ", public=None, size="5")
    found = only(migrated(world(dispatch_project=[project]), files={UID: b"solid"}), "projects")
    expected = {
        "legacy_uid": UID,
        "project_number": "P-4",
        "name": r"C:\scans\lower.stl",
        "office_id": target_id("dispatch_office", 3),
        "project_type": "scan",
        "status": "draft",
        "is_public": False,
        "storage_path": f"projects/{UID}/lower.stl",
        "content_hash": hashlib.sha256(b"solid").hexdigest(),
    }
    assert {name: found[name] for name in expected} == expected


def test_a_project_without_file_name_and_codes():
    project = row("dispatch_project", name=" ", type="9", status=None, creator_id="1")
    result = migrated(world(dispatch_project=[project]))
    found = only(result, "projects")
    values = (found["name"], found["project_type"], found["status"], found["metadata"], found["storage_path"])
    assert values == ("Untitled Project", "other", "draft", {"legacy_type": 9}, None)
    assert found["office_id"] is None  # no doctor
    assert result.accounting["dispatch_project", "projects"].coerced.total() == 4
    strict = migrated(world(dispatch_project=[project]), unknown_code="reject", project_file="reject")
    assert reasons(strict, "dispatch_project") == {"4": ("file_missing", "unmapped_value")}


def test_equal_uids():
    """The lowest id wins of those that are not rejected for another reason."""
    sizes = {"3": "-1", "4": "1", "5": "2"}
    rows = [row("dispatch_project", id=number, size=size) for number, size in sizes.items()]
    result = migrated(world(dispatch_project=rows))
    assert reasons(result, "dispatch_project") == {"3": ("schema_violation",), "5": ("duplicate_key",)}


def test_safe_names():
    assert safe_name("a/b\\c\x1bd.stl") == "cd.stl"
    assert safe_name("folder/") == "file"
    long = safe_name("é" * 100 + ".stl")
    assert (len(long.encode()), long[-4:]) == (150, ".stl")


# --- 4.6 --------------------------------------------------------------------------------------------------------------


def test_messages_to_everybody():
    about = {"10": ("9", "order_id"), "11": ("4", "project_id"), "12": ("7", "patient_id"), "1": ("2", "profile_id")}
    records = [
        row("dispatch_record", id=kind, content_type_id=kind, object_id=identity, author_id="99", text="", type=None)
        for kind, (identity, _) in about.items()
    ]
    result = migrated(world(dispatch_record=records))
    found = rows_of(result, "messages", "legacy_record_id")
    columns = ("order_id", "project_id", "patient_id", "profile_id")
    assert {str(n): [c for c in columns if each[c]] for n, each in found.items()} == {
        kind: [column] for kind, (_, column) in about.items()
    }
    assert found[12]["patient_id"] == target_id("auth_user", 1)  # patient 7 is user 1
    assert (found[10]["body"], found[10]["sender_id"]) == ("", None)
    assert found[10]["message_type_id"] == target_id("message_type", "general")
    assert result.accounting["dispatch_record", "messages"].coerced.total() == 8
    strict = migrated(world(dispatch_record=records), message_target="reject")
    assert reasons(strict, "dispatch_record") == dict.fromkeys(("12", "1"), ("unmapped_value",))


def test_files_of_rows():
    about = [("8", "13", "6"), ("3", "13", "6"), ("4", "10", "9"), ("5", "11", "4"), ("6", "12", "7"), ("7", "99", "1")]
    files = [row("dispatch_file", id=n, content_type_id=kind, object_id=i, size="5") for n, kind, i in about]
    result = migrated(world(dispatch_record=[row("dispatch_record")], dispatch_file=files))
    attached = [{"legacy_file_id": number, "name": "a.stl", "size": 5} for number in (3, 8)]
    assert only(result, "messages")["attachments"] == attached
    assert only(result, "orders")["metadata"] == {"files": [{"legacy_file_id": 4, "name": "a.stl", "size": 5}]}
    assert [each["legacy_file_id"] for each in only(result, "projects")["metadata"]["files"]] == [5]
    assert reasons(result, "dispatch_file") == dict.fromkeys("67", ("unmapped_value",))
    reads = {flow[1]: each.read for flow, each in result.accounting.items() if flow[0] == "dispatch_file"}
    assert reads == {"messages": 4, "orders": 1, "projects": 1}
    assert Mapped("dispatch_file", "4", "orders", target_id("dispatch_instruction", 9), "file:4") in result.mapping


# --- 4.7 --------------------------------------------------------------------------------------------------------------


def test_states_and_history():
    rows = [("5", "2", "2024-01-01 00:01:59", "t"), ("4", "1", "2024-01-01 00:00:00", "t"), ("6", "12", None, "t")]
    rows += [("3", "9", "2024-01-01 00:01:59", "t"), ("7", "4", "2024-01-03 00:00:00", "f")]
    states = [
        row("dispatch_state", id=n, status=code, changed_at=at, on=on, actor_id="2" if n == "4" else "99")
        for n, code, at, on in rows
    ]
    result = migrated(world(dispatch_state=states))
    state = {number: target_id("order_state", number) for number in (1, 2, 9)}
    history = result.rows["order_state_history"]
    told = {
        number: (each["from_state_id"], each["to_state_id"], each["duration_minutes"])
        for number in (4, 3, 5)
        for each in (history[target_id("order_state_history", number)],)
    }
    assert told == {4: (None, state[1], None), 3: (state[1], state[9], 1), 5: (state[9], state[2], 0)}
    assert len(history) == 3
    assert 12 in rows_of(result, "order_states", "legacy_state_id")
    plain = rows_of(result, "instruction_states", "legacy_state_id")
    assert (plain[4]["changed_by_id"], plain[6]["changed_by_id"]) == (target_id("auth_user", 2), None)
    assert (plain[6]["legacy_actor_id"], plain[7]["is_active"]) == (99, False)


@pytest.mark.parametrize("column", ["status", "on", "instruction_id"])
def test_what_a_state_needs(column):
    result = migrated(world(dispatch_state=[row("dispatch_state", **{column: None})]))
    assert reasons(result, "dispatch_state") == {"11": ("schema_violation",)}


def test_templates():
    rows = [
        row("dispatch_template", id="13", task_name=" Review ", function="3", duration="36", text_name=" ", status="1"),
        row("dispatch_template", id="12", predefined="t", course_id="5"),
        row("dispatch_template", id="14", predefined="t", course_id=None),
        row("dispatch_template", id="15", task_name=" ", duration="-1", course_id="99"),
    ]
    result = migrated(world(dispatch_template=rows))
    assert reasons(result, "dispatch_template") == {"15": ("orphan_reference", "schema_violation")}
    task = result.rows["workflow_tasks"][target_id("workflow_task", 13)]
    assert (task["task_name"], task["function_type"], task["text_prompt"], task["task_order"]) == (
        "Review",
        "process",
        None,
        1,
    )
    assert (task["estimated_duration"], task["metadata"]) == (timedelta(hours=36), {"legacy_function": 3, "status": 1})
    by_course = migrated(world(dispatch_template=rows), template_grouping="per_course")
    general = by_course.rows["workflow_templates"][target_id("workflow_template", "none")]
    assert (general["name"], general["legacy_template_id"], general["is_predefined"]) == ("General", 13, False)
    of_course = by_course.rows["workflow_templates"][target_id("workflow_template", target_id("dispatch_course", 5))]
    assert (of_course["name"], of_course["is_predefined"]) == ("Aligner", True)
    assert by_course.rows["workflow_tasks"][target_id("workflow_task", 14)]["task_order"] == 2


# --- 6.1 --------------------------------------------------------------------------------------------------------------


def texts(tables, **decisions):
    result, queued = migrate_and_queue(Inputs(tables, "csv", decisions))
    return {(entity, result.rows[entity][identity]["created_at"]): each for (entity, identity), each in queued.items()}


def test_texts():
    tables = world(
        auth_user=[row("auth_user", first_name=" Ann "), row("auth_user", id="2", is_active="f")],
        dispatch_patient=[row("dispatch_patient", sex="2", birthdate="1985-02-28")],
        dispatch_instruction=[row("dispatch_instruction", complaint=" crowding\n", notes=" ", scanner_notes="dry")],
        dispatch_project=[row("dispatch_project", name=" ")],
        dispatch_record=[row("dispatch_record", text=" Fits 🦷 \n"), row("dispatch_record", id="7", text="\u2003")],
    )
    assert {of[0]: each for of, each in texts(tables).items()} == {
        "profiles": Queued("profile_summary", 1, "Type: patient\nGender: female\nBorn: 1985"),
        "orders": Queued("treatment_notes", 2, "Order type: Aligner\nComplaint: crowding\nScanner notes: dry"),
        "messages": Queued("message_content", 3, "Fits 🦷"),
    }
    named = texts(tables, embedding_identifiers="include")
    assert named["profiles", None].text.startswith("Name: Ann Lee\nType: patient\n")


def test_what_is_not_embedded():
    """A profile of which nothing but its type is known; an order that is deleted, and one that says nothing."""
    orders = [("9", "t", "crowding"), ("10", "f", None), ("11", "f", "deep bite")]
    tables = world(
        dispatch_instruction=[row("dispatch_instruction", id=n, deleted=d, complaint=c) for n, d, c in orders],
        dispatch_project=[row("dispatch_project", name="Untitled Project")],
    )
    result, queued = migrate_and_queue(Inputs(tables))
    assert {of for of in queued if of[0] != "projects"} == {
        ("profiles", target_id("auth_user", 2)),  # his group
        ("orders", target_id("dispatch_instruction", 11)),
    }
    (project,) = (each for of, each in queued.items() if of[0] == "projects")
    assert project.text == "Project: Untitled Project\nType: scan"
    assert project.content_hash == hashlib.sha256(project.text.encode()).hexdigest()
    assert len(result.rows["orders"]) == 3
