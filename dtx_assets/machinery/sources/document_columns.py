"""Many BSON documents as columns of canonical Extended JSON, type by type instead of document by document.

What is made here is what `extended_json` makes of one document after the other; a document of which that is not
certain is odd, and left to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from dtx_assets.machinery.sources.document_walk import (
    ARRAY,
    BINARY,
    BOOL,
    DATE,
    DECIMAL,
    DOUBLE,
    INT,
    LONG,
    MAX_KEY,
    MIN_KEY,
    NULL,
    OBJECT,
    OBJECT_ID,
    STRING,
    TIMESTAMP,
    Buffer,
    Entries,
    Flags,
    Kinds,
    Numbers,
    fields_of,
)
from dtx_assets.machinery.sources.extended_json import WRITERS, UnreadableDocument, canonical, decoded_bson, encoded

DEEPEST = 12
"""Levels of nesting that are read in columns."""

TYPES = {
    DOUBLE: "double",
    STRING: "string",
    OBJECT: "object",
    ARRAY: "array",
    BINARY: "binData",
    OBJECT_ID: "objectId",
    BOOL: "bool",
    DATE: "date",
    NULL: "null",
    INT: "int",
    TIMESTAMP: "timestamp",
    LONG: "long",
    DECIMAL: "decimal",
    MAX_KEY: "maxKey",
    MIN_KEY: "minKey",
}
"""MongoDB's aliases."""
BITS = 5
NUMBER_OF_KIND = np.zeros(256, np.int64)
NUMBER_OF_KIND[list(TYPES)] = np.arange(1, len(TYPES) + 1)
KINDS = (0, *TYPES)
AT_ONCE = 8
"""So many fields' types are put into one number, beside the number of a combination."""

ESCAPED_IN_JSON = r'["\\\x00-\x1f]'
HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), "<u2")


@dataclass(frozen=True)
class Columns:
    """What documents say, a value a document; what stands there of an odd one means nothing, and is counted nowhere.

    `counts` are those of the declared fields' types. `undeclared` are the others: the first document that has such a
    field of such a type, its name, its type, and how many there are, in the order in which they come.
    """

    values: dict[str, pl.Series]
    rest: pl.Series
    types: pl.Series
    odd: Flags
    counts: dict[str, dict[str, int]]
    undeclared: list[tuple[int, str, str, int]]


def columns_of(documents: Sequence[bytes], declared: Sequence[str]) -> Columns:
    """The columns of whole documents in BSON: one a declared field, beside what all others hold (`rest`)."""
    sizes = np.fromiter(map(len, documents), np.int64, len(documents))
    ends = np.cumsum(sizes)
    buffer = Buffer(documents)
    entries = fields_of(buffer, ends - sizes, ends)
    texts, odd = _texts(buffer, entries, 1)
    odd |= _with_odd_names(entries)
    # What is missing is found behind the last value.
    texts = texts.append(pl.Series([None], dtype=pl.String))
    numbers = {name.encode("utf-8", "surrogatepass"): number for number, name in enumerate(declared)}
    column_of = np.array([numbers.get(name, -1) for name in entries.names], np.int64)
    column = column_of[entries.name]
    (named,) = np.nonzero(column >= 0)
    place = np.full((len(declared), len(documents)), len(entries), np.int64)
    place[column[named], entries.parent[named]] = named
    kinds = np.zeros(place.shape, np.uint8)
    kinds[column[named], entries.parent[named]] = entries.kind[named]
    kinds[:, odd] = 0
    (others,) = np.nonzero(column < 0)
    return Columns(
        {name: texts.gather(pl.Series(place[number])) for number, name in enumerate(declared)},
        _rest(entries, others, texts),
        _types(declared, kinds),
        odd,
        {name: _counts(kinds[number]) for number, name in enumerate(declared)},
        _undeclared(entries, others[~odd[entries.parent[others]]]),
    )


def _rest(entries: Entries, others: Numbers, texts: pl.Series) -> pl.Series:
    count = len(entries.odd)
    if not others.size:
        return pl.Series([None], dtype=pl.String).new_from_index(0, count)
    bounds = _bounds(entries.parent[others], count)
    heads = _heads(entries.names, entries.name[others])
    return _joined(texts.gather(pl.Series(others)), bounds, heads, "}", None)


def _types(declared: Sequence[str], kinds: Kinds) -> pl.Series:
    """The types of the declared fields, each combination told once."""
    combination = np.zeros(kinds.shape[1], np.int64)
    first = combination[:1]
    for start in range(0, len(declared), AT_ONCE):
        for number in range(start, min(start + AT_ONCE, len(declared))):
            combination = combination << BITS | NUMBER_OF_KIND[kinds[number]]
        # There are no more combinations than documents: the next types are put behind a small number.
        _, first, combination = np.unique(combination, return_index=True, return_inverse=True)
    told = [
        canonical({name: TYPES[kind] for name, kind in zip(declared, of.tolist(), strict=True) if kind})
        for of in kinds[:, first].T
    ]
    return pl.Series(told, dtype=pl.String).gather(pl.Series(combination))


