"""Values of target rows on their way into and out of PostgreSQL: COPY both ways, and a hash that both sides share.

No SQL that decides anything, no knowledge of runs or batches.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Context, Decimal
from io import BytesIO
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import orjson
import polars as pl
import polars_hash as plh
import psycopg
import pyarrow as pa
from psycopg import pq, sql

from dtx_assets.machinery.model.target import PYTHON_TIMES, TargetColumn, polars_type
from dtx_assets.machinery.model.types import INTEGERS, PADDED
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.transforms.long_keys import BEGINNING, LONGEST, MARK

INSTANT = pl.Datetime("us", "UTC")
ROWS_A_BLOCK = 50_000
COPY_TIME = "%Y-%m-%d %H:%M:%S%.6f+00"
_EXACT = Context(prec=1_000_000)
INFINITE = 9_223_372_036_854_775_807
FAR = 8_000_000_000_000_000_000
"""Microseconds from 1970 to a time that Polars has no date for, and PostgreSQL may have."""
_PLAIN_TEXTS = r'^\[(?:"[^"\\\x00-\x1f\x7f]*"(?:,"[^"\\\x00-\x1f\x7f]*")*)?\]$'
_SPACED_TEXTS = r'^\["[^"\\\s]*"(?:, "[^"\\\s]*")+\]$'
_NUMBER_WITH_MANY_SPELLINGS = re.compile(r"\d(?:\.\d|[eE][+-]?\d)|\d{19}")


# --- comparing --------------------------------------------------------------------------------------------------------


def content_hash(columns: Sequence[TargetColumn]) -> pl.Expr:
    """A 64-bit hash (UInt64) of the values of a row: equal for what was written and what is read back.

    PostgreSQL's text has no NUL, so NUL can part the values; `=` tells an empty text from NULL.
    """
    values = [
        pl.when(pl.col(column.name).is_not_null()).then(pl.lit("=") + _text(column)).otherwise(pl.lit(""))
        for column in columns
    ]
    return plh.concat_str(values, separator="\x00").nchash.xxhash64()


def unit_hash(columns: Sequence[TargetColumn]) -> pl.Expr:
    """A 64-bit hash (UInt64) of the values that are not NULL, with the names of their columns."""
    values = [pl.concat_str(pl.lit(f"{column.name}="), _text(column)) for column in columns]
    return plh.concat_str([pl.concat_str(values, separator="\x00", ignore_nulls=True)]).nchash.xxhash64()


def _text(column: TargetColumn) -> pl.Expr:
    value = pl.col(column.name)
    if polars_type(column.type) == INSTANT:
        return value.dt.epoch("us").cast(pl.String)
    return value.cast(pl.String)


def key_value(column: TargetColumn) -> pl.Expr:
    """A value so that it equals another one where PostgreSQL's `=` says so, for the types that keys are of."""
    value = pl.col(column.name)
    if column.kind.is_array:
        return value
    if column.kind.name == "citext":
        return value.str.to_lowercase()
    if column.kind.name in PADDED:
        return value.str.strip_chars_end(" ")
    if column.kind.name == "numeric" and column.kind.decimals is None:
        decimals = value.str.contains(".", literal=True)
        return pl.when(decimals).then(value.str.strip_chars_end("0").str.strip_chars_end(".")).otherwise(value)
    return value


def with_canonical_json(frame: pl.DataFrame, columns: Sequence[TargetColumn]) -> pl.DataFrame:
    """JSON columns so that equal documents are equal texts, however PostgreSQL wrote them."""
    for column in columns:
        if not column.kind.is_json:
            continue
        # Most documents are short lists of plain texts, of which PostgreSQL only spaces out the elements.
        value = pl.col(column.name)
        spaced = value.str.contains(_SPACED_TEXTS)
        frame = frame.with_columns(
            pl.when(spaced).then(value.str.replace_all('", "', '","', literal=True)).otherwise(value)
        )
        texts = frame.filter(~value.str.contains(_PLAIN_TEXTS)).get_column(column.name).drop_nulls().unique()
        canonical = [_canonical_or_same(text) for text in texts]
        changed = {text: new for text, new in zip(texts, canonical, strict=True) if text != new}
        if changed:
            frame = frame.with_columns(value.replace(changed))
    return frame


def is_document(text: pl.Expr) -> pl.Expr:
    """Whether a text is surely a document that PostgreSQL takes; false where only the server knows."""
    plain = text.str.contains(_PLAIN_TEXTS)
    return plain | pl.when(~plain).then(text).map_elements(_is_document, return_dtype=pl.Boolean).fill_null(False)


def _is_document(text: str) -> bool:
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return "\\u0000" not in text


