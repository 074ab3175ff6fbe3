"""Bytes and UUIDs: what a binary column of the source holds, or what a text spells, and keys made by UUID version 5."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Literal
from uuid import NAMESPACE_DNS, NAMESPACE_OID, NAMESPACE_URL, NAMESPACE_X500, UUID

import polars as pl

from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Blank,
    Outcome,
    TransformContext,
    Unreadable,
    json_text,
    reading,
    uuid_value,
)

UNDECODABLE = "_undecodable"
"""The column of a landed table that holds the bytes of values that are no text, by column."""

HEX = r"^(?:\\x|0[xX])?((?:[0-9A-Fa-f]{2})*)$"
BASE64 = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

NAMESPACES = {"dns": NAMESPACE_DNS, "url": NAMESPACE_URL, "oid": NAMESPACE_OID, "x500": NAMESPACE_X500}


def landed_bytes(column: pl.Expr) -> pl.Expr:
    """The bytes that stood in a column of the source, of rows with `_undecodable`."""
    element = pl.element().struct
    held = pl.col(UNDECODABLE).list.eval(
        element.field("bytes").filter(element.field("column") == column.meta.output_name())
    )
    return pl.coalesce(held.list.first(), column.cast(pl.Binary))


@GENERIC.transform("bytes")
def bytes_(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    written: Literal["as_they_are", "hex", "base64"] = "as_they_are",
    unreadable: Unreadable = "reject",
) -> Outcome:
    """Bytes: those of a binary column, or those that a text spells in hex or base64; else `unparseable`.

    Hex digits may have `\\x` or `0x` before them; in base64 white space does not count.
    """
    (source,) = inputs
    if written == "as_they_are":
        return Outcome(_hex(landed_bytes(source)), takes_any_bytes=True)
    if written == "hex":
        value = pl.lit("\\x") + source.str.extract(HEX, 1).str.to_lowercase()
        return reading(source, value, "bytes in hex", unreadable)
    packed = source.str.replace_all(r"\s", "")
    decoded = pl.when(packed.str.contains(BASE64)).then(packed).str.decode("base64", strict=False)
    return reading(source, _hex(decoded), "bytes in base64", unreadable)


def _hex(value: pl.Expr) -> pl.Expr:
    return pl.lit("\\x") + value.bin.encode("hex")


@GENERIC.transform("uuid")
def uuid(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    written: Literal["text", "bytes"] = "text",
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
) -> Outcome:
    """A UUID in lower case, from 32 hex digits with or without hyphens and braces, or from 16 bytes of a binary
    column; else `unparseable`.
    """
    (source,) = inputs
    if written == "text":
        return reading(source, uuid_value(source), "UUID", unreadable, blank)
    held = landed_bytes(source)
    value = pl.when(held.bin.size() == 16).then(uuid_value(held.bin.encode("hex")))
    return reading(source, value, "UUID", unreadable, takes_any_bytes=True)


@GENERIC.transform("uuid5")
def uuid5(inputs: Sequence[pl.Expr], context: TransformContext, namespace: str) -> Outcome:
    """A UUID version 5 of a namespace: a UUID, or dns, url, oid or x500. NULL where a column is.

    Its name is the text of the one column, or a compact JSON array of the texts of several.
    """
    space = str(NAMESPACES.get(namespace) or UUID(namespace))
    name = inputs[0] if len(inputs) == 1 else _json_array(inputs)
    return Outcome(context.read(name, partial(uuids_of, namespace=space), pl.String()))


def _json_array(texts: Sequence[pl.Expr]) -> pl.Expr:
    some_null = pl.any_horizontal(text.is_null() for text in texts)
    listed = pl.concat_str([json_text(text) for text in texts], separator=",")
    return pl.when(~some_null).then(pl.format("[{}]", listed))


def uuids_of(names: pl.Series, namespace: str) -> pl.Series:
    """The UUIDs version 5 of names in a namespace, itself a UUID."""
    distinct = names.drop_nulls().unique()
    if len(distinct) == len(names):
        return _made_of(names, namespace)
    return names.replace_strict(distinct, _made_of(distinct, namespace), default=None, return_dtype=pl.String)


def _made_of(names: pl.Series, namespace: str) -> pl.Series:
    begun = hashlib.sha1(UUID(namespace).bytes, usedforsecurity=False)
    digests = []
    for name in names:
        whole = begun.copy()
        whole.update(name.encode())
        digests.append(whole.hexdigest())
    digits = pl.col("digits").str
    # Version 5, and the two bits of the variant. Cut by place, which is quicker than by pattern.
    variant = digits.slice(16, 1).replace_strict(
        {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}, return_dtype=pl.String
    )
    made = pl.format(
        "{}-{}-5{}-{}{}-{}",
        digits.head(8),
        digits.slice(8, 4),
        digits.slice(13, 3),
        variant,
        digits.slice(17, 3),
        digits.slice(20, 12),
    )
    of_names = pl.DataFrame({"digits": digests}, schema={"digits": pl.String}).select(made)
    return of_names.to_series().alias(names.name)
