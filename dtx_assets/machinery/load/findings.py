"""What a load lists for people: rejected source rows, conflicts, vanished rows, and the accounting that has to balance.

Only what changed is written, so that the same load again writes nothing here either.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import polars as pl
import polars_hash as plh
from psycopg import sql

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load.entries import read_links
from dtx_assets.machinery.load.ownership import identity_of
from dtx_assets.machinery.load.runs import RunContext
from dtx_assets.machinery.load.whole import WholeParts
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import array_literal, copy_in, copy_out
from dtx_assets.machinery.prepare.buckets import BUCKET
from dtx_assets.machinery.prepare.part import REJECTED, Part, PreparedParts
from dtx_assets.machinery.sources.whole_rows import json_of_rows

LegacyRows = Callable[[str], pl.LazyFrame]
"""The rows of a legacy table as flows read them, with `_row` and `_source_key`."""

CONFLICT = pl.Schema(
    {
        "flow_id": pl.Int16(),
        "bucket": BUCKET,
        "source_key": pl.String(),
        "part": pl.String(),
        "target_id": pl.Int64(),
        "cause": pl.String(),
        "columns": pl.List(pl.String),
    }
)
VANISHED = pl.Schema(
    {
        "flow_id": pl.Int16(),
        "bucket": BUCKET,
        "source_key": pl.String(),
        "part": pl.String(),
        "target_id": pl.Int64(),
    }
)
STAGED = sql.SQL(
    "EXISTS (SELECT 1 FROM staged_key WHERE (staged_key.flow_id, staged_key.source_key)"
    " = (entry.flow_id, entry.source_key))"
)
IN_SCOPE = sql.SQL("entry.flow_id = ANY ({flows}::smallint[]) AND (entry.bucket BETWEEN {low} AND {high} OR {staged})")
"""Of these flows, and in the buckets of a part or of a source row of the part: its bucket may have been another one."""
IN_BUCKETS = sql.SQL("entry.flow_id = ANY ({flows}::smallint[]) AND entry.bucket BETWEEN {low} AND {high} AND {staged}")
"""The same of a junction: what is in other buckets other parts have, of the same source rows."""
ELSEWHERE = sql.SQL(
    "entry.flow_id = ANY ({flows}::smallint[]) AND entry.bucket NOT BETWEEN {low} AND {high} AND {staged}"
)
"""Of IN_SCOPE, what is not IN_BUCKETS."""
LISTED = sql.SQL("(entry.flow_id, entry.source_key) IN (SELECT * FROM unnest({}::smallint[], {}::text[]))")
HOLDERS_LOOKED_UP = KEYS_LISTED = 1000


class Findings:
    """The lists of one load. Everything is written in the transaction of the part it belongs to."""

    def __init__(
        self,
        connection: Connection,
        system: str,
        target: TargetTable,
        load_id: int,
        flows: dict[str, int],
        lake: Lake,
        prepared_from: Mapping[str, str],
        legacy_rows: LegacyRows | None,
    ) -> None:
        self.connection, self.system, self.target = connection, system, target
        self.load_id, self.flows, self.lake = load_id, flows, lake
        self.prepared_from, self.legacy_rows = prepared_from, legacy_rows
        self.keys_only = False
        """Whether a part is no whole range of buckets: then what is not named in it is none of its business."""

    def scope(self, part: Part) -> sql.Composable:
        """IN_SCOPE of a part whose keys are staged, or IN_BUCKETS."""
        flows, staged = sql.Literal(list(self.flows.values())), STAGED
        low, high = part.buckets
        if self.target.is_junction:
            staged = staged if self.keys_only else sql.SQL("true")
        elif self.keys_only:
            low, high = 1, 0
        scope = IN_BUCKETS if self.target.is_junction else IN_SCOPE
        return scope.format(flows=flows, low=sql.Literal(low), high=sql.Literal(high), staged=staged)

    def links(self, part: Part, *, staged: bool = False) -> pl.DataFrame:
        """The LINKED rows of the `scope` of a part. An index leads to its buckets, so that these are read first.

        `staged`: its keys are staged already; else that is done where it takes them.
        """
        if self.target.is_junction or self.keys_only:
            if not staged:
                self.stage_keys(part)
            return read_links(self.connection, self.scope(part))
        low, high = map(sql.Literal, part.buckets)
        where = {"flows": sql.Literal(list(self.flows.values())), "low": low, "high": high}
        links = read_links(self.connection, IN_BUCKETS.format(**where, staged=sql.SQL("true")))
        missing = _keys(part).join(links, on=["flow_id", "source_key"], how="anti")
        if missing.is_empty():
            return links
        listed: sql.Composable = STAGED
        if missing.height <= KEYS_LISTED:
            listed = LISTED.format(*(sql.Literal(column.to_list()) for column in missing.iter_columns()))
        elif not staged:
            self.stage_keys(part)
        return pl.concat([links, read_links(self.connection, ELSEWHERE.format(**where, staged=listed))])

    def stage_keys(self, part: Part) -> None:
        """Put the keys of all source rows of a part, dropped ones that it names too, into the table `staged_key`."""
        self.connection.execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS staged_key (flow_id smallint, source_key text) ON COMMIT DROP"
        )
        self.connection.execute("TRUNCATE staged_key")
        copy_in(self.connection, sql.Identifier("staged_key"), _keys(part))
        self.connection.execute("ANALYZE staged_key")

    # --- rejected -----------------------------------------------------------------------------------------------------

    def write_rejected(self, part: Part, problems: pl.DataFrame, *, first: bool) -> None:
        """Open entries for what is rejected now, close those that are not any more."""
        if first and part.rejected.is_empty() and problems.is_empty():
            return
        rejected = pl.concat([part.rejected, self._with_rows(problems)])
        rejected = rejected.with_columns(
            plh.concat_str([pl.col("reasons").list.join(","), pl.col("detail"), pl.col("row")], separator="\x00")
            .nchash.xxhash64()
            .reinterpret(dtype=pl.Int64)
            .alias("hash")
        )
        # The bucket too: where it is another one, another part has what was listed before in its scope.
        identity = ["flow_id", "bucket", "source_key", "partial", "found_by_load", "hash"]
        rejected = rejected.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over(identity).alias("occurrence"))
        identity.append("occurrence")
        if not first:
            open_now = copy_out(
                self.connection,
                sql.SQL(
                    "SELECT flow_id, bucket, source_key, partial::int, found_by_load::int, hash, occurrence"
                    " FROM migration.rejected_entry AS entry WHERE closed_by IS NULL AND {}"
                ).format(self.scope(part)),
                pl.Schema(
                    {
                        "flow_id": pl.Int16(),
                        "bucket": BUCKET,
                        "source_key": pl.String(),
                        "partial": pl.Int64(),
                        "found_by_load": pl.Int64(),
                        "hash": pl.Int64(),
                        "occurrence": pl.Int64(),
                    }
                ),
            ).with_columns(pl.col("partial", "found_by_load").cast(pl.Boolean))
            self._close(open_now.join(rejected, on=identity, how="anti"))
            rejected = rejected.join(open_now, on=identity, how="anti")
        if rejected.height:
            copy_in(
                self.connection,
                sql.Identifier("migration", "rejected_entry"),
                rejected.drop("source_row").with_columns(
                    array_literal(pl.col("reasons")).alias("reasons"), pl.lit(self.load_id).alias("opened_by")
                ),
            )

    def _close(self, entries: pl.DataFrame) -> None:
        if entries.is_empty():
            return
        self.connection.execute("DROP TABLE IF EXISTS pg_temp.closed_entry")
        self.connection.execute(
            "CREATE TEMPORARY TABLE closed_entry (flow_id smallint, bucket smallint, source_key text, partial boolean,"
            " found_by_load boolean, hash bigint, occurrence integer) ON COMMIT DROP"
        )
        copy_in(self.connection, sql.Identifier("closed_entry"), entries)
        self.connection.execute(
            "UPDATE migration.rejected_entry AS entry SET closed_by = %s FROM closed_entry AS closed"
            # By what the index of open entries holds of a key, too.
            " WHERE entry.closed_by IS NULL AND left(entry.source_key, 500) = left(closed.source_key, 500)"
            " AND (entry.flow_id, entry.bucket, entry.source_key, entry.partial,"
            " entry.found_by_load, entry.hash, entry.occurrence) = (closed.flow_id, closed.bucket, closed.source_key,"
            " closed.partial, closed.found_by_load, closed.hash, closed.occurrence)",
            [self.load_id],
        )

    def _with_rows(self, problems: pl.DataFrame) -> pl.DataFrame:
        """REJECTED rows of PROBLEM rows: those that reject a source row are one a source row."""
        if problems.is_empty():
            return pl.DataFrame(schema=REJECTED)
        whole = (
            problems.filter(~pl.col("partial"))
            .group_by("flow_id", "source_key", "source_row", "bucket", "partial", maintain_order=True)
            .agg(
                pl.col("reason").unique().sort().alias("reasons"),
                pl.col("detail").unique(maintain_order=True).str.join("; ").alias("detail"),
            )
        )
        parts = problems.filter("partial").select(
            "flow_id",
            "source_key",
            "source_row",
            "bucket",
            "partial",
            pl.concat_list("reason").alias("reasons"),
            "detail",
        )
        listed = pl.concat([whole, parts])
        rows = [
            self._source_rows(
                source, listed.filter(pl.col("flow_id") == flow).get_column("source_row").unique()
            ).with_columns(pl.lit(flow, pl.Int16).alias("flow_id"))
            for source, flow in self.flows.items()
            if (listed.get_column("flow_id") == flow).any()
        ]
        return (
            listed.join(pl.concat(rows), on=["flow_id", "source_row"], how="left", maintain_order="left")
            .with_columns(pl.col("row").fill_null("{}"), pl.lit(True).alias("found_by_load"))
            .select(REJECTED.names())
            .cast(REJECTED)
        )

    def _source_rows(self, source: str, numbers: pl.Series) -> pl.DataFrame:
        """The whole legacy rows of these numbers as JSON: `source_row`, `row`."""
        key = (self.system, "legacy", source)
        manifest = self.lake.manifest(key)
        if manifest is None:
            return pl.DataFrame(schema={"source_row": pl.Int64, "row": pl.String})
        if self.prepared_from.get(source, manifest.version) != manifest.version:
            raise StructureError(
                f"{source} was extracted anew after its rows were prepared: a rejected row cannot be told whole",
                where=f"{'/'.join(key)}, rejected by {self.target.name}",
                remedy=f"materialise {self.system}/prepared/{self.target.model} again",
            )
        frame = self.legacy_rows(source) if self.legacy_rows else self.lake.scan(key, manifest=manifest)
        columns = [
            name for name in frame.collect_schema().names() if name not in ("_row", "_source_key", "_undecodable")
        ]
        rows = (
            frame.select("_row", *columns).filter(pl.col("_row").is_in(numbers.implode())).collect(engine="streaming")
        )
        whole = json_of_rows(rows, {name: name for name in columns})
        return rows.select(pl.col("_row").alias("source_row"), whole.alias("row"))

    # --- conflicts and vanished rows ----------------------------------------------------------------------------------

    def write_conflicts(self, part: Part, conflicts: pl.DataFrame, batch_id: int) -> None:
        """The conflicts of a part (CONFLICT) take the place of those listed before."""
        scope = self.scope(part)
        rows = conflicts.with_columns(array_literal(pl.col("columns")).alias("columns")).unique()
        listed = copy_out(
            self.connection,
            sql.SQL(
                "SELECT flow_id, bucket, source_key, part, target_id, cause, to_json(columns)::text"
                " FROM migration.conflict_entry AS entry WHERE {}"
            ).format(scope),
            pl.Schema(dict(CONFLICT) | {"columns": pl.String()}),
        ).with_columns(
            pl.concat_str(pl.lit("{"), pl.col("columns").str.strip_chars("[]"), pl.lit("}")).alias("columns")
        )
        same = rows.join(listed, on=CONFLICT.names(), how="semi", nulls_equal=True)
        if same.height == rows.height == listed.height:
            return
        self.connection.execute(
            sql.SQL(
                "WITH former AS (DELETE FROM migration.conflict_entry AS entry WHERE {}"
                " RETURNING to_jsonb(entry) AS entry) INSERT INTO migration.former_entry (batch_id, relation, entry)"
                " SELECT {}, 'conflict_entry', entry FROM former"
            ).format(scope, sql.Literal(batch_id))
        )
        if rows.height:
            copy_in(
                self.connection,
                sql.Identifier("migration", "conflict_entry"),
                rows.with_columns(pl.lit(self.load_id).alias("since")),
            )

    def write_vanished(self, part: Part, vanished: pl.DataFrame, yielded: pl.DataFrame, batch_id: int) -> None:
        """Add what vanished (VANISHED) to the list, take off what is yielded; why is settled at the end."""
        listed = copy_out(
            self.connection,
            sql.SQL(
                "SELECT flow_id, bucket, source_key, part, target_id FROM migration.vanished_entry AS entry WHERE {}"
            ).format(self.scope(part)),
            VANISHED,
        )
        self._forget_vanished(listed.join(yielded, on=yielded.columns, how="semi"), batch_id)
        new = vanished.join(listed, on=["flow_id", "source_key", "part", "target_id"], how="anti")
        if new.height:
            copy_in(
                self.connection,
                sql.Identifier("migration", "vanished_entry"),
                new.with_columns(pl.lit("gone").alias("cause"), pl.lit(self.load_id).alias("since")),
            )

    def _forget_vanished(self, rows: pl.DataFrame, batch_id: int | None = None) -> None:
        """Without a batch they are not kept for an undo: the next load finds them again."""
        if rows.is_empty():
            return
        self.connection.execute(
            "WITH former AS (DELETE FROM migration.vanished_entry AS entry"
            " USING (SELECT unnest(%s::smallint[]) AS flow_id, unnest(%s::text[]) AS source_key,"
            " unnest(%s::text[]) AS part, unnest(%s::bigint[]) AS target_id) AS gone"
            " WHERE (entry.flow_id, entry.source_key, entry.part, entry.target_id)"
            " = (gone.flow_id, gone.source_key, gone.part, gone.target_id) RETURNING to_jsonb(entry) AS entry)"
            " INSERT INTO migration.former_entry (batch_id, relation, entry)"
            " SELECT %s::integer, 'vanished_entry', entry FROM former WHERE %s::integer IS NOT NULL",
            [
                *(rows.get_column(name).to_list() for name in ("flow_id", "source_key", "part", "target_id")),
                batch_id,
                batch_id,
            ],
        )

    # --- the end of a load --------------------------------------------------------------------------------------------

    def rejected_keys(self) -> pl.DataFrame:
        """The source rows on the list of rejected rows: `flow_id`, `source_key`, `bucket`."""
        return copy_out(
            self.connection,
            sql.SQL(
                "SELECT flow_id, source_key, min(bucket) FROM migration.rejected_entry"
                " WHERE closed_by IS NULL AND flow_id = ANY ({}::smallint[]) GROUP BY flow_id, source_key"
            ).format(sql.Literal(list(self.flows.values()))),
            pl.Schema({"flow_id": pl.Int16(), "source_key": pl.String(), "bucket": BUCKET}),
        )

    def book(
        self, accounting: list[dict[str, Any]], run_id: str, subset: str | None = None
    ) -> tuple[list[dict[str, Any]], int]:
        """The accounting of this load, with what it rejected itself; StructureError where it does not balance.

        That of the first source rows is booked as it is given; a subset of another kind is booked by what is listed.
        """
        counted = {
            flow: (int(prepared), int(loading))
            for flow, prepared, loading in self.connection.execute(
                "SELECT flow_id, count(*) FILTER (WHERE NOT found_by_load), count(*) FILTER (WHERE found_by_load)"
                " FROM migration.rejected_entry WHERE closed_by IS NULL AND NOT partial AND flow_id = ANY(%s)"
                " GROUP BY flow_id",
                [list(self.flows.values())],
            )
        }
        booked = []
        for entry in accounting:
            flow = self.flows[entry["source_table"]]
            prepared, loading = counted.get(flow, (0, 0))
            changed = {"migrated": entry["migrated"] - loading, "rejected": entry["rejected"] + loading}
            booked.append({**entry, **changed})
            accounted = changed["migrated"] + changed["rejected"] + sum(entry["dropped"].values())
            if subset == "first":
                changed = {"migrated": entry["migrated"], "rejected": entry["rejected"]}
                booked[-1] |= changed
            elif subset == "rejected":
                # Rows that are not taken may have become sound or not: the lists say what holds of them.
                rejected = prepared + loading
                changed = {
                    "migrated": entry["read"] - rejected - sum(entry["dropped"].values()),
                    "rejected": rejected,
                }
                booked[-1] |= changed
            elif prepared != entry["rejected"] or accounted != entry["read"] or changed["migrated"] < 0:
                raise StructureError(
                    f"the accounting of {entry['source_table']} → {entry['target_table']} does not balance:"
                    f" {entry['read']} read, {changed['migrated']} migrated, {prepared + loading} rejected,"
                    f" {sum(entry['dropped'].values())} dropped",
                    remedy="the rows are loaded, the accounting is not; this is a fault of the product: report it",
                )
            self.connection.execute(
                "INSERT INTO migration.accounting_entry (run_id, flow_id, read, migrated, rejected, dropped, coerced)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (run_id, flow_id) DO UPDATE SET (read, migrated,"
                " rejected, dropped, coerced) = (excluded.read, excluded.migrated, excluded.rejected, excluded.dropped,"
                " excluded.coerced)",
                [
                    run_id,
                    flow,
                    entry["read"],
                    changed["migrated"],
                    changed["rejected"],
                    json.dumps(entry["dropped"]),
                    json.dumps(entry["coerced"]),
                ],
            )
        return booked, sum(entry["rejected"] for entry in booked)

    def settle_vanished(self, parts: PreparedParts | WholeParts, run: RunContext) -> int:
        """Take what another part yields off the list of vanished rows, and say why each of the others is on it."""
        vanished = copy_out(
            self.connection,
            sql.SQL(
                "SELECT flow_id, bucket, source_key, part, target_id FROM migration.vanished_entry"
                " WHERE flow_id = ANY ({}::smallint[])"
            ).format(sql.Literal(list(self.flows.values()))),
            VANISHED,
        )
        if vanished.is_empty():
            return 0
        same_key = (
            "EXISTS (SELECT 1 FROM migration.vanished_entry AS v"
            " WHERE (v.flow_id, v.source_key) = (entry.flow_id, entry.source_key))"
        )
        if vanished.height <= HOLDERS_LOOKED_UP:
            same_key += (
                " OR EXISTS (SELECT 1 FROM migration.vanished_entry AS v"
                " WHERE v.target_id BETWEEN entry.lowest_id AND entry.highest_id)"
            )
        flows = sql.SQL("entry.flow_id = ANY ({}::smallint[]) AND ({})").format(
            sql.Literal(list(self.flows.values())), sql.SQL(same_key)
        )
        holders = read_links(self.connection, flows)
        yielded = parts.yielded(holders.get_column("source_key").unique())
        identity = identity_of(self.target)
        still_there = holders.join(yielded, on=["flow_id", "source_key", "part"], how="semi").select(identity).unique()
        self._forget_vanished(vanished.join(still_there, on=identity, how="semi"))
        vanished = vanished.join(still_there, on=identity, how="anti")
        self._explain(vanished, yielded, parts.sources, run)
        return vanished.get_column("target_id").n_unique()

    def _explain(
        self,
        vanished: pl.DataFrame,
        yielded: pl.DataFrame,
        sources: Collection[str],
        run: RunContext,
    ) -> None:
        if vanished.is_empty():
            return
        keys = vanished.select("flow_id", "source_key").unique()
        key = ["flow_id", "source_key"]
        rejected = copy_out(
            self.connection,
            sql.SQL(
                "SELECT DISTINCT flow_id, source_key FROM migration.rejected_entry"
                " WHERE closed_by IS NULL AND NOT partial AND flow_id = ANY ({}::smallint[])"
            ).format(sql.Literal(list(self.flows.values()))),
            pl.Schema({"flow_id": pl.Int16, "source_key": pl.String}),
        )
        causes = keys.join(rejected, on=key, how="semi").with_columns(pl.lit("rejected").alias("cause"))
        rest = keys.join(rejected, on=key, how="anti")
        present = self._present(rest, sources)
        decided = self._decided_otherwise(run.decisions)
        rest = (
            rest.join(present.with_columns(pl.lit(True).alias("present")), on=key, how="left")
            .join(decided.with_columns(pl.lit(True).alias("decided")), on=key, how="left")
            .join(yielded.select(key).unique().with_columns(pl.lit(True).alias("gives")), on=key, how="left")
        )
        cause = (
            pl.when(pl.col("present").is_null() & pl.col("gives").is_null())
            .then(pl.lit("gone"))
            .when(pl.col("decided"))
            .then(pl.lit("another decision"))
            .when(pl.col("gives"))
            .then(pl.lit("gone"))
            .otherwise(pl.lit("dropped"))
        )
        causes = pl.concat([causes, rest.select(*key, cause.alias("cause"))])
        self.connection.execute(
            "UPDATE migration.vanished_entry AS entry SET cause = why.cause"
            " FROM unnest(%s::smallint[], %s::text[], %s::text[]) AS why (flow_id, source_key, cause)"
            " WHERE (entry.flow_id, entry.source_key) = (why.flow_id, why.source_key) AND entry.cause <> why.cause",
            [causes.get_column(name).to_list() for name in ("flow_id", "source_key", "cause")],
        )

    def _present(self, keys: pl.DataFrame, sources: Collection[str]) -> pl.DataFrame:
        """Those of the keys that the legacy tables still have; none where nobody can tell."""
        found = [keys.clear()]
        for source, flow in self.flows.items():
            wanted = keys.filter(pl.col("flow_id") == flow)
            if source not in sources:
                # The table gives nothing to this target any more: its rows went away by choice, not at the source.
                found.append(wanted)
            elif self.legacy_rows is not None and wanted.height:
                of_table = self.legacy_rows(source).select(pl.col("_source_key").alias("source_key"))
                found.append(wanted.lazy().join(of_table, on="source_key", how="semi").collect())
        return pl.concat(found)

    def _decided_otherwise(self, decisions: Mapping[str, str]) -> pl.DataFrame:
        """Keys on the list of vanished rows that were written under other decisions than these."""
        return copy_out(
            self.connection,
            sql.SQL(
                "SELECT DISTINCT v.flow_id, v.source_key FROM migration.vanished_entry AS v"
                " JOIN migration.mapping_entry AS entry USING (flow_id, source_key)"
                " JOIN migration.batch ON batch.id = entry.batch_id JOIN migration.load ON load.id = batch.load_id"
                " JOIN migration.run ON run.run_id = load.run_id"
                " WHERE v.flow_id = ANY ({}::smallint[]) AND run.decisions <> {}::jsonb"
            ).format(sql.Literal(list(self.flows.values())), sql.Literal(json.dumps(dict(decisions)))),
            pl.Schema({"flow_id": pl.Int16, "source_key": pl.String}),
        )


def _keys(part: Part) -> pl.DataFrame:
    """The keys of all source rows that a part names, dropped ones too: `flow_id`, `source_key`."""
    named = (part.links, part.rejected, part.problems, part.dropped)
    return pl.concat([frame.select("flow_id", "source_key") for frame in named]).unique()
