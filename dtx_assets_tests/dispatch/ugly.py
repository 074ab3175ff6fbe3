"""Ugly legacy tables for Dispatch, drawn from a seed: every rule broken, every trap of the contract's section 8.

Rows are sound but for a few values of every bad kind; some come again, wholly identical or with other content. What
should become of them is not here; how they are written is in `ugly_forms`. Left out is what no sentence of the contract
decides: NULs in names of groups, content types in another case, ids that overflow a duration.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from uuid import UUID

from dtx_assets_tests.dispatch.second_reading_books import OPTIONS
from dtx_assets_tests.dispatch.second_reading_values import Value, kind_of
from dtx_assets_tests.dispatch.ugly_values import (
    BAD_IDS,
    BODIES,
    COURSE_NAMES,
    EMAILS,
    GROUP_NAMES,
    KINDS,
    PROJECT_NAMES,
)

Row = dict[str, Value]
NO_PHASE_5 = ("embedding_identifiers", "long_text", "on_target_conflict")
GENERIC_KEYS = (
    ("content_type_id", "object_id"),
    ("content_type_id", "object_pk"),
    ("related_content_type_id", "related_object_id"),
    ("target_type_id", "target_id"),
)
MODELS = (
    *(("dispatch", "instruction"), ("dispatch", "project"), ("dispatch", "patient"), ("auth", "user")),
    *(("dispatch", "record"), ("admin", "logentry"), ("dispatch", "oldthing"), ("auth", "patient")),
    *(("dispatch", "user"), ("dispatch", None), (None, "instruction"), ("", "")),
)
SIZES = {
    "auth_user": 60,
    "auth_group": 14,
    "auth_user_groups": 60,
    "dispatch_patient": 55,
    "dispatch_office": 24,
    "dispatch_office_doctors": 40,
    "dispatch_course": 26,
    "dispatch_instruction": 110,
    "dispatch_project": 60,
    "dispatch_record": 130,
    "dispatch_file": 90,
    "dispatch_state": 160,
    "dispatch_template": 45,
}
SPARED = {("auth_group", "name"), ("django_content_type", "app_label"), ("django_content_type", "model")}
"""Text columns of look-ups, which are not made ugly beyond what is drawn for them."""


REFERRED_TO = {"auth_user", "auth_group", "auth_user_groups", "dispatch_patient", "dispatch_office", "dispatch_course"}
REFERRED_TO |= {"dispatch_instruction", "dispatch_record"}


@dataclass
class Ugly:
    tables: dict[str, list[Row]]
    files: dict[str, bytes]


def decisions(seed: int) -> dict[str, str]:
    """Drawn options; the first of each for seed 0."""
    random = Random(f"decisions {seed}")
    drawn = {key: random.choice(options) for key, options in OPTIONS.items() if key not in NO_PHASE_5}
    # Under `plan` nobody is a doctor and nothing becomes an order.
    drawn["profile_type"] = random.choice(("groups", "groups", "groups", "plan"))
    return drawn if seed else {}


def ugly_values(table: str, column: str) -> tuple[Value, ...]:
    """Bad values for a column; hours are as many as an interval holds."""
    if column == "duration":
        return ("-1", "0", "1000000", "x", None, "", "3.0", "x\0", " 3")
    return KINDS[kind_of(table, column)]


def ugly(seed: int, times: int = 1) -> Ugly:
    """`times`: as many rows."""
    return Drawing(seed, times).everything()


class Drawing:
    """Tables in the order of who refers to whom. `ids`: those of each table, drawn before its rows."""

    def __init__(self, seed: int, times: int) -> None:
        self.random = Random(seed)
        self.ids: dict[str, list[int]] = {}
        for table, size in ((table, size * times) for table, size in SIZES.items()):
            numbers = self.random.sample(range(1, size * 5 // 4), size * 9 // 10)
            # Patient 7 and user 7 are different people; -3 and 0 are integers, too.
            self.ids[table] = [*dict.fromkeys([7, *numbers]), *self.random.sample([-3, 0, 123_456_789], 1)]
        self.content_types = self.random.sample(range(40), len(MODELS) + 1)
        self.kinds = [self.random.choice(GENERIC_KEYS), self.random.choice(GENERIC_KEYS)]
        self.uids = [str(UUID(int=self.random.getrandbits(128))) for _ in range(60 * times)]

    def chance(self, one_in: int) -> bool:
        return self.random.randrange(one_in) == 0

    def any_of(self, *values: Value) -> Value:
        return self.random.choice(values)

    def reference(self, table: str, orphans: int = 25) -> Value:
        """An id of a row that is there, seldom of none, seldom NULL."""
        if self.chance(orphans):
            return self.any_of("99999", None, "-1", "2147483648")
        return str(self.random.choice(self.ids[table]))

    def instant(self) -> Value:
        day = (
            f"{self.random.choice((2019, 2023, 2024))}-{self.random.randint(1, 12):02}-{self.random.randint(1, 28):02}"
        )
        clock = f"{self.random.randrange(24):02}:{self.random.randrange(60):02}:{self.random.randrange(60):02}"
        # Half of them at one instant, so that there are ties.
        usual = f"{day} {clock}" if self.chance(2) else "2024-02-03 04:05:06"
        return self.any_of(usual, usual, usual, usual + ".5", usual + "+00", usual.replace(" ", "T") + "+02:00", None)

    def everything(self) -> Ugly:
        tables: dict[str, list[Row]] = {"django_content_type": self.types()}
        for table in SIZES:
            make: Callable[[], Row] = getattr(self, table)
            rows = [{"id": str(number), **make()} for number in self.ids[table]]
            tables[table] = self.spoilt(table, rows)
        for row in tables["auth_group"]:
            if row["id"] == str(self.ids["auth_group"][0]):
                row["name"] = " Doctor "
        for table, kind in zip(("dispatch_record", "dispatch_file"), self.kinds, strict=True):
            tables[table] = [self.generic(table, row, kind) for row in tables[table]]
        # Several rows with nothing but the key in common, and one more attribute that nobody named.
        tables["dispatch_course"] = [
            {**row, "colour": self.any_of("red", None, "")} for row in tables["dispatch_course"]
        ]
        if self.chance(4):
            del tables["dispatch_file"]
        return Ugly(tables, self.files())

    def files(self) -> dict[str, bytes]:
        names = [*self.uids[: len(self.uids) * 2 // 3], "123e4567-e89b-12d3-a456-426614174000", "readme.txt"]
        return {name: name.encode() * self.random.randrange(3) for name in names if not self.chance(4)}

    # --- ugliness -----------------------------------------------------------------------------------------------------

    def spoilt(self, table: str, rows: Sequence[Row]) -> list[Row]:
        spoilt = [self.with_bad_values(table, row) for row in rows]
        for row in self.random.sample(spoilt, max(2, len(spoilt) // 15)):
            again = dict(row)
            if self.chance(2):  # the same key with other content, and the key in another form
                other = self.random.choice(spoilt)
                again = {**other, "id": self.any_of(row["id"], f"0{row['id']}", f"{row['id']}.0")}
                again["id"] = row["id"] if isinstance(row["id"], str) and row["id"].startswith("-") else again["id"]
            elif table == "auth_user":
                again["password"] = "another"
            spoilt.insert(self.random.randrange(len(spoilt) + 1), again)
        bad_ids = [{**self.random.choice(spoilt), "id": self.any_of(*BAD_IDS)} for _ in range(2)]
        self.random.shuffle(spoilt)
        return spoilt + bad_ids

    def with_bad_values(self, table: str, row: Row) -> Row:
        columns = [name for name in row if name != "id" and (table, name) not in SPARED]
        # What others refer to is mostly sound: else nothing that refers to it is ever migrated.
        how_bad = self.random.choice(
            (0, 0, 0, 0, 0, 0, 0, 1, 1, 2) if table in REFERRED_TO else (0, 0, 0, 0, 1, 1, 2, 3)
        )
        for column in self.random.sample(columns, min(how_bad, len(columns))):
            row = {**row, column: self.any_of(*ugly_values(table, column))}
        if self.chance(20) and isinstance(row["id"], str) and not row["id"].startswith("-"):
            row = {**row, "id": self.any_of(f"0{row['id']}", f"{row['id']}.0")}
        return row

    def generic(self, table: str, row: Row, kind: tuple[str, str]) -> Row:
        """The row with its generic key under the names drawn for the table."""
        names = dict(zip(("content_type_id", "object_id"), kind, strict=True))
        renamed = {names.get(name, name): value for name, value in row.items()}
        # An empty text is NULL in a column of integers only.
        if renamed[kind[1]] == "" and kind_of(table, kind[1]) == "text":
            renamed[kind[1]] = None
        return renamed

    # --- sound rows ---------------------------------------------------------------------------------------------------

    def types(self) -> list[Row]:
        rows: list[Row] = [
            {"id": str(number), "app_label": app, "model": model}
            for number, (app, model) in zip(self.content_types, MODELS, strict=False)
        ]
        rows += [{"id": self.any_of("x", "", None), "app_label": "auth", "model": "user"}, dict(rows[0])]
        # A number given anew: the later row counts.
        rows.insert(0, {"id": rows[1]["id"], "app_label": "auth", "model": "permission"})
        return rows

    def auth_user(self) -> Row:
        flag = ("t", "f", "f", "f", "true", "0", None)
        return {
            "username": f"user{self.random.randrange(1000)}",
            "password": "pbkdf2_sha256$1000$salt$hash",
            "first_name": self.any_of("Ann", "Bob", "Ünïcode", "", " Cy ", "Dee"),
            "last_name": self.any_of("Lee", "Ng", "O'Neill", "", "Smith "),
            "email": self.any_of(*EMAILS),
            "is_superuser": self.any_of(*flag),
            "is_staff": self.any_of(*flag),
            "is_active": self.any_of("t", "t", "t", "f", "1", "False"),
            "date_joined": self.instant(),
            "last_login": self.instant(),
        }

    def auth_group(self) -> Row:
        return {"name": self.any_of(*GROUP_NAMES)}

    def auth_user_groups(self) -> Row:
        if self.chance(3):
            return {"user_id": str(self.doctor()), "group_id": str(self.ids["auth_group"][0])}
        return {"user_id": self.reference("auth_user"), "group_id": self.reference("auth_group")}

    def dispatch_patient(self) -> Row:
        # Few users, so that some have several rows.
        user = self.random.choice(self.ids["auth_user"][: len(self.ids["auth_user"]) // 2])
        return {
            "user_id": self.any_of(str(user), str(user), str(user), self.reference("auth_user", 4)),
            "doctor_id": self.reference("auth_user", 6) if self.chance(6) else str(self.doctor()),
            "office_id": self.any_of(*(self.reference("dispatch_office") for _ in range(3)), None),
            "birthdate": self.any_of("1985-02-28", "1990-12-01", "2011-07-04", None),
            "sex": self.any_of("1", "2", "0", "9", None, "1", "2", "3" if self.chance(6) else "1"),
            "status": self.any_of("0", "1", None),
            "archived": self.any_of("t", "f", None),
            "suspended": self.any_of("t", "f", None),
            "schemes": self.any_of("{}", "", None, "a,b"),
            "suffix": self.any_of("Jr", "", None),
            "submitted_at": self.instant(),
            "updated_at": self.instant(),
        }

    def doctor(self) -> int:
        """One of a few users, so that doctors have patients and offices."""
        return self.random.choice(self.ids["auth_user"][len(self.ids["auth_user"]) // 3 :][:12])

    def dispatch_office(self) -> Row:
        address = ("address", "apt", "city", "state", "zip", "country", "phone")
        return {
            "doctor_id": self.any_of(str(self.doctor()), str(self.doctor()), self.reference("auth_user", 4), None),
            "name": self.any_of("Smile", " Braces & Co ", "Ünïcode", "", None),
            **{column: self.any_of("1 Road", "", None, " B ") for column in address},
            "tax_rate": self.any_of("0.0825", "8.250", "0", None, "-1"),
            "valid": self.any_of("t", "f", None),
            "sq_customer_id": self.any_of("CUST-1", "", " ", None, "007"),
            "emails": self.any_of("t", "f", None),
        }

    def dispatch_office_doctors(self) -> Row:
        user = self.any_of(str(self.doctor()), str(self.doctor()), self.reference("auth_user", 6))
        return {"office_id": self.reference("dispatch_office"), "user_id": user}

    def dispatch_course(self) -> Row:
        price = self.any_of("100", "99.90", "0", None, "12.500", "-5.00")
        description = self.any_of("Straight teeth", "", None)
        return {
            "name": self.any_of(*COURSE_NAMES),
            "description": description,
            "price": price,
            "active": self.any_of("t", "f", None),
        }

    def dispatch_instruction(self) -> Row:
        texts = ("notes", "scanner_notes", "exports", "conditions", "complaint", "objective", "suffix")
        numbers = ("order", "model", "scanner", "upper_jaw_id", "lower_jaw_id")
        return {
            "patient_id": self.reference("dispatch_patient"),
            "course_id": self.reference("dispatch_course", 20),
            **{column: self.any_of("0", "1", "17", None) for column in numbers},
            **{column: self.any_of("crowding", " deep bite ", "", " ", None) for column in texts},
            "price": self.any_of("1200", "99.90", None, "0", "-5"),
            "status": self.any_of(*map(str, range(1, 12)), "12", "0", "-4", None, "77"),
            **{column: self.any_of("t", "f", None) for column in ("cbct", "accept_extraction", "comprehensive")},
            "deleted": self.any_of("f", "f", "f", None, "t"),
            "submitted_at": self.instant(),
            "updated_at": self.instant(),
        }

    def dispatch_project(self) -> Row:
        uid = self.random.choice(self.uids)
        return {
            "uid": self.any_of(uid, uid, uid.upper(), uid.replace("-", "")),
            "creator_id": self.any_of(self.reference("auth_user"), str(self.doctor())),
            "name": self.any_of(*PROJECT_NAMES),
            "size": self.any_of("0", "36", "1000000000000", None, "-1" if self.chance(4) else "72"),
            "public": self.any_of("t", "f", None),
            "type": self.any_of("0", "3", "0", "3", "1", None),
            "status": self.any_of("0", "0", "0", "4", None),
            "created_at": self.instant(),
        }

    def key(self, tables: Sequence[str]) -> Row:
        """A generic key, its id in one of the forms that ids have."""
        place = self.random.randrange(len(tables))
        identity = self.reference(tables[place], 15)
        if isinstance(identity, str) and not identity.startswith("-"):
            identity = self.any_of(identity, identity, identity, f" {identity} ", f"{identity}.0", f"0{identity}")
        if self.chance(20):
            identity = self.any_of("abc", "", None, "1 2", "1.5", b"1\xff", " ")
        kind: Value = str(self.content_types[place])
        if self.chance(8):
            kind = self.any_of(*map(str, self.content_types), "9999", None, "", "x", f"{kind}.0")
        return {"content_type_id": kind, "object_id": identity}

    def dispatch_record(self) -> Row:
        return {
            **self.key(("dispatch_instruction", "dispatch_project", "dispatch_patient", "auth_user")),
            "author_id": self.reference("auth_user"),
            "group_id": self.any_of("1", "2", None, "99999"),
            "type": self.any_of("0", "1", "2", "3", "4", "5", None, "6" if self.chance(4) else "0"),
            "text": self.any_of(*BODIES),
            "public": self.any_of("t", "f", None),
            "created_at": self.instant(),
        }

    def dispatch_file(self) -> Row:
        about = ("dispatch_instruction", "dispatch_project", "dispatch_record")
        key = self.key(about)
        if key["content_type_id"] == str(self.content_types[2]):  # key() numbers them as messages do
            key["content_type_id"] = str(self.content_types[4])
        return {
            "uid": self.any_of(self.uids[0], self.uids[1].upper(), None, self.uids[2].replace("-", "")),
            "name": self.any_of(*PROJECT_NAMES),
            "size": self.any_of("0", "5", None, "-1"),
            **key,
            "created_at": self.instant(),
        }

    def dispatch_state(self) -> Row:
        return {
            "status": self.any_of(*map(str, range(1, 12)), "13", "0", "78", "-4"),
            "on": self.any_of("t", "t", "t", "f"),
            "changed_at": self.instant(),
            "actor_id": self.any_of(self.reference("auth_user"), None),
            "instruction_id": self.reference("dispatch_instruction", 25),
        }

    def dispatch_template(self) -> Row:
        return {
            "task_name": self.any_of("Scan", " Review ", "Ünïcode", "Ship it", "" if self.chance(3) else "Go"),
            "function": self.any_of("1", "2", "4", "3", None),
            "predefined": self.any_of("t", "t", "f", None),
            "status": self.any_of("0", "1", None),
            "action_name": self.any_of("go", "", " ", None, " act "),
            "text_name": self.any_of("say", "", " ", None),
            "duration": self.any_of("0", "24", "500", None),
            "category_id": self.any_of("1", None),
            "course_id": self.any_of(self.reference("dispatch_course", 30), None),
        }
