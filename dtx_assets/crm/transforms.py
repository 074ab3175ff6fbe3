"""How fields of NextCRM's documents become columns: the machinery's readings under what this plan decides."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from dtx_assets.machinery.transforms import document_values as documents
from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Coercion,
    Outcome,
    Registry,
    TransformContext,
    object_id_value,
)
from dtx_assets.machinery.transforms.document_values import DocumentRules

OWN = Registry()
NAMESPACE = "9ff85368-0ce2-530b-bca5-ea5ff5b21b75"
"""Of the UUIDs that ObjectIds become: version 5 of `urn:dtx_assets:crm:objectid` in the URL namespace."""


OF_MISSING = ("missing_required", "missing_created")
OF_VALUES = (*OF_MISSING, "scalar_to_text", "numeric_dates", "json_values")
OF_REFERENCES = (*OF_MISSING, "dangling_optional", "unconstrained_reference", "ids")


def rules_under(chosen: Mapping[str, Any]) -> DocumentRules:
    """What the chosen options say of fields that are not as the target wants them."""
    return DocumentRules(
        scalars=chosen["scalar_to_text"],
        numbers=chosen["numeric_dates"],
        form=chosen["json_values"],
        missing=chosen["missing_required"],
        created=chosen["missing_created"],
        dangling=chosen["dangling_optional"],
        unconstrained=chosen["unconstrained_reference"],
        namespace=NAMESPACE if chosen["ids"] == "uuid_v5" else None,
        # Mongoose's version key is 0 where no document was changed yet, whatever the column says.
        defaults={"__v": "0"},
    )


@OWN.transform("document_value", OF_VALUES)
def document_value(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """The value of a field, by the type, nullability and default of its live column."""
    return documents.document_value(inputs, context, rules_under(context.decisions))


@OWN.transform("document_reference", OF_REFERENCES)
def document_reference(inputs: Sequence[pl.Expr], context: TransformContext, crosswalk: str) -> Outcome:
    """The id of the row of the document that a field names, by its live foreign key or without one."""
    return documents.document_reference(inputs, context, rules_under(context.decisions), crosswalk)


@OWN.transform("document_id", ("ids",))
def document_id(inputs: Sequence[pl.Expr], context: TransformContext, crosswalk: str, of: str) -> Outcome:
    """The id of a document's row: a function of its ObjectId, or a random one that is kept."""
    return documents.document_id(inputs, context, rules_under(context.decisions), crosswalk, of)


@OWN.transform("document_time", OF_VALUES)
def document_time(inputs: Sequence[pl.Expr], context: TransformContext, column: str) -> Outcome:
    """What a field becomes in a column of times, in milliseconds since 1970: to sort by."""
    return documents.document_time(inputs, context, rules_under(context.decisions), column)


@OWN.transform("document_digits")
def document_digits(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """The hex digits of an id: to sort by."""
    (source,) = inputs
    return Outcome(object_id_value(source), takes_any_bytes=True)


@OWN.transform("password", ("passwords", *OF_VALUES))
def password(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """The hash unchanged; or NULL, and everybody sets a new one."""
    if context.decisions["passwords"] == "copy":
        return document_value(inputs, context)
    (source,) = inputs
    is_there = source.is_not_null() & ~documents.is_null(source)
    return Outcome(pl.lit(None, pl.String), coercions=(Coercion("password_dropped", is_there),), takes_any_bytes=True)


TRANSFORMS = GENERIC | OWN
