"""The contact that envelope.vendor_data holds, PHP-serialised once or twice, as JSON (spec 4.6, Area 8 decision 6)."""

import json
import math
from typing import Any

import polars as pl

from dtx_assets.machinery.php import PhpError, PhpValue, decode_distinct, flatten_leaves, parse

CONTACT = pl.Struct({"contact": pl.String, "detail": pl.String})
"""The contact as compact JSON with its keys sorted, or why there is none."""


def contacts(column: pl.Expr) -> pl.Expr:
    """A column of serialised contacts as CONTACT; NULL stays NULL."""
    return column.map_batches(
        lambda values: decode_distinct(values, read_contact, CONTACT), return_dtype=CONTACT, is_elementwise=True
    )


def read_contact(payload: bytes) -> dict[str, str | None]:
    """The contact of one value; the legacy keys are kept, `email` becomes an array."""
    try:
        value = parse(payload)
        if isinstance(value, bytes):
            value = parse(value)
        if not isinstance(value, dict):
            raise PhpError("the value is no array", 0)
        contact = {_text(key): _json_value(element) for key, element in value.items()}
        contact["email"] = _addresses(value.get(b"email"))
    except PhpError as error:
        return {"contact": None, "detail": str(error)}
    text = json.dumps(contact, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if "\\u0000" in text and "\x00" in _texts(contact):
        return {"contact": None, "detail": "holds a NUL, which PostgreSQL cannot hold"}
    return {"contact": text, "detail": None}


def _addresses(value: PhpValue) -> list[str]:
    """The addresses of a contact: a string may be a serialised array itself, nested arrays are flattened."""
    if isinstance(value, bytes) and value:
        try:
            value = parse(value)
        except PhpError:
            # An address that is not serialised again.
            return [_text(value)]
    if value in (None, b""):
        return []
    return [_text(leaf) for leaf in flatten_leaves(value) if leaf is not None]


def _text(leaf: PhpValue) -> str:
    if isinstance(leaf, bytes):
        try:
            return leaf.decode()
        except UnicodeDecodeError:
            raise PhpError("holds bytes that are no text", 0) from None
    return json.dumps(leaf)


def _json_value(value: PhpValue) -> Any:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, dict):
        return {_text(key): _json_value(element) for key, element in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise PhpError("holds a number that JSON does not have", 0)
    return value


def _texts(value: Any) -> str:
    """All texts of a document one after the other."""
    if isinstance(value, dict):
        return "".join(f"{key}{_texts(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "".join(map(_texts, value))
    return value if isinstance(value, str) else ""
