"""Values that PHP's `serialize` wrote, read without PHP and without ever making an object.

Here live `parse` (one payload), `flatten_leaves`, and their way into Polars: `decode_distinct` and the expression
`php_strings`. What a leaf means (an e-mail address, a contact) does not live here; `php_json` has a value as JSON.

The reader accepts and refuses what `unserialize` of PHP 8.2 does with classes disallowed. It is written from scratch:
`phpserialize` 1.3 knows no references, no `S:` strings and no depth limit, takes keys as they are spelled (PHP makes
the string `"10"` the int 10) and accepts lengths and counts that PHP refuses, so little of it would have been left. It
is deliberately stricter than PHP in five points:

- objects, enums and custom serialisation are refused, where PHP makes an incomplete object;
- so is a string that is itself a serialised object: legacy systems serialise twice, and then read twice;
- bytes after the value are refused, unless `allow_trailing`;
- a value that contains itself is refused, and so is one whose references expand it out of all proportion;
- a length or reference number beyond 64 bits is refused, where PHP lets it wrap around.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, TypeVar

import polars as pl

from dtx_assets.machinery.base.encodings import latin1_bytes, latin1_text

PhpScalar = bytes | int | float | bool | None
PhpValue = PhpScalar | dict[int | bytes, "PhpValue"]
"""An array is a dict in PHP's order, with PHP's normalised keys. Arrays that PHP shares by reference are one dict here:
do not change what `parse` returned."""

PHP_STRINGS = pl.Struct(
    {
        "status": pl.String,
        "strings": pl.List(pl.String),
        "others": pl.List(pl.String),
        "detail": pl.String,
    }
)

MAX_DEPTH = 4096
"""PHP's default `unserialize_max_depth`; an empty array does not count as a level."""

_REMEMBERED_BYTES = 512

_INT_MAX = 2**63 - 1
_INT_MIN = -(2**63)

_TOKEN = re.compile(
    rb"""
      s:(?P<string>[0-9]++):"
    | i:(?P<int>[+-]?[0-9]++);
    | a:(?P<array>[0-9]++):\{
    | N(?P<null>;)
    | b:(?P<bool>[01]);
    | d:(?P<float>[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?|NAN|-?INF);
    | R:(?P<reference>[0-9]++);
    | S:(?P<escaped>[0-9]++):"
    """,
    re.VERBOSE,
)
_OBJECT = re.compile(rb"[OCE]:")
_OBJECT_IN_STRING = re.compile(rb'[OCE]:[0-9]++:"')
_OBJECT_REFERENCE = re.compile(rb"r:")
_ESCAPE = re.compile(rb"\\([0-9a-fA-F]{2})")
_CANONICAL_INT = re.compile(rb"0|-?[1-9][0-9]{0,18}")

T = TypeVar("T")


class PhpError(ValueError):
    """A payload is not one PHP value that may be read. `position` is a byte offset; `why` never quotes the payload."""

    def __init__(self, why: str, position: int) -> None:
        self.why = why
        self.position = position
        super().__init__(f"{why} (at byte {position})")


