"""The second reading against small examples worked out by hand from the contract's text."""

import hashlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import NAMESPACE_URL, uuid5

import pytest

from dtx_assets_tests.dispatch.second_reading import Inputs, migrate_and_queue, pair_of
from dtx_assets_tests.dispatch.second_reading_books import NAMESPACE, Mapped, target_id
from dtx_assets_tests.dispatch.second_reading_orders import key_of
from dtx_assets_tests.dispatch.second_reading_texts import Queued
from dtx_assets_tests.dispatch.second_reading_values import (
    Unreadable,
    as_boolean,
    as_date,
    as_instant,
    as_integer,
    as_number,
    as_uuid,
    is_valid_email,
    kind_of,
    read,
    safe_name,
    trimmed,
)
from dtx_assets_tests.dispatch.small_world import UID, migrated, only, reasons, row, rows_of, world

# --- 1.1 and dtx.md 1.2: values and keys ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        *((as_integer, text, value) for text, value in {"7": 7, "-7": -7, "007": 7, "7.0": 7, "-0.0": 0}.items()),
        *((as_boolean, text, True) for text in ("t", "T", "true", "TRUE", "1")),
        *((as_boolean, text, False) for text in ("f", "False", "0")),
        (as_number, "-12.50", Decimal("-12.50")),
        (as_date, "1985-02-28", date(1985, 2, 28)),
        (as_date, "1985-02-28 00:00:00", date(1985, 2, 28)),
        (as_uuid, UID.upper(), UID),
        (as_uuid, UID.replace("-", ""), UID),
    ],
)
def test_what_reads_as_its_kind(reader, text, value):
    assert reader(text) == value


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        *((as_integer, text) for text in ("", " 7", "7.5", "7.00", "+7", "x", "9223372036854775808", "７", b"7")),
        *((as_boolean, text) for text in ("", "yes", "2", " t", "1.0")),
        *((as_number, text) for text in ("", "NaN", "1,000", "abc")),
        *((as_date, text) for text in ("1985-02-29", "1985-02-28 10:00:00", "0044-03-15 BC", "10000-01-01", "")),
        *((as_uuid, text) for text in ("", f" {UID}", UID[:-1], UID + "0", UID[:-1] + "g")),
    ],
)
def test_what_does_not(reader, text):
    with pytest.raises(Unreadable):
        reader(text)


