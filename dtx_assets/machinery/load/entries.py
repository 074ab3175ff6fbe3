"""Which source row gave which target rows: the entries of `migration.mapping_entry`, made and read set by set.

An entry is one source row; here it is taken apart into links (one a target row) and put together again.
"""

import polars as pl
import polars_hash as plh
from psycopg import sql

from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import (
    array_literal,
    copy_in,
    copy_out,
    ids_literal,
    packed_hashes,
    unpacked_hashes,
)
from dtx_assets.machinery.prepare.buckets import BUCKET, PORTION

ENTRY = sql.Identifier("migration", "mapping_entry")
LED_TO = (
    "unnest(CASE WHEN entry.target_ids IS NULL AND entry.lowest_id = entry.highest_id THEN ARRAY[entry.lowest_id]"
    " ELSE coalesce(entry.target_ids, ARRAY(SELECT generate_series(entry.lowest_id, entry.highest_id))) END)"
)
"""The numbers of the rows that an entry (`entry`) leads to, as SQL; most lead to one, of which no series is made."""

LINKED = pl.Schema(
    {
        "flow_id": pl.Int16(),
        "source_key": pl.String(),
        "bucket": BUCKET,
        "part": pl.String(),
        "target_id": pl.Int64(),
        "hash": pl.UInt64(),
        "adopted": pl.Boolean(),
        "shape": pl.String(),
        "portion": PORTION,
        "batch_id": pl.Int64(),
    }
)
"""One row a (source row, target row). `hash` is null where another source table owns the row, `shape` but for units."""

LISTED = pl.Schema({"part_list_id": pl.Int64(), "digest": pl.String()})
REMEMBERED = pl.Schema({"part_list_id": pl.Int64(), "text": pl.String()})
LISTS_AT_ONCE, SHORT = 1000, 1000
"""How many lists of parts are asked for by their digests, and remembered where their texts have few bytes; more of
them go by a temporary table."""


def new_entries(links: pl.DataFrame, ids: pl.Series, hashes: pl.Series) -> pl.DataFrame:
    """Entries of links whose rows are all new: `ids` and `hashes` by position of the row."""
    lengths = links.get_column("rows").list.len()
    if (lengths == 1).all():
        return _entries_of_single_rows(links, ids, hashes, lengths)
    exploded = (
        links.lazy()
        .select(_start("rows"), "rows")
        .explode("rows")
        .select(
            pl.lit(ids).gather("rows").alias("target_id"),
            pl.lit(hashes).gather("rows").alias("hash"),
            _POSITION,
            "start",
        )
        .collect()
    )
    return _entries(links.select("flow_id", "source_key", "bucket", "parts", "owns", "portion"), exploded, None)


def _entries_of_single_rows(links: pl.DataFrame, ids: pl.Series, hashes: pl.Series, lengths: pl.Series) -> pl.DataFrame:
    """The same where each source row gives one row; most tables are so, and this is done in one go."""
    places = links.get_column("rows").explode()
    new, nothing = pl.lit(ids.gather(places)), pl.lit(None, pl.String)
    packed = pl.lit(packed_hashes(hashes.gather(places), lengths))
    return _columns_of_entries(links, new, new, nothing, packed, nothing, nothing)


def grouped_entries(linked: pl.DataFrame) -> pl.DataFrame:
    """Entries of LINKED rows."""
    grouped = linked.group_by("flow_id", "source_key", "portion", maintain_order=True).agg(
        pl.col("bucket").first(),
        pl.col("part").alias("parts"),
        pl.col("target_id"),
        pl.col("hash").fill_null(0),
        pl.col("hash").is_not_null().any().alias("owns"),
        pl.col("target_id").filter("adopted").alias("adopted_ids"),
        # One source row may give several units of one row, of which some were there.
        pl.when("adopted").then(pl.lit("")).otherwise(pl.col("shape").fill_null("{}")).alias("shapes"),
        pl.col("shape").is_not_null().any().alias("has_shapes"),
    )
    exploded = grouped.select(_start("parts"), "target_id", "hash").explode("target_id", "hash").with_columns(_POSITION)
    shapes = grouped.select(pl.when("has_shapes").then(array_literal(pl.col("shapes"))).alias("shapes")).to_series()
    return _entries(grouped, exploded, grouped.get_column("adopted_ids"), shapes)


