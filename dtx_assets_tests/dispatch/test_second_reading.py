"""The second reading of values, keys, people, offices and courses (to dispatch.md 4.3) against small examples."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import NAMESPACE_URL, uuid5

import pytest

from dtx_assets_tests.dispatch.second_reading import pair_of
from dtx_assets_tests.dispatch.second_reading_books import NAMESPACE, Mapped, target_id
from dtx_assets_tests.dispatch.second_reading_orders import key_of
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
        ("99", None, ("unmapped_value",)),
        ("x", None, ("schema_violation", "unparseable")),
        (None, "nine", ("schema_violation", "unparseable")),
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
    found, _ = courses("x", "X", "x (course 2)", "a", "a 6", "a!")
    assert found == {
        1: ("x", "x"),
        2: ("X (course 2)", "x-course-2"),
        3: ("x (course 2) (course 3)", "x-course-2-course-3"),
        4: ("a", "a"),
        5: ("a 6", "a-6"),
        6: ("a!", "a-6-6"),
    }
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
