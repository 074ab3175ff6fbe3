"""Prepared datasets made by hand, for the tests of the load: what `prepare` would have written, row by row."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import psycopg

from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load import LoadSummary, RunContext, create_target, load_target, open_run
from dtx_assets.machinery.model.target import TargetColumn, TargetTable, polars_type
from dtx_assets.machinery.prepare.assess import LINKS_SCHEMA, REJECTED_SCHEMA

SYSTEM = "shop"

OWNER = TargetTable("shop_owner", "Owner", "all", (TargetColumn("name", "text", "", nullable=True),))
REMINDER = TargetTable(
    "shop_reminder",
    "Reminder",
    "all",
    (
        TargetColumn("owner_id", "bigint", "", references="shop_owner"),
        TargetColumn("stage", "text", "", max_length=20),
        TargetColumn("days", "integer", ""),
        TargetColumn("note", "text", "", nullable=True),
        TargetColumn("addresses", "jsonb", ""),
        TargetColumn("is_active", "boolean", ""),
        TargetColumn("created", "timestamptz", "", nullable=True),
    ),
    writes="insert",
    natural_key=("owner_id", "stage"),
)
OVERRIDE = TargetTable(
    "shop_override",
    "Override",
    "all",
    (
        TargetColumn("owner_id", "bigint", "", references="shop_owner"),
        TargetColumn("reason", "text", ""),
        TargetColumn("until", "timestamptz", "", nullable=True),
    ),
    writes="insert",
)
REQUIREMENT = TargetTable(
    "shop_requirement",
    "Requirement",
    "all",
    (
        TargetColumn("is_exempted", "boolean", ""),
        TargetColumn("note", "text", "", nullable=True),
        TargetColumn("settings", "jsonb", "", nullable=True),
    ),
    writes="update",
)
TABLES = (OWNER, REMINDER, OVERRIDE, REQUIREMENT)


def reminder(owner: int, stage: str, **values: Any) -> dict[str, Any]:
    return {
        "owner_id": owner,
        "stage": stage,
        "days": 1,
        "note": None,
        "addresses": "[]",
        "is_active": True,
        "created": None,
    } | values


@dataclass
class Link:
    """A source row of a table: the positions of the target rows that it gave, by part."""

    table: str
    key: str
    rows: Mapping[str, int]
    bucket: int = 0
    number: int = 1


@dataclass
class Refusal:
    table: str
    key: str
    reasons: Sequence[str]
    partial: bool = False
    bucket: int = 0
    detail: str = "for a reason"
    row: Mapping[str, Any] = field(default_factory=dict)
    number: int = 1


@dataclass
class Batch:
    rows: Sequence[Mapping[str, Any]] = ()
    links: Sequence[Link] = ()
    rejected: Sequence[Refusal] = ()


def write_prepared(
    lake: Lake,
    target: TargetTable,
    batches: Sequence[Batch],
    *,
    sources: Sequence[str],
    decisions: Mapping[str, str] | None = None,
    cutover_at: datetime | None = None,
    dropped: Mapping[str, Mapping[str, int]] | None = None,
    system: str = SYSTEM,
) -> None:
    """The prepared and rejected datasets of a model, with accounting that balances; the batches share the buckets."""
    preparation, parts = uuid4().hex, []
    width = 4096 // len(batches)
    names = list(batches[0].rows[0]) if batches[0].rows else [column.name for column in target.columns]
    kind_of_id = pl.Int64() if target.key == ("id",) else pl.String()
    schema = {"_row": pl.Int64(), **({"id": kind_of_id} if target.writes == "update" else {})}
    schema |= {name: polars_type(target.column(name).type) for name in names if name not in schema}
    with (
        lake.write((system, "prepared", target.model), run_id="prepared") as prepared,
        lake.write((system, "rejected", target.model), run_id="prepared") as rejected,
    ):
        for number, batch in enumerate(batches):
            name = f"{number:05d}"
            rows = pl.DataFrame([{"_row": n, **row} for n, row in enumerate(batch.rows)], schema=schema)
            links = pl.DataFrame(
                [
                    [link.table, link.key, link.number, link.bucket, list(link.rows), list(link.rows.values())]
                    for link in batch.links
                ],
                schema=LINKS_SCHEMA,
                orient="row",
            )
            refused = pl.DataFrame(
                [
                    [r.table, r.key, r.number, r.bucket, list(r.reasons), r.partial, r.detail, json.dumps(r.row)]
                    for r in batch.rejected
                ],
                schema=REJECTED_SCHEMA,
                orient="row",
            )
            prepared.add(rows, table="rows", file=f"rows-{name}")
            prepared.add(links, table="links", file=f"links-{name}")
            rejected.add(refused, table="rows", file=f"rejected-{name}")
            digest = hashlib.sha256(repr((batch.rows, batch.links, batch.rejected, names)).encode()).hexdigest()
            buckets = [number * width, (number + 1) * width - 1]
            parts.append({"part": name, "buckets": buckets, "rows": rows.height, "digest": digest})
        accounting = []
        for source in sources:
            migrated = sum(link.table == source for batch in batches for link in batch.links)
            refusals = sum(r.table == source and not r.partial for batch in batches for r in batch.rejected)
            rules = dict((dropped or {}).get(source, {}))
            accounting.append(
                {
                    "source_table": source,
                    "target_table": target.name,
                    "read": migrated + refusals + sum(rules.values()),
                    "migrated": migrated,
                    "rejected": refusals,
                    "dropped": rules,
                    "coerced": {},
                }
            )
        prepared.metadata.update(
            accounting=accounting,
            parts=parts,
            preparation=preparation,
            decisions=dict(decisions or {}),
            cutover_at=cutover_at.isoformat() if cutover_at else None,
            source_tables=list(sources),
            sources={
                source: landed.version for source in sources if (landed := lake.manifest((system, "legacy", source)))
            },
        )
        rejected.metadata.update(preparation=preparation)


class Shop:
    """A lake and a target database with a few owners, and loads of one into the other."""

    def __init__(self, directory: Path, url: str) -> None:
        self.lake, self.url = Lake(str(directory / "lake")), url
        with psycopg.connect(url) as connection:
            create_target(connection, TABLES)
            connection.execute("INSERT INTO shop_owner (name) SELECT 'owner ' || n FROM generate_series(1, 99) AS n")

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def run(self, run_id: str, decisions: Mapping[str, str] | None = None, **options: Any) -> RunContext:
        return open_run(self.url, SYSTEM, run_id, mode="rehearsal", decisions=dict(decisions or {}), **options)

    def load(self, target: TargetTable, run_id: str = "first", **options: Any) -> LoadSummary:
        decisions = options.pop("decisions", None)
        return load_target(SYSTEM, target, self.lake, self.url, self.run(run_id, decisions), **options)

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of targets, mapping, journal and lists, with the transaction that wrote it and its place."""
        names = [table.name for table in TABLES]
        names += [
            f"migration.{name}"
            for name in (
                "mapping_entry",
                "journal_entry",
                "rejected_entry",
                "conflict_entry",
                "vanished_entry",
                "part_list",
            )
        ]
        return {name: self.sql(f"SELECT xmin::text, ctid::text, t::text FROM {name} AS t ORDER BY 3") for name in names}
