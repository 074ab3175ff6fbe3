"""Whole landed rows as JSON, as they go with what is rejected: the columns of a table, or the document itself."""

import base64
from collections.abc import Mapping

import polars as pl

from dtx_assets.machinery.sources.documents import BSON, LINE
from dtx_assets.machinery.sources.extended_json import UnreadableDocument, canonical, decoded_bson
from dtx_assets.machinery.sources.landing import UNREADABLE

NUL = r"(^|[^\\])((?:\\\\)*)\\u0000"
"""A NUL as JSON escapes it, which no `jsonb` holds; of several in a row every second one is found."""


def json_of_rows(frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.Series:
    """Each row as a JSON object of its columns (name to column of the frame); of a document, itself.

    A document is canonical Extended JSON; of one that cannot be read, its exact bytes or its line stand for it. A NUL
    is written `\\x00`.
    """
    if BSON not in columns:
        return _as_json(_called(frame, columns))
    exact = LINE if LINE in columns else BSON
    documents = frame.select(whole_documents(columns[BSON])).to_series()
    whole = with_nul_spelt_out(documents.set(frame.get_column(UNREADABLE).is_not_null(), None))
    return whole.fill_null(_as_json(_called(frame, {exact: columns[exact]})))


def _called(frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    return pl.DataFrame([frame.get_column(column).alias(name) for name, column in columns.items()])


def _as_json(texts: pl.DataFrame) -> pl.Series:
    """Each row as a JSON object.

    A large text is copied as seldom as can be: Polars was seen to copy that of a first row while it encodes it, so that
    an empty row goes first.
    """
    padded = pl.concat([texts.clear(1), texts])
    return with_nul_spelt_out(padded.to_struct("row").struct.json_encode().tail(-1))


def with_nul_spelt_out(json: pl.Series) -> pl.Series:
    # Looked for first: replacing copies all texts.
    for _ in range(2):
        if json.str.contains("\\u0000", literal=True).any():
            json = json.str.replace_all(NUL, r"${1}${2}\\x00")
    return json


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