def _canonical_or_same(text: str) -> str:
    try:
        return canonical_json(text)
    except ValueError:
        # No document: the server refuses it, with its row.
        return text


def canonical_json(text: str) -> str:
    """Keys sorted, no blanks; numbers that can be spelled in several ways as tagged text, for comparing only."""
    if _NUMBER_WITH_MANY_SPELLINGS.search(text):
        document = json.loads(text, parse_float=_number, parse_int=_number)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()


def _number(text: str) -> int | str:
    """Whole numbers as such, however they are spelled; others as tagged text: no text in jsonb holds a NUL."""
    number = Decimal(text)
    if abs(number) < 10**18 and number == number.to_integral_value():
        return int(number)
    return f"\x00{number.normalize(_EXACT)}"


# --- into PostgreSQL --------------------------------------------------------------------------------------------------


def copy_in(connection: Connection, table: sql.Composable, frame: pl.DataFrame) -> None:
    """COPY the columns of a frame into the columns of the same names."""
    names = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(table, names)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in csv_blocks(frame):
            copy.write(block)


def csv_blocks(frame: pl.DataFrame) -> Iterator[bytes]:
    """CSV as COPY reads it: NULL is nothing at all, an empty text is `""`."""
    if far := _far_times(frame):
        within = frame.with_columns(pl.when(pl.col(name).is_between(*PYTHON_TIMES)).then(name) for name in far)
        frame = within.with_columns(
            pl.col(name).dt.to_string(COPY_TIME).fill_null(texts).alias(name) for name, texts in far.items()
        )
    for start in range(0, frame.height, ROWS_A_BLOCK):
        block = BytesIO()
        frame.slice(start, ROWS_A_BLOCK).write_csv(
            block, include_header=False, datetime_format=COPY_TIME, line_terminator="\n"
        )
        yield block.getvalue()


def array_literal(texts: pl.Expr) -> pl.Expr:
    """A list of texts as PostgreSQL writes a text[]."""
    quoted = texts.list.eval(
        pl.concat_str(pl.lit('"'), pl.element().str.replace_all(r'(["\\])', r"\${1}"), pl.lit('"'))
    )
    return pl.concat_str(pl.lit("{"), quoted.list.join(","), pl.lit("}"))


SECONDS_TO_CANCEL = 5.0
MANY = 100
"""Texts of which a parameter is made at once; the driver makes one of each of them, which of few is quicker."""


def array_parameter(values: pl.Series) -> str | list[Any]:
    """Values, none of them null, as a parameter that is cast to an array; of numbers and texts the text at once."""
    if values.dtype == pl.String and len(values) >= MANY:
        return str(values.implode().to_frame("of").select(array_literal(pl.col("of"))).item())
    return f"{{{values.cast(pl.String).str.join(',').item()}}}" if values.dtype.is_integer() else values.to_list()


_UNPADDED = sql.SQL("CASE pg_typeof({0}) WHEN 'character'::regtype THEN to_jsonb({0}::text) ELSE to_jsonb({0}) END")

_PLAIN_IN_JSON = frozenset({"uuid", *INTEGERS})


def key_text(row: str, columns: Sequence[str], types: Sequence[str] | None = None) -> sql.Composable:
    """The key of a row as text: one column as PostgreSQL writes it, several as a JSON array.

    Blanks with which a text is filled up are no part of it. `types`: those of the columns, where they are known.
    """
    names = [sql.Identifier(row, name) for name in columns]
    if len(names) == 1:
        return sql.SQL("{}::text").format(*names)
    known = [sql.SQL("{0}::text" if kind in PADDED else "{0}") for kind in types or ()]
    texts = [form.format(name) for form, name in zip(known or [_UNPADDED] * len(names), names, strict=True)]
    array = sql.SQL("jsonb_build_array({})::text").format(sql.SQL(", ").join(texts))
    if types and not _PLAIN_IN_JSON.issuperset(types):
        return array
    # To put it together takes a third of the time. NULL, which no key is, makes it the server's own again.
    kinds = types or ["uuid"] * len(names)
    forms = [sql.SQL("'\"' || {}::text || '\"'" if kind == "uuid" else "{}::text") for kind in kinds]
    values = [form.format(name) for form, name in zip(forms, names, strict=True)]
    plain = sql.SQL("coalesce('[' || {} || ']', {})").format(sql.SQL(" || ', ' || ").join(values), array)
    if types:
        return plain
    are_uuids = sql.SQL(" AND ").join(sql.SQL("pg_typeof({}) = 'uuid'::regtype").format(name) for name in names)
    return sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(are_uuids, plain, array)


