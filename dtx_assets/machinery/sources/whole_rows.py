"""Whole landed rows as JSON, as they go with what is rejected: the columns of a table, or the document itself."""

import base64
import re
from collections.abc import Mapping

import polars as pl

from dtx_assets.machinery.sources.documents import BSON, LINE
from dtx_assets.machinery.sources.extended_json import UnreadableDocument, canonical, decoded_bson
from dtx_assets.machinery.sources.landing import UNREADABLE

NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""A NUL as JSON escapes it, which no `jsonb` holds."""


def rows_as_json(columns: Mapping[str, str]) -> pl.Expr:
    """Each row as a JSON object of its columns (name to column of the frame); of a document, itself.

    A document is canonical Extended JSON; of one that cannot be read, its exact bytes or its line stand for it. A NUL
    is written `\\x00`.
    """
    if BSON not in columns:
        return _of_columns(columns)
    exact = {name: columns[name] for name in (LINE if LINE in columns else BSON,)}
    return (
        pl.when(pl.col(UNREADABLE).is_null())
        .then(without_nul(whole_documents(columns[BSON])))
        .otherwise(_of_columns(exact))
    )


def json_of_rows(frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.Series:
    """The same of rows that are held."""
    if BSON in columns:
        return frame.select(rows_as_json(columns)).to_series()
    return _as_json(pl.DataFrame([frame.get_column(column).alias(name) for name, column in columns.items()]))


def _as_json(texts: pl.DataFrame) -> pl.Series:
    """Each row as a JSON object, with NUL spelt out.

    A large text is copied as seldom as can be: Polars was seen to copy that of an only row for each expression, and
    that of a first one while it encodes it, so that an empty row goes first.
    """
    padded = pl.concat([texts.clear(1), texts])
    has_nul = padded.select(pl.all().str.contains("\x00", literal=True).any()).row(0, named=True)
    spelt_out = [
        padded.get_column(name).str.replace_all("\x00", "\\x00", literal=True)
        for name, is_so in has_nul.items()
        if is_so
    ]
    return (padded.with_columns(spelt_out) if spelt_out else padded).to_struct("row").struct.json_encode().tail(-1)


def _of_columns(columns: Mapping[str, str]) -> pl.Expr:
    return pl.struct(
        pl.col(column).str.replace_all("\x00", "\\x00", literal=True).alias(name) for name, column in columns.items()
    ).struct.json_encode()


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


def without_nul(json: pl.Expr) -> pl.Expr:
    """JSON with each NUL written `\\x00`."""
    return json.map_batches(
        lambda texts: pl.Series(
            texts.name,
            [text if text is None or "\\u0000" not in text else NUL.sub(r"\1\\\\x00", text) for text in texts],
            pl.String(),
        ),
        pl.String(),
        is_elementwise=True,
    )
