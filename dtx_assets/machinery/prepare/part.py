"""One part of a prepared dataset as the load needs it, and the rows of it that the live target could not take.

Nothing is written here; what is compared with the target's rows is in `diff`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from typing import Any

import polars as pl

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import content_hash, with_canonical_json
from dtx_assets.machinery.postgres.ddl import LiveColumn, LiveTarget
from dtx_assets.machinery.prepare.buckets import BUCKET, PORTION
from dtx_assets.machinery.prepare.printed import as_printed, not_as_printed

INTEGER_LIMITS = {"smallint": 1 << 15, "integer": 1 << 31}
TICKS = ("1s", "100ms", "10ms", "1ms", "100us", "10us")
"""The smallest step of a time that keeps so many digits of the second."""

REJECTED = pl.Schema(
    {
        "flow_id": pl.Int16(),
        "bucket": BUCKET,
        "partial": pl.Boolean(),
        "found_by_load": pl.Boolean(),
        "source_key": pl.String(),
        "source_row": pl.Int64(),
        "reasons": pl.List(pl.String),
        "detail": pl.String(),
        "row": pl.String(),
    }
)
SOURCE_KEY = pl.Schema({"flow_id": pl.Int16(), "source_key": pl.String()})
PROBLEM = pl.Schema(
    {"flow_id": pl.Int16(), "source_key": pl.String(), "source_row": pl.Int64(), "bucket": BUCKET}
    | {"reason": pl.String(), "detail": pl.String(), "partial": pl.Boolean()}
)


@dataclass(frozen=True)
class Part:
    """`rows`: `_row` (its position), the columns, `_hash`, and `_id`, which row of the target it is, where rows are
    updated or keys are written; `comparable` the same with canonical JSON.

    `links`: flow_id, source_key, source_row, bucket, parts, rows, owns (whether this source table owns the content),
    portion, and total: how many rows the source row gives in all parts, where one does not have them all.
    `rejected` is REJECTED; `problems` is PROBLEM: what the load itself found; `dropped` (flow_id, source_key) names
    source rows that were rejected before and that a rule drops now, where only such rows are looked at. `fits`: the
    live target is known to take and print all rows as they are.
    """

    name: str
    buckets: tuple[int, int]
    digest: str
    columns: tuple[TargetColumn, ...]
    rows: pl.DataFrame
    comparable: pl.DataFrame
    links: pl.DataFrame
    rejected: pl.DataFrame
    problems: pl.DataFrame
    dropped: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SOURCE_KEY))
    fits: bool = False

    @property
    def is_of_pairs(self) -> bool:
        """Whether its rows are pairs of a junction, each of which is taken or refused by itself."""
        return "total" in self.links.columns and bool(self.links.get_column("total").is_not_null().any())

    def with_ids(self, ids: pl.Series) -> "Part":
        ids = ids.alias("_id")
        return replace(self, rows=self.rows.with_columns(ids), comparable=self.comparable.with_columns(ids))


@dataclass(frozen=True)
class _Files:
    """What some files hold, of one part or of several, one after the other; `name`: the end of their names.

    Running an expression costs the same for few rows as for many, so what is the same for all parts is made here.
    """

    name: str
    columns: tuple[TargetColumn, ...]
    rows: pl.DataFrame
    comparable: pl.DataFrame
    links: pl.DataFrame
    fits: bool


class PreparedParts:
    """The parts of the prepared and rejected datasets of one target, read one at a time."""

    def __init__(
        self,
        lake: Lake,
        target: TargetTable,
        prepared: Manifest,
        rejected: Manifest,
        flow_id: Callable[[str], int],
        earlier_sources: Sequence[str] = (),
        *,
        activated: bool = False,
        live: LiveTarget | None = None,
    ) -> None:
        """`earlier_sources`: the tables that rows of the target came from in earlier loads; `live`: what takes rows.

        Of a target that was `activated`, the column that was held has the values it waited for.
        """
        self._lake, self._target, self._activated, self._live = lake, target, activated, live
        self.prepared, self.rejected = prepared, rejected
        self.described: list[dict[str, Any]] = prepared.metadata["parts"]
        names = [str(part["part"]) for part in self.described]
        self._rejected_files: dict[str, list[str]] = {name: [] for name in names}
        for entry in rejected.tables["rows"].files:
            stem = entry.name.removeprefix("rejected-").removesuffix(".parquet")
            parts = [str(part["part"]) for part in self.described if file_of(part) == stem]
            for name in parts or names[-1:]:
                self._rejected_files[name].append(entry.name)
        self._shares_files = any("stretch" in part for part in self.described)
        self._files: _Files | None = None
        self._rejected: tuple[tuple[str, ...], pl.DataFrame] | None = None
        sources = list(prepared.metadata["source_tables"])
        for manifest, table in ((prepared, "links"), (rejected, "rows")):
            if manifest.tables[table].rows:
                found = lake.scan_files(manifest, table).select(pl.col("source_table").unique())
                sources += found.collect(engine="streaming").to_series().sort().to_list()
        self.sources = frozenset(sources)
        # What earlier tables gave has to be found too, to be listed as vanished; they come last, and own nothing.
        self.flows = {source: flow_id(source) for source in dict.fromkeys([*sources, *earlier_sources])}

    def digest(self, number: int) -> str:
        """Changes with anything a part holds, rejected rows included."""
        return f"activated {self._digest(number)}" if self._activated else self._digest(number)

    def _digest(self, number: int) -> str:
        part = self.described[number]
        extra = [f for f in self._rejected_files[str(part["part"])] if f != f"rejected-{file_of(part)}.parquet"]
        if not extra and len(self.described) > 1:
            return str(part["digest"])
        # Rows that were merged into one part: its own digest knows nothing of what was rejected on the way.
        digest = sha256(str(part["digest"]).encode())
        buffer = BytesIO()
        self._read_rejected(number).write_parquet(buffer, compression="uncompressed", statistics=False)
        digest.update(buffer.getbuffer())
        return digest.hexdigest()

    def read(self, number: int) -> Part:
        described = self.described[number]
        name = str(described["part"])
        files = self._read_files(described)
        rows, links = lying_in(described, files.rows, files.links)
        comparable, _ = lying_in(described, files.comparable, files.links)
        links = links.filter(pl.col("rows").list.len() > 0)
        links = with_owner(links, self._ranks(), rows.height, name).drop("source_table")
        low, high = described["buckets"]
        if not rows.get_column("_row").equals(pl.int_range(rows.height, eager=True).alias("_row"), check_dtypes=False):
            raise StructureError(f"the rows of part {name} are not numbered from 0", where=str(self.prepared.key))
        return Part(
            name,
            (low, high),
            self.digest(number),
            files.columns,
            rows,
            comparable,
            links,
            self._read_rejected(number),
            pl.DataFrame(schema=PROBLEM),
            fits=files.fits,
        )

    def _read_files(self, described: Mapping[str, Any]) -> _Files:
        """Rows and links of a part. What it shares its files with comes next, so they are read once."""
        file, files = file_of(described), self._files
        if files is None or files.name != file:
            files = self._prepared_for_load(file, *read_files(self._lake, self.prepared, file))
            # Several threads read parts: what one of them keeps another may replace.
            self._files = files if "stretch" in described else None
        return files

    def _prepared_for_load(self, file: str, rows: pl.DataFrame, links: pl.DataFrame) -> _Files:
        known = {column.name: column for column in self._target.columns}
        if not self._shares_files:
            rows = rows.sort("_row")
        if self._target.writes == "update":
            rows = rows.rename({"id": "_id"})
        held = self._target.held_column
        if self._activated and f"_{held}" in rows.columns:
            rows = rows.with_columns(pl.col(f"_{held}").alias(str(held)))
        # What begins with an underscore is for whoever sends what belongs to a row, and is not written.
        columns = tuple(known[column] for column in rows.columns if column in known or not column.startswith("_"))
        comparable = with_canonical_json(rows, columns)
        hashes = comparable.select(content_hash(columns).alias("_hash")).to_series()
        junction = self._target.is_junction
        links = links.with_columns(
            _flow_column(self.flows),
            (pl.col("bucket") if junction else pl.lit(0)).cast(PORTION).alias("portion"),
            (pl.col("total") if junction else pl.lit(None)).cast(pl.Int64).alias("total"),
        )
        fits = self._live is not None and takes_all(rows, columns, self._target, self._live)
        return _Files(file, columns, rows.with_columns(hashes), comparable.with_columns(hashes), links, fits)

    def yielded(self, source_keys: pl.Series) -> pl.DataFrame:
        """What all parts yield for these source keys: flow_id, source_key, part."""
        links = (
            self._lake.scan_files(self.prepared, "links")
            .filter(pl.col("source_key").is_in(source_keys.implode()))
            .select("source_table", "source_key", pl.col("parts").alias("part"))
            .explode("part")
            .collect(engine="streaming")
        )
        return links.select(_flow_column(self.flows), "source_key", "part")

    def _ranks(self) -> dict[str, int]:
        """The first source table of a target owns the content of its rows."""
        return {source: rank for rank, source in enumerate(self.flows)}

    def _read_rejected(self, number: int) -> pl.DataFrame:
        described = self.described[number]
        files = tuple(self._rejected_files[str(described["part"])])
        if not files:
            return pl.DataFrame(schema=REJECTED)
        held = self._rejected
        if held is None or held[0] != files:
            found = self._lake.scan_files(self.rejected, "rows", files).select(
                _flow_column(self.flows),
                "bucket",
                "partial",
                pl.lit(False).alias("found_by_load"),
                "source_key",
                "source_row",
                "reasons",
                "detail",
                "row",
            )
            held = (files, found.collect().cast(REJECTED))
            self._rejected = held if "stretch" in described else None
        rejected = held[1]
        if rejected.height and "stretch" in described:
            rejected = rejected.filter(pl.col("bucket").is_between(*described["buckets"]))
        return rejected

    def absent(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Those of the source rows (`flow_id`, `source_key`) that give nothing and are not rejected."""
        found = [
            self._lake.scan_files(manifest, table)
            .select("source_table", "source_key")
            .filter(pl.col("source_key").is_in(keys.get_column("source_key").unique().implode()))
            .collect(engine="streaming")
            .select(_flow_column(self.flows), "source_key")
            for manifest, table in ((self.prepared, "links"), (self.rejected, "rows"))
            if manifest.tables[table].rows
        ]
        named = pl.concat([keys.select(SOURCE_KEY.names()).clear(), *found])
        return keys.join(named, on=SOURCE_KEY.names(), how="anti")


