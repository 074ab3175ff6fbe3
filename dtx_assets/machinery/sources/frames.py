"""Landed tables as flows read them: NULLs by the dialect they came in, and the key that names a row.

Landing itself is the readers' business. Everything here is an expression over a lazy frame of text columns.
"""

import json
from collections.abc import Sequence

import polars as pl

from dtx_assets.machinery.base.errors import SourceError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.model.legacy import NULL_MARKERS, LegacyTable
from dtx_assets.machinery.sources.extended_json import relaxed
from dtx_assets.machinery.sources.landing import DOCUMENTS, ESCAPED, ROW, UNDECODABLE
from dtx_assets.machinery.transforms.columns import HEX_ID, canonical_id, canonical_integer, json_text, object_id_value
from dtx_assets.machinery.transforms.json_values import plain_text
from dtx_assets.machinery.transforms.long_keys import beginning_of, short_key

IN_EXTENDED_JSON = r'^(?:\{"\$|")'
"""How fields of documents begin, whose text is not yet what flows read."""
IN_JSON = ("json", "object_id")
"""The kinds that flows read in Extended JSON."""


def legacy_frame(
    lake: Lake,
    system: str,
    table: LegacyTable,
    *,
    layer: str = "legacy",
    manifest: Manifest | None = None,
    where: pl.Expr | None = None,
) -> pl.LazyFrame:
    """The rows of a landed table as text, with `_row` and `_undecodable`.

    In a CSV the null markers of the table are NULL everywhere and an empty field is NULL in every column that is not
    text; from a database nothing but NULL is, nor from a CSV with escapes, but for markers that the table itself
    declares. Of a field of documents it is what its value says (`plain_text`), but of the kind `json` the value in
    Extended JSON, which tells a missing one (NULL) from null. A time that was landed in UTC without saying so gets
    `+00:00`. A named column that is missing is NULL throughout; a required one is a SourceError. `manifest` names a
    landing; None is the latest. `where` is a condition on the columns as they were landed.
    """
    manifest = manifest or lake.require((system, layer, table.name))
    frame = lake.scan(manifest.key, manifest=manifest)
    if table.generic_key and manifest.tables["rows"].rows:
        frame = _with_generic_key(frame, table.generic_key, generic_key_names(lake, system, table))
    present = [name for name in frame.collect_schema().names() if name not in (ROW, UNDECODABLE)]
    missing = [name for name in dict.fromkeys(table.required) if name not in present]
    if missing:
        named, correct = "", ""
        if table.named_at:
            named, correct = f", of which {table.named_at} names columns", ", or correct the name"
        raise SourceError(
            f"{table.name} lacks the required column{'s' * (len(missing) > 1)} {', '.join(missing)}",
            where=f"{manifest.metadata.get('source')}{named}",
            remedy=f"export the table whole{correct}; it has the columns {', '.join(present)}",
        )
    absent = [name for name in table.columns if name not in present]
    frame = frame.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)
    if where is not None:
        frame = frame.filter(where)
    dialect = manifest.metadata.get("dialect")
    if dialect == "csv":
        frame = frame.with_columns(
            _null_where(name, table.null_markers if table.kind_of(name) == "text" else (*table.null_markers, ""))
            for name in present
        )
    elif dialect == ESCAPED and table.null_markers != NULL_MARKERS:
        frame = frame.with_columns(_null_where(name, table.null_markers) for name in present)
    elif dialect == DOCUMENTS:
        plain = [name for name in manifest.metadata["fields"] if table.kind_of(name) not in IN_JSON]
        frame = frame.with_columns(plain_text(pl.col(name)).alias(name) for name in plain)
    if table.blank_is_null:
        frame = frame.with_columns(
            pl.when(pl.col(name).str.strip_chars() != "").then(name).alias(name)
            for name in present
            if table.kind_of(name) not in ("text", *IN_JSON)
        )
    return frame.with_columns(_saying_utc(pl.col(name)) for name in manifest.metadata.get("instants", ()))