def kept_key(text: sql.Composable) -> sql.Composable:
    """What the bookkeeping calls a row whose key as text may be too long for an index: `short_key`, by the server."""
    return sql.SQL(
        "CASE WHEN octet_length({key}) > {longest} THEN left({key}, {beginning}) || {mark}"
        " || encode(sha256(convert_to({key}, 'UTF8')), 'hex') ELSE {key} END"
    ).format(key=text, longest=sql.Literal(LONGEST), beginning=sql.Literal(BEGINNING), mark=sql.Literal(MARK))


def whole_key(text: sql.Composable) -> sql.Composable:
    """The key as text where `kept_key` is not all of it."""
    return sql.SQL("CASE WHEN octet_length({0}) > {1} THEN {0} END").format(text, sql.Literal(LONGEST))


def ids_literal(ids: pl.Expr) -> pl.Expr:
    """A list of integers as PostgreSQL writes a bigint[]."""
    return pl.concat_str(pl.lit("{"), ids.cast(pl.List(pl.String)).list.join(","), pl.lit("}"))


def packed_hashes(hashes: pl.Series, lengths: pl.Series) -> pl.Series:
    """UInt64 hashes one after the other, `lengths` of them a row, as PostgreSQL writes a bytea (little-endian)."""
    ends = lengths.cast(pl.Int64).cum_sum() * 8
    offsets = pl.concat([pl.Series([0], dtype=pl.Int64), ends.alias("")])
    packed = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(lengths), [None, _values(offsets), _values(hashes.cast(pl.UInt64))]
    )
    encoded = pl.lit("\\x") + pl.col("hashes").bin.encode("hex")
    return pl.Series("hashes", packed).to_frame().select(encoded.alias("hashes")).to_series()


def unpacked_hashes(packed: pl.Series) -> pl.Series:
    """The hashes of each row of a bytea column, as a list of UInt64; null where it is NULL."""
    raw = packed.fill_null("").str.strip_prefix("\\x").str.decode("hex")
    content = b"".join(raw.to_list())
    values = pa.Array.from_buffers(pa.uint64(), len(content) // 8, [None, pa.py_buffer(content)])
    ends = raw.bin.size("b").cast(pl.Int64).cum_sum() // 8
    offsets = pl.concat([pl.Series([0], dtype=pl.Int64), ends.alias("")])
    lists = pa.LargeListArray.from_arrays(offsets.to_arrow(), values)
    unpacked = pl.DataFrame({"hashes": pl.Series(lists), "packed": packed})
    return unpacked.select(pl.when(pl.col("packed").is_not_null()).then("hashes")).to_series()


def _values(series: pl.Series) -> pa.Buffer:
    """The values of a series of 8-byte numbers without nulls, as they lie in memory."""
    array = series.rechunk().to_arrow()
    return array.buffers()[1].slice(array.offset * 8, len(array) * 8)


# --- out of PostgreSQL ------------------------------------------------------------------------------------------------


def copy_out(connection: Connection, query: sql.Composable, schema: pl.Schema) -> pl.DataFrame:
    """The rows of a query; its columns are text or whole numbers, in the order of the schema."""
    content = _copied(connection, sql.SQL("COPY ({}) TO STDOUT").format(query).as_bytes(connection))
    if not content:
        return pl.DataFrame(schema=schema)
    frame = pl.read_csv(
        content,
        has_header=False,
        separator="\t",
        quote_char=None,
        null_values="\\N",
        empty_string_is_null=False,
        schema=schema,
    )
    texts = [name for name, kind in schema.items() if kind == pl.String]
    escaped = [name for name in texts if frame.get_column(name).str.contains("\\", literal=True).any()]
    return frame.with_columns(
        pl.col(name).str.replace_many(
            ["\\\\", "\\b", "\\f", "\\n", "\\r", "\\t", "\\v"], ["\\", "\b", "\f", "\n", "\r", "\t", "\v"]
        )
        for name in escaped
    )


def _copied(connection: Connection, statement: bytes) -> bytes:
    """What COPY gives. Straight from libpq: it hands out each row by itself, and there may be millions."""
    libpq, content = connection.pgconn, BytesIO()
    result = libpq.exec_(statement)
    if result.status == pq.ExecStatus.COPY_OUT:
        try:
            _write_rows(libpq, content)
        except BaseException:
            # Interrupted: what follows, a rollback at least, needs the connection.
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=SECONDS_TO_CANCEL)
                while libpq.get_copy_data(0)[0] > 0:
                    pass
                while libpq.get_result() is not None:
                    pass
            raise
        while (last := libpq.get_result()) is not None:
            result = last
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result, connection.info.encoding)
    return content.getvalue()


