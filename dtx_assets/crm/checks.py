"""What people should see of NextCRM's documents beside what any declaration calls for: made of its mapping files."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import polars as pl
from psycopg import sql

from dtx_assets.machinery.checks.own import Checks, Find, Look, OwnCheck
from dtx_assets.machinery.checks.spec import CheckOutcome, found
from dtx_assets.machinery.look_ups.assets import count_not_inserted_by, not_inserted_by
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.mapping.model import ColumnMapping
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.ddl import qualified
from dtx_assets.machinery.sources.landing import ROW
from dtx_assets.machinery.system.system import System

OF_ITS_TIME = r"^(?:19|20)\d\d-\d\d-\d\d [^B]*$"
"""A time of the years 1900 to 2099, as PostgreSQL prints it."""
HEX_TEXT = r'"([0-9A-Fa-f]{24})"'
IDS = r'(?:\{"\$oid":)?"\s*[0-9A-Fa-f]{24}\s*"'
NAMES = ("name", "title", "email", "serviceName")
"""Columns by which people tell rows apart."""


class DocumentChecks:
    """The own checks of a system of documents; which ones there are follows from its mapping files."""

    def irrelevant_decisions(self, _decisions: Decisions) -> Collection[str]:
        return ()

    def of(self, system: System) -> Sequence[OwnCheck]:
        checks = Checks()
        mapped = [target for target in system.filled_targets if not target.is_junction]
        prepared = tuple(f"prepared/{target.model}" for target in mapped)
        for target in mapped:
            _add(checks, system, target, prepared)
        for target in system.filled_targets:
            checks.on(f"target/{target.model}", name="not_ours", description=NOT_OURS)(not_ours)
        return checks.of(system)


def _add(checks: Checks, system: System, target: TargetTable, prepared: Sequence[str]) -> None:
    """The checks of the rows of one collection."""
    asset = f"prepared/{target.model}"
    columns = list(columns_of(system, target))
    times = [column.name for _, _, column in columns if column.kind.name.startswith("timestamp")]
    if times:
        checks.on(asset, name="dates_are_of_their_time", description="All dates are of the years 1900 to 2099.")(
            lambda _look, names=times: outside(names)
        )
    texts = [field for field, entry, column in columns if not entry.crosswalk and (_is_text(column))]
    if texts:
        # It waits for all that is prepared, which nothing that is prepared from this may wait for.
        checks.on(
            f"target/{target.model}",
            name="ids_in_text",
            needs=prepared,
            rows=partial(texts_with_ids, model=target.model, texts=texts, system=system),
            description="No text is the id of a migrated document, no JSON holds an ObjectId: they stay as they are.",
        )(lambda _look: Find(pl.lit(True), show=["field"], values={"by field": pl.col("field")}))
    ids = [(field, str(entry.crosswalk), column) for field, entry, column in columns if entry.crosswalk]
    for name, description, named in (
        (
            "unconstrained_references",
            "Every id without a foreign key names a document that is migrated.",
            {field: crosswalk for field, crosswalk, column in ids if not column.references},
        ),
        (
            "dangling_references",
            "Every id that a row can do without names a document that is migrated; of others it has NULL.",
            {field: crosswalk for field, crosswalk, column in ids if column.references and column.nullable},
        ),
    ):
        if named:
            checks.on(
                asset,
                name=name,
                needs=[f"mapping/{crosswalk}" for crosswalk in sorted(set(named.values()))],
                rows=partial(lost_ids, model=target.model, named=named),
                description=description,
            )(lambda _look: Find(pl.lit(True), show=["field", "id"], values={"by field": pl.col("field")}))
    if "email" in target.natural_key:
        same = pl.col("email").str.to_lowercase()
        checks.on(asset, name="email_case", description="No two e-mails differ by case only.")(
            lambda _look: Find(pl.col("email").n_unique().over(same) > 1, show=["email"])
        )


def _is_text(column: TargetColumn) -> bool:
    return column.kind.is_text or column.kind.is_json or (column.kind.is_array and column.kind.name == "text")


def columns_of(system: System, target: TargetTable) -> Iterator[tuple[str, ColumnMapping, Any]]:
    """Field, how its column is made, and the column, of each that a document's own row has."""
    for source in system.mappings.for_target(target.model).sources.values():
        for name, entry in source.columns.items():
            if name not in target.key:
                yield entry.from_[0], entry, target.column(name)