GENERIC_KEY = "generic_key"
"""The layer that says which columns of a landed table are its generic key."""


def note_generic_key(lake: Lake, system: str, table: LegacyTable, names: tuple[str, str], run_id: str) -> None:
    """Keeps what the source calls the columns of the generic key of a table."""
    if generic_key_names(lake, system, table) == names:
        return
    with lake.write((system, GENERIC_KEY, table.name), run_id=run_id) as writer:
        writer.add(pl.DataFrame({"type_column": names[0], "id_column": names[1]}))
        writer.metadata["names"] = list(names)


def generic_key_names(lake: Lake, system: str, table: LegacyTable) -> tuple[str, ...]:
    """What the source calls the columns of the generic key of a landed table; as declared where nobody looked."""
    manifest = lake.manifest((system, GENERIC_KEY, table.name)) if table.generic_key else None
    return tuple(manifest.metadata["names"]) if manifest else (table.generic_key or ())


def _with_generic_key(frame: pl.LazyFrame, declared: Sequence[str], found: Sequence[str]) -> pl.LazyFrame:
    """The rows with the columns of their generic key under the names that are declared, beside those that they have."""
    renamed = [pl.col(name).alias(called) for name, called in zip(found, declared, strict=True) if name != called]
    return frame.with_columns(renamed)


def _saying_utc(time: pl.Expr) -> pl.Expr:
    # A zero date is no instant.
    return pl.when(time.str.starts_with("0000-")).then(time).otherwise(time + pl.lit("+00:00"))


def _null_where(name: str, markers: Sequence[str]) -> pl.Expr:
    column = pl.col(name)
    return pl.when(~column.is_in(pl.Series(markers, dtype=pl.String).implode())).then(column).alias(name)


def source_key(table: LegacyTable, frame: pl.LazyFrame) -> pl.LazyFrame:
    """Adds `_source_key`: what names a row in the bookkeeping.

    A key of one column is its text (integers without `.0` and leading zeros); one of several columns a JSON array of
    texts, to which the second and later rows of a key that repeats add their ordinal. Without a key, it is the row's
    ordinal in the table. For a text that is too long stands `short_key`.
    """
    if not table.key:
        return frame.with_columns(pl.col(ROW).cast(pl.String).alias("_source_key"))
    texts = [key_text(table, name) for name in table.key]
    if _is_plain(table):
        return frame.with_columns(texts[0].alias("_source_key"))
    elements = [json_text(text) for text in texts]
    if table.key_repeats:
        ordinal = pl.int_range(1, pl.len() + 1).over(*(f"_key:{name}" for name in table.key), order_by=ROW)
        frame = frame.with_columns(
            text.alias(f"_key:{name}") for text, name in zip(texts, table.key, strict=True)
        ).with_columns(ordinal.alias("_ordinal"))
        suffix = pl.when(pl.col("_ordinal") > 1).then(pl.format(',"{}"', "_ordinal")).otherwise(pl.lit(""))
        elements.append(suffix)
        joined = pl.concat_str([pl.concat_str(elements[:-1], separator=","), elements[-1]])
    else:
        joined = pl.concat_str(elements, separator=",")
    keyed = frame.with_columns(pl.format("[{}]", joined).alias("_source_key"))
    return keyed.drop([f"_key:{name}" for name in table.key] + ["_ordinal"]) if table.key_repeats else keyed


def key_elements(table: LegacyTable, key: str) -> list[str | None] | None:
    """What a source key says of the key columns, and the ordinal where it has one; None where it can be no key."""
    if not table.key:
        return None
    if _is_plain(table):
        return [key]
    try:
        elements = json.loads(key)
    except ValueError:
        return None
    if not isinstance(elements, list) or not all(isinstance(element, str | None) for element in elements):
        return None
    ordinal = elements[len(table.key) :]
    fits = not ordinal or (table.key_repeats and len(ordinal) == 1 and str(ordinal[0]).isdecimal())
    return elements if fits and len(elements) >= len(table.key) else None