class _Shared:
    """A PHP reference while its payload is being read: one value seen from several array elements."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def parse(payload: bytes, *, allow_trailing: bool = False, latin1_lengths: bool = False) -> PhpValue:
    """The value that `payload` holds; bytes after it are refused, or with `allow_trailing` left unread as PHP 8.2 does.

    Strings are bytes, as PHP has them. Time and memory are bounded by a multiple of the payload's length. Raises
    `PhpError` for whatever cannot be read, and nothing else. PHP counts bytes: where a database then turned latin1 into
    UTF-8, the lengths are too small. With `latin1_lengths` a value that can be read in no other way is read so.
    """
    try:
        return _parse(payload, allow_trailing)
    except PhpError:
        counted = _with_utf8_lengths(payload) if latin1_lengths else None
        if counted is None:
            raise
        return _parse(counted, allow_trailing)


def fits_latin1_only(column: pl.Expr) -> pl.Expr:
    """Whether the lengths of a PHP value fit its text in latin1, and not as it is; false for NULL."""

    def look(payload: bytes) -> bool:
        try:
            _parse(payload, allow_trailing=False)
        except PhpError:
            return _with_utf8_lengths(payload) is not None
        return False

    return column.map_batches(
        lambda values: decode_distinct(values, look, pl.Boolean()).fill_null(False),
        return_dtype=pl.Boolean,
        is_elementwise=True,
    )


def _with_utf8_lengths(payload: bytes) -> bytes | None:
    """A payload whose lengths fit its text in latin1, with those that fit it in UTF-8; None where they do not."""
    if payload.isascii():
        return None
    try:
        latin1 = latin1_bytes(payload.decode())
        if latin1 is None:
            return None
        _parse(latin1, allow_trailing=False)
    except (PhpError, UnicodeDecodeError):
        return None
    pieces: list[bytes] = []
    position = 0
    while position < len(latin1):
        token = _TOKEN.match(latin1, position)
        end = token.end() if token else position + 1
        piece = latin1[position:end]
        if token and token.lastgroup == "string":
            string = latin1_text(latin1[end : (end := end + int(token["string"]))]).encode()
            piece = b's:%d:"%s' % (len(string), string)
        elif token and token.lastgroup == "escaped":
            return None
        pieces.append(piece)
        position = end
    return b"".join(pieces)


def _parse(payload: bytes, allow_trailing: bool) -> PhpValue:
    root: dict[int | bytes, Any] = {}
    # What `R:n;` counts: each value, as the place that holds it. A key that comes again reuses its place.
    places: list[tuple[dict[int | bytes, Any], int | bytes]] = []
    enclosing: list[tuple[dict[int | bytes, Any], int]] = []
    array, missing, position = root, 1, 0
    key: int | bytes = 0
    has_references = False
    while True:
        if not missing:
            if not enclosing:
                break
            if payload[position : position + 1] != b"}":
                raise PhpError("an array does not end after its last element", position)
            position += 1
            array, missing = enclosing.pop()
            continue
        missing -= 1
        if enclosing:
            key, position = _read_key(payload, position)
        token = _TOKEN.match(payload, position)
        if token is None:
            raise _refusal(payload, position)
        kind = token.lastgroup
        if kind == "reference":
            _share(places, _clamped_int(token["reference"]), (array, key), position)
            has_references = True
            position = token.end()
            continue
        places.append((array, key))
        if kind in ("string", "escaped"):
            array[key], position = _read_string(payload, token)
        elif kind == "array":
            count = _clamped_int(token["array"])
            position = token.end()
            if count > len(payload) - position:
                raise PhpError("an array announces more elements than there are bytes left", token.start())
            if count and len(enclosing) >= MAX_DEPTH:
                raise PhpError(f"arrays are nested more than {MAX_DEPTH} deep", token.start())
            inner: dict[int | bytes, Any] = {}
            array[key] = inner
            enclosing.append((array, missing))
            array, missing = inner, count
        else:
            array[key] = _scalar(kind, token)
            position = token.end()
    if position != len(payload) and not allow_trailing:
        raise PhpError("something follows the value", position)
    if has_references:
        _dereference(root, limit=max(16 * len(payload), 2**20))
    return root[0]


def flatten_leaves(value: PhpValue) -> list[PhpScalar]:
    """All that is no array, nested arrays flattened in order; a scalar is its own only leaf."""
    leaves: list[PhpScalar] = []
    pending: list[Iterator[PhpValue]] = [iter((value,))]
    while pending:
        for item in pending[-1]:
            if isinstance(item, dict):
                pending.append(iter(item.values()))
                break
            leaves.append(item)
        else:
            pending.pop()
    return leaves


def decode_distinct(values: pl.Series, decode: Callable[[bytes], T], return_dtype: pl.DataType) -> pl.Series:
    """`decode` of each value of a String or Binary series, called once for each distinct one; NULL stays NULL.

    `decode` gets a string as UTF-8 and returns what Polars can put into a series of `return_dtype`; what it raises is
    not caught.
    """
    encoded = values.cast(pl.Binary).alias("encoded")
    distinct = encoded.drop_nulls().unique()
    decoded = pl.Series("decoded", [decode(value) for value in distinct], dtype=return_dtype)
    looked_up = encoded.to_frame().join(
        pl.DataFrame([distinct, decoded]), on="encoded", how="left", maintain_order="left"
    )
    return looked_up["decoded"].alias(values.name)


def php_strings(column: pl.Expr, *, latin1_lengths: bool = False) -> pl.Expr:
    """The string leaves of a column of PHP-serialised arrays or scalar strings: a struct of dtype `PHP_STRINGS`.

    | status | when |
    |---|---|
    | `empty` | NULL, an empty field, a serialised null, an array without any element |
    | `ok` | any other array, or a string; an array of empty arrays is `ok` without leaves |
    | `unparseable` | all else; `detail` says why and where, without a word of the value |

    `strings` has the leaves that are UTF-8 text, in order; `others` every other leaf, in order and printable.
    `latin1_lengths` is that of `parse`.
    """
    read = partial(_strings_of_series, latin1_lengths=latin1_lengths)
    return column.map_batches(read, return_dtype=PHP_STRINGS, is_elementwise=True)


_EMPTY: dict[str, Any] = {"status": "empty", "strings": [], "others": [], "detail": None}


def _strings_of_series(values: pl.Series, latin1_lengths: bool) -> pl.Series:
    rows = values.alias("value").to_frame()
    if values.dtype == pl.String:
        rows = rows.join(_plain_lists(values.drop_nulls().unique()), on="value", how="left", maintain_order="left")
    else:
        rows = rows.with_columns(pl.lit(None, PHP_STRINGS).alias("plain"))
    others = rows.select(pl.when(pl.col("plain").is_null()).then("value"))["value"]
    decoded = decode_distinct(others, partial(_strings_of_any_payload, latin1_lengths=latin1_lengths), PHP_STRINGS)
    return rows.select(pl.coalesce("plain", decoded, pl.lit(_EMPTY, PHP_STRINGS)))["plain"].alias(values.name)


_PLAIN_ELEMENT = r'i:(\d+);s:(\d+):"([^"]*)";'
_PLAIN_LIST = r'^a:[1-9]\d*:\{(?:i:\d+;s:\d+:"[^"]*";)+\}$'


def _plain_lists(distinct: pl.Series) -> pl.DataFrame:
    """The values that are plain lists of strings without a quote in them, read without a Python loop.

    Nearly all of real data is of this form. A value is read here only if its keys count up from 0 and every count and
    length is right to the digit; anything else is left to `parse`.
    """
    element = pl.col("element").str.extract_groups(_PLAIN_ELEMENT)
    return (
        distinct.alias("value")
        .to_frame()
        .filter(pl.col("value").str.contains(_PLAIN_LIST))
        .with_row_index()
        .with_columns(pl.col("value").str.extract_all(_PLAIN_ELEMENT).alias("element"))
        .explode("element")
        .with_columns(element.struct.rename_fields(["key", "length", "string"]))
        .unnest("element")
        .group_by("index", maintain_order=True)
        .agg(
            pl.col("value").first(),
            pl.col("string"),
            (
                (pl.col("key") == pl.int_range(pl.len()).cast(pl.String))
                & (pl.col("length") == pl.col("string").str.len_bytes().cast(pl.String))
            )
            .all()
            .alias("exact"),
            pl.len().cast(pl.String).alias("count"),
        )
        .filter(pl.col("exact") & pl.col("value").str.starts_with(pl.concat_str(pl.lit("a:"), "count", pl.lit(":{"))))
        .select(
            "value",
            pl.struct(
                pl.lit("ok").alias("status"),
                pl.col("string").alias("strings"),
                pl.lit([], pl.List(pl.String)).alias("others"),
                pl.lit(None, pl.String).alias("detail"),
            )
            .cast(PHP_STRINGS)
            .alias("plain"),
        )
    )


def _strings_of_any_payload(payload: bytes, latin1_lengths: bool) -> dict[str, Any]:
    read = _strings_of_payload if len(payload) > _REMEMBERED_BYTES else _remembered_strings
    return read(payload, latin1_lengths)


def _strings_of_payload(payload: bytes, latin1_lengths: bool) -> dict[str, Any]:
    if not payload:
        return _EMPTY
    try:
        value = parse(payload, latin1_lengths=latin1_lengths)
    except PhpError as error:
        return _unparseable(error)
    if value is None or value == {}:
        return _EMPTY
    if not isinstance(value, bytes | dict):
        return _unparseable(PhpError(f"a lone {type(value).__name__} is neither an array nor a string", 0))
    strings: list[str] = []
    others: list[str] = []
    for leaf in flatten_leaves(value):
        try:
            strings.append(leaf.decode())  # type: ignore[union-attr]
        except (AttributeError, UnicodeDecodeError):
            others.append(_printable(leaf))
    return {"status": "ok", "strings": strings, "others": others, "detail": None}


# A streaming engine hands over many small batches, in which the same values come again. Long values are not remembered,
# so that what is remembered stays within some 20 MB.
_remembered_strings = lru_cache(maxsize=2**14)(_strings_of_payload)


def _unparseable(error: PhpError) -> dict[str, Any]:
    return {"status": "unparseable", "strings": [], "others": [], "detail": str(error)}


def _printable(leaf: PhpScalar) -> str:
    """A scalar as PHP's source spells it; of a string its bytes, all but printable ASCII escaped."""
    if isinstance(leaf, bytes):
        return leaf.decode("latin-1").encode("unicode_escape").decode("ascii")
    if leaf is None or isinstance(leaf, bool):
        return {None: "null", True: "true", False: "false"}[leaf]
    return repr(leaf).upper()


