"""Mapping assets: crosswalks checked against themselves and the target, value maps, look-ups in other areas' rows.

Each is a small dataset in the lake that flows join with and that people can look at. What is mapped with them is
the column mappings' business.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, overload

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.files.inventory import LegacyFiles
from dtx_assets.machinery.look_ups.listings import Listing, ListingDigest
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.model.legacy import ColumnKind, LegacyTable
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.model.types import INTEGERS
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.content import copy_out, kept_key, key_text
from dtx_assets.machinery.postgres.ddl import live_target, qualified
from dtx_assets.machinery.postgres.sessions import ROWS_REMEDY, would_hide_rows
from dtx_assets.machinery.sources.frames import legacy_frame
from dtx_assets.machinery.transforms.columns import TransformContext, canonical_id, integer_value, kind_of_ids

HASHED_ROWS = 100_000
"""More rows than this are not written out as text to tell whether they changed."""


@dataclass(frozen=True)
class MappingContext:
    """Where mapping assets are made from: the lake, the target database, the reviewable files."""

    system: str
    lake: Lake
    run_id: str
    target_url: str
    crosswalk_tables: Mapping[str, LegacyTable]
    mappings: Mappings
    legacy_tables: Mapping[str, LegacyTable] = field(default_factory=dict)
    files: LegacyFiles | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)
    """The option of each decision, where there is one."""
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By model, the columns of the key of its table."""
    timezone: str = "UTC"
    """The zone of naive legacy times."""
    cutover_at: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    """The instant that counts as now."""
    own_rows: bool = True
    """Whether rows that this migration inserted count among the rows of the target."""
    shard_files: int = 0
    """Legacy files that one process looks at, where several share them."""
    home: Path = Path()
    """The state directory."""

    def reading(self) -> TransformContext:
        """What a transform is told that makes a look-up; `with_reads` has to add what it puts into `reads`."""
        return TransformContext({}, self.mappings.value_maps, self.chosen, self.timezone, self.cutover_at, reads={})

    def legacy(self, name: str) -> pl.LazyFrame:
        return legacy_frame(self.lake, self.system, self.legacy_tables[name])

    def mapping(self, name: str) -> pl.LazyFrame:
        return self.lake.scan((self.system, "mapping", name))

    def crosswalk(self, name: str) -> pl.LazyFrame:
        return legacy_frame(self.lake, self.system, self.crosswalk_tables[name], layer="crosswalk")

    def target_rows(self, table: str, columns: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """The columns of a table of another area, as they are in the target database now."""
        return read_target_rows(
            self.target_url, table, columns, inserted_by=None if self.own_rows else self.system, key=self._key_of(table)
        ).lazy()

    def _key_of(self, table: str) -> Sequence[str]:
        models = [model for model, name in self.mappings.table_names.items() if name == table]
        return self.keys.get(models[0], ("id",)) if models else ("id",)

    def rows_of(self, model: str, columns: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """The same of the table of a target model."""
        return self.target_rows(self.mappings.table_names[model], columns)

    def own_mapping(
        self, source_table: str, target_table: str, ids: type[pl.Int64 | pl.String] = pl.Int64
    ) -> pl.LazyFrame:
        """What source rows became in earlier loads and in this run: `source_key`, `target_id` (`ids`)."""
        schema = {"source_key": pl.String(), "target_id": ids()}
        query = sql.SQL(
            "SELECT source_key, target_id FROM migration.mapping"
            " WHERE (system, source_table, target_table) = ({}, {}, {})"
        ).format(sql.Literal(self.system), sql.Literal(source_table), sql.Literal(target_table))
        with connect(self.target_url) as connection:
            if connection.execute("SELECT to_regclass('migration.mapping')").fetchone() == (None,):
                return pl.LazyFrame(schema=schema)
            return copy_out(connection, query, pl.Schema(schema)).lazy()

    def kind_of_own_ids(self, target: TargetTable) -> type[pl.Int64 | pl.String]:
        """What the ids are that a target gives its rows: integers, or else texts, such as those of a uuid."""
        [name] = target.key
        with connect(self.target_url) as connection:
            live = live_target(connection, target)
        return pl.String if live and live.columns[name].plain_type not in INTEGERS else pl.Int64

    def rows_of_others(self, model: str) -> pl.LazyFrame:
        """All columns, as text, of the rows of a target that no load of this migration inserted."""
        table = self.mappings.table_names[model]
        name = sql.Identifier(*table.split("."))
        with read_of_others(table), connect(self.target_url) as connection:
            columns = [
                str(column)
                for (column,) in connection.execute(
                    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0"
                    " AND NOT attisdropped ORDER BY attnum",
                    [name.as_string(connection)],
                )
            ]
            texts = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(column)) for column in columns)
            query = sql.SQL("SELECT {} FROM {} AS t").format(texts, name)
            query += _but_those_inserted_by(connection, self.system, table, self.keys[model])
            return copy_out(connection, query, pl.Schema(dict.fromkeys(columns, pl.String()))).lazy()

    def given_keys(self) -> pl.LazyFrame:
        """The keys that rows were given in earlier loads: `source_table`, `source_id`, `target_id`, all text."""
        schema = pl.Schema(dict.fromkeys(("source_table", "source_id", "target_id"), pl.String()))
        query = sql.SQL(
            "SELECT source_table, source_key, target_id FROM migration.mapping"
            " WHERE system = {} AND source_table = target_table AND part = '' ORDER BY 1, 2"
        ).format(sql.Literal(self.system))
        with connect(self.target_url) as connection:
            if connection.execute("SELECT to_regclass('migration.mapping')").fetchone() == (None,):
                return pl.LazyFrame(schema=schema)
            return copy_out(connection, query, schema).lazy()

    def without_own_rows(self) -> "MappingContext":
        """The same, as if this migration had inserted nothing yet."""
        return replace(self, own_rows=False)