def _entries(
    entries: pl.DataFrame, exploded: pl.DataFrame, adopted: pl.Series | None, shapes: pl.Series | None = None
) -> pl.DataFrame:
    lengths = entries.get_column("parts").list.len()
    entries = entries.with_columns(
        _start("parts"),
        pl.lit(exploded.get_column("target_id")).gather(_start("parts")).alias("first"),
        packed_hashes(exploded.get_column("hash"), lengths).alias("hashes"),
        (adopted if adopted is not None else pl.lit(None, pl.List(pl.Int64))).alias("adopted_ids"),
        (shapes if shapes is not None else pl.lit(None, pl.String)).alias("shapes"),
    )
    # Where the ids of an entry do not ascend by one from its first.
    odd = exploded.select(pl.col("target_id") - pl.col("position") != pl.col("target_id").gather("start")).to_series()
    # Most ids ascend by one, and are not listed.
    lowest, listed = pl.col("first"), pl.lit(None, pl.String)
    highest = pl.col("first") + pl.col("parts").list.len() - 1
    if odd.any():
        scattered = (
            exploded.filter(odd)
            .select("start")
            .unique()
            .join(exploded, on="start")
            .sort("start", "position")
            .group_by("start", maintain_order=True)
            .agg(
                pl.col("target_id").min().alias("low"),
                pl.col("target_id").max().alias("high"),
                pl.col("target_id").alias("ids"),
            )
        )
        entries = entries.join(scattered, on="start", how="left", maintain_order="left")
        lowest, highest = pl.coalesce("low", lowest), pl.coalesce("high", highest)
        listed = pl.when(pl.col("ids").is_not_null()).then(ids_literal(pl.col("ids")))
    adopted_ids = pl.when(pl.col("adopted_ids").list.len() > 0).then(ids_literal(pl.col("adopted_ids")))
    return _columns_of_entries(entries, lowest, highest, listed, pl.col("hashes"), adopted_ids, pl.col("shapes"))


def _columns_of_entries(
    entries: pl.DataFrame,
    lowest: pl.Expr,
    highest: pl.Expr,
    listed: pl.Expr,
    hashes: pl.Expr,
    adopted_ids: pl.Expr,
    shapes: pl.Expr,
) -> pl.DataFrame:
    return entries.select(
        lowest.alias("lowest_id"),
        highest.alias("highest_id"),
        "parts",
        "flow_id",
        "bucket",
        "source_key",
        listed.alias("target_ids"),
        pl.when("owns").then(hashes).alias("hashes"),
        adopted_ids.alias("adopted_ids"),
        shapes.alias("shapes"),
        "portion",
    )


def _start(lists: str) -> pl.Expr:
    """Where each list begins among the elements of all of them, none of which is empty."""
    lengths = pl.col(lists).list.len()
    return (lengths.cum_sum() - lengths).cast(pl.Int64).alias("start")


_POSITION = (pl.int_range(pl.len()) - pl.col("start")).alias("position")
"""The place of each element in its list."""


def copy_entries(
    connection: Connection,
    entries: pl.DataFrame,
    batch_id: int,
    table: sql.Composable = ENTRY,
    lists_of_parts: "PartLists | None" = None,
) -> None:
    """Write entries that are not there yet."""
    if entries.is_empty():
        return
    lists = (lists_of_parts or PartLists(connection)).ids(entries.get_column("parts"))
    copy_in(
        connection,
        table,
        entries.with_columns(lists.alias("part_list_id"), pl.lit(batch_id).alias("batch_id")).select(
            "lowest_id",
            "highest_id",
            "batch_id",
            "part_list_id",
            "flow_id",
            "bucket",
            "source_key",
            "target_ids",
            "hashes",
            "adopted_ids",
            "shapes",
            "portion",
        ),
    )


def replace_entries(connection: Connection, entries: pl.DataFrame, batch_id: int) -> None:
    """Write entries over those of the same source rows."""
    if entries.is_empty():
        return
    connection.execute("DROP TABLE IF EXISTS pg_temp.new_entry")
    connection.execute("CREATE TEMPORARY TABLE new_entry (LIKE migration.mapping_entry) ON COMMIT DROP")
    copy_entries(connection, entries, batch_id, sql.Identifier("new_entry"))
    connection.execute(
        "INSERT INTO migration.former_entry (batch_id, relation, entry) SELECT %s, 'mapping_entry', to_jsonb(former)"
        " FROM migration.mapping_entry AS former JOIN new_entry USING (flow_id, source_key, portion)",
        [batch_id],
    )
    connection.execute(
        "INSERT INTO migration.mapping_entry SELECT * FROM new_entry"
        " ON CONFLICT (flow_id, source_key, portion) DO UPDATE SET"
        " (lowest_id, highest_id, batch_id, part_list_id, bucket, target_ids, hashes, adopted_ids, shapes) ="
        " (excluded.lowest_id, excluded.highest_id, excluded.batch_id, excluded.part_list_id, excluded.bucket,"
        " excluded.target_ids, excluded.hashes, excluded.adopted_ids, excluded.shapes)"
    )


