"""A made-up system, small enough to reason about: animals become rows, visits link to them, kinds are merged.

It runs the prepare engine through a real lake. What should come out is the tests' business.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.settings import Settings
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.mapping.execute import RowProblem, add_problems
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.mapping.model import TargetMapping
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetColumn, TargetTable, polars_type
from dtx_assets.machinery.prepare.assess import (
    DROPPED,
    LINKS_SCHEMA,
    assess,
    finish_source,
    is_sound,
    link_rows,
    rejected_rows,
    with_target_problems,
)
from dtx_assets.machinery.prepare.part import file_of, lying_in, read_files
from dtx_assets.machinery.prepare.preparation import Progress, RunSettings, prepare_flow
from dtx_assets.machinery.system.flow import Flow, FlowInputs, Outcome, Prepared
from dtx_assets.machinery.system.system import System, always
from dtx_assets.machinery.transforms.columns import GENERIC

UNDECODABLE = pl.List(pl.Struct({"column": pl.String, "bytes": pl.Binary}))
Row = Mapping[str, str | bytes | None]

ANIMAL = LegacyTable(
    "animal",
    "zoo",
    ("animal_id", "keeper_id", "kind", "name"),
    key=("animal_id",),
    required=("animal_id", "kind"),
    kind_of=lambda name: "integer" if name.endswith("_id") else "text",
)
VISIT = LegacyTable("visit", "zoo", ("keeper_id", "animal_name"))
ANIMALS = TargetTable(
    "zoo_animal",
    "Animal",
    "zoo",
    (
        TargetColumn("keeper_id", "bigint", "Who feeds it."),
        TargetColumn("number", "integer", "Its old number."),
        TargetColumn("species", "text", "What it is."),
        TargetColumn("name", "text", "What it is called.", nullable=True, max_length=6),
    ),
    writes="insert",
    natural_key=("number",),
)
SPECIES = TargetTable(
    "zoo_species",
    "Species",
    "zoo",
    (TargetColumn("name", "text", "Which."), TargetColumn("animals", "integer", "How many.")),
    writes="insert",
    natural_key=("name",),
)
MAPPINGS = {
    "Animal": {
        "animal": {
            "columns": {
                "keeper_id": {"from": "keeper_id", "crosswalk": "keeper"},
                "number": {"from": "animal_id", "transform": "integer"},
                "species": {"from": "kind", "value_map": "species", "output": "species"},
                "name": {"from": "name", "transform": "trimmed_end"},
            }
        },
        "visit": {"helpers": {"keeper": {"from": "keeper_id", "crosswalk": "keeper"}}},
    },
    "Species": {
        "animal": {"columns": {"name": {"from": "kind", "value_map": "species", "output": "species"}}},
    },
}
KEEPERS = {**{str(number): 100 + number for number in range(1, 30)}, "30": 101, "31": None}
"""Legacy keepers and their target ids: 30 is the same person as 1, the target does not have 31, others are unknown."""
KINDS = {"cat": "Felis", "dog": "Canis"}


def animals(inputs: FlowInputs) -> Outcome:
    """Each animal is a row; one called `gone` may be dropped. A visit links to the keeper's animals of its name."""
    outcome = Outcome()
    gone = pl.col("name") == "gone" if inputs.decision("gone") == "drop" else pl.lit(False)
    rows = assess(inputs, "animal", "Animal", dropped={"gone": gone})
    columns = [
        pl.col(f":{column.name}").cast(polars_type(column.type)).alias(column.name) for column in ANIMALS.columns
    ]
    made = rows.filter(is_sound()).select("_source_key", pl.col("_row").alias("_source_row"), "_bucket", *columns)
    rows = with_target_problems(inputs, "Animal", rows, made)
    migrated = finish_source(outcome, inputs, "animal", "Animal", rows)
    made = made.join(migrated.select("_source_key"), on="_source_key", how="semi").sort("number")
    made = made.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))

    links = [link_rows("animal", made.with_columns(pl.lit("").alias("_part")))]
    if "visit" in inputs.legacy:
        links.append(visits(outcome, inputs, made))
    names = [column.name for column in ANIMALS.columns]
    outcome.prepared["Animal"] = Prepared(made.select("_row", *names), pl.concat(links))
    return outcome


