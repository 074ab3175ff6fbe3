"""The contact that envelope.vendor_data holds, PHP-serialised once or twice, as JSON (spec 4.6, Area 8 decision 6)."""

import re
from functools import partial

import polars as pl

from dtx_assets.machinery.mapping.execute import RowProblem
from dtx_assets.machinery.transforms.php import PhpError, PhpValue, decode_distinct, flatten_leaves, parse
from dtx_assets.machinery.transforms.php_json import NUL, document_of, json_of, text_of

CONTACT = pl.Struct({":contact": pl.String, "_why_not": pl.String})
"""The contact as compact JSON with its keys sorted, or why there is none."""

_LOOKS_SERIALISED = re.compile(rb'a:[0-9]+:\{|[sSOCE]:[0-9]+:"')


def with_contacts(rows: pl.DataFrame, *, latin1_lengths: bool) -> pl.DataFrame:
    """The rows with `:contact`, the contact in `vendor_data` as JSON, or `_why_not`; equal values are read once."""
    read = decode_distinct(
        rows["vendor_data"], partial(read_contact, latin1_lengths=latin1_lengths), CONTACT
    ).struct.unnest()
    # Bytes that are no text stand there escaped, and what is escaped could be read as something else.
    undecodable = pl.col("_undecodable").list.eval(pl.element().struct.field("column") == "vendor_data").list.any()
    why_not = (
        pl.when(undecodable)
        .then(pl.lit("holds bytes that are no text in the table's encoding"))
        .otherwise("_why_not")
        .alias("_why_not")
    )
    return rows.hstack(read).with_columns(why_not, pl.when(undecodable.fill_null(False).not_()).then(":contact"))


CONTACT_PROBLEM = RowProblem(
    pl.col(":contact").is_null(), "unparseable", "vendor_data", pl.coalesce("_why_not", pl.lit("there is no contact"))
)
"""What rejects a row of `with_contacts`."""


def read_contact(payload: bytes, *, latin1_lengths: bool = False) -> dict[str, str | None]:
    """The contact that a value holds, serialised once or twice.

    The legacy keys are kept, as texts. A PHP array becomes an object, a list too: its keys `0`, `1` … are kept like
    any others. `email` becomes an array, whatever it was.
    """
    try:
        value = parse(payload, latin1_lengths=latin1_lengths)
        if isinstance(value, bytes):
            value = parse(value, latin1_lengths=latin1_lengths)
        if not isinstance(value, dict):
            raise PhpError("the value is no array", 0)
        contact = document_of(value)
        contact["email"] = _addresses(value.get(b"email"), latin1_lengths)
        return {":contact": json_of(contact), "_why_not": None}
    except PhpError as error:
        return {":contact": None, "_why_not": error.why if error.why == NUL else str(error)}


def _addresses(value: PhpValue, latin1_lengths: bool) -> list[str]:
    """The addresses of a contact: a string may be a serialised value itself, nested arrays are flattened."""
    if isinstance(value, bytes):
        serialised = value
        try:
            value = parse(serialised, latin1_lengths=latin1_lengths)
        except PhpError:
            # One address as it is; what begins like an array or a string of PHP was cut, or holds an object.
            if _LOOKS_SERIALISED.match(serialised):
                raise
    if value == b"":
        return []
    return [text_of(leaf) for leaf in flatten_leaves(value) if leaf is not None]