@dataclass(frozen=True)
class MappingAsset:
    """One mapping: its upstream asset keys (layer, name) and how it is made."""

    name: str
    kind: Literal["crosswalk", "value_map", "reference"]
    area: str
    upstream: tuple[tuple[str, str], ...]
    description: str
    build: Callable[[MappingContext], pl.LazyFrame]
    ids: ColumnKind = "integer"
    """The declared kind of a crosswalk's legacy ids."""
    is_crosswalk: bool = False
    """Of a reference, whether columns may go through it: from `source_id` to `target_id`."""
    after: tuple[str, ...] = ()
    """Models that this migration fills first: what it wrote is part of the mapping."""
    pieces: Callable[[MappingContext], Iterator[pl.LazyFrame]] | None = None
    """The rows of `build` a part at a time, where there may be more of them than memory should hold."""
    listing: Listing | None = None
    """Where it says what files hold: those that rows name."""
    made_by: Callable[..., Any] | None = None
    """The function to be shown as its code, where that is not `build`."""


Build = Callable[[MappingContext], pl.LazyFrame]
Paths = Callable[[MappingContext, pl.LazyFrame], pl.LazyFrame]


class References(Sequence[MappingAsset]):
    """The look-ups that a system makes in code: a function each, whose docstring begins with what people are told."""

    def __init__(self, area: str) -> None:
        self._area = area
        self._assets: list[MappingAsset] = []

    def register(
        self, *upstream: tuple[str, str], is_crosswalk: bool = False, after: Sequence[str] = ()
    ) -> Callable[[Build], Build]:
        """Decorates a function that makes the look-up of its name from `upstream` (layer, name)."""

        def add(build: Build) -> Build:
            asset = MappingAsset(
                build.__name__,
                "reference",
                self._area,
                upstream,
                _described(build),
                build,
                is_crosswalk=is_crosswalk,
                after=tuple(after),
            )
            self._assets.append(asset)
            return build

        return add

    def register_files(
        self, source: str, *upstream: tuple[str, str], may_be_missing: bool = False
    ) -> Callable[[Paths], Paths]:
        """Decorates a function that gives the paths of the files that rows of a legacy table name (`Listing.paths`).

        The look-up of its name says what the files hold. `upstream`: what the paths depend on beside the table.
        """

        def add(paths: Paths) -> Paths:
            name, listing = paths.__name__, Listing(source, paths, may_be_missing)
            self._assets.append(
                MappingAsset(
                    name,
                    "reference",
                    self._area,
                    (("legacy", source), *upstream),
                    _described(paths),
                    lambda context: listing.build(context, name),
                    listing=listing,
                    made_by=paths,
                )
            )
            return paths

        return add

    @overload
    def __getitem__(self, place: int) -> MappingAsset: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[MappingAsset]: ...

    def __getitem__(self, place: int | slice) -> MappingAsset | Sequence[MappingAsset]:
        return self._assets[place]

    def __len__(self) -> int:
        return len(self._assets)


def _described(function: Callable[..., Any]) -> str:
    return " ".join((function.__doc__ or "").partition("\n\n")[0].split())


