"""Whole landed rows as JSON, as they go with what is rejected: the columns of a table, or the document itself."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import repeat
from typing import cast

import polars as pl
import pyarrow as pa

from dtx_assets.machinery.base.lake import LARGE_TEXT
from dtx_assets.machinery.sources.documents import BSON, LINE
from dtx_assets.machinery.sources.extended_json import UnreadableDocument, canonical, decoded_bson
from dtx_assets.machinery.sources.landing import UNREADABLE

NUL = r"(^|[^\\])((?:\\\\)*)\\u0000"
"""A NUL as JSON escapes it, which no `jsonb` holds; of several in a row every second one is found."""


def json_of_rows(frame: pl.DataFrame, columns: Mapping[str, str], only: pl.Series | None = None) -> pl.Series:
    """Each row, or those of a mask, as a JSON object of its columns (name to column of the frame); of a document,
    itself.

    A document is canonical Extended JSON; of one that cannot be read, its exact bytes or its line stand for it. A NUL
    is written `\\x00`.
    """
    if BSON not in columns:
        return _as_json(_called(frame, columns), only)
    frame = frame if only is None else frame.filter(only)
    exact = LINE if LINE in columns else BSON
    documents = frame.select(whole_documents(columns[BSON])).to_series()
    whole = with_nul_spelt_out(documents.set(frame.get_column(UNREADABLE).is_not_null(), None))
    return whole.fill_null(_as_json(_called(frame, {exact: columns[exact]})))


def _called(frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    return pl.DataFrame([frame.get_column(column).alias(name) for name, column in columns.items()])


def _as_json(texts: pl.DataFrame, only: pl.Series | None = None) -> pl.Series:
    """Each row, or those of a mask, as a JSON object of its texts.

    Of a frame of one row Polars copies all texts with nearly everything that it does, so that rows with a large text
    are left where they are.
    """
    wanted = pl.repeat(True, texts.height, dtype=pl.Boolean, eager=True) if only is None else only
    if texts.height == 1 and wanted.all():
        return _as_json_piece_by_piece(texts, [0])
    is_large = texts.select(pl.any_horizontal(pl.all().str.len_bytes() > LARGE_TEXT).fill_null(False)).to_series()
    is_other = wanted & ~is_large
    others = with_nul_spelt_out(texts.filter(is_other).to_struct("row").struct.json_encode())
    if len(others) == wanted.sum():
        return others
    large = _as_json_piece_by_piece(texts, (wanted & is_large).arg_true().to_list())
    if others.is_empty():
        return large
    places = pl.concat([is_other.arg_true(), (wanted & is_large).arg_true()])
    return pl.concat([others, large]).gather(places.arg_sort())


PIECE = 1 << 20
SHORT = {8: b"b", 9: b"t", 10: b"n", 12: b"f", 13: b"r"}
ESCAPES = [(b"\\", b"\\\\"), (b'"', b'\\"'), (b"\0", b"\\\\x00")]
ESCAPES += [(bytes([code]), b"\\" + SHORT.get(code, b"u%04x" % code)) for code in range(1, 32)]


def _as_json_piece_by_piece(texts: pl.DataFrame, positions: Sequence[int]) -> pl.Series:
    """The same of few rows, each as large as it is once and no more."""
    newest = pl.CompatLevel.newest()
    arrays = [column.alias("").to_arrow(compat_level=newest) for column in texts.get_columns()]
    names = [json.dumps(name, ensure_ascii=False).replace("\\u0000", "\\\\x00").encode() for name in texts.columns]
    rows = []
    for row in positions:
        stream = BytesIO()
        for before, name, array in zip((b"{", *repeat(b",", len(names))), names, arrays, strict=False):
            stream.write(before + name + b":")
            _write_text(stream, array[row].as_buffer())
        stream.write(b"}")
        offsets = pa.py_buffer(struct.pack("<qq", 0, stream.tell()))
        # Of its own memory, which Polars takes as it is.
        array = pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(stream.getbuffer()))
        rows.append(cast(pl.Series, pl.from_arrow(array)))
    return pl.concat(rows).alias("row")


def _write_text(stream: BytesIO, text: pa.Buffer | None) -> None:
    if text is None:
        stream.write(b"null")
        return
    stream.write(b'"')
    whole = memoryview(text)
    for start in range(0, len(whole), PIECE):
        piece = bytes(whole[start : start + PIECE])
        # What is escaped is ASCII, which no other character has as a part.
        for character, escaped in ESCAPES:
            if character in piece:
                piece = piece.replace(character, escaped)
        stream.write(piece)
    stream.write(b'"')


def with_nul_spelt_out(rows: pl.Series) -> pl.Series:
    # Looked for first: replacing copies all texts.
    for _ in range(2):
        if rows.str.contains("\\u0000", literal=True).any():
            rows = rows.str.replace_all(NUL, r"${1}${2}\\x00")
    return rows


def whole_documents(column: str) -> pl.Expr:
    """The documents of a column of `_bson` as canonical Extended JSON; NULL for what cannot be read."""
    return pl.col(column).map_batches(_documents, pl.String(), is_elementwise=True)


def _documents(encoded: pl.Series) -> pl.Series:
    return pl.Series(encoded.name, [None if text is None else _document(text) for text in encoded], pl.String())


def _document(text: str) -> str | None:
    try:
        return canonical(decoded_bson(base64.b64decode(text)))
    except UnreadableDocument:
        return None