def key_in_bookkeeping(table: LegacyTable, key: str) -> str:
    """What the bookkeeping calls a row: its key may be given whole, or as it is called."""
    elements = key_elements(table, key)
    if not elements:
        return key
    of_key = len(table.key)
    given = [pl.lit(element, pl.String) for element in elements]
    short = [*(_short(table, text) for text in given[:of_key]), *given[of_key:]]
    if pl.select(pl.all_horizontal(a.eq_missing(b) for a, b in zip(given, short, strict=True))).item():
        return key
    if _is_plain(table):
        return str(pl.select(short[0]).item())
    return str(pl.select(pl.format("[{}]", pl.concat_str(map(json_text, short), separator=","))).item())


def has_key(table: LegacyTable, elements: Sequence[str | None]) -> pl.Expr:
    """Whether a row of `legacy_frame` has a key; of rows of a key that repeats all have it."""
    pairs = zip(table.key, elements, strict=False)
    return pl.all_horizontal(
        pl.lit(True), *(key_text(table, name).eq_missing(pl.lit(element, pl.String)) for name, element in pairs)
    )


def may_have_key(table: LegacyTable, elements: Sequence[str | None]) -> pl.Expr:
    """Whether a row as it was landed may have a key: cheap, and never wrong about one that has it."""
    return pl.all_horizontal(
        pl.lit(True),
        *(
            _may_be(table, name, element)
            | (pl.col(name).str.contains(IN_EXTENDED_JSON) & pl.lit(table.kind_of(name) != "object_id"))
            for name, element in zip(table.key, elements, strict=False)
            if element is not None
        ),
    )


def _may_be(table: LegacyTable, name: str, element: str) -> pl.Expr:
    column = pl.col(name)
    if (beginning := beginning_of(element)) is not None:
        return column.str.len_bytes() > len(beginning)
    match table.kind_of(name):
        case "integer":
            return column.str.contains(element.removeprefix("-"), literal=True)
        case "uuid":
            return _hex_digits(column) == _hex_digits(pl.lit(element))
        case "object_id":
            # A key that is no ObjectId is written in other ways.
            return column.str.to_lowercase().str.contains(element, literal=True) | ~column.str.contains(HEX_ID)
    # Times that were landed in UTC do not say so yet.
    return column.is_in([element, element.removesuffix("+00:00")])


def _hex_digits(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all("[-{}]", "").str.to_lowercase()


def _is_plain(table: LegacyTable) -> bool:
    """Whether the text of the one key column is the key; else it is in a JSON array."""
    return len(table.key) == 1 and table.has_unique_key


def key_text(table: LegacyTable, name: str) -> pl.Expr:
    """The text of a key column: integers and UUIDs are written the one way, anything else is as it came.

    An ObjectId is its hex digits; what should be one and is none is compact relaxed Extended JSON. For one that is too
    long stands `short_key`.
    """
    return _short(table, _whole_key_text(table, name))


def _short(table: LegacyTable, text: pl.Expr) -> pl.Expr:
    if _is_plain(table):
        return short_key(text)
    return short_key(text, columns=len(table.key), written=json_text)


def _whole_key_text(table: LegacyTable, name: str) -> pl.Expr:
    column = pl.col(name)
    match table.kind_of(name):
        case "integer":
            number = column.str.strip_chars() if table.blank_is_null else column
            return pl.coalesce(canonical_integer(number), column)
        case "uuid":
            return canonical_id(column, "uuid")
        case "object_id":
            others = pl.when(object_id_value(column).is_null()).then(column)
            return pl.coalesce(object_id_value(column), others.map_batches(_relaxed, pl.String(), is_elementwise=True))
    return column


def _relaxed(values: pl.Series) -> pl.Series:
    return pl.Series(values.name, [None if value is None else relaxed(value) for value in values], pl.String())
