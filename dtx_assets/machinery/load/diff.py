"""What becomes of each prepared row of a part, given what was written before and what is there now.

Pure functions over frames: no SQL, no connection. Fates of a row: `insert`, `update`, `unchanged`, `adopt` (someone
else made the same row), `conflict` (someone else's values are there).
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.load.entries import LINKED
from dtx_assets.machinery.model.target import TargetColumn, TargetTable, polars_type
from dtx_assets.machinery.postgres.content import (
    canonical_json,
    content_hash,
    key_value,
    unit_hash,
    with_canonical_json,
)
from dtx_assets.machinery.prepare.buckets import BUCKET

THEIRS = "another owner's row has other values"
CHANGED = "someone changed what this migration wrote"
MOVED = "someone changed the key of what this migration wrote"
DELETED = "someone deleted what this migration wrote"
MISSING = "the row to be filled is not there any more"

_TAGGED_NUMBER = re.compile(r'"\\u0000([^"]*)"')

FATES = pl.Schema(
    {
        "_row": pl.Int64(),
        "fate": pl.String(),
        "target_id": pl.Int64(),
        "adopted": pl.Boolean(),
        "hash": pl.UInt64(),
        "shape": pl.String(),
        "cause": pl.String(),
        "columns": pl.List(pl.String),
    }
)
"""`target_id`: null where the row is not there; `hash`: of the values it has in the end; `shape`: the columns and JSON
keys that a unit writes; `columns`: that differ."""

YIELDS = pl.Schema(
    {
        "flow_id": pl.Int16(),
        "source_key": pl.String(),
        "source_row": pl.Int64(),
        "bucket": BUCKET,
        "part": pl.String(),
        "_row": pl.Int64(),
        "owns": pl.Boolean(),
    }
)
"""One row a (source row, prepared row)."""

SOURCE = ["flow_id", "source_key"]
PLACE = ["flow_id", "source_key", "part"]


def yields_of(links: pl.DataFrame) -> pl.DataFrame:
    """The links of a part taken apart, in their order."""
    return links.rename({"parts": "part", "rows": "_row"}).explode("part", "_row").select(YIELDS.names()).cast(YIELDS)


def known_rows(stored: pl.DataFrame) -> pl.DataFrame:
    """What was written before, one row a target row: target_id, `written` (hash), batch_id, adopted."""
    return (
        stored.filter(pl.col("hash").is_not_null())
        .sort("batch_id")
        .group_by("target_id")
        .agg(pl.col("hash").last().alias("written"), pl.col("batch_id").last(), pl.col("adopted").last())
    )


def with_ownership(
    current: pl.DataFrame,
    columns: Sequence[TargetColumn],
    known: pl.DataFrame,
    written_columns: dict[int, Sequence[TargetColumn] | None],
) -> pl.DataFrame:
    """Adds to the rows of the target `_hash` (of the columns), `known`, `adopted`, and `same` (as left or as found).

    `written_columns` gives the columns that each batch hashed; None where one of them is not there any more.
    """
    current = current.with_columns(content_hash(columns).alias("_hash")).join(
        known, left_on="id", right_on="target_id", how="left", maintain_order="left"
    )
    groups: dict[tuple[TargetColumn, ...], list[int]] = {}
    for batch, written in written_columns.items():
        if written is not None:
            groups.setdefault(tuple(written), []).append(batch)
    same = pl.lit(False)
    for written, batches in groups.items():
        hashed = pl.col("_hash") if written == tuple(columns) else content_hash(written)
        same = pl.when(pl.col("batch_id").is_in(batches)).then(hashed == pl.col("written")).otherwise(same)
    return current.with_columns(
        pl.col("written").is_not_null().alias("known"),
        pl.col("adopted").fill_null(False),
        same.fill_null(False).alias("same"),
    ).drop("written", "batch_id")


def with_former_rows(current: pl.DataFrame, made: pl.DataFrame, own_xmins: pl.Series) -> pl.DataFrame:
    """Rows that the mapping does not know are `known` too where this system made them.

    `made`: `low` and `beyond` of the ids that it gave, ascending. Such a row is the `same` while the transaction that
    wrote it last is one of `own_xmins`.
    """
    former = (
        current.select("id")
        .sort("id")
        .join_asof(made, left_on="id", right_on="low")
        .filter(pl.col("id") < pl.col("beyond"))
        .get_column("id")
    )
    found = ~pl.col("known") & pl.col("id").is_in(former.implode())
    return current.with_columns(
        pl.when(found).then(pl.col("xmin").is_in(own_xmins.implode())).otherwise("same").alias("same"),
        (pl.col("known") | found).alias("known"),
    )


# --- rows that this system creates ------------------------------------------------------------------------------------


def insert_fates(
    target: TargetTable,
    columns: Sequence[TargetColumn],
    rows: pl.DataFrame,
    yields: pl.DataFrame,
    stored: pl.DataFrame,
    current: pl.DataFrame,
    *,
    overwrite: bool,
) -> pl.DataFrame:
    """FATES of the rows of a target that this system creates.

    `rows`: `_row`, `_hash`, columns with canonical JSON; `current`: `id`, `xmin`, `_hash`, the same columns, and
    what `with_ownership` adds. A natural key says which row of the target a prepared row is, else the mapping does.
    """
    mapped = (
        yields.filter("owns")
        .join(stored, on=PLACE)
        .group_by("_row")
        .agg(pl.col("target_id").first().alias("mapped_id"))
    )
    facts = current.select("id", "xmin", "_hash", "known", "adopted", "same")
    key = list(target.natural_key)
    keyed = pl.lit(bool(key)) & (
        pl.lit(True) if target.nulls_equal or not key else pl.all_horizontal(pl.col(name).is_not_null() for name in key)
    )
    joined = rows.with_columns(keyed.alias("keyed")).join(mapped, on="_row", how="left", maintain_order="left")
    if key:
        equal_keys = [key_value(target.column(name)).alias(f"{name}@key") for name in key]
        present = current.select(*equal_keys, pl.col("id").alias("found_id"))
        joined = joined.with_columns(equal_keys).join(
            present,
            on=[f"{name}@key" for name in key],
            how="left",
            nulls_equal=target.nulls_equal,
            maintain_order="left",
        )
    else:
        joined = joined.with_columns(pl.lit(None, pl.Int64).alias("found_id"))
    of_mapped = facts.select(pl.col("id").alias("mapped_id"), pl.col("same").alias("mapped_same"))
    joined = joined.join(of_mapped, on="mapped_id", how="left", maintain_order="left")
    deleted = (
        stored.join(current, left_on="target_id", right_on="id", how="anti").get_column("hash").drop_nulls().unique()
    )
    mapped_there = pl.col("mapped_same").is_not_null()
    # Its key was changed by someone: the row is still the one that was written.
    displaced = pl.col("keyed") & pl.col("found_id").is_null() & mapped_there & ~pl.col("mapped_same")
    joined = joined.with_columns(
        pl.when(displaced)
        .then("mapped_id")
        .when("keyed")
        .then("found_id")
        .otherwise(pl.when(mapped_there).then("mapped_id"))
        .alias("id"),
        displaced.fill_null(False).alias("displaced"),
    ).join(facts, on="id", how="left", suffix="@now", maintain_order="left")
    there = pl.col("id").is_not_null()
    equal = pl.col("_hash") == pl.col("_hash@now")
    was_deleted = ~there & (
        (pl.col("mapped_id").is_not_null() & ~mapped_there)
        # Without a key, an equal row of another source row is another row.
        | (pl.col("keyed") & pl.col("mapped_id").is_null() & pl.col("_hash").is_in(deleted.implode()))
    )
    fate = (
        pl.when(there & equal & pl.col("known"))
        .then(pl.lit("unchanged"))
        .when(there & equal)
        .then(pl.lit("adopt"))
        .when(there & pl.col("known") & pl.col("same") & ~pl.col("adopted"))
        .then(pl.lit("update"))
        .when(there)
        .then(pl.lit("update" if overwrite else "conflict"))
        .when(was_deleted)
        .then(pl.lit("insert" if overwrite else "conflict"))
        .otherwise(pl.lit("insert"))
    )
    cause = (
        pl.when("displaced")
        .then(pl.lit(MOVED))
        .when(~there)
        .then(pl.lit(DELETED))
        .when(pl.col("known") & ~pl.col("adopted"))
        .then(pl.lit(CHANGED))
        .otherwise(pl.lit(THEIRS))
    )
    fates = joined.select(
        "_row",
        fate.alias("fate"),
        pl.col("id").alias("target_id"),
        (pl.col("adopted").fill_null(False) | (fate == "adopt")).alias("adopted"),
        pl.col("_hash").alias("hash"),
        pl.lit(None, pl.String).alias("shape"),
        pl.when(fate == "conflict").then(cause).alias("cause"),
    )
    return fates.join(_differing(columns, rows, current, fates), on="_row", how="left", maintain_order="left").select(
        FATES.names()
    )


def _differing(
    columns: Sequence[TargetColumn], rows: pl.DataFrame, current: pl.DataFrame, fates: pl.DataFrame
) -> pl.DataFrame:
    """The names of the columns in which rows that are updated or in conflict differ from what is there."""
    names = [column.name for column in columns]
    looked_at = fates.filter(pl.col("fate").is_in(["update", "conflict"]) & pl.col("target_id").is_not_null())
    pairs = (
        looked_at.select("_row", "target_id")
        .join(rows.select("_row", *names), on="_row")
        .join(current.select("id", *names), left_on="target_id", right_on="id", suffix="@now")
    )
    differing = [
        pl.when(pl.col(name).ne_missing(pl.col(f"{name}@now"))).then(pl.lit(name)).otherwise(None) for name in names
    ]
    return pairs.select("_row", pl.concat_list(differing).list.drop_nulls().alias("columns"))


# --- rows of others, of which this system fills columns ---------------------------------------------------------------


@dataclass(frozen=True)
class Filled:
    """`values`: one row an updated target row, `id` and the columns as they are to be after the load."""

    fates: pl.DataFrame
    values: pl.DataFrame


UNIT = ["target_id", "part"]
"""What tells units apart: a prepared row of such a target is what one part fills of one row."""


def known_units(stored: pl.DataFrame) -> pl.DataFrame:
    """What was written before, one row a unit: target_id, part, `written` (hash), `had` (shape), adopted."""
    return (
        stored.filter(pl.col("hash").is_not_null())
        .sort("batch_id")
        .group_by(UNIT)
        .agg(pl.col("hash").last().alias("written"), pl.col("shape").last().alias("had"), pl.col("adopted").last())
    )


def update_fates(
    columns: Sequence[TargetColumn],
    rows: pl.DataFrame,
    yields: pl.DataFrame,
    stored: pl.DataFrame,
    current: pl.DataFrame,
    *,
    overwrite: bool,
) -> Filled:
    """FATES of units. Each column is written where it is NULL, empty, false or lacks the JSON key.

    `rows`: `_row`, `id` and the columns; NULL is not written, of JSON just the keys that the document names. `current`
    has `id`, the columns and `<name>@raw` of JSON ones. A unit is written whole or not at all; several units may fill
    one row, and each of them is looked at alone: what it fills, as it was written or found before, is its own. A key
    or column that a unit filled before and fills no longer stays as it is.
    """
    names = [column.name for column in columns]
    # Documents are merged as they are, not as they are compared.
    now_names = [f"{c.name}@raw" if c.kind.is_json else c.name for c in columns]
    parts = yields.group_by("_row").agg(pl.col("part").first())
    now = current.select(
        "id",
        *(pl.col(raw).alias(f"{name}@now") for name, raw in zip(names, now_names, strict=True)),
        pl.lit(True).alias("there"),
    )
    joined = (
        rows.select("_row", "id", *names)
        .join(parts, on="_row", how="left", maintain_order="left")
        .join(now, on="id", how="left", maintain_order="left")
        .join(known_units(stored), left_on=["id", "part"], right_on=UNIT, how="left", maintain_order="left")
    )
    for column in columns:
        joined = _looked_at_json(joined, column.name) if column.kind.is_json else _looked_at(joined, column)
    joined = joined.with_columns(_shape(names)).with_columns(pl.coalesce("had", "shape").alias("had"))
    joined = _as_it_was(joined, columns)
    found = with_canonical_json(joined.select(pl.col(f"{name}@found").alias(name) for name in names), columns)
    wanted = with_canonical_json(joined.select(names), columns)
    joined = joined.with_columns(
        (found.select(unit_hash(columns)).to_series() == pl.col("written")).fill_null(False).alias("same"),
        wanted.select(unit_hash(columns)).to_series().alias("hash"),
    )
    known = pl.col("written").is_not_null()
    adopted = pl.col("adopted").fill_null(False)
    ours = known & ~adopted
    equal = ~pl.any_horizontal(pl.col(f"{name}@differs") for name in names)
    in_the_way = pl.any_horizontal(pl.col(f"{name}@conflict") for name in names)
    refused = pl.lit("update" if overwrite else "conflict")
    fate = (
        pl.when(pl.col("there").is_null())
        .then(pl.lit("conflict"))
        .when(equal & known)
        .then(pl.lit("unchanged"))
        .when(equal)
        .then(pl.lit("adopt"))
        .when(ours & pl.col("same"))
        .then(pl.lit("update"))
        .when(ours | in_the_way)
        .then(refused)
        .otherwise(pl.lit("update"))
    )
    cause = (
        pl.when(pl.col("there").is_null())
        .then(pl.lit(MISSING))
        .when(ours)
        .then(pl.lit(CHANGED))
        .otherwise(pl.lit(THEIRS))
    )
    joined = joined.with_columns(fate.alias("fate"))
    fates = joined.select(
        "_row",
        "fate",
        pl.when("there").then("id").alias("target_id"),
        (adopted & (pl.col("fate") != "update") | (pl.col("fate") == "adopt")).alias("adopted"),
        "hash",
        "shape",
        pl.when(pl.col("fate") == "conflict").then(cause).alias("cause"),
        pl.concat_list(pl.when(pl.col("there") & pl.col(f"{name}@differs")).then(pl.lit(name)) for name in names)
        .list.drop_nulls()
        .alias("columns"),
    )
    return Filled(fates.cast(FATES), _filled_rows(columns, joined.filter(pl.col("fate") == "update")))


def _looked_at(joined: pl.DataFrame, column: TargetColumn) -> pl.DataFrame:
    """Adds `@shape` (not null where the unit writes it), `@differs` and `@conflict` of a plain column."""
    name = column.name
    now, wanted = pl.col(f"{name}@now"), pl.col(name)
    free = now.is_null()
    if column.kind.is_text:
        free |= now == ""
    elif column.type == "boolean":
        free |= ~now
    differs = wanted.is_not_null() & now.ne_missing(wanted)
    return joined.with_columns(
        pl.when(wanted.is_not_null()).then(pl.lit("null")).alias(f"{name}@shape"),
        differs.alias(f"{name}@differs"),
        (differs & ~free).alias(f"{name}@conflict"),
    )


def _looked_at_json(joined: pl.DataFrame, name: str) -> pl.DataFrame:
    """The same of a JSON column: of the document that is there, only the keys that are wanted are looked at."""
    pairs = joined.select(name, f"{name}@now").unique(maintain_order=True)
    shapes, differs, conflict = [], [], []
    for wanted, now in pairs.iter_rows():
        merged, taken = merge_json(now, wanted)
        shapes.append(shape_of(wanted))
        differs.append(merged != now)
        conflict.append(taken)
    looked_at = pairs.with_columns(
        pl.Series(f"{name}@shape", shapes, dtype=pl.String),
        pl.Series(f"{name}@differs", differs, dtype=pl.Boolean),
        pl.Series(f"{name}@conflict", conflict, dtype=pl.Boolean),
    )
    return joined.join(looked_at, on=[name, f"{name}@now"], how="left", nulls_equal=True, maintain_order="left")


def _shape(names: Sequence[str]) -> pl.Expr:
    """What a unit writes, as JSON: `{"note":null,"settings":{"labels":{"NAME":null}}}`."""
    members = [pl.concat_str(pl.lit(f"{json.dumps(name)}:"), pl.col(f"{name}@shape")) for name in names]
    listed = pl.concat_str(members, separator=",", ignore_nulls=True)
    return pl.concat_str(pl.lit("{"), listed, pl.lit("}")).alias("shape")


def _as_it_was(joined: pl.DataFrame, columns: Sequence[TargetColumn]) -> pl.DataFrame:
    """Adds `@found`: what the columns hold now of what the unit wrote before, which may be more or less than now."""
    had = joined.get_column("had").unique(maintain_order=True)
    written = [json.loads(shape) for shape in had]
    names = [column.name for column in columns]
    parts = pl.DataFrame(
        {"had": had}
        | {
            f"{name}@had": pl.Series(
                [json.dumps(shape[name]) if name in shape else None for shape in written], dtype=pl.String
            )
            for name in names
        }
    )
    joined = joined.join(parts, on="had", how="left", maintain_order="left")
    for column in columns:
        name = column.name
        now, part = f"{name}@now", f"{name}@had"
        if not column.kind.is_json:
            joined = joined.with_columns(pl.when(pl.col(part).is_not_null()).then(now).alias(f"{name}@found"))
            continue
        pairs = joined.select(now, part).unique(maintain_order=True)
        found = [project_json(document, shape) for document, shape in pairs.iter_rows()]
        pairs = pairs.with_columns(pl.Series(f"{name}@found", found, dtype=pl.String))
        joined = joined.join(pairs, on=[now, part], how="left", nulls_equal=True, maintain_order="left")
    return joined


def _filled_rows(columns: Sequence[TargetColumn], units: pl.DataFrame) -> pl.DataFrame:
    """One row a target row with all its units written: `id` and the columns; those that no unit writes as they are.

    StructureError where two units want different values in one place.
    """
    filled = units.group_by("id", maintain_order=True).agg(
        *(pl.col(column.name).drop_nulls().unique(maintain_order=True) for column in columns),
        *(pl.col(f"{column.name}@now").first() for column in columns),
    )
    for column in columns:
        name = column.name
        if column.kind.is_json:
            documents = filled.select("id", name, f"{name}@now")
            merged = [_merged(place, name, now, wanted) for place, wanted, now in documents.iter_rows()]
            filled = filled.with_columns(pl.Series(name, merged, dtype=pl.String))
            continue
        twice = filled.filter(pl.col(name).list.len() > 1).get_column("id")
        if len(twice):
            raise _at_odds(name, twice[0])
        filled = filled.with_columns(pl.coalesce(pl.col(name).list.first(), f"{name}@now").alias(name))
    return filled.select("id", *(column.name for column in columns))


def _merged(place: int, name: str, now: str | None, units: Iterable[str]) -> str | None:
    wanted: str | None = None
    for unit in units:
        wanted, at_odds = merge_json(wanted, unit)
        if at_odds:
            raise _at_odds(name, place)
    return merge_json(now, wanted)[0]


def _at_odds(name: str, place: int) -> StructureError:
    return StructureError(
        f"two prepared rows want different values in {name} of the row with id {place}",
        remedy="this is a fault of the flow, please report it",
    )


# --- documents --------------------------------------------------------------------------------------------------------

EMPTY_DOCUMENTS = frozenset(("null", "false", '""', "[]", "{}"))


def shape_of(document: str | None) -> str | None:
    """The keys of a document, however deep, without its values: `{"labels":{"NAME":null}}`."""
    return None if document is None else json.dumps(_shape_of(json.loads(document)))


def _shape_of(document: object) -> object:
    return {key: _shape_of(inner) for key, inner in document.items()} if isinstance(document, dict) else None


def project_json(now: str | None, shape: str | None) -> str | None:
    """What the document `now` holds at the keys of a shape (`shape_of`)."""
    if now is None or shape is None:
        return None
    return _as_text(_project(_with_tagged_numbers(now), json.loads(shape)))


def _project(now: object, shape: object) -> object:
    if isinstance(now, dict) and isinstance(shape, dict):
        return {key: _project(now[key], inner) for key, inner in shape.items() if key in now}
    return now


def merge_json(now: str | None, wanted: str | None) -> tuple[str | None, bool]:
    """The document `now` with what is `wanted` put in, and whether something else was there.

    Objects are merged key by key; anything else is one value. An empty document, a missing key and JSON's null can be
    filled. Numbers stay as they were written.
    """
    if now is None or wanted is None:
        return (wanted if wanted is not None else now), False
    if now in EMPTY_DOCUMENTS:
        return (now if canonical_json(wanted) == now else wanted), False
    conflicts: list[object] = []
    text = _as_text(_merge(_with_tagged_numbers(now), _with_tagged_numbers(wanted), conflicts.append))
    return (now if canonical_json(text) == canonical_json(now) else text), bool(conflicts)


def _with_tagged_numbers(text: str) -> object:
    # No text of jsonb holds a NUL.
    return json.loads(text, parse_int=lambda number: f"\x00{number}", parse_float=lambda number: f"\x00{number}")


def _as_text(document: object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _TAGGED_NUMBER.sub(r"\1", text)


def _merge(now: object, wanted: object, conflict: Callable[[object], None]) -> object:
    if isinstance(now, dict) and isinstance(wanted, dict):
        return {**now, **{key: _merge(now.get(key), value, conflict) for key, value in wanted.items()}}
    if now is not None and _comparable(now) != _comparable(wanted):
        conflict(wanted)
    return wanted


def _comparable(value: object) -> object:
    if isinstance(value, str) and value.startswith("\x00"):
        # Not the number itself: Python takes 1 for true and 0 for false.
        return ("number", Decimal(value[1:]))
    if isinstance(value, list):
        return [_comparable(element) for element in value]
    if isinstance(value, dict):
        return {key: _comparable(inner) for key, inner in value.items()}
    return value


def identity_of(target: TargetTable) -> list[str]:
    """What a source row gives to a target: a row, or a unit of a row of another area."""
    return UNIT if target.writes == "update" else ["target_id"]


def units_as_written(units: pl.DataFrame, now: pl.DataFrame, columns: Sequence[TargetColumn]) -> pl.DataFrame:
    """Adds to LINKED units `had` (the shape of what they wrote), `there`, and `same`: nobody changed what they wrote.

    `now`: `id` and the columns of the rows as they are.
    """
    held = now.select(
        pl.col("id").alias("target_id"),
        *(pl.col(c.name).cast(polars_type(c.type)).alias(f"{c.name}@now") for c in columns),
        pl.lit(True).alias("there"),
    )
    joined = units.join(held, on="target_id", how="left", maintain_order="left").with_columns(
        pl.coalesce("shape", pl.lit(_columns_shape(columns))).alias("had"), pl.col("there").fill_null(False)
    )
    joined = _as_it_was(joined, columns)
    found = with_canonical_json(joined.select(pl.col(f"{c.name}@found").alias(c.name) for c in columns), columns)
    return joined.with_columns(
        (found.select(unit_hash(columns)).to_series() == pl.col("hash")).fill_null(False).alias("same")
    )


def _columns_shape(columns: Sequence[TargetColumn]) -> str:
    return json.dumps({column.name: None for column in columns})


def restored_document(now: object, before: object, shape: object) -> object:
    """The document `now` with the places of a shape as they were `before`; what is beside them stays.

    Where nothing is left of a document that was empty, it is as empty as it was.
    """
    if not (isinstance(now, dict) and isinstance(shape, dict)):
        return before
    held = before if isinstance(before, dict) else {}
    kept = dict(now)
    for key, inner in shape.items():
        if key in held:
            kept[key] = restored_document(kept.get(key), held[key], inner)
        elif isinstance(inner, dict) and isinstance(kept.get(key), dict):
            rest = restored_document(kept[key], None, inner)
            if rest:
                kept[key] = rest
            else:
                kept.pop(key, None)
        else:
            kept.pop(key, None)
    return kept if kept or held else before


# --- the mapping afterwards -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """What the source rows of a part give now, beside what the mapping knows of them.

    `mapped`: their links but those in conflict, `kept`: the places that the latter had before; `left`: what was given
    before and is no longer. `vanished`: target rows, or units of them, that the mapping knew and the part does not
    yield. `yielded`: those that it does, by target_id or UNIT.
    """

    mapped: pl.DataFrame
    kept: pl.DataFrame
    left: pl.DataFrame
    vanished: pl.DataFrame
    yielded: pl.DataFrame


def given_by(
    yields: pl.DataFrame, fates: pl.DataFrame, stored: pl.DataFrame, identity: Sequence[str] = ("target_id",)
) -> Given:
    """What a part gives; in `fates`, inserted rows have their new ids. `identity` may be UNIT."""
    linked = yields.with_row_index("_order").join(fates, on="_row", how="left", maintain_order="left")
    yielded = linked.filter(pl.col("target_id").is_not_null()).select(identity).unique()
    mapped = linked.filter(pl.col("fate") != "conflict").select(
        "_order",
        "flow_id",
        "source_key",
        "bucket",
        "part",
        "target_id",
        pl.when("owns").then("hash").alias("hash"),
        "adopted",
        "shape",
    )
    in_conflict = linked.filter(pl.col("fate") == "conflict").select("_order", *PLACE, "bucket")
    kept = in_conflict.join(
        stored.select(*PLACE, "target_id", "hash", "adopted", "shape"), on=PLACE, maintain_order="left"
    ).select(mapped.columns)
    yielded = pl.concat([yielded, kept.select(identity)]).unique()
    not_yielded = stored.with_row_index("_place").join(yields, on=PLACE, how="anti", maintain_order="left")
    left = not_yielded.join(yielded, on=identity, how="anti", maintain_order="left")
    now = pl.concat([mapped, kept]).select(*PLACE, pl.col("target_id").alias("new_id"))
    moved = (
        stored.join(now, on=PLACE)
        .filter(pl.col("target_id") != pl.col("new_id"))
        .join(yielded, on=identity, how="anti", maintain_order="left")
    )
    vanished = pl.concat([left.select(stored.columns), moved.select(stored.columns)])
    return Given(
        mapped,
        kept,
        left,
        vanished.filter(pl.col("hash").is_not_null()).select("flow_id", "bucket", "source_key", "part", "target_id"),
        yielded,
    )


@dataclass(frozen=True)
class Relinked:
    """How the mapping changes: `entries` (LINKED) take the place of those of the same source rows, `removed` go."""

    entries: pl.DataFrame
    removed: pl.DataFrame


def relink(given: Given, yields: pl.DataFrame, stored: pl.DataFrame) -> Relinked:
    """The mapping of a part.

    A row in conflict keeps the place it had. What a source row gave before and gives no longer stays mapped, unless
    another source row gives that target row now.
    """
    mapped = given.mapped
    buckets = yields.select(*SOURCE, pl.col("bucket").alias("new_bucket")).unique(SOURCE)
    retained = (
        given.left.join(buckets, on=SOURCE, how="left", maintain_order="left")
        .with_columns(pl.coalesce("new_bucket", "bucket").alias("bucket"), pl.col("_place") + yields.height)
        .select(pl.col("_place").alias("_order"), *mapped.columns[1:])
    )
    now = pl.concat([mapped, given.kept, retained]).sort("_order")
    compared = [*PLACE, "bucket", "target_id", "hash", "adopted"]
    changed = pl.concat(
        [
            now.join(stored, on=compared, how="anti", nulls_equal=True).select(SOURCE),
            stored.join(now, on=compared, how="anti", nulls_equal=True).select(SOURCE),
        ]
    ).unique()
    entries = now.join(changed, on=SOURCE, how="semi", maintain_order="left")
    return Relinked(
        entries.select(pl.lit(0, pl.Int64).alias("batch_id"), pl.exclude("_order")).select(LINKED.names()),
        changed.join(now, on=SOURCE, how="anti"),
    )
