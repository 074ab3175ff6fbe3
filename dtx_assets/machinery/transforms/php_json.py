"""Values that PHP's `serialize` wrote, as JSON that PostgreSQL can hold."""

import json
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import polars as pl

from dtx_assets.machinery.transforms.columns import GENERIC, Outcome, Problem, TransformContext
from dtx_assets.machinery.transforms.php import PhpError, PhpValue, decode_distinct, parse

MAX_NESTING = 100
"""Arrays within one another; JSON readers have their limits."""

NUL = "holds a NUL, which PostgreSQL cannot hold"

_READ = pl.Struct({"json": pl.String, "why_not": pl.String})


@GENERIC.transform("php_json")
def php_json(inputs: Sequence[pl.Expr], context: TransformContext, latin1_lengths: bool = False) -> Outcome:
    """A PHP-serialised value as compact JSON with its keys sorted, arrays as objects; NULL and an empty text are NULL.

    What is no such value, or what JSON or PostgreSQL cannot hold, is `unparseable`. With `latin1_lengths` a value whose
    lengths fit its text in latin1 only is read so.
    """
    (source,) = inputs
    read = source.map_batches(
        lambda values: decode_distinct(values, partial(_read, latin1_lengths=latin1_lengths), _READ),
        return_dtype=_READ,
        is_elementwise=True,
    )
    why_not = read.struct.field("why_not")
    return Outcome(read.struct.field("json"), (Problem("unparseable", why_not.is_not_null(), why_not),))


def _read(payload: bytes, latin1_lengths: bool) -> dict[str, str | None]:
    if not payload:
        return {"json": None, "why_not": None}
    try:
        return {"json": json_of(document_of(parse(payload, latin1_lengths=latin1_lengths))), "why_not": None}
    except PhpError as error:
        return {"json": None, "why_not": str(error)}


def document_of(value: PhpValue, depth: int = 0) -> Any:
    """A value of PHP as Python has JSON. An array becomes an object, a list too: its keys `0`, `1` … are kept like any
    others. PhpError where JSON has no such value."""
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, dict):
        if depth == MAX_NESTING:
            raise PhpError(f"arrays are nested more than {MAX_NESTING} deep", 0)
        return {text_of(key): document_of(element, depth + 1) for key, element in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise PhpError("holds a number that JSON does not have", 0)
    return value


def text_of(leaf: PhpValue) -> str:
    """A string of PHP as text, any other scalar as JSON spells it; PhpError for bytes that are no text."""
    if isinstance(leaf, bytes):
        try:
            return leaf.decode()
        except UnicodeDecodeError:
            raise PhpError("holds bytes that are no text", 0) from None
    return json.dumps(leaf)


def json_of(document: Any) -> str:
    """Compact JSON with its keys sorted; PhpError where a text holds a NUL, which PostgreSQL cannot hold."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if "\\u0000" in text and "\x00" in _texts(document):
        raise PhpError(NUL, 0)
    return text


def _texts(value: Any) -> str:
    """All texts of a document one after the other."""
    if isinstance(value, dict):
        return "".join(f"{key}{_texts(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "".join(map(_texts, value))
    return value if isinstance(value, str) else ""