def _counts(kinds: Kinds) -> dict[str, int]:
    counted = np.bincount(kinds, minlength=1)
    return {TYPES[kind]: int(counted[kind]) for kind in np.flatnonzero(counted).tolist() if kind}


def _undeclared(entries: Entries, others: Numbers) -> list[tuple[int, str, str, int]]:
    if not others.size:
        return []
    keys = entries.name[others] << BITS | NUMBER_OF_KIND[entries.kind[others]]
    keys, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return [
        (
            int(entries.parent[others[first[each]]]),
            entries.names[keys[each] >> BITS].decode(),
            TYPES[KINDS[keys[each] % (1 << BITS)]],
            int(counts[each]),
        )
        for each in np.argsort(first).tolist()
    ]


# --- texts ------------------------------------------------------------------------------------------------------------


def _texts(buffer: Buffer, entries: Entries, depth: int) -> tuple[pl.Series, Flags]:
    """The value of each field in canonical Extended JSON, and which documents are odd."""
    odd = entries.odd.copy()
    if not len(entries):
        return pl.Series([], dtype=pl.String), odd
    made, places = [], []
    for kind in np.flatnonzero(np.bincount(entries.kind)).tolist():
        (place,) = np.nonzero(entries.kind == kind)
        start, end = entries.start[place], entries.end[place]
        if kind in (OBJECT, ARRAY):
            texts, wrong = _nested(buffer, start, end, depth, are_arrays=kind == ARRAY)
            odd[entries.parent[place[wrong]]] = True
        else:
            texts = WRITTEN[kind](buffer, start, end) if kind in WRITTEN else _read_alone(buffer, kind, start, end)
        if texts.null_count():
            odd[entries.parent[place[texts.is_null().to_numpy()]]] = True
        made.append(texts)
        places.append(place)
    if len(made) == 1:
        return made[0], odd
    back = np.empty(len(entries), np.int64)
    back[np.concatenate(places)] = np.arange(len(entries))
    return pl.concat(made).gather(pl.Series(back)), odd


def _nested(buffer: Buffer, start: Numbers, end: Numbers, depth: int, *, are_arrays: bool) -> tuple[pl.Series, Flags]:
    """Documents or arrays within others as text, and which of them are odd."""
    if depth >= DEEPEST:
        return pl.Series(["{}"]).new_from_index(0, len(start)), np.ones(len(start), bool)
    entries = fields_of(buffer, start, end, are_arrays=are_arrays)
    texts, odd = _texts(buffer, entries, depth + 1)
    if are_arrays:
        return _joined(texts, entries.bounds, pl.Series(["[", ","]), "]", "[]"), odd
    odd |= _with_odd_names(entries)
    return _joined(texts, entries.bounds, _heads(entries.names, entries.name), "}", "{}"), odd


def _with_odd_names(entries: Entries) -> Flags:
    """Which documents have a name twice, one that may mean more than a name, or one that is no text."""
    odd: Flags = np.zeros(len(entries.odd), bool)
    if not len(entries):
        return odd
    strange = np.array([name.startswith(b"$") or not _is_text(name) for name in entries.names])
    odd[entries.parent[strange[entries.name]]] = True
    fields = entries.parent * len(entries.names) + entries.name
    if len(odd) * len(entries.names) < 4 * len(fields):
        twice = np.flatnonzero(np.bincount(fields) > 1)
    else:
        fields = np.sort(fields)
        twice = fields[1:][fields[1:] == fields[:-1]]
    odd[twice // len(entries.names)] = True
    return odd


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bounds(parent: Numbers, count: int) -> Numbers:
    bounds = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(parent, minlength=count), out=bounds[1:])
    return bounds


def _heads(names: list[bytes], of: Numbers) -> pl.Series:
    """What stands before the value of each field: first those of all where it is a document's first one."""
    told = [encode_basestring(name.decode("utf-8", "replace")) for name in names]
    heads = pl.Series([sign + name + ":" for sign in "{," for name in told], dtype=pl.String)
    return pl.concat([heads.gather(pl.Series(of)), heads.gather(pl.Series(of + len(names)))])


def _joined(texts: pl.Series, bounds: Numbers, heads: pl.Series, end: str, empty: str | None) -> pl.Series:
    """The texts between two bounds each as one: with the head of the first, or of another one, before each of them."""
    count = len(texts)
    is_empty = bounds[1:] == bounds[:-1]
    if not count:
        return pl.Series([empty], dtype=pl.String).new_from_index(0, len(is_empty))
    further = np.ones(count, np.int64)
    further[bounds[:-1][~is_empty]] = 0
    last = np.zeros(count, np.int64)
    last[bounds[1:][~is_empty] - 1] = 1
    place = further if len(heads) == 2 else further * count + np.arange(count)
    pieces = _together(heads.gather(pl.Series(place)), texts, pl.Series(["", end]).gather(pl.Series(last)))
    array: Any = pieces.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + count + 1]
    joined = _of_bytes(array.buffers()[2], offsets[bounds], pa.large_string())
    if not is_empty.any():
        return joined
    return joined.zip_with(pl.Series(~is_empty), pl.Series([empty], dtype=pl.String))