def crosswalk_asset(
    name: str,
    table: LegacyTable,
    key: str,
    value: str,
    *,
    area: str,
    target: tuple[str, str],
    extras: Sequence[str] = (),
) -> MappingAsset:
    """The mapping `name`: legacy ids of `table` to ids that the target table has.

    Frame: `source_id` (canonical text; as it is where ids are no integers), `target_id` (Int64, null where the target
    has no such row), `missing_id` (the id it does not have), extras (Int64). `target` is (model, table name).
    """
    model, target_table = target

    def build(context: MappingContext) -> pl.LazyFrame:
        landed = context.crosswalk(table.name)
        kind = kind_of_ids(landed.select(key), table.kind_of(key))
        rows = landed.select(
            canonical_id(pl.col(key), kind).alias("source_id"),
            integer_value(pl.col(value)).alias("named_id"),
            *(integer_value(pl.col(extra)).alias(extra) for extra in extras),
        )
        rows = rows.filter(pl.col("source_id").is_not_null()).unique()
        refuse_contradictions(table.name, key, rows)
        existing = context.target_rows(target_table, {"id": pl.Int64()}).select(
            pl.col("id").alias("named_id"), pl.col("id").alias("target_id")
        )
        return (
            rows.join(existing, on="named_id", how="left")
            .with_columns(pl.when(pl.col("target_id").is_null()).then("named_id").alias("missing_id"))
            .select("source_id", "target_id", "missing_id", *extras)
            .sort("source_id")
        )

    return MappingAsset(
        name,
        "crosswalk",
        area,
        (("legacy", table.name), ("target", model)),
        f"{table.description} Ids that the target does not have count as no match.",
        build,
        ids=table.kind_of(key),
    )


def look_up_asset(table: TargetTable, columns: Sequence[str]) -> MappingAsset:
    """The rows of a table of others that mappings and checks look up. Frame: the columns, all as text."""

    def build(context: MappingContext) -> pl.LazyFrame:
        names = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in columns)
        query = sql.SQL("SELECT {} FROM {} ORDER BY 1").format(names, qualified(table))
        with read_of_others(table.names[0]), connect(context.target_url) as connection:
            return copy_out(connection, query, pl.Schema(dict.fromkeys(columns, pl.String()))).lazy()

    return MappingAsset(table.model, "reference", table.area, (("target", table.model),), table.description, build)


def value_map_asset(system: str, name: str, mappings: Mappings, *, area: str) -> MappingAsset:
    """The value map `name` of the mapping files. Frame: the columns of its file."""
    return MappingAsset(
        name,
        "value_map",
        area,
        (),
        f"The reviewed value map `mappings/{system}/{name}.csv`.",
        lambda _: mappings.value_maps[name].lazy(),
    )


def refuse_contradictions(table: str, key: str, rows: pl.LazyFrame) -> None:
    """Raises StructureError where distinct rows share a `source_id`, naming the keys."""
    doubled = rows.group_by("source_id").len().filter(pl.col("len") > 1).sort("source_id").collect()
    if doubled.height:
        named = ", ".join(doubled["source_id"].head(5))
        more = f" and {doubled.height - 5} more" if doubled.height > 5 else ""
        raise StructureError(
            f"the crosswalk {table} gives several ids for {key} {named}{more}",
            where=f"{table}.{key}",
            remedy="ask the area that owns the crosswalk which id is right; nothing that depends on it is prepared",
        )


def build_mapping_asset(asset: MappingAsset, context: MappingContext) -> Manifest:
    """Writes the dataset of a mapping asset; the one that is there stays when nothing changed."""
    key = (context.system, "mapping", asset.name)
    before = context.lake.manifest(key)
    pieces = asset.pieces(context) if asset.pieces else iter([asset.build(context)])
    try:
        with context.lake.write(key, run_id=context.run_id) as writer:
            digests, listed = [], ListingDigest()
            for piece in pieces:
                frame = piece.collect(engine="streaming")
                if asset.listing:
                    listed.add(frame)
                else:
                    digests.append(_content_digest(frame))
                writer.add(frame)
            digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
            digest = str(listed) if asset.listing else digest
            if before and before.metadata.get("digest") == digest:
                raise _Unchanged
            writer.metadata.update(digest=digest, kind=asset.kind)
    except _Unchanged:
        assert before
        return before
    return context.lake.require(key)


class _Unchanged(Exception):
    """What is there stays, and nothing of the new version."""


def _content_digest(frame: pl.DataFrame) -> str:
    """Changes with the content of a frame; of a large one, another for equal content costs no more than time."""
    if frame.height > HASHED_ROWS:
        hashes = frame.hash_rows(seed=0).to_numpy()
        return hashlib.sha256(str(frame.schema).encode() + hashes.tobytes()).hexdigest()
    buffer = BytesIO()
    frame.write_ndjson(buffer)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def _but_those_inserted_by(
    connection: psycopg.Connection, system: str, table: str, key: Sequence[str]
) -> sql.Composable:
    """What a query of a table, called `t`, ends with to leave out what loads of a system inserted."""
    if connection.execute("SELECT to_regclass('migration.batch')").fetchone() == (None,):
        return sql.SQL("")
    return sql.SQL(" WHERE {}").format(not_inserted_by(system, table.rpartition(".")[2], key))