@pytest.mark.parametrize(
    ("text", "zone", "instant"),
    [
        ("2024-05-13 09:30:00", "UTC", datetime(2024, 5, 13, 9, 30, tzinfo=UTC)),
        ("2024-05-13 09:30:00", "Europe/London", datetime(2024, 5, 13, 8, 30, tzinfo=UTC)),
        ("2024-05-13T09:30:00+05:45", "Europe/London", datetime(2024, 5, 13, 3, 45, tzinfo=UTC)),
        ("2024-05-13 09:30:00.25Z", "UTC", datetime(2024, 5, 13, 9, 30, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_times(text, zone, instant):
    assert as_instant(text, zone) == instant


@pytest.mark.parametrize("text", ["2024-05-13", "2023-02-29 09:30:00", "2024-05-13 24:00:00", "infinity", "soon", ""])
def test_what_is_no_time(text):
    with pytest.raises(Unreadable):
        as_instant(text, "UTC")


def test_kinds_of_columns():
    listed = {
        ("dispatch_instruction", "upper_jaw_id"): "integer",
        ("dispatch_instruction", "on"): "boolean",
        ("dispatch_office", "emails"): "boolean",
        ("dispatch_office", "sq_customer_id"): "text",
        ("dispatch_instruction", "model"): "integer",
        ("django_content_type", "model"): "text",
        ("auth_user", "is_staff"): "boolean",
        ("auth_user", "last_login"): "time",
        ("dispatch_record", "object_pk"): "text",
        ("dispatch_office", "tax_rate"): "number",
    }
    assert {place: kind_of(*place) for place in listed} == listed


@pytest.mark.parametrize(
    ("column", "value", "in_csv", "in_database"),
    [("name", "", "", ""), ("size", "", None, ""), ("uid", "NULL", None, "NULL"), ("name", r"\N", None, r"\N")],
)
def test_what_is_null(column, value, in_csv, in_database):
    assert read("dispatch_project", column, value, "csv") == in_csv
    assert read("dispatch_project", column, value, "database") == in_database


def test_white_space_is_unicodes():
    assert trimmed("\u00a0\u2003a\u3000\x85") == "a"
    assert trimmed("\x1ca\u200b") == "\x1ca\u200b"


def test_repeated_rows():
    """The first of identical rows counts, the later one of others with the same key; `password` tells none apart."""
    same = row("auth_user", id="1", password="a")
    twins = [same, {**same, "password": "b"}, row("auth_user", id="01", first_name="Later"), same]
    result = migrated(world(auth_user=[*twins, row("auth_user", id="2")]))
    assert rows_of(result, "profiles", "legacy_user_id")[1]["first_name"] == "Later"
    account = result.accounting["auth_user", "profiles"]
    assert (account.read, account.migrated, account.rejected, account.dropped) == (5, 2, 1, {"identical": 2})
    assert reasons(result, "auth_user") == {"1": ("duplicate_key",)}


def test_ids_that_do_not_read():
    users = [row("auth_user", id=value) for value in ("2", "x", None, "2147483648", "1\0")]
    result = migrated(world(auth_user=users))
    assert reasons(result, "auth_user") == {
        "x": ("unparseable",),
        "row 3": ("schema_violation",),
        "2147483648": ("schema_violation",),
        r"1\x00": ("unparseable",),
    }


def test_the_namespace_of_keys():
    assert uuid5(NAMESPACE_URL, "urn:dtx-assets:dispatch") == NAMESPACE
    assert target_id("doctor_office", 2, 3) == str(uuid5(NAMESPACE, "doctor_office:2:3"))


# --- 1.2: generic keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "pair"),
    [
        ("id content_type_id object_id", ("content_type_id", "object_id")),
        ("id x_content_type_id x_object_pk", ("x_content_type_id", "x_object_pk")),
        ("id target_type_id target_id target_pk", ("target_type_id", "target_id")),
    ],
)
def test_pairs_by_name(columns, pair):
    assert pair_of(columns.split()) == pair


@pytest.mark.parametrize("columns", ["id content_type_id", "a_type_id a_id b_type_id b_id"])
def test_no_pair_or_two(columns):
    with pytest.raises(ValueError, match="among"):
        pair_of(columns.split())


@pytest.mark.parametrize(
    ("kind", "identity", "expected"),
    [
        ("10", " 9 ", ()),
        ("10", "9.0", ()),
        (None, "9", ("schema_violation",)),
        ("10", None, ("schema_violation",)),
        ("99", "x", ("unmapped_value",)),
        ("14", "x", ("unmapped_value",)),
        ("x", "9", ("unparseable",)),
        ("10", "nine", ("unparseable",)),
        ("10", "77", ("orphan_reference",)),
        ("13", "6", ("unmapped_value",)),
    ],
)
def test_what_a_message_is_about(kind, identity, expected):
    record = row("dispatch_record", content_type_id=kind, object_id=identity)
    assert reasons(migrated(world(dispatch_record=[record])), "dispatch_record") == (
        {"6": expected} if expected else {}
    )


def test_renumbering_changes_nothing():
    """And code 1 of a message has nothing to do with content type 1."""
    plain = world(dispatch_record=[row("dispatch_record", type="1")])
    again = {**plain, "django_content_type": [row("django_content_type", id="1"), row("django_content_type", id="x")]}
    again["dispatch_record"] = [row("dispatch_record", type="1", content_type_id="1")]
    assert migrated(again).rows == migrated(plain).rows


# --- 4.1 --------------------------------------------------------------------------------------------------------------


def test_a_user():
    user = row(
        "auth_user",
        id="2",
        first_name=" Dee ",
        email=" Dee@Example.org ",
        is_staff="f",
        last_login="2024-01-02 03:04:05.9",
        date_joined="2020-01-01 00:00:00",
    )
    result = migrated(world(auth_user=[user], dispatch_patient=[]))
    profile = result.rows["profiles"][target_id("auth_user", 2)]
    assert {name: profile[name] for name in ("first_name", "email", "profile_type", "phone", "updated_at")} == {
        "first_name": " Dee ",
        "email": "Dee@Example.org",
        "profile_type": "doctor",
        "phone": None,
        "updated_at": None,
    }
    assert profile["metadata"] == {
        "username": "ann",
        "is_staff": False,
        "last_login": "2024-01-02T03:04:05Z",
        "groups": ["Doctor"],
    }


@pytest.mark.parametrize("address", ["a@b", "a@.b", "a@b.", "@b.c", "a@@b.c", "a b@c.d"])
def test_an_invalid_address(address):
    assert not is_valid_email(address)
    result = migrated(world(auth_user=[row("auth_user", id="2", email=f" {address}")], dispatch_patient=[]))
    assert reasons(result, "auth_user", partial=True) == {"2": ("invalid_email",)}
    profile = only(result, "profiles")
    assert (profile["email"], profile["metadata"]["email"]) == (None, f" {address}")


@pytest.mark.parametrize("column", ["first_name", "last_name", "is_active"])
def test_what_a_user_needs(column):
    users = [row("auth_user"), row("auth_user", id="2", **{column: None})]
    assert reasons(migrated(world(auth_user=users)), "auth_user") == {"2": ("schema_violation",)}


def types(result):
    """user → (type, patient, role)"""
    return {
        number: (each["profile_type"], each["legacy_patient_id"], each["metadata"].get("role"))
        for number, each in rows_of(result, "profiles", "legacy_user_id").items()
    }


def test_types_by_groups_references_and_flags():
    groups = [row("auth_group", id=str(n), name=name) for n, name in enumerate((" ADMIN", "Doctor", "client", "x"))]
    members = [("1", "2"), ("1", "1"), ("1", "0"), ("2", "3"), ("3", "2")]
    tables = world(
        auth_user=[
            row("auth_user", id=str(n), is_staff="t" if n in (4, 5) else None, is_superuser="t" if n == 4 else "f")
            for n in range(1, 8)
        ],
        auth_group=groups,
        auth_user_groups=[
            row("auth_user_groups", id=str(n), user_id=u, group_id=g) for n, (u, g) in enumerate(members)
        ],
        # A rejected row names doctors, too.
        dispatch_patient=[row("dispatch_patient", id="1", user_id="7", doctor_id="6", sex="5")],
        dispatch_office=[row("dispatch_office", doctor_id="3")],
        dispatch_office_doctors=[],
    )
    assert types(migrated(tables)) == {
        1: ("master", None, None),
        2: ("client", None, None),  # a group that is not listed
        3: ("client", None, None),  # a listed group goes before what offices say
        4: ("master", None, None),
        5: ("technician", None, None),
        6: ("doctor", None, None),
        7: ("client", None, None),
    }
    plan = {1: "client", 2: "client", 3: "client", 4: "technician", 5: "technician", 6: "client", 7: "client"}
    found = types(migrated(tables, profile_type="plan"))
    assert found == {number: (profile_type, None, None) for number, profile_type in plan.items()}


def test_a_doctor_who_is_a_patient():
    patient = row("dispatch_patient", user_id="2", birthdate="1985-02-28", suffix="Jr")
    tables = world(dispatch_patient=[patient], dispatch_instruction=[])
    profiles = migrated(tables).rows["profiles"]
    assert profiles[target_id("auth_user", 2)]["profile_type"] == "doctor"
    split = profiles[target_id("dispatch_patient", 7)]
    assert split["metadata"] == {"legacy_user_id": 2, "suffix": "Jr"}
    assert (split["legacy_user_id"], split["legacy_patient_id"], split["phone"]) == (None, 7, "")
    first = migrated(tables, several_roles="patient_first")
    assert types(first)[2] == ("patient", 7, "doctor")
    assert types(migrated(tables, profile_type="plan"))[2] == ("patient", 7, None)


def test_a_patient_without_user():
    tables = world(dispatch_patient=[row("dispatch_patient", user_id=None, submitted_at="2024-01-01 00:00:00")])
    assert reasons(migrated(tables), "dispatch_patient") == {"7": ("schema_violation",)}
    own = migrated(tables, patient_without_user="own_profile").rows["profiles"][target_id("dispatch_patient", 7)]
    assert (own["first_name"], own["is_active"], own["created_at"]) == ("", True, datetime(2024, 1, 1, tzinfo=UTC))


def test_several_patients():
    """The latest `updated_at`, then the highest id; one that is rejected otherwise does not compete."""
    times = {"3": "2024-01-01 00:00:00", "7": "2024-01-02 00:00:00", "8": "2024-01-02 00:00:00", "9": "x", "12": None}
    tables = world(
        dispatch_patient=[row("dispatch_patient", id=number, updated_at=at) for number, at in times.items()],
        dispatch_instruction=[],
    )
    merged = migrated(tables)
    profile = rows_of(merged, "profiles", "legacy_user_id")[1]
    assert (profile["legacy_patient_id"], profile["metadata"]["legacy_patient_ids"]) == (8, [3, 7, 12])
    assert reasons(merged, "dispatch_patient") == {"9": ("unparseable",)}
    latest = migrated(tables, several_patients="latest_only")
    losers = dict.fromkeys(("3", "7", "12"), ("duplicate_key",))
    assert reasons(latest, "dispatch_patient") == {**losers, "9": ("unparseable",)}
    assert "legacy_patient_ids" not in rows_of(latest, "profiles", "legacy_user_id")[1]["metadata"]


@pytest.mark.parametrize(
    ("sex", "iso", "kept"), [("1", "male", "1"), ("2", "female", "2"), ("0", None, "0"), ("9", None, "9")]
)
def test_sex(sex, iso, kept):
    tables = world(dispatch_patient=[row("dispatch_patient", sex=sex)])
    assert rows_of(migrated(tables), "profiles", "legacy_user_id")[1]["gender"] == iso
    assert rows_of(migrated(tables, sex_codes="keep_code"), "profiles", "legacy_user_id")[1]["gender"] == kept


def test_groups_of_rows_that_are_not_there():
    members = [("99", "1"), ("1", "99"), (None, "1"), ("x", "1")]
    rows = [row("auth_user_groups", id=str(n), user_id=user, group_id=group) for n, (user, group) in enumerate(members)]
    assert reasons(migrated(world(auth_user_groups=rows)), "auth_user_groups") == {
        "0": ("orphan_reference",),
        "1": ("orphan_reference",),
        "2": ("schema_violation",),
        "3": ("unparseable",),
    }


# --- 4.2 --------------------------------------------------------------------------------------------------------------


def test_an_office():
    office = row("dispatch_office", name=" \t", zip="08001", emails="t", tax_rate="0.0825", apt=" ", sq_customer_id="C")
    result = migrated(world(dispatch_office=[office]))
    found = only(result, "offices")
    assert (found["name"], found["zip_code"], found["phone"], found["is_active"]) == ("Office 3", "08001", "", True)
    assert (found["settings"], found["metadata"]) == (
        {"email_notifications": True},
        {"sq_customer_id": "C", "tax_rate": "0.0825"},
    )
    assert result.accounting["dispatch_office", "offices"].coerced.total() == 1


def test_links_and_the_primary_office():
    offices = [row("dispatch_office", id=str(n), doctor_id=doctor) for n, doctor in ((3, "2"), (2, "2"), (1, None))]
    links = [("1", "2"), ("3", "2"), ("2", "1"), ("99", "2")]
    rows = [row("dispatch_office_doctors", id=str(n), office_id=o, user_id=u) for n, (o, u) in enumerate(links)]
    tables = world(dispatch_office=offices, dispatch_office_doctors=rows)
    # Only who has a listed group is no doctor when an office names him.
    tables["auth_group"].append(row("auth_group", id="2", name="agent"))
    tables["auth_user_groups"].append(row("auth_user_groups", id="2", user_id="1", group_id="2"))
    result = migrated(tables)
    primary = {each["office_id"]: each["is_primary"] for each in result.rows["doctor_offices"].values()}
    assert primary == {target_id("dispatch_office", n): n == 2 for n in (1, 2, 3)}
    assert reasons(result, "dispatch_office_doctors") == {"2": ("no_matching_row",), "3": ("orphan_reference",)}
    assert {
        Mapped("dispatch_office", "3", "doctor_offices", target_id("doctor_office", 2, 3)),
        Mapped("dispatch_office_doctors", "1", "doctor_offices", target_id("doctor_office", 2, 3)),
    } <= result.mapping


@pytest.mark.parametrize(("option", "is_primary"), [("owner_then_first", True), ("owner_only", False)])
def test_no_office_of_his_own(option, is_primary):
    result = migrated(world(dispatch_office=[row("dispatch_office", doctor_id=None)]), primary_office=option)
    assert only(result, "doctor_offices")["is_primary"] is is_primary
    assert result.accounting["dispatch_office_doctors", "doctor_offices"].coerced.total() == is_primary


@pytest.mark.parametrize(("doctor", "reason"), [("1", "no_matching_row"), ("99", "orphan_reference")])
def test_an_offices_own_doctor_who_is_none(doctor, reason):
    tables = world(dispatch_office=[row("dispatch_office", doctor_id=doctor)], auth_user_groups=[])
    if doctor == "1":
        tables["auth_user_groups"] = [row("auth_user_groups", user_id="1", group_id="2")]
        tables["auth_group"] = [row("auth_group", id="2", name="agent")]
    result = migrated(tables)
    assert reasons(result, "dispatch_office", partial=True) == {"3": (reason,)}
    assert len(result.rows["offices"]) == 1


# --- 4.3 --------------------------------------------------------------------------------------------------------------


def courses(*names, **decisions):
    rows = [row("dispatch_course", id=str(n), name=name) for n, name in enumerate(names, 1)]
    result = migrated(world(dispatch_course=rows, dispatch_instruction=[]), **decisions)
    found = rows_of(result, "order_types", "legacy_course_id")
    return {number: (each["name"], each["key"]) for number, each in found.items() if number}, result


def test_courses():
    found, result = courses(" retainer ", "Aligner", "ALIGNER ", "RETAINER", "Main!", "!!", "Ünïcode", " ", None)
    assert found == {
        1: ("Retainer", "retainer"),
        2: ("Aligner", "aligner"),
        3: ("ALIGNER (course 3)", "aligner-course-3"),
        4: ("RETAINER (course 4)", "retainer-course-4"),
        5: ("Main!", "main-5"),
        6: ("!!", "course-6"),
        7: ("Ünïcode", "unicode"),
    }
    assert reasons(result, "dispatch_course") == dict.fromkeys("89", ("schema_violation",))
    standard = {each["name"] for each in result.rows["order_types"].values() if each["legacy_course_id"] is None}
    assert standard == {"Main", "Refinement", "Replacement", "Emergency"}
    assert target_id("order_type", "main") in result.rows["order_types"]


def test_merged_courses():
    found, result = courses("Aligner", "aligner", course_name_clash="merge")
    assert found == {1: ("Aligner", "aligner")}
    assert Mapped("dispatch_course", "2", "order_types", target_id("dispatch_course", 1)) in result.mapping
    assert result.accounting["dispatch_course", "order_types"].migrated == 2


def test_a_rejected_course_does_not_compete_for_its_name():
    rows = [row("dispatch_course", id="1", price="x"), row("dispatch_course", id="2", price="1.50")]
    result = migrated(world(dispatch_course=rows, dispatch_instruction=[]))
    assert rows_of(result, "order_types", "legacy_course_id")[2]["name"] == "Aligner"


@pytest.mark.parametrize(
    ("price", "expected"),
    [("99999999.990", Decimal("99999999.99")), ("100000000", None), ("1.005", None), (None, "NULL"), ("-5", -5)],
)
def test_prices(price, expected):
    result = migrated(world(dispatch_course=[row("dispatch_course", price=price)]))
    found = rows_of(result, "order_types", "legacy_course_id").get(5)
    if expected is None:
        assert reasons(result, "dispatch_course") == {"5": ("schema_violation",)}
    else:
        assert found["base_price"] == (None if expected == "NULL" else expected)


def test_keys():
    names = {"-Main- ½ ﬁt": "main-12-fit", "日本": "", "Ünïcode  X": "unicode-x"}
    assert {name: key_of(name) for name in names} == names


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