def _together(*parts: str | pl.Series) -> pl.Series:
    return pl.select(pl.concat_str(pl.lit(part) for part in parts)).to_series()


def _of_bytes(data: Any, offsets: Numbers, kind: pa.DataType) -> pl.Series:
    """The values that lie in bytes one behind the other."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(data)]
    series = pl.from_arrow(pa.Array.from_buffers(kind, len(offsets) - 1, buffers))
    assert isinstance(series, pl.Series)
    return series


def _spans(buffer: Buffer, start: Numbers, end: Numbers) -> pl.Series:
    """The bytes between each start and its end; no span begins before the last one ended."""
    offsets = np.empty(2 * len(start), np.int64)
    offsets[::2], offsets[1::2] = start, end
    # Every other value is what lies between two of them.
    return _of_bytes(buffer.data, offsets, pa.large_binary()).gather_every(2)


def _of_distinct(values: pl.Series, make: Callable[[Any], str | None]) -> pl.Series:
    """A text of each value; a distinct one is made once."""
    distinct = values.unique()
    made = pl.DataFrame({"value": distinct, "text": pl.Series(map(make, distinct), dtype=pl.String)})
    found = pl.DataFrame({"value": values}).join(made, on="value", how="left", nulls_equal=True, maintain_order="left")
    return found["text"]


# --- one function a type ----------------------------------------------------------------------------------------------


def _strings(buffer: Buffer, start: Numbers, end: Numbers) -> pl.Series:
    spans = _spans(buffer, start + 4, end - 1)
    try:
        texts = spans.cast(pl.String)
    except pl.exceptions.ComputeError:
        texts = pl.Series([value.decode() if _is_text(value) else None for value in spans], dtype=pl.String)
    quoted = _together('"', texts, '"')
    escaped = texts.str.contains(ESCAPED_IN_JSON).fill_null(False)
    if not escaped.any():
        return quoted
    place = np.arange(len(texts))
    place[escaped.to_numpy()] = len(texts) + np.arange(int(escaped.sum()))
    return pl.concat([quoted, _of_distinct(texts.filter(escaped), encode_basestring)]).gather(pl.Series(place))


def _ids(buffer: Buffer, start: Numbers, _end: Numbers) -> pl.Series:
    before, digits, behind = b'{"$oid":"', 24, b'"}'
    texts = np.empty((len(start), len(before) + digits + len(behind)), np.uint8)
    texts[:, : len(before)] = np.frombuffer(before, np.uint8)
    texts[:, len(before) : -len(behind)] = HEX[buffer.rows(start, digits // 2)].view(np.uint8)
    texts[:, -len(behind) :] = np.frombuffer(behind, np.uint8)
    return _of_bytes(texts, np.arange(len(start) + 1) * texts.shape[1], pa.large_string())


def _ints(buffer: Buffer, start: Numbers, _end: Numbers) -> pl.Series:
    return _together('{"$numberInt":"', pl.Series(buffer.ints[start]).cast(pl.String), '"}')


def _longs_of(buffer: Buffer, start: Numbers) -> pl.Series:
    return pl.Series(buffer.words[start].view(np.int64))


def _longs(buffer: Buffer, start: Numbers, _end: Numbers) -> pl.Series:
    return _together('{"$numberLong":"', _longs_of(buffer, start).cast(pl.String), '"}')


def _dates(buffer: Buffer, start: Numbers, _end: Numbers) -> pl.Series:
    return _together('{"$date":{"$numberLong":"', _longs_of(buffer, start).cast(pl.String), '"}}')


def _doubles(buffer: Buffer, start: Numbers, _end: Numbers) -> pl.Series:
    # By their bits: a zero has two signs.
    return _of_distinct(_longs_of(buffer, start), lambda bits: WRITERS[float](float(np.int64(bits).view(np.float64))))


def _booleans(buffer: Buffer, start: Numbers, _end: Numbers) -> pl.Series:
    return pl.Series(["false", "true"]).gather(pl.Series(buffer.bytes[start]))


def _nulls(_buffer: Buffer, start: Numbers, _end: Numbers) -> pl.Series:
    return pl.Series(["null"]).new_from_index(0, len(start))


WRITTEN = {
    STRING: _strings,
    OBJECT_ID: _ids,
    INT: _ints,
    LONG: _longs,
    DATE: _dates,
    DOUBLE: _doubles,
    BOOL: _booleans,
    NULL: _nulls,
}


def _read_alone(buffer: Buffer, kind: int, start: Numbers, end: Numbers) -> pl.Series:
    """Values of any other type, each by itself; none of those that would be written otherwise."""

    def read(data: bytes) -> str | None:
        alone = bytes((kind,)) + b"v\0" + data + b"\0"
        alone = (len(alone) + 4).to_bytes(4, "little") + alone
        try:
            document = decoded_bson(alone)
            return canonical(document["v"], 2) if encoded(document) == alone else None
        except UnreadableDocument:
            return None

    return _of_distinct(_spans(buffer, start, end), read)