def count_not_inserted_by(system: str, table: str, key: Sequence[str], rows: sql.Composable) -> sql.Composable:
    """A query that counts the rows of a target table which are of no load of a system; the bookkeeping must be there.

    Each is looked for where the sum of the hashes of all keys is not that of the keys which loads gave numbers to.
    """
    text = kept_key(key_text("t", key))
    return sql.SQL(
        "SELECT CASE WHEN (SELECT ROW(count(*), sum(hashtextextended({key}, 0))) FROM {rows} AS t) IS NOT DISTINCT FROM"
        " (SELECT ROW(count(*), sum(hashtextextended(numbered.key, 0))) FROM migration.target_row AS numbered"
        " WHERE numbered.target_table = {name} AND numbered.no <@ {inserted})"
        " THEN 0 ELSE (SELECT count(*) FROM {rows} AS t WHERE {theirs}) END"
    ).format(
        key=sql.SQL('({}) COLLATE "default"').format(text),
        rows=rows,
        name=sql.Literal(table),
        inserted=_inserted_by(system, table),
        theirs=not_inserted_by(system, table, key),
    )


def _inserted_by(system: str, table: str) -> sql.Composable:
    """The numbers of the rows that loads of a system inserted into a table, and did not take back."""
    return sql.SQL(
        "(SELECT range_agg(ids) FROM (SELECT unnest(batch.inserted_ids) AS ids FROM migration.batch"
        " JOIN migration.load ON load.id = batch.load_id"
        " WHERE (load.system, load.target_table) = ({}, {}) AND batch.undone_at IS NULL) AS made)"
    ).format(sql.Literal(system), sql.Literal(table))


def not_inserted_by(system: str, table: str, key: Sequence[str]) -> sql.Composable:
    """Whether a row of a target table, called `t`, is of no load of a system; the bookkeeping must be there."""
    name, text, inserted = sql.Literal(table), key_text("t", key), _inserted_by(system, table)
    # Not row by row: the server makes one set of the keys of such rows, and leaves out what is in it.
    not_numbered = sql.SQL(
        "NOT EXISTS (SELECT FROM migration.target_row AS numbered WHERE numbered.target_table = {} AND"
        # A key may have a collation of its own, by which the index of the numbers has no order.
        ' numbered.key = ({}) COLLATE "default" AND numbered.no <@ {})'
    ).format(name, kept_key(text), inserted)
    if len(key) > 1:
        return not_numbered
    # A key that is a whole number is its own number.
    return sql.SQL(
        "CASE WHEN pg_typeof({}) = ANY ('{{smallint,integer,bigint}}'::regtype[]) THEN {}::bigint END <@ {}"
        " IS NOT TRUE AND {}"
    ).format(sql.Identifier("t", key[0]), text, inserted, not_numbered)


def read_target_rows(
    url: str,
    table: str,
    columns: Mapping[str, pl.DataType],
    *,
    inserted_by: str | None = None,
    key: Sequence[str] = ("id",),
) -> pl.DataFrame:
    """The named columns of a whole target table; StructureError where one is missing, or not to be read.

    `inserted_by`: a system whose own rows are left out, by the `key` of the table.
    """
    query = sql.SQL("SELECT {} FROM {} AS t").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(*table.split("."))
    )
    buffer = BytesIO()
    with read_of_others(table), connect(url) as connection, connection.cursor() as cursor:
        if inserted_by:
            query += _but_those_inserted_by(connection, inserted_by, table, key)
        with cursor.copy(sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query)) as copy:
            for block in copy:
                buffer.write(block)
    buffer.seek(0)
    try:
        return pl.read_csv(buffer, schema=dict(columns), has_header=False, raise_if_empty=False)
    except pl.exceptions.PolarsError:
        wanted = ", ".join(f"{name} ({dtype})" for name, dtype in columns.items())
        raise StructureError(
            "the target database holds other types than this migration knows",
            where=table,
            remedy=f"compare the table with its declaration: {wanted}",
        ) from None


@contextmanager
def read_of_others(table: str) -> Iterator[None]:
    """StructureError where a table that others should have made is not there, or not to be read."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise StructureError(
            f"the target database lacks what another area should have made: {error.diag.message_primary}",
            where=table,
            remedy="load that area first, or check which database the target URL names",
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise StructureError(
            f"the target database does not let its rows be read: {error.diag.message_primary}",
            where=table,
            remedy=ROWS_REMEDY if would_hide_rows(error) else "grant SELECT on it to the user of the target URL",
        ) from None
