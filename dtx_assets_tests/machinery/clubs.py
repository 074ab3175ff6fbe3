"""A system of the tests' own: people and clubs are documents, and each names the others in an array of ids.

`Membership` is the junction of both. What should come of it is the tests' business.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import polars as pl

from dtx_assets.machinery.declare.folder import declared_system
from dtx_assets.machinery.look_ups.assets import MappingAsset, MappingContext
from dtx_assets.machinery.system.system import System

NAMESPACE = "9ff85368-0ce2-530b-bca5-ea5ff5b21b75"
DOCUMENT = """\
target: {model}
decision: "A1 #1"
sources:
  {table}:
    columns:
      id: {{ from: _id, transform: bson_uuid, with: {{ namespace: {namespace}, nullable: false }} }}
      name: {{ from: name, transform: bson_text }}
"""
FILES = {
    "tables.yaml": """\
areas: { clubs: "Area 1: Clubs" }
coerced: values
tables:
  people: { key: [_id], columns: { _id: object_id, name: json, clubs: json } }
  club: { key: [_id], columns: { _id: object_id, name: json, members: json } }
""",
    "targets.yaml": """\
targets:
  Person: { table: Person, key_is_written: true, columns: { id: uuid, name: text } }
  Club: { table: Club, key_is_written: true, columns: { id: uuid, name: text } }
  Membership:
    table: Membership
    key: [person_id, club_id]
    key_is_written: true
    columns: { person_id: { type: uuid, references: Person }, club_id: { type: uuid, references: Club } }
""",
    "decisions.yaml": """\
decisions:
  - { key: rows, area: 1, number: "1", title: Rows, text: A row for a document., status: documented }
  - key: asymmetric_arrays
    area: 1
    number: "2"
    title: One side
    text: What one side only names.
    status: confirmed
    options: [union, owner_side]
    chosen: union
""",
    "archived.yaml": "archived: {}\n",
    "Person.yaml": DOCUMENT.format(model="Person", table="people", namespace=NAMESPACE),
    "Club.yaml": DOCUMENT.format(model="Club", table="club", namespace=NAMESPACE),
    "Membership.yaml": """\
target: Membership
decision: "A1 #2"
sources:
  people:
    members: { field: clubs, own: person_id, other: club_id, of: Person, names: Club }
  club:
    members: { field: members, own: club_id, other: person_id, of: Club, names: Person }
    drop: [{ rule: not_owner_side, when: { decision: asymmetric_arrays, option: owner_side } }]
""",
}
TABLES = (
    "CREATE TABLE \"Person\" (id uuid PRIMARY KEY, name text NOT NULL CHECK (name <> 'refused'))",
    'CREATE TABLE "Club" (id uuid PRIMARY KEY, name text NOT NULL)',
    'CREATE TABLE "Membership" (person_id uuid NOT NULL REFERENCES "Person" ON DELETE CASCADE,'
    ' club_id uuid NOT NULL REFERENCES "Club" ON DELETE CASCADE, PRIMARY KEY (person_id, club_id))',
)
"""Of the target, as its application made them."""
CROSSWALK = pl.Schema({"source_id": pl.String(), "target_id": pl.String(), "fate": pl.String(), "merged": pl.Boolean()})


def hex_id(number: int) -> str:
    return f"{number:024x}"


def oid(number: int) -> dict[str, str]:
    return {"$oid": hex_id(number)}


def uuid_of(number: int) -> str:
    return str(uuid5(UUID(NAMESPACE), hex_id(number)))


def crosswalk(model: str) -> MappingAsset:
    """The documents of a model that are migrated, by what was prepared of them."""

    def build(context: MappingContext) -> pl.LazyFrame:
        prepared = (context.system, "prepared", model)
        links = context.lake.scan(prepared, "links").select(pl.col("source_key").alias("source_id"))
        ids = links.collect().get_column("source_id")
        targets = [str(uuid5(UUID(NAMESPACE), each)) for each in ids]
        return pl.LazyFrame({"source_id": ids, "target_id": targets}).sort("source_id")

    return MappingAsset(
        model, "reference", "clubs", (("prepared", model),), f"The documents of {model}.", build, is_crosswalk=True
    )


def write_folder(directory: Path, changes: Mapping[str, str] | None = None) -> Path:
    mappings = directory / "mappings" / "clubs"
    mappings.mkdir(parents=True, exist_ok=True)
    for file, content in (FILES | dict(changes or {})).items():
        (mappings / file).write_text(content)
    return mappings


def clubs_system(directory: Path, changes: Mapping[str, str] | None = None) -> System:
    """The system, with files in place of its own where there are `changes`."""
    mappings = write_folder(directory, changes)
    return declared_system("clubs", mappings, code_dir=directory, references=[crosswalk("Person"), crosswalk("Club")])


def extended(value: Any) -> str | None:
    """Canonical Extended JSON of a value that is written in it already; None is a missing field."""
    return None if value is None else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    def field(value: Any) -> str:
        return r"\N" if value is None else '"' + str(extended(value)).replace('"', '""') + '"'

    return "\n".join([",".join(columns), *(",".join(field(row.get(name)) for name in columns) for row in rows)]) + "\n"