def outside(names: Sequence[str]) -> Find:
    wrong = {name: ~pl.col(name).str.contains(OF_ITS_TIME) for name in names}
    return Find(pl.any_horizontal(wrong.values()), show=list(names), counts=wrong)


def texts_with_ids(look: Look, *, model: str, texts: Sequence[str], system: System) -> pl.LazyFrame:
    """`_source_key` and `field` of each text that is the id of a migrated document, and of ObjectIds in JSON."""
    target = system.target(model)
    kinds = {field: column.kind for field, _, column in columns_of(system, target)}
    legacy = look.legacy(model)
    ids = pl.concat(
        look.links(each.model).select(pl.col("source_key").alias("id"))
        for each in system.filled_targets
        if not each.is_junction
    )
    holding, naming = [], []
    for field in texts:
        column, told = pl.col(field), ("_source_key", pl.lit(field).alias("field"))
        if kinds[field].is_json:
            holding.append(legacy.filter(column.str.contains('{"$oid":', literal=True)).select(told))
        else:
            found = column.str.extract_all(HEX_TEXT).alias("id")
            naming.append(legacy.filter(column.str.contains(HEX_TEXT)).select(*told, found).explode("id"))
    if naming:
        digits = pl.col("id").str.strip_chars('"').str.to_lowercase()
        # Together: each join reads the links of all tables.
        named = pl.concat(naming).with_columns(digits).join(ids.unique(), on="id", how="semi")
        holding.append(named.select("_source_key", "field"))
    return pl.concat(holding)


def lost_ids(look: Look, *, model: str, named: dict[str, str]) -> pl.LazyFrame:
    """`_source_key`, `field` and `id` of each id of a migrated document that names none that is migrated."""
    legacy = look.legacy(model).join(look.links(model), left_on=ROW, right_on="source_row", how="semi")
    made = []
    for field, crosswalk in named.items():
        ids = (
            legacy.select("_source_key", pl.col(field).str.extract_all(IDS).alias("id"))
            .explode("id", empty_as_null=False, keep_nulls=False)
            .with_columns(pl.col("id").str.extract(r"([0-9A-Fa-f]{24})", 1).str.to_lowercase())
        )
        there = look.mapping(crosswalk).filter(pl.col("target_id").is_not_null())
        lost = ids.join(there, left_on="id", right_on="source_id", how="anti")
        made.append(lost.select("_source_key", pl.lit(field).alias("field"), "id"))
    return pl.concat(made)


NOT_OURS = (
    "All rows of the table were written by this migration; of others, the names that stand there twice are shown."
)


def not_ours(look: Look) -> CheckOutcome:
    """Rows that others wrote, and which of their names rows of ours have too."""
    target = look.system.target(look.asset[1])
    theirs = not_inserted_by(look.system.name, target.name, target.key)
    table = qualified(target)
    rows = look.select(count_not_inserted_by(look.system.name, target.name, target.key, table)).collect().item()
    twice = {}
    for name in [column.name for column in target.columns if column.name in NAMES] if rows else []:
        shared = sql.SQL(
            "SELECT DISTINCT t.{1} FROM {0} AS t JOIN {0} AS other ON other.{1} = t.{1} AND other.ctid <> t.ctid"
            " WHERE {2} LIMIT 20"
        ).format(table, sql.Identifier(name), theirs)
        values = look.select(shared).collect().to_series().to_list()
        twice[name] = sorted(map(str, values))
    return found(rows, **{f"{name} that stands there twice": values for name, values in twice.items() if values})


CHECKS = DocumentChecks()