def delete_entries(connection: Connection, keys: pl.DataFrame, batch_id: int) -> None:
    """Forget the source rows `keys` (flow_id, source_key), or that portion of what they gave."""
    if keys.is_empty():
        return
    connection.execute(
        "WITH forgotten AS (DELETE FROM migration.mapping_entry AS entry"
        " USING unnest(%s::smallint[], %s::text[], %s::smallint[]) AS gone (flow_id, source_key, portion)"
        " WHERE (entry.flow_id, entry.source_key, entry.portion) = (gone.flow_id, gone.source_key, gone.portion)"
        " RETURNING to_jsonb(entry) AS entry)"
        " INSERT INTO migration.former_entry (batch_id, relation, entry)"
        " SELECT %s, 'mapping_entry', entry FROM forgotten",
        [*(keys.get_column(name).to_list() for name in ("flow_id", "source_key", "portion")), batch_id],
    )


class PartLists:
    """The ids of lists of parts, over one connection. Those that are committed are asked for once."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._committed = pl.DataFrame(schema=REMEMBERED)

    def ids(self, lists: pl.Series) -> pl.Series:
        """The id of each list of parts; lists that are new are written."""
        frame = lists.alias("parts").to_frame().select(array_literal(pl.col("parts")).alias("text"))
        known = self._committed
        ids = _ids_of(frame, known)
        if not ids.null_count():
            return ids
        unknown = frame.unique(maintain_order=True).join(known, on="text", how="anti")
        unknown = unknown.with_columns(_digest(pl.col("text")).alias("digest"))
        if unknown.height > LISTS_AT_ONCE:
            found = self._copied(unknown)
        else:
            there = self._there(unknown)
            committed = (
                there.filter("is_committed").join(unknown, on="digest").filter(pl.col("text").str.len_bytes() <= SHORT)
            )
            self._committed = pl.concat([known, committed.select(REMEMBERED.names())]).tail(LISTS_AT_ONCE)
            new = unknown.join(there, on="digest", how="anti")
            found = pl.concat([there.select(LISTED.names()), self._inserted(new)])
        return _ids_of(frame, pl.concat([known, unknown.join(found, on="digest").select(REMEMBERED.names())]))

    def _there(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """The wanted lists that there are: LISTED, and whether they outlast this transaction."""
        if wanted.is_empty():
            return pl.DataFrame(schema={**LISTED, "is_committed": pl.Boolean})
        rows = self.connection.execute(
            "SELECT id, replace(digest::text, '-', ''), xmin IS DISTINCT FROM pg_current_xact_id_if_assigned()::xid"
            " FROM migration.part_list WHERE digest = ANY (%s::uuid[])",
            [wanted.get_column("digest").to_list()],
        ).fetchall()
        return pl.DataFrame(rows, schema={**LISTED, "is_committed": pl.Boolean}, orient="row")

    def _inserted(self, new: pl.DataFrame) -> pl.DataFrame:
        if new.height:
            # Another load may write the same list at the same time: then its row is the one that counts.
            self.connection.execute(
                "INSERT INTO migration.part_list (digest, parts) SELECT digest::uuid, parts::text[]"
                " FROM unnest(%s::text[], %s::text[]) AS new (digest, parts) ON CONFLICT (digest) DO NOTHING",
                [new.get_column(name).to_list() for name in ("digest", "text")],
            )
        return self._there(new).select(LISTED.names())

    def _copied(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """The same of many lists, new ones and others."""
        self.connection.execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS new_part_list (digest uuid, parts text[]) ON COMMIT DROP"
        )
        self.connection.execute("TRUNCATE new_part_list")
        rows = wanted.select("digest", pl.col("text").alias("parts"))
        copy_in(self.connection, sql.Identifier("new_part_list"), rows)
        self.connection.execute(
            "INSERT INTO migration.part_list (digest, parts) SELECT digest, parts FROM new_part_list AS new"
            " WHERE NOT EXISTS (SELECT 1 FROM migration.part_list AS old WHERE old.digest = new.digest)"
            " ON CONFLICT (digest) DO NOTHING"
        )
        return copy_out(
            self.connection,
            sql.SQL(
                "SELECT part_list.id, replace(part_list.digest::text, '-', '') FROM migration.part_list"
                " JOIN new_part_list USING (digest)"
            ),
            LISTED,
        )


def _ids_of(lists: pl.DataFrame, found: pl.DataFrame) -> pl.Series:
    """The ids of lists by their texts; null for those that were not found."""
    return lists.join(found, on="text", how="left", maintain_order="left").get_column("part_list_id")


def _digest(text: pl.Expr) -> pl.Expr:
    return plh.concat_str([text]).nchash.md5()


# --- reading ----------------------------------------------------------------------------------------------------------


def read_links(connection: Connection, where: sql.Composable, table: sql.Composable = ENTRY) -> pl.DataFrame:
    """The LINKED rows of the entries (`entry`) for which a condition holds."""
    entries = copy_out(
        connection,
        sql.SQL(
            "SELECT flow_id, source_key, bucket, batch_id, part_list_id, lowest_id, target_ids::text, hashes::text,"
            " adopted_ids::text, to_json(shapes)::text, portion FROM {} AS entry WHERE {}"
        ).format(table, where),
        pl.Schema(
            {
                "flow_id": pl.Int16(),
                "source_key": pl.String(),
                "bucket": BUCKET,
                "batch_id": pl.Int64(),
                "part_list_id": pl.Int64(),
                "lowest_id": pl.Int64(),
                "target_ids": pl.String(),
                "hashes": pl.String(),
                "adopted_ids": pl.String(),
                "shapes": pl.String(),
                "portion": PORTION,
            }
        ),
    )
    if entries.is_empty():
        return pl.DataFrame(schema=LINKED)
    by_list = _lists_of(connection, entries.get_column("part_list_id").unique())
    entries = entries.with_columns(unpacked_hashes(entries.get_column("hashes")).alias("hashes")).join(
        by_list, on="part_list_id", how="left", maintain_order="left"
    )
    length = pl.col("parts").list.len()
    # Not between two numbers: nothing lies beyond the highest one.
    ascending = pl.int_ranges(pl.lit(0), length, dtype=pl.Int64) + pl.col("lowest_id")
    no_hash = pl.lit(None, pl.UInt64).repeat_by(length)
    # Only units have shapes; the many rows of other targets are spared them.
    has_shapes = bool(entries.get_column("shapes").is_not_null().any())
    no_shape = pl.lit(None, pl.String)
    shapes = pl.coalesce(pl.col("shapes").str.json_decode(pl.List(pl.String)), no_shape.repeat_by(length))
    return (
        entries.select(
            "flow_id",
            "source_key",
            "bucket",
            pl.col("parts").alias("part"),
            pl.coalesce(_ids("target_ids"), ascending).alias("target_id"),
            pl.coalesce("hashes", no_hash).alias("hash"),
            _ids("adopted_ids").fill_null([]).alias("adopted"),
            (shapes if has_shapes else no_shape).alias("shape"),
            "portion",
            "batch_id",
        )
        .explode("part", "target_id", "hash", *(["shape"] if has_shapes else []))
        .with_columns(
            pl.coalesce(pl.col("shape") == "", pl.col("target_id").is_in(pl.col("adopted"))).alias("adopted"),
            pl.when(~pl.col("shape").is_in(["", "{}"])).then("shape").alias("shape"),
        )
        .cast(LINKED)
        .select(LINKED.names())
    )


def _lists_of(connection: Connection, ids: pl.Series) -> pl.DataFrame:
    """The lists of parts by their ids: `part_list_id`, `parts`."""
    lists = copy_out(
        connection,
        sql.SQL(
            "SELECT part_list.id, listed.part FROM unnest({}::integer[]) AS wanted (id)"
            " JOIN migration.part_list ON part_list.id = wanted.id"
            " CROSS JOIN LATERAL unnest(part_list.parts) WITH ORDINALITY AS listed (part, position)"
            " ORDER BY part_list.id, listed.position"
        ).format(sql.Literal(f"{{{','.join(map(str, ids))}}}")),
        pl.Schema({"part_list_id": pl.Int64, "part": pl.String}),
    )
    return lists.group_by("part_list_id", maintain_order=True).agg(pl.col("part").alias("parts"))


def _ids(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars("{}").str.split(",").cast(pl.List(pl.Int64))
