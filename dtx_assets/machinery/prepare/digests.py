"""Digests of prepared rows: whether a part holds what it held before. Another digest for equal values costs a
comparison, never a wrong result."""

import hashlib
from collections.abc import Iterator, Sequence
from io import RawIOBase
from typing import IO, Any, cast

import polars as pl
import polars_hash as plh

from dtx_assets.machinery.base.lake import columns_with_large_text

PRINTABLE = (pl.String, pl.Boolean, pl.Datetime, pl.Date, pl.Time, pl.Decimal)
"""Types, besides those of numbers, whose values are told apart by their texts."""


def content_digest(frame: pl.DataFrame) -> bytes:
    """SHA-256 of the values of a frame."""
    sink = _Digest()
    large = columns_with_large_text(frame)
    for name in large:
        # As they lie there: to write them would take their size twice.
        for text in frame.get_column(name).to_arrow(compat_level=pl.CompatLevel.newest()):
            content = text.as_buffer()
            sink.write(b"NULL;" if content is None else b"%d;" % content.size)
            sink.write(content or b"")
    frame.drop(large).write_parquet(cast(IO[bytes], sink), compression="uncompressed", statistics=False)
    return sink.sha256.digest()


def digests_of_slices(frame: pl.DataFrame, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The same of many short slices (where each begins, how many rows it has), of a hash of each row.

    The load, too, tells by such a hash of 64 bits whether a row is as it was.
    """
    if columns_with_large_text(frame) or not all(_is_told_by_text(kind) for kind in frame.dtypes):
        for place in places:
            yield content_digest(frame.slice(*place))
        return
    texts = [_text(name, kind) for name, kind in frame.schema.items()]
    hashed = plh.concat_str(texts, separator="\x00").nchash.xxhash64()
    hashes = frame.select(hashed).to_series().to_numpy()
    names = repr(list(frame.schema.items())).encode()
    for start, rows in places:
        yield hashlib.sha256(names + hashes[start : start + rows].tobytes()).digest()


def _is_told_by_text(kind: Any) -> bool:
    if isinstance(kind, pl.List):
        return not isinstance(kind.inner, pl.List) and _is_told_by_text(kind.inner)
    return bool(kind.is_numeric() or kind in PRINTABLE)


def _text(name: str, kind: pl.DataType) -> pl.Expr:
    """A text for each value of a column, another one for NULL."""
    value = pl.col(name)
    if isinstance(kind, pl.List):
        element = pl.element().cast(pl.String)
        measured = pl.format("{}:{}", element.str.len_bytes(), element).fill_null("-")
        text = value.list.eval(measured).list.join(",")
    else:
        text = value.cast(pl.String)
    return pl.concat_str(pl.lit("="), text).fill_null("")


class _Digest(RawIOBase):
    """Takes what is written, and keeps its SHA-256 only."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return len(data)
