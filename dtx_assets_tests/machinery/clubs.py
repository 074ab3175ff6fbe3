"""A system of the tests' own: people and clubs are documents, and each names the others in an array of ids.

`Membership` is the junction of both. What should come of it is the tests' business.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import polars as pl
import psycopg

from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.declare.folder import declared_system
from dtx_assets.machinery.load import LoadSummary, RunContext, load_target, open_run, undo_run, verify_target
from dtx_assets.machinery.load.orphans import Planned
from dtx_assets.machinery.load.subset import Subset
from dtx_assets.machinery.load.undo_load import UndoSummary
from dtx_assets.machinery.load.verification import Verification
from dtx_assets.machinery.look_ups.assets import MappingAsset, MappingContext, build_mapping_asset
from dtx_assets.machinery.prepare.preparation import RunSettings, prepare_flow
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


# --- a place to run it in ---------------------------------------------------------------------------------------------

SIDES = {"people": ("clubs", "Person"), "club": ("members", "Club")}
"""By collection: its array, and the model of its documents."""
Named = Mapping[int, Any]
"""By the number of a document, its array; ids are numbers, anything else is in Extended JSON."""


def pair(person: int, club: int) -> tuple[str, str]:
    return uuid_of(person), uuid_of(club)


class Clubs:
    """A lake and a target database, and loads of one into the other by the functions that the graph's steps call."""

    def __init__(self, directory: Path, url: str, *, batch_rows: int = 2) -> None:
        self.directory, self.url = directory, url
        self.system = clubs_system(directory)
        self.lake = Lake(str(directory / "lake"))
        settings = Settings.from_environment("clubs", environ={}, project_dir=directory, sample_dir=directory)
        self.settings = replace(settings, batch_rows=batch_rows)

    def make_target(self) -> "Clubs":
        for statement in TABLES:
            self.sql(statement)
        return self

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def land(self, people: Named, club: Named, names: Mapping[int, str] | None = None) -> None:
        """Lands both collections; `names` are those of people."""
        for table, documents in {"people": people, "club": club}.items():
            array = SIDES[table][0]
            rows = [
                {
                    "_id": extended(oid(number)),
                    "name": extended((names or {}).get(number, "a name")),
                    array: extended([oid(each) if isinstance(each, int) else each for each in named]),
                }
                for number, named in documents.items()
            ]
            schema = dict.fromkeys(("_id", "name", array), pl.String)
            frame = pl.DataFrame(rows, schema=schema).with_columns(
                pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("_row"),
                pl.lit(None, pl.List(pl.Struct({"column": pl.String, "bytes": pl.Binary}))).alias("_undecodable"),
            )
            with self.lake.write(("clubs", "legacy", table), run_id="landed") as writer:
                writer.add(frame)
                writer.metadata.update(dialect="database", source="a notebook")

    def prepare(self, run_id: str = "prepared") -> dict[str, Manifest]:
        now = datetime(2026, 11, 21, tzinfo=UTC)
        run = RunSettings(run_id, self.system, self.settings, self.system.decisions, now, self.lake)
        made: dict[str, Manifest] = {}
        for model in ("Person", "Club"):
            flow = self.system.flow_of(model)
            assert flow
            made |= prepare_flow(flow, run)
        context = MappingContext("clubs", self.lake, run_id, self.url, {}, self.system.mappings)
        for asset in self.system.mapping_assets:
            build_mapping_asset(asset, context)
        flow = self.system.flow_of("Membership")
        assert flow
        return made | prepare_flow(flow, run)

    def run(self, run_id: str, subset: Subset | None = None) -> RunContext:
        decisions = self.system.decisions.chosen
        return open_run(self.url, "clubs", run_id, mode="rehearsal", decisions=decisions, subset=subset)

    def load(self, run_id: str, *, dry: bool = False, subset: Subset | None = None, **options: Any) -> LoadSummary:
        """Prepares and loads all three; gives what became of the junction."""
        self.prepare(run_id)
        run = replace(self.run(run_id, subset), dry=dry)
        planned: Planned = {}
        for model in ("Person", "Club", "Membership"):
            target = self.system.target(model)
            done = load_target("clubs", target, self.lake, self.url, run, planned=planned, **options)
        return done

    def verify(self, run_id: str = "verified") -> Verification:
        return verify_target("clubs", self.system.target("Membership"), self.lake, self.url, self.run(run_id))

    def undo(self, run_id: str = "last", **options: Any) -> UndoSummary:
        return undo_run(self.url, "clubs", self.system.targets, run_id, **options)

    def pairs(self) -> list[tuple[str, str]]:
        return sorted(self.sql('SELECT person_id::text, club_id::text FROM "Membership"'))

    def mapped(self) -> list[tuple[str, int, int, tuple[str, str]]]:
        """Of the junction: collection, number of the document, number of the one it names, pair."""
        entries = self.sql(
            "SELECT source_table, source_key, part, target_id FROM migration.mapping"
            " WHERE target_table = 'Membership' ORDER BY 1 DESC, 2, 3"
        )
        return [
            (table, int(key, 16), int(part, 16), tuple(json.loads(target_id)))
            for table, key, part, target_id in entries
        ]

    def accounting(self, run_id: str) -> dict[str, tuple[int, int, int]]:
        """Of the junction by collection: read, migrated, rejected."""
        return {
            table: tuple(counts)
            for table, *counts in self.sql(
                "SELECT source_table, read, migrated, rejected FROM migration.accounting"
                f" WHERE target_table = 'Membership' AND run_id = '{run_id}' ORDER BY 1"
            )
        }

    def rejected(self) -> list[tuple[str, int, list[str], bool]]:
        """Of the junction now: collection, number of the document, reasons, whether in part."""
        entries = self.sql(
            "SELECT source_table, source_key, reasons, partial FROM migration.rejected"
            " WHERE target_table = 'Membership' ORDER BY 1, 2, 4, 3"
        )
        return [(table, int(key, 16), reasons, partial) for table, key, reasons, partial in entries]

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of the junction and of the bookkeeping about it, with the transaction that wrote it."""
        names = ("mapping_entry", "journal_entry", "rejected_entry", "conflict_entry", "vanished_entry", "part_list")
        tables = ['"Membership"', *(f"migration.{name}" for name in names)]
        return {name: self.sql(f"SELECT xmin::text, t::text FROM {name} AS t ORDER BY 2") for name in tables}


def mapped_by(people: Named, club: Named) -> list[tuple[str, int, int, tuple[str, str]]]:
    """What `mapped` gives where every document is migrated."""
    entries = [("people", one, each, pair(one, each)) for one, named in people.items() for each in named]
    entries += [("club", one, each, pair(each, one)) for one, named in club.items() for each in named]
    return sorted(entries, key=lambda entry: (entry[0] == "club", *entry[1:]))