def _read_key(payload: bytes, position: int) -> tuple[int | bytes, int]:
    token = _TOKEN.match(payload, position)
    kind = token.lastgroup if token else None
    if token is None or kind not in ("int", "string", "escaped"):
        raise PhpError("an array key is neither an int nor a string", position)
    if kind == "int":
        return _clamped_int(token["int"]), token.end()
    key, end = _read_string(payload, token)
    if _CANONICAL_INT.fullmatch(key):
        number = int(key)
        if _INT_MIN <= number <= _INT_MAX:
            return number, end
    return key, end


def _read_string(payload: bytes, opening: re.Match[bytes]) -> tuple[bytes, int]:
    """The string that `opening` opens, and where it ends."""
    start = opening.end()
    if opening.lastgroup == "string":
        end = start + _clamped_int(opening["string"])
        string = payload[start:end]
    else:
        string, end = _unescaped(payload, start, _clamped_int(opening["escaped"]))
    if payload[end : end + 2] != b'";':
        raise PhpError("a string does not end where its length says", opening.start())
    if _OBJECT_IN_STRING.match(string):
        raise PhpError("a string is itself a serialised object, which is never read", opening.start())
    return string, end + 2


def _unescaped(payload: bytes, start: int, length: int) -> tuple[bytes, int]:
    r"""The content of an `S:` string, whose length counts each `\hh` as the one byte that it stands for."""
    if length > len(payload) - start:
        raise PhpError("a string is longer than what is left", start)
    pieces: list[bytes] = []
    position, missing = start, length
    while missing:
        backslash = payload.find(b"\\", position, position + missing)
        plain = payload[position : backslash if backslash >= 0 else position + missing]
        pieces.append(plain)
        position += len(plain)
        if backslash < 0:
            break
        escape = _ESCAPE.match(payload, position)
        if escape is None:
            raise PhpError("a backslash is not followed by two hexadecimal digits", position)
        pieces.append(bytes.fromhex(escape[1].decode()))
        missing -= len(plain) + 1
        position = escape.end()
    return b"".join(pieces), position