def file_of(described: Mapping[str, Any]) -> str:
    """The end of the names of the files that a part lies in, which others may share with it."""
    return str(described.get("file") or described.get("stretch", described["part"]))


def read_files(lake: Lake, prepared: Manifest, file: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows and the links of all parts that lie in some files."""
    rows, links = (
        lake.scan_files(prepared, table, [f"{table}-{file}.parquet"]).collect() for table in ("rows", "links")
    )
    return rows, links


def lying_in(
    described: Mapping[str, Any], rows: pl.DataFrame, links: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows and the links of one part among those of its files."""
    if "stretch" not in described:
        return rows, links
    return (
        rows.slice(described["rows_from"], described["rows"]),
        links.slice(described["links_from"], described["links"]),
    )


def _flow_column(flows: dict[str, int]) -> pl.Expr:
    if not flows:
        # No row leads to the target, and of nothing to replace Polars does not give the type that it is asked for.
        return pl.lit(None, pl.Int16).alias("flow_id")
    return pl.col("source_table").replace_strict(flows, return_dtype=pl.Int16).alias("flow_id")


def with_owner(links: pl.DataFrame, ranks: dict[str, int], rows: int, part: str) -> pl.DataFrame:
    """Adds `owns`: whether no source table that comes before it links to the same rows."""
    if links.get_column("source_table").n_unique() <= 1:
        _require_all_linked(links.get_column("rows").explode().n_unique(), rows, part)
        return links.with_columns(pl.lit(True).alias("owns"))
    ranked = links.with_columns(
        pl.col("source_table").replace_strict(ranks, return_dtype=pl.Int64).alias("_rank"),
        pl.int_range(pl.len()).alias("_link"),
    )
    exploded = ranked.select("_link", "_rank", pl.col("rows").alias("_row")).explode("_row")
    first = exploded.group_by("_row").agg(pl.col("_rank").min().alias("_first"))
    _require_all_linked(first.height, rows, part)
    owning = exploded.join(first, on="_row").filter(pl.col("_rank") == pl.col("_first")).get_column("_link").unique()
    return links.with_columns(pl.int_range(pl.len()).is_in(owning.implode()).alias("owns"))


def _require_all_linked(linked: int, rows: int, part: str) -> None:
    if linked != rows:
        raise StructureError(
            f"{rows - linked} prepared rows of part {part} come from no source row",
            remedy="this is a fault of the flow, please report it",
        )


# --- what the live target cannot take ---------------------------------------------------------------------------------


def without_violations(connection: Connection, target: TargetTable, live: LiveTarget, part: Part) -> Part:
    """The part without the source rows of which the live target would refuse a row; they are its `problems`."""
    if part.fits:
        return part
    rows, unreadable = as_printed(part.rows, part.columns, live.columns, lambda: nullcontext(connection))
    if rows is not part.rows:
        part = _with_texts(part, rows)
    unfit = misfits(part.rows, part.columns, live.columns, fills=target.writes != "insert")
    return without_rows(part, [*unfit, *unreadable])


def takes_all(rows: pl.DataFrame, columns: Sequence[TargetColumn], target: TargetTable, live: LiveTarget) -> bool:
    """Whether the live target takes all rows, and prints them as they are."""
    if any(column.name not in live.columns for column in columns):
        return False
    odd = [test for column in columns for test in not_as_printed(column, live.columns[column.name])]
    if odd and rows.select(pl.any_horizontal(test.fill_null(False).any() for test in odd)).item():
        return False
    return not misfits(rows, columns, live.columns, fills=target.writes != "insert")


def _with_texts(part: Part, rows: pl.DataFrame) -> Part:
    """The part with other texts of the same values."""
    changed = [column.name for column in part.columns if column.is_held_as_text and not column.kind.is_json]
    comparable = part.comparable.with_columns(rows.select(changed))
    hashes = comparable.select(content_hash(part.columns).alias("_hash")).to_series()
    return replace(part, rows=rows.with_columns(hashes), comparable=comparable.with_columns(hashes))


def without_rows(part: Part, found: Sequence[pl.DataFrame]) -> Part:
    """The part without the source rows of what is `found` (`_row`, `reason`, `detail`); they become `problems`."""
    if not found:
        return part
    refused = pl.concat(found).group_by("_row").agg(pl.col("reason").first(), pl.col("detail").first())
    if part.is_of_pairs:
        return _without_pairs(part, refused)
    exploded = part.links.select(
        pl.int_range(pl.len()).alias("_link"), "flow_id", "source_key", "source_row", "bucket", "owns", "rows"
    ).explode("rows")
    owners = exploded.filter(pl.col("owns")).join(refused, left_on="rows", right_on="_row", how="left")
    rejected_links = (
        owners.filter(pl.col("reason").is_not_null())
        .group_by("_link")
        .agg(pl.col("flow_id", "source_key", "source_row", "bucket", "reason", "detail").first())
    )
    kept = owners.join(rejected_links, on="_link", how="anti").get_column("rows").unique()
    gone = part.rows.filter(~pl.col("_row").is_in(kept.implode())).get_column("_row")
    without_rows = (
        exploded.filter(~pl.col("owns"))
        .group_by("_link")
        .agg(
            pl.col("flow_id", "source_key", "source_row", "bucket").first(),
            pl.col("rows").is_in(gone.implode()).all().alias("_all"),
        )
        .filter("_all")
        .select(
            pl.exclude("_all"),
            pl.lit("no_matching_row").alias("reason"),
            pl.lit("the row it belongs to was rejected by the target").alias("detail"),
        )
    )
    dropped = pl.concat([rejected_links, without_rows])
    problems = dropped.select(
        "flow_id", "source_key", "source_row", "bucket", "reason", "detail", partial=pl.lit(False)
    )
    return renumbered(
        replace(
            part,
            rows=part.rows.filter(~pl.col("_row").is_in(gone.implode())),
            comparable=part.comparable.filter(~pl.col("_row").is_in(gone.implode())),
            links=part.links.filter(~pl.int_range(pl.len()).is_in(dropped.get_column("_link").implode())),
            problems=pl.concat([part.problems, problems.cast(PROBLEM)]),
        )
    )


def _without_pairs(part: Part, refused: pl.DataFrame) -> Part:
    """The same of a junction: a pair that is refused is a part of each document that names it.

    A document is rejected where all its pairs are refused, and all of them are in this part.
    """
    links = part.links.with_row_index("_link")
    pairs = links.drop("owns", "portion").explode("parts", "rows").join(refused, left_on="rows", right_on="_row")
    source = ["flow_id", "source_key"]
    problems = pairs.select(
        *source,
        "source_row",
        # One entry a document that is rejected, whatever buckets its pairs are in.
        pl.when(pl.len() < pl.col("total")).then("bucket").otherwise(pl.col("bucket").min()).over(source),
        "reason",
        pl.format("{}: {}", "parts", "detail").alias("detail"),
        (pl.len() < pl.col("total")).over(source).alias("partial"),
    )
    lost = pairs.group_by(source).agg(pl.len().cast(pl.Int64).alias("_lost"))
    left = part.links.join(lost, on=source, how="left", maintain_order="left")
    stays = ~pl.col("_row").is_in(refused.get_column("_row").implode())
    return renumbered(
        replace(
            part,
            rows=part.rows.filter(stays),
            comparable=part.comparable.filter(stays),
            links=left.with_columns(pl.col("total") - pl.col("_lost").fill_null(0)).select(part.links.columns),
            problems=pl.concat([part.problems, problems.select(PROBLEM.names()).cast(PROBLEM)]),
        )
    )


def renumbered(part: Part) -> Part:
    """Rows are numbered by their position again, and links follow; what they linked to and is gone is left out."""
    rows = part.rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_new"))
    exploded = (
        part.links.with_row_index("_link")
        .explode("parts", "rows")
        .join(rows.select("_row", "_new"), left_on="rows", right_on="_row", maintain_order="left")
    )
    links = exploded.group_by("_link", maintain_order=True).agg(
        pl.exclude("_link", "parts", "rows", "_new").first(),
        pl.col("parts"),
        pl.col("_new").alias("rows"),
    )
    return replace(
        part,
        rows=rows.with_columns(pl.col("_new").alias("_row")).drop("_new"),
        comparable=part.comparable.with_columns(rows.get_column("_new").alias("_row")),
        links=links.drop("_link").select(part.links.columns),
    )


def misfits(
    rows: pl.DataFrame, columns: Sequence[TargetColumn], live: Mapping[str, LiveColumn], *, fills: bool
) -> list[pl.DataFrame]:
    """Values that are too long, too large, too precise, or NULL where the live column takes none, by `_row`.

    `fills`: the rows are of others, and NULL is what a unit of theirs does not write.
    """
    tests = [
        (column.name, test.fill_null(False), detail)
        for column in columns
        for test, detail in _tests(column, live[column.name], fills=fills)
    ]
    # Most fail nowhere, and are looked at together.
    fails = rows.select(test.any().alias(str(number)) for number, (_, test, _) in enumerate(tests))
    return [
        rows.filter(test).select(
            "_row", pl.lit("schema_violation").alias("reason"), pl.lit(f"{name}: {detail}").alias("detail")
        )
        for number, (name, test, detail) in enumerate(tests)
        if fails.item(0, str(number))
    ]


def _tests(column: TargetColumn, live: LiveColumn, *, fills: bool) -> Iterator[tuple[pl.Expr, str]]:
    """Where a live column does not hold a value, and why."""
    value = pl.col(column.name)
    if not live.nullable and not fills:
        yield value.is_null(), "is NULL, and the target requires a value"
    if live.max_length is not None and column.kind.is_text:
        yield value.str.len_chars() > live.max_length, f"is longer than {live.max_length} characters"
    if (limit := INTEGER_LIMITS.get(live.type)) is not None and not column.is_held_as_text:
        yield ~value.is_between(-limit, limit - 1), f"does not fit into {live.type}"
    if live.precision is not None and live.precision < len(TICKS) and not column.is_held_as_text:
        rounded = value.dt.truncate(TICKS[live.precision])
        yield value != rounded, f"has more than the {live.precision} digits of the second that the target keeps"