def _write_rows(libpq: pq.abc.PGconn, content: BytesIO) -> None:
    """Rows as libpq has them. It is not let wait for the server itself: all other threads of Python would wait too."""
    give, write = libpq.get_copy_data, content.write
    with DefaultSelector() as selector:
        selector.register(libpq.socket, EVENT_READ)
        while True:
            size, row = give(1)
            if size > 0:
                write(row)
            elif size < 0:
                return
            else:
                selector.select()
                libpq.consume_input()


def readable(column: TargetColumn, table: str) -> sql.Composable:
    """A target column as `copy_out` can take it: times as microseconds since 1970, truth as 0 and 1."""
    name = sql.Identifier(table, column.name)
    kind = polars_type(column.type)
    if kind == INSTANT:
        return sql.SQL(
            "CASE WHEN isfinite({0}) THEN least(extract(epoch FROM {0}) * 1000000, {1})::bigint"
            " WHEN {0} > 'epoch' THEN {2} WHEN {0} IS NOT NULL THEN -{2} END"
        ).format(name, sql.Literal(FAR), sql.Literal(INFINITE))
    if kind == pl.Boolean:
        return sql.SQL("{}::int").format(name)
    if kind == pl.String:
        # Of a column of fixed length, without the blanks it is filled up with.
        return sql.SQL("{}::text").format(name)
    return name


def differs(column: TargetColumn, one: str, other: str) -> sql.Composable:
    """Whether two tables hold different values in a column, as SQL; as texts where the type may know no equality."""
    names = (sql.Identifier(one, column.name), sql.Identifier(other, column.name))
    return sql.SQL(" IS DISTINCT FROM ").join(_exact(column, name) for name in names)


def noted(column: TargetColumn, table: str) -> sql.Composable:
    """A value as the journal takes it, from which `jsonb_populate_record` makes the same one again.

    Of a `json`, the same document, as jsonb spells it.
    """
    name = sql.Identifier(table, column.name)
    return name if column.kind.is_json else _exact(column, name)


def _exact(column: TargetColumn, name: sql.Identifier) -> sql.Composable:
    is_native = not column.is_held_as_text or column.kind.is_text or column.type == "jsonb"
    return name if is_native else sql.SQL("{}::text").format(name)


def array_type(column: TargetColumn, plain_type: str) -> str:
    """What SQL casts a list of prepared values to, to have them in the live type; not for arrays of arrays."""
    kind = polars_type(column.type)
    if kind == pl.String:
        return "text[]" if plain_type == "text" else f"text[]::{plain_type}[]"
    return {pl.Int64(): "bigint[]", pl.Boolean(): "boolean[]", INSTANT: "timestamptz[]"}[kind]


def readable_schema(columns: Sequence[TargetColumn]) -> dict[str, pl.DataType]:
    return {c.name: pl.String() if c.is_held_as_text else pl.Int64() for c in columns}


def as_prepared(frame: pl.DataFrame, columns: Sequence[TargetColumn]) -> pl.DataFrame:
    """What was read back, in the types in which it was prepared."""
    return with_canonical_json(frame.with_columns(pl.col(c.name).cast(polars_type(c.type)) for c in columns), columns)


# --- times that Python cannot hold ------------------------------------------------------------------------------------


def python_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows in Python's types; times that Python cannot hold, as others may have written them, are texts."""
    times = _far_times(frame)
    rows = frame.with_columns(pl.when(pl.col(name).is_between(*PYTHON_TIMES)).then(name) for name in times).to_dicts()
    for name, texts in times.items():
        for number in texts.is_not_null().arg_true():
            rows[number][name] = texts[number]
    return rows


def _far_times(frame: pl.DataFrame) -> dict[str, pl.Series]:
    """The columns that hold times beyond Python's calendar: those times as PostgreSQL writes them, null for others."""
    columns = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    return {
        name: frame.select(_postgres_time(pl.when(~pl.col(name).is_between(*PYTHON_TIMES)).then(name))).to_series()
        for name in columns
        if not frame.get_column(name).is_between(*PYTHON_TIMES).all()
    }


def _postgres_time(time: pl.Expr) -> pl.Expr:
    since = time.to_physical()
    dated = pl.when(since.abs() < FAR).then(time)
    before_christ = pl.format(
        "{}-{} BC",
        (1 - dated.dt.year()).cast(pl.String).str.zfill(4),
        dated.dt.to_string(COPY_TIME.removeprefix("%Y-")),
    )
    ends = {INFINITE: "infinity", -INFINITE: "-infinity", FAR: "after the year 255000"}
    return (
        pl.when(dated.dt.year() < 1)
        .then(before_christ)
        .otherwise(dated.dt.to_string(COPY_TIME).str.strip_prefix("+"))
        .fill_null(since.replace_strict(ends, default=None, return_dtype=pl.String))
    )
