"""Datasets for tests of asset checks, written into a real lake as the sources, mappings and flows write them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl

from dtx_assets.dtx.system import DECISIONS_FILE, SYSTEM
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.checks.spec import CheckContext, CheckGroup, CheckOutcome
from dtx_assets.machinery.checks.standard import check_groups
from dtx_assets.machinery.mapping.decisions import Decisions, load_decisions
from dtx_assets.machinery.prepare.assess import LINKS_SCHEMA, REJECTED_SCHEMA

DECISIONS = load_decisions(DECISIONS_FILE)
CHECK_GROUPS = check_groups(SYSTEM)
UNDECODABLE = pl.List(pl.Struct({"column": pl.String, "bytes": pl.Binary}))
RUN = "run"

Row = Mapping[str, str | None]


def decisions(*, confirmed: Sequence[str] = (), done: Sequence[str] = (), **chosen: str) -> Decisions:
    """The decisions of the project with some confirmed, some actions done, some options chosen."""
    return Decisions(
        tuple(
            entry.model_copy(update={"status": "confirmed"}) if entry.key in confirmed else entry
            for entry in DECISIONS.entries
        ),
        tuple(
            action.model_copy(update={"status": "done"}) if action.id in done else action
            for action in DECISIONS.actions
        ),
        DECISIONS.known_issues,
        {**DECISIONS.chosen, **chosen},
    )


class Checking:
    """A lake under construction, and the checks that look at it; each legacy table lies in `parts` files."""

    def __init__(self, directory: Path, parts: int = 1) -> None:
        self.lake = Lake(str(directory / "lake"))
        self.parts = parts
        self.context = CheckContext(
            lake=self.lake,
            system=SYSTEM,
            decisions=DECISIONS,
            value_maps=SYSTEM.mappings.value_maps,
            settings=SimpleNamespace(
                legacy_timezone="UTC", cutover_at=datetime(2026, 11, 21, tzinfo=UTC), home=directory / "home"
            ),
        )

    def choose(self, chosen: Decisions) -> None:
        self.context = replace(self.context, decisions=chosen)

    def value_map(self, name: str, *rows: Mapping[str, str | None]) -> None:
        """A value map with other rows than the project's."""
        columns = self.context.value_maps[name].columns
        frame = pl.DataFrame([{column: row.get(column) for column in columns} for row in rows])
        self.context = replace(self.context, value_maps={**self.context.value_maps, name: frame})

    def legacy(
        self,
        name: str,
        *rows: Row,
        columns: Sequence[str] | None = None,
        undecodable: Mapping[int, Sequence[str]] | None = None,
        **metadata: Any,
    ) -> None:
        """A landed table with as many columns as the plan says; those that a row does not name are NULL.

        `undecodable` names columns by row (from 1).
        """
        layer, table = (
            ("crosswalk", SYSTEM.crosswalk_tables[name])
            if name in SYSTEM.crosswalk_tables
            else ("legacy", SYSTEM.legacy_tables[name])
        )
        if columns is None:
            unnamed = (table.column_count or 0) - len(table.columns)
            columns = (*table.columns, *(f"extra {number}" for number in range(unnamed)))
        frame = pl.DataFrame(
            [{column: row.get(column) for column in columns} for row in rows], dict.fromkeys(columns, pl.String)
        ).with_columns(
            pl.Series("_row", range(1, len(rows) + 1), pl.Int64),
            pl.Series(
                "_undecodable",
                [
                    [{"column": column, "bytes": b"\xff"} for column in (undecodable or {}).get(position, ())] or None
                    for position in range(1, len(rows) + 1)
                ],
                UNDECODABLE,
            ),
        )
        size = max(1, -(-len(rows) // self.parts))
        with self.lake.write((SYSTEM.name, layer, name), run_id=RUN) as writer:
            for start in range(0, max(1, len(rows)), size):
                writer.add(frame.slice(start, size))
            writer.metadata.update(
                {
                    "dialect": "database",
                    "source": f"{name}.csv",
                    "source_digest": None,
                    "columns": list(columns),
                    "source_rows": len(rows),
                    "extracted_at": "2026-11-21T00:00:00+00:00",
                    "consistent_snapshot": True,
                    "undecodable_values": sum(map(len, (undecodable or {}).values())),
                    "row_count_matches": True,
                    "changed_while_read": [],
                    **metadata,
                }
            )

    def mapping(self, name: str, rows: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> None:
        with self.lake.write((SYSTEM.name, "mapping", name), run_id=RUN) as writer:
            writer.add(pl.DataFrame(list(rows), schema))

    def crosswalk(self, name: str, pairs: Mapping[str, int | None], missing: Mapping[str, int] | None = None) -> None:
        """A crosswalk of source id → target id; `missing` are the ids named that the target does not have."""
        rows = [
            {"source_id": source, "target_id": target, "missing_id": (missing or {}).get(source)}
            for source, target in pairs.items()
        ]
        self.mapping(name, rows, {"source_id": pl.String, "target_id": pl.Int64, "missing_id": pl.Int64})

    def groups(self, *members: tuple[int, int]) -> None:
        """The (record, requirements group) memberships."""
        rows = [{"record_id": record, "requirements_group_id": group} for record, group in members]
        self.mapping("requirements_group", rows, {"record_id": pl.Int64, "requirements_group_id": pl.Int64})

    def requirements(self, *rows: tuple[int, int, str]) -> None:
        """The document requirements: (id, requirements group, name of the type)."""
        self.mapping(
            "doc_requirement",
            [{"requirements_group_id": group, "name": name, "docrequirement_id": own} for own, group, name in rows],
            {"requirements_group_id": pl.Int64, "name": pl.String, "docrequirement_id": pl.Int64},
        )

    def prepared(
        self,
        model: str,
        *,
        links: Sequence[tuple[str, str, int, Sequence[str]]] = (),
        rejected: Sequence[tuple[str, str, Sequence[str], bool, str]] = (),
        accounting: Sequence[Mapping[str, Any]] | None = None,
        preparations: tuple[str, str] = ("one", "one"),
    ) -> None:
        """Prepared and rejected rows: links (table, key, row, parts), rejected (table, key, reasons, partial, detail).

        The accounting is what links and rejected rows amount to, unless it is given.
        """
        link_rows = [
            {
                "source_table": table,
                "source_key": key,
                "source_row": row,
                "bucket": 0,
                "parts": list(parts),
                "rows": [0] * len(parts),
            }
            for table, key, row, parts in links
        ]
        rejected_rows = [
            {
                "source_table": table,
                "source_key": key,
                "source_row": 0,
                "bucket": 0,
                "reasons": list(reasons),
                "partial": partial,
                "detail": detail,
                "row": json.dumps({"secret": "someone@example.com"}),
            }
            for table, key, reasons, partial, detail in rejected
        ]
        if accounting is None:
            sources = dict.fromkeys(
                source for flow in SYSTEM.flows for source, target in flow.accounted if target == model
            )
            accounting = []
            for source in sources:
                migrated = sum(table == source for table, *_ in links)
                whole = sum(table == source and not partial for table, _, _, partial, _ in rejected)
                accounting.append(entry(source, migrated=migrated, rejected=whole))
        with self.lake.write((SYSTEM.name, "prepared", model), run_id=RUN) as writer:
            writer.add(pl.DataFrame({"_row": [0]}))
            writer.add(pl.DataFrame(link_rows, LINKS_SCHEMA), table="links")
            writer.metadata.update(accounting=list(accounting), preparation=preparations[0])
        with self.lake.write((SYSTEM.name, "rejected", model), run_id=RUN) as writer:
            writer.add(pl.DataFrame(rejected_rows, REJECTED_SCHEMA))
            writer.metadata.update(preparation=preparations[1])

    def outcomes(self, layer: str, name: str) -> dict[str, CheckOutcome]:
        """The outcome of every check of an asset."""
        return group_of(layer, name).evaluate(self.context)


def entry(
    source: str,
    *,
    read: int | None = None,
    migrated: int = 0,
    rejected: int = 0,
    dropped: Mapping[str, int] | None = None,
    coerced: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """One entry of the accounting; `read` is by default what makes it balance."""
    dropped = dict(dropped or {})
    total = migrated + rejected + sum(dropped.values())
    return {
        "source_table": source,
        "target_table": "docutrax_target",
        "read": total if read is None else read,
        "migrated": migrated,
        "rejected": rejected,
        "dropped": dropped,
        "coerced": dict(coerced or {}),
    }


def group_of(layer: str, name: str) -> CheckGroup:
    return next(group for group in CHECK_GROUPS if group.asset == (layer, name))
