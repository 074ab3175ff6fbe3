"""dispatch.md 4.1 and 4.2, read a second time: users, patients, groups, offices and who works there."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dtx_assets_tests.dispatch.second_reading_books import Books, empty, iso_second, target_id
from dtx_assets_tests.dispatch.second_reading_values import (
    Row,
    Source,
    is_blank,
    is_valid_email,
    json_object,
    no_case,
    trimmed,
)

GROUPS = {
    "master": (1, "master"),
    "admin": (1, "master"),
    "doctor": (2, "doctor"),
    "technician": (3, "technician"),
    "sales person": (4, "sales_person"),
    "agent": (5, "agent"),
    "patient": (6, "patient"),
    "client": (7, "client"),
}
SEX = {0: None, 1: "male", 2: "female", 9: None, None: None}
PATIENT_FIELDS = (
    *("phone", "address", "city", "state", "zip_code", "insurance_provider", "insurance_id"),
    *("emergency_contact_name", "emergency_contact_phone", "medical_history", "allergies", "medications"),
)
ADDRESS = {"address": "address", "city": "city", "state": "state", "zip_code": "zip", "country": "country"}
EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass
class People:
    """What later sections ask: who is what, where a patient row went, who is where."""

    types: dict[int, str] = field(default_factory=dict)
    patient_profiles: dict[int, str] = field(default_factory=dict)
    links: dict[tuple[int, int], list[Source]] = field(default_factory=dict)
    primary: dict[int, int] = field(default_factory=dict)

    def is_doctor(self, user: int) -> bool:
        return self.types.get(user) == "doctor"


def migrate_people(books: Books) -> People:
    people = People()
    users = {source.id: _judge_user(books, source) for source in books.to_judge("auth_user")}
    rows = _judge_patients(books)
    groups = _judge_groups(books)
    named = _named_doctors(books)
    for number, source in books.winners("auth_user").items():
        if not source.reasons:
            _write_user(books, people, source, users[number], rows.get(number, []), groups.get(number, set()), named)
    for source in rows.get(None, []):
        _write_patient(books, people, [source], None)
    for table in ("auth_user", "dispatch_patient", "auth_user_groups"):
        books.settle(table)
    _migrate_offices(books, people)
    return people


# --- 4.1 --------------------------------------------------------------------------------------------------------------


def _judge_user(books: Books, source: Source) -> Row:
    """The columns of the profile that come from the user; metadata without groups."""
    source.check_id(is_written=True)
    given = source.text("email")
    email = trimmed(given) if given is not None and not is_blank(given) else None
    is_invalid = email is not None and not is_valid_email(email)
    return {
        "first_name": source.text("first_name", needed=True),
        "last_name": source.text("last_name", needed=True),
        "is_active": source.boolean("is_active", needed=True),
        "created_at": source.instant("date_joined"),
        "email": None if is_invalid else email,
        "metadata": json_object(
            username=source.text("username"),
            is_staff=source.boolean("is_staff"),
            is_superuser=source.boolean("is_superuser"),
            last_login=iso_second(source.instant("last_login")),
            email=given if is_invalid else None,
        ),
    }


def _judge_patients(books: Books) -> dict[int | None, list[Source]]:
    """The rows that are migrated, by user: the one that fills the profile first, the others by id."""
    by_user: dict[int | None, list[Source]] = defaultdict(list)
    for source in books.to_judge("dispatch_patient"):
        source.check_id(is_written=True)
        user = books.refer(source, "user_id", "auth_user")
        if source.raw("user_id") is None:
            if books.decided("patient_without_user", "reject"):
                source.reasons.add("schema_violation")
            else:
                source.instant("submitted_at")
        sex = source.integer("sex")
        if sex not in SEX:
            source.reasons.add("unmapped_value")
        _of_patient(books, source)
        if not source.reasons:
            by_user[user.id if user else None].append(source)
    for number, rows in by_user.items():
        if number is None:
            continue
        # "the latest `updated_at` (NULL earliest; a tie: the highest id)"
        filler = max(rows, key=lambda row: (row.instant("updated_at") or EARLIEST, row.id))
        others = sorted((row for row in rows if row is not filler), key=lambda row: row.id or 0)
        if books.decided("several_patients", "latest_only"):
            for row in others:
                row.reasons.add("duplicate_key")
            others = []
        rows[:] = [filler, *others]
    return by_user


def _of_patient(books: Books, source: Source) -> Row:
    """The columns of the profile that come from the patient row."""
    sex = source.integer("sex")
    as_code = None if sex is None else str(sex)
    gender = as_code if books.decided("sex_codes", "keep_code") else SEX.get(sex)
    return {
        "legacy_patient_id": source.id,
        "date_of_birth": source.date("birthdate"),
        "gender": gender,
        "updated_at": source.instant("updated_at"),
        "metadata": json_object(
            suffix=source.text("suffix"),
            schemes=source.text("schemes"),
            status=source.integer("status"),
            archived=source.boolean("archived"),
            suspended=source.boolean("suspended"),
        ),
    }


def _judge_groups(books: Books) -> dict[int, set[str]]:
    """The names of the groups of each user."""
    groups = books.winners("auth_group")
    names: dict[int, set[str]] = defaultdict(set)
    for source in books.to_judge("auth_user_groups"):
        source.check_id(is_written=False)
        user = books.refer(source, "user_id", "auth_user", needed=True)
        number = source.integer("group_id", needed=True)
        group = groups.get(number) if number is not None else None
        if number is not None and group is None:
            source.reasons.add("orphan_reference")
        if group and group.raw("name") is not None and group.text("name") is None:
            source.reasons.add("unparseable")  # the name is what this row writes
        if source.reasons or user is None or user.id is None or group is None:
            continue
        books.map(source, "profiles", target_id("auth_user", user.id))
        name = group.text("name")
        if name is not None:
            names[user.id].add(name)
    return names


def _named_doctors(books: Books) -> set[int]:
    """ "a user whom, in a row that counts (rejected or not), … names"."""
    named = {"dispatch_office": "doctor_id", "dispatch_office_doctors": "user_id", "dispatch_patient": "doctor_id"}
    return {
        number
        for table, column in named.items()
        for source in books.sources[table]
        if source.counts and (number := source.peek(column)) is not None
    }


def _own_type(books: Books, user: Row, number: int, groups: Iterable[str], named: set[int], has_patient: bool) -> str:
    is_staff, is_superuser = (user["metadata"].get(name, False) for name in ("is_staff", "is_superuser"))
    if books.decided("profile_type", "plan"):
        return _first(patient=has_patient, technician=is_staff, master=is_superuser)
    listed = [GROUPS[name] for group in groups if (name := no_case(trimmed(group))) in GROUPS]
    if listed:
        return min(listed)[1]
    return _first(doctor=number in named, master=is_superuser, technician=is_staff)


def _first(**holds: bool) -> str:
    return next((name for name, is_so in holds.items() if is_so), "client")


def _write_user(
    books: Books, people: People, source: Source, user: Row, patients: list[Source], groups: set[str], named: set[int]
) -> None:
    assert source.id is not None
    identity = target_id("auth_user", source.id)
    own = _own_type(books, user, source.id, groups, named, bool(patients))
    profile_type, role, of_patient = own, None, Row()
    if patients and own not in ("client", "patient") and books.decided("several_roles", "split"):
        _write_patient(books, people, patients, (source.id, user))
    elif patients:
        profile_type, role = "patient", own if own not in ("client", "patient") else None
        of_patient = _filled_by(books, people, patients, identity)
    metadata = {
        **user["metadata"],
        **json_object(groups=sorted(groups) or None, role=role),
        **of_patient.pop("metadata", {}),
    }
    people.types[source.id] = profile_type
    row = {**_profile(profile_type), **user, **of_patient, "legacy_user_id": source.id, "metadata": metadata}
    books.write("profiles", identity, row)
    books.map(source, "profiles", identity)
    if "email" in user["metadata"]:
        books.reject_part(source, "profiles", "invalid_email")


def _filled_by(books: Books, people: People, patients: list[Source], identity: str) -> Row:
    filler, *others = patients
    row = _of_patient(books, filler)
    for source in patients:
        assert source.id is not None
        people.patient_profiles[source.id] = identity
        books.map(source, "profiles", identity)
    if others:
        row["metadata"]["legacy_patient_ids"] = [source.id for source in others]
    return row


def _write_patient(books: Books, people: People, patients: list[Source], user: tuple[int, Row] | None) -> None:
    """A profile of its own for the patient row that fills it."""
    filler = patients[0]
    identity = target_id("dispatch_patient", filler.id)
    of_patient = _filled_by(books, people, patients, identity)
    if user is None:
        who = {"first_name": "", "last_name": "", "is_active": True, "created_at": filler.instant("submitted_at")}
    else:
        who = {name: user[1][name] for name in ("first_name", "last_name", "is_active", "created_at", "email")}
        of_patient["metadata"]["legacy_user_id"] = user[0]
    books.write("profiles", identity, {**_profile("patient"), **who, **of_patient})


def _profile(profile_type: str) -> Row:
    nothing = "middle_name email date_of_birth gender country license_number specialties updated_at created_at"
    return {
        **empty("legacy_user_id", "legacy_patient_id", *nothing.split()),
        **dict.fromkeys(PATIENT_FIELDS, "" if profile_type == "patient" else None),
        "profile_type": profile_type,
        "credentials": {},
    }


# --- 4.2 --------------------------------------------------------------------------------------------------------------


def _migrate_offices(books: Books, people: People) -> None:
    for source in books.to_judge("dispatch_office"):
        row = _office(source)
        source.integer("doctor_id")
        if not source.reasons:
            identity = target_id("dispatch_office", source.id)
            books.write("offices", identity, row)
            books.map(source, "offices", identity)
            _link_own_doctor(books, people, source)
    for source in books.to_judge("dispatch_office_doctors"):
        source.check_id(is_written=False)
        office = books.refer(source, "office_id", "dispatch_office", needed=True)
        user = books.refer(source, "user_id", "auth_user", needed=True)
        if user is not None and not people.is_doctor(user.id or 0):
            source.reasons.add("no_matching_row")
        if not source.reasons and office and user:
            people.links.setdefault((user.id or 0, office.id or 0), []).append(source)
    _choose_primary(books, people)
    for (doctor, office_id), sources in people.links.items():
        identity = target_id("doctor_office", doctor, office_id)
        books.write("doctor_offices", identity, _doctor_office(people, doctor, office_id))
        for source in sources:
            books.map(source, "doctor_offices", identity)
    for table in ("dispatch_office", "dispatch_office_doctors"):
        books.settle(table)


def _office(source: Source) -> Row:
    source.check_id(is_written=True)
    name = source.text("name")
    if is_blank(name):
        source.coerced.append("office_without_name")
    apt, customer = source.text("apt"), source.text("sq_customer_id")
    # "`tax_rate` (as text, as it came)"
    tax_rate = source.raw("tax_rate") if source.number("tax_rate") is not None else None
    is_valid = source.boolean("valid")
    return {
        "legacy_office_id": source.id,
        "name": f"Office {source.id}" if name is None or is_blank(name) else trimmed(name),
        **{target: source.text(column) or "" for target, column in {**ADDRESS, "phone": "phone"}.items()},
        **empty("email", "website", "license_number", "created_at", "updated_at"),
        "is_active": True if is_valid is None else is_valid,
        "settings": json_object(email_notifications=source.boolean("emails")),
        "metadata": json_object(
            apt=None if is_blank(apt) else apt,
            sq_customer_id=None if is_blank(customer) else customer,
            tax_rate=tax_rate,
        ),
    }


def _link_own_doctor(books: Books, people: People, source: Source) -> None:
    doctor = source.peek("doctor_id")
    if doctor is None:
        return
    if books.found("auth_user", doctor) is None:
        books.reject_part(source, "doctor_offices", "orphan_reference")
    elif not people.is_doctor(doctor):
        books.reject_part(source, "doctor_offices", "no_matching_row")
    else:
        people.links.setdefault((doctor, source.id or 0), []).append(source)


def _choose_primary(books: Books, people: People) -> None:
    by_doctor: dict[int, list[int]] = defaultdict(list)
    for doctor, office_id in people.links:
        by_doctor[doctor].append(office_id)
    of_id = books.winners("dispatch_office")
    for doctor, offices in by_doctor.items():
        own = [each for each in offices if of_id[each].peek("doctor_id") == doctor]
        if own:
            people.primary[doctor] = min(own)
        elif books.decided("primary_office", "owner_then_first"):
            people.primary[doctor] = min(offices)
            people.links[doctor, min(offices)][0].coerced.append("guessed_primary_office")


def _doctor_office(people: People, doctor: int, office_id: int) -> Row:
    return {
        "doctor_id": target_id("auth_user", doctor),
        "doctor_type": "doctor",
        "office_id": target_id("dispatch_office", office_id),
        "is_primary": people.primary.get(doctor) == office_id,
        "role": "doctor",
        "permissions": {},
        **empty("start_date", "end_date", "created_at", "updated_at"),
    }