def visits(outcome: Outcome, inputs: FlowInputs, made: pl.DataFrame) -> pl.DataFrame:
    """The links of visits to the animals that were made."""
    rows = assess(inputs, "visit", "Animal")
    visited = rows.filter(is_sound()).join(
        made.select(pl.col("keeper_id").alias(":keeper"), pl.col("name").alias("animal_name"), "_row"),
        on=[":keeper", "animal_name"],
        suffix="_of_animal",
    )
    unknown = is_sound() & ~pl.col("_row").is_in(visited["_row"].implode())
    rows = add_problems(rows, RowProblem(unknown, "no_matching_row", "animal_name", "the keeper has no such animal"))
    finish_source(outcome, inputs, "visit", "Animal", rows)
    return link_rows(
        "visit",
        visited.select(
            "_source_key",
            pl.col("_row").alias("_source_row"),
            "_bucket",
            pl.col("_row_of_animal").alias("_row"),
            pl.col("_row_of_animal").cast(pl.String).alias("_part"),
        ),
    )


def species(inputs: FlowInputs) -> Outcome:
    """Each kind is a row, whatever batches its animals are in."""
    outcome = Outcome()
    rows = assess(inputs, "animal", "Species")
    migrated = finish_source(outcome, inputs, "animal", "Species", rows)
    outcome.prepared["Species"] = Prepared(
        migrated.select(pl.col(":name").alias("name"), "_source_key", pl.col("_row").alias("_source_row"), "_bucket"),
        pl.DataFrame(schema=LINKS_SCHEMA),
    )
    return outcome


def one_row_a_species(candidates: pl.DataFrame) -> Prepared:
    rows = candidates.group_by("name").agg(pl.len().cast(pl.Int64).alias("animals")).sort("name")
    rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))
    pairs = candidates.join(rows.select("name", "_row"), on="name").with_columns(pl.lit("").alias("_part"))
    return Prepared(rows.select("_row", "name", "animals"), link_rows("animal", pairs.sort("_source_row")))


def losing_a_row(inputs: FlowInputs) -> Outcome:
    """The fault that the accounting is there for."""
    outcome = animals(inputs)
    outcome.fates[0] = outcome.fates[0].slice(1)
    return outcome


def doubling_a_row(inputs: FlowInputs) -> Outcome:
    outcome = animals(inputs)
    outcome.fates.append(outcome.fates[0].head(1))
    return outcome


def failing_late(inputs: FlowInputs) -> Outcome:
    """Fails where a cat is in the batch."""
    if inputs.legacy["animal"]["kind"].eq("cat").any():
        raise ZeroDivisionError
    return animals(inputs)


def rejecting_all(inputs: FlowInputs) -> Outcome:
    """Each animal is rejected, as a whole and again in part."""
    outcome = Outcome()
    rows = add_problems(
        assess(inputs, "animal", "Animal"),
        RowProblem(pl.col("_row").is_not_null(), "unparseable", "name", pl.format("{} will not do", "name")),
    )
    finish_source(outcome, inputs, "animal", "Animal", rows)
    outcome.reject("Animal", rejected_rows(inputs, "animal", rows, partial=True))
    none = pl.DataFrame(schema={"_row": pl.Int64, **{c.name: polars_type(c.type) for c in ANIMALS.columns}})
    outcome.prepared["Animal"] = Prepared(none, pl.DataFrame(schema=LINKS_SCHEMA))
    return outcome


FLOW = Flow(
    name="animal",
    area="zoo",
    sources=("animal", "visit"),
    accounted=(("animal", "Animal"), ("visit", "Animal")),
    mappings=("keeper",),
    targets=("Animal",),
    decisions=("gone",),
    owner={"animal": ("keeper_id", "keeper"), "visit": ("keeper_id", "keeper")},
    run=animals,
)
ONLY_ANIMALS = replace(FLOW, sources=("animal",), accounted=(("animal", "Animal"),))
SPECIES_FLOW = replace(
    ONLY_ANIMALS,
    name="species",
    accounted=(("animal", "Species"),),
    targets=("Species",),
    run=species,
    merge={"Species": one_row_a_species},
)


@dataclass
class Content:
    """What was prepared, without regard to batches and order; target rows as dicts."""

    rows: list[dict[str, Any]]
    links: list[tuple[Any, ...]]
    rejected: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    accounting: dict[str, dict[str, Any]]


