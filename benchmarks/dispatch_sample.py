"""A sample of Dispatch's database of any size, at the real system's proportions; same seed, same bytes.

The sample that ships is `python -m benchmarks.dispatch_sample DIRECTORY --rows 120`.

`rows` is how many users there are; the other tables have as many rows to each of them as the real ones. Rows that break
what the contract says, one by one, stand in `dispatch_ugly_rows.yaml`.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from ruamel.yaml import YAML

from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.samples.csv_output import csv_line
from dtx_assets.machinery.samples.listed import refuse_overwriting

Row = dict[str, Any]
UGLY = Path(__file__).with_name("dispatch_ugly_rows.yaml")
FIRST = datetime(2016, 3, 1, 8, tzinfo=UTC)
TYPES = {21: ("auth", "user"), 7: ("dispatch", "patient"), 12: ("dispatch", "instruction"), 9: ("dispatch", "project")}
TYPES |= {3: ("dispatch", "record"), 5: ("auth", "group"), 40: ("dispatch", "removed")}
"""Content types, numbered as a database is that was moved twice."""
GROUPS = ("Doctor", "Technician", "Admin", "Sales Person", "Patient")
COURSES = ("Main", "Refinement", "retainer", "Night Guard", "Whitening")
WORDS = ("aligner", "upper jaw", "bite", "spacing", "Ünïcode", "scan", "attachment", "retainer", "crossbite")
STAFF = 12
"""Every so many users one is no patient."""


def at(number: int, minutes: int = 97) -> str:
    return (FIRST + timedelta(minutes=number * minutes)).strftime("%Y-%m-%d %H:%M:%S.%f+00")


class Sample:
    """The sound rows by table."""

    def __init__(self, rows: int, seed: int) -> None:
        self.random, self.users = Random(seed), max(rows, 2 * STAFF)
        self.staff = [number for number in range(1, self.users + 1) if number % STAFF == 1]
        self.doctors = self.staff[::2] or self.staff
        self.patients = self.users - len(self.staff)
        self.offices = max(3, len(self.doctors) // 2)
        self.orders, self.records, self.states = (self.users * n // 100 for n in (254, 620, 3049))
        self.projects = self.users // 2

    def words(self) -> str:
        return " ".join(self.random.choices(WORDS, k=5))

    def django_content_type(self) -> Iterator[Row]:
        for number, (label, model) in TYPES.items():
            yield {"id": number, "app_label": label, "model": model}

    def auth_group(self) -> Iterator[Row]:
        for number, name in enumerate(GROUPS, 1):
            yield {"id": number, "name": name}

    def auth_user(self) -> Iterator[Row]:
        for number in range(1, self.users + 1):
            known = number % 8 == 1
            yield {
                "id": number,
                "username": f"user{number}",
                "password": f"pbkdf2_sha256$260000$salt{number}$aGFzaA==",
                "first_name": f"First{number}",
                "last_name": f"Last {number}",
                "email": f"User{number}@lab.example" if known else "",
                "is_superuser": "f",
                "is_staff": "t" if number % STAFF == 1 else "f",
                "is_active": "t",
                "date_joined": at(number),
                "last_login": at(number, 110) if known else None,
            }

    def auth_user_groups(self) -> Iterator[Row]:
        for number, user in enumerate(self.staff, 1):
            yield {"id": number, "user_id": user, "group_id": 1 if user in self.doctors else 2}

    def dispatch_patient(self) -> Iterator[Row]:
        users = (user for user in range(1, self.users + 1) if user % STAFF != 1)
        for number, user in enumerate(users, 1):
            yield {
                "id": number,
                "user_id": user,
                "doctor_id": self.random.choice(self.doctors),
                "office_id": 1 + number % self.offices if number % 10 else None,
                "birthdate": f"{1950 + number % 60}-0{1 + number % 9}-1{number % 10}",
                "sex": 1 + number % 2,
                "status": number % 4,
                "archived": "f",
                "suspended": "f",
                "schemes": "A1" if number % 3 else None,
                "suffix": None,
                "submitted_at": at(number),
                "updated_at": at(number, 130),
            }

    def dispatch_office(self) -> Iterator[Row]:
        for number in range(1, self.offices + 1):
            yield {
                "id": number,
                "doctor_id": self.doctors[number % len(self.doctors)],
                "name": f" Office of {number} ",
                "address": f"{number} Main Street",
                "city": "Springfield",
                "state": "IL",
                "zip": "62701",
                "country": "US",
                "phone": None,
                "tax_rate": "8.250",
                "valid": "t",
                "sq_customer_id": f"SQ{number}",
                "emails": "t",
            }

    def dispatch_office_doctors(self) -> Iterator[Row]:
        for number, doctor in enumerate(self.doctors, 1):
            yield {"id": number, "office_id": 1 + number % self.offices, "user_id": doctor}

    def dispatch_course(self) -> Iterator[Row]:
        for number, name in enumerate(COURSES, 1):
            yield {"id": number, "name": name, "description": name, "price": f"{number}99.50", "active": "t"}

    def dispatch_instruction(self) -> Iterator[Row]:
        for number in range(1, self.orders + 1):
            yield {
                "id": number,
                "patient_id": 1 + number % self.patients,
                "course_id": 1 + number % len(COURSES),
                "order": number % 3,
                "model": number % 2,
                "scanner": 1,
                "notes": self.words(),
                "complaint": self.words() if number % 4 else "",
                "price": f"{number % 900}.00",
                "status": 1 + number % 11,
                "cbct": "f",
                "accept_extraction": "t",
                "comprehensive": "f",
                "deleted": "t" if number % 50 == 0 else "f",
                "submitted_at": at(number),
                "updated_at": at(number, 140),
            }

    def dispatch_project(self) -> Iterator[Row]:
        for number in range(1, self.projects + 1):
            yield {
                "id": number,
                "uid": self.uid(number),
                "creator_id": self.staff[number % len(self.staff)],
                "name": f"Scan {number}.stl",
                "size": len(self.content(number)),
                "public": "f",
                "type": (0, 3)[number % 2],
                "status": 0,
                "created_at": at(number),
            }

    def uid(self, number: int) -> str:
        return str(UUID(int=(0xD15A << 112) | (4 << 76) | (2 << 62) | number))

    def content(self, number: int) -> bytes:
        return f"solid scan{number}\nendsolid\n".encode()

    def dispatch_record(self) -> Iterator[Row]:
        targets = ((7, self.patients), (21, self.users), (12, self.orders), (9, self.projects))
        for number in range(1, self.records + 1):
            kind, count = targets[(0, 0, 0, 1, 2, 3)[number % 6]]
            yield {
                "id": number,
                "content_type_id": kind,
                "object_id": 1 + self.random.randrange(count),
                "author_id": self.staff[number % len(self.staff)],
                "group_id": 1,
                "type": number % 6,
                "text": self.words(),
                "public": "t" if number % 2 else "f",
                "created_at": at(number, 31),
            }

    def dispatch_file(self) -> Iterator[Row]:
        for number in range(1, self.users // 4 + 1):
            kind, count = ((3, self.records), (12, self.orders), (9, self.projects))[number % 3]
            yield {
                "id": number,
                "uid": self.uid(number),
                "name": f"photo {number}.jpg",
                "size": 1000 + number,
                "content_type_id": kind,
                "object_id": 1 + self.random.randrange(count),
                "created_at": at(number),
            }

    def dispatch_state(self) -> Iterator[Row]:
        for number in range(1, self.states + 1):
            order, step = 1 + number % self.orders, number // self.orders
            yield {
                "id": number,
                "status": 1 + step % 9,
                "on": "t",
                "changed_at": at(order * 3 + step * 40),
                "actor_id": self.staff[number % len(self.staff)],
                "instruction_id": order,
            }

    def dispatch_template(self) -> Iterator[Row]:
        for number in range(1, 21):
            yield {
                "id": number,
                "task_name": f"Task {number}",
                "function": (1, 2, 4)[number % 3],
                "predefined": "t",
                "status": 1,
                "action_name": "go" if number % 2 else "",
                "text_name": "Go on?",
                "duration": number,
                "category_id": 1,
                "course_id": 1 + number % len(COURSES) if number % 4 else None,
            }


def write_sample(
    directory: Path, rows: int, seed: int, *, ugly: bool = True, ugly_share: float = 0.0, **_: object
) -> dict[str, int]:
    """Writes all tables and the files of most projects; gives how many rows there are of each table.

    `ugly` adds the ugly rows once; `ugly_share` puts an ugly row's values into that share of the others.
    """
    from dtx_assets.dispatch.decided_system import SYSTEM

    refuse_overwriting(directory)
    sample, spoilt, written = Sample(rows, seed), YAML(typ="safe").load(UGLY), {}
    for name, table in SYSTEM.legacy_tables.items():
        if name in SYSTEM.sources:
            continue
        worse = spoilt.get(name, [])
        made = [spoilt_row(row, worse, sample.random, ugly_share) for row in getattr(sample, name)()]
        made += worse if ugly else []
        write_rows(directory / f"{name}.csv", table, made)
        written[name] = len(made)
    files = directory / "files"
    files.mkdir()
    for number in range(1, sample.projects + 1):
        if number % 10:
            (files / sample.uid(number)).write_bytes(sample.content(number))
    return written


def spoilt_row(row: Row, worse: list[Row], random: Random, share: float) -> Row:
    return row | random.choice(worse) | {"id": row["id"]} if worse and random.random() < share else row


def write_rows(path: Path, table: LegacyTable, rows: list[Row]) -> None:
    columns = [*table.columns, *sorted(table.never_read)]
    with path.open("wb") as file:
        file.write(csv_line(columns))
        for row in rows:
            file.write(csv_line([cell(row, name) for name in columns]))


def cell(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    return None if value is None else str(value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes a sample of Dispatch's legacy tables.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, default=9_839, help="users")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.stdout.write(f"{write_sample(given.directory, given.rows, given.seed)}\n")