def _scalar(kind: str | None, token: re.Match[bytes]) -> PhpScalar:
    if kind == "int":
        return _clamped_int(token["int"])
    if kind == "bool":
        return token["bool"] == b"1"
    if kind == "float":
        return float(token["float"])
    return None


def _clamped_int(digits: bytes) -> int:
    """As PHP reads an int: one out of range becomes the nearest in range. Linear in time, however many digits."""
    if len(digits) < 19:
        return int(digits)
    significant = digits.lstrip(b"+-0")
    magnitude = int(significant or b"0") if len(significant) <= 19 else _INT_MAX + 1
    return max(-magnitude, _INT_MIN) if digits.startswith(b"-") else min(magnitude, _INT_MAX)


def _share(
    places: list[tuple[dict[int | bytes, Any], int | bytes]],
    number: int,
    place: tuple[dict[int | bytes, Any], int | bytes],
    position: int,
) -> None:
    """Make `place` a reference to the value that is the `number`th, as `R:number;` asks."""
    if not 1 <= number <= len(places):
        raise PhpError("a reference points to no value before it", position)
    array, key = places[number - 1]
    if array is place[0] and key == place[1]:
        raise PhpError("a reference points to itself", position)
    if not isinstance(array[key], _Shared):
        array[key] = _Shared(array[key])
    place[0][place[1]] = array[key]


def _dereference(root: dict[int | bytes, Any], limit: int) -> None:
    """Put the values themselves where references are, or refuse a cycle, or more than `limit` elements and bytes once
    every reference is written out. Each array is walked once, however often it is shared."""
    sizes: dict[int, int] = {}
    walking = {id(root)}
    pending = [(root, iter(root.items()))]
    totals = [0]
    while pending:
        array, items = pending[-1]
        for key, item in items:
            value = item
            if isinstance(item, _Shared):
                value = item.value
                array[key] = value
            if not isinstance(value, dict):
                totals[-1] += 1 + (len(value) if isinstance(value, bytes) else 0)
            elif id(value) in sizes:
                totals[-1] += sizes[id(value)]
            elif id(value) in walking:
                raise PhpError("the value contains itself", 0)
            else:
                walking.add(id(value))
                pending.append((value, iter(value.items())))
                totals.append(1)
                break
        else:
            pending.pop()
            size = totals.pop()
            if size > limit:
                raise PhpError("references make the value many times as large as it is written", 0)
            sizes[id(array)] = size
            walking.discard(id(array))
            if totals:
                totals[-1] += size


def _refusal(payload: bytes, position: int) -> PhpError:
    if _OBJECT.match(payload, position):
        return PhpError("an object, enum or custom serialisation is never read", position)
    if _OBJECT_REFERENCE.match(payload, position):
        return PhpError("a reference to an object is never read", position)
    if position >= len(payload):
        return PhpError("the value ends too early", position)
    return PhpError("no PHP value starts here", position)