class Zoo:
    """A lake with the zoo's legacy tables, in which its flows run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lake = Lake(str(directory / "lake"))
        self.mappings_dir = directory / "mappings"
        self.mappings_dir.mkdir(parents=True, exist_ok=True)
        files = {model: self.mappings_dir / f"{model}.yaml" for model in MAPPINGS}
        for model, path in files.items():
            path.write_text(f"target: {model}\n")
        (self.mappings_dir / "species.csv").write_text("kind,species\n")
        mappings = Mappings(
            {
                model: TargetMapping.model_validate({"target": model, "decision": "1", "sources": sources})
                for model, sources in MAPPINGS.items()
            },
            files,
            {},
            {"species": pl.DataFrame({"kind": list(KINDS), "species": list(KINDS.values())})},
            GENERIC,
        )
        self.system = System(
            "zoo",
            {"animal": ANIMAL, "visit": VISIT},
            {},
            (ANIMALS, SPECIES),
            (always(FLOW), always(SPECIES_FLOW)),
            Decisions((), (), (), {}),
            (),
            mappings,
            self.mappings_dir,
            directory / "code",
            directory,
            {"zoo": "The zoo"},
        )
        self.settings = Settings.from_environment("dtx", environ={}, project_dir=directory, sample_dir=directory)
        self.runs = count()
        if self.lake.manifest(("zoo", "mapping", "keeper")) is None:
            self.land_keepers(KEEPERS)

    def land_keepers(self, keepers: Mapping[str, int | None]) -> None:
        with self.lake.write(("zoo", "mapping", "keeper"), run_id="m") as writer:
            writer.add(
                pl.DataFrame(
                    {"source_id": list(keepers), "target_id": list(keepers.values())},
                    schema={"source_id": pl.String, "target_id": pl.Int64},
                )
            )

    def land(self, table: str, rows: Sequence[Row], *, chunk: int = 1_000, columns: Sequence[str] = ()) -> None:
        """Lands a table in files of `chunk` rows; a value of bytes is one that is no text."""
        names = list(columns or self.system.legacy_tables[table].columns)
        with self.lake.write(("zoo", "legacy", table), run_id="e") as writer:
            for start in range(0, max(len(rows), 1), chunk):
                part = rows[start : start + chunk]
                texts = {
                    name: [
                        value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
                        for value in (row.get(name) for row in part)
                    ]
                    for name in names
                }
                lost = [
                    [{"column": name, "bytes": row[name]} for name in names if isinstance(row.get(name), bytes)] or None
                    for row in part
                ]
                frame = pl.DataFrame(texts, schema=dict.fromkeys(names, pl.String)).with_columns(
                    pl.Series("_row", range(start + 1, start + len(part) + 1), pl.Int64),
                    pl.Series("_undecodable", lost, UNDECODABLE),
                )
                writer.add(frame)
            writer.metadata.update(dialect="database", source="a notebook")

    def settings_of_a_run(self, **changes: Any) -> RunSettings:
        chosen = {"gone": changes.pop("gone", "drop")}
        cutover_at = changes.pop("cutover_at", datetime(2026, 11, 21, tzinfo=UTC))
        settings = replace(self.settings, **changes)
        decisions = Decisions((), (), (), chosen)
        return RunSettings(f"run-{next(self.runs)}", self.system, settings, decisions, cutover_at, self.lake)

    def prepare(self, flow: Flow = FLOW, progress: Progress | None = None, **changes: Any) -> Manifest:
        (manifest,) = prepare_flow(flow, self.settings_of_a_run(**changes), progress).values()
        return manifest

    def content(self, manifest: Manifest) -> Content:
        """What a preparation holds; a row number counts within its part, so links name the row itself."""
        rows, links = [], []
        for part in manifest.metadata["parts"]:
            frame, linking = lying_in(part, *read_files(self.lake, manifest, file_of(part)))
            by_row = {row.pop("_row"): row for row in frame.to_dicts()}
            assert sorted(by_row) == list(range(frame.height))
            rows += by_row.values()
            for link in linking.to_dicts():
                linked = sorted(as_json(by_row[row]) for row in link["rows"])
                links.append((link["source_table"], link["source_key"], link["source_row"], link["bucket"], linked))
        left_out = self.lake.require(("zoo", "rejected", manifest.key[-1]))
        rejected = self.lake.scan_files(left_out, "rows").collect().to_dicts()
        dropped = self.lake.scan_files(left_out, DROPPED).sort("source_table", "source_row").collect().to_dicts()
        accounting = {entry["source_table"]: entry for entry in manifest.metadata["accounting"]}
        return Content(
            sorted(rows, key=as_json),
            sorted(links),
            sorted(rejected, key=lambda row: (row["source_table"], row["source_row"], row["partial"])),
            dropped,
            accounting,
        )


def as_json(row: Mapping[str, Any]) -> str:
    return json.dumps(row, default=str)


def animal(number: Any = 1, keeper: Any = 1, kind: Any = "cat", name: Any = "Mitzi", **more: Any) -> Row:
    def text(value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    return {"animal_id": text(number), "keeper_id": text(keeper), "kind": kind, "name": name, **more}


def reasons(content: Content, table: str = "animal") -> dict[int, list[str]]:
    """The reasons of the rejected rows of a table by their ordinal."""
    return {row["source_row"]: row["reasons"] for row in content.rejected if row["source_table"] == table}


def balances(entry: Mapping[str, Any]) -> bool:
    """The one equation of the accounting."""
    return entry["read"] == entry["migrated"] + entry["rejected"] + sum(Counter(entry["dropped"]).values())
