"""What only this database's columns are made of: its keys, states, types and times."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import polars as pl

from dtx_assets.machinery.transforms.codes import unlisted_code
from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Coercion,
    Outcome,
    Problem,
    Registry,
    TransformContext,
    canonical_integer,
    integer,
    shown,
)
from dtx_assets.machinery.transforms.keys import key_of, look_up, named_uuid, object_of
from dtx_assets.machinery.transforms.numbers import numeric
from dtx_assets.machinery.transforms.times import instant

OWN = Registry()
NAMESPACE = "c447fb6d-893e-5c24-a80b-001facee4dd0"
"""Version 5 of `urn:dtx-assets:dispatch` in the URL namespace."""


def uuid_of(what: str, *ids: pl.Expr) -> pl.Expr:
    return named_uuid(NAMESPACE, what, *ids)


def standard_codes(context: TransformContext, what: str) -> pl.DataFrame:
    """The rows of `standard.csv` of one kind that have a code: `code` (Int64), `slug`."""
    rows = context.value_maps["standard"].filter(pl.col("what") == what).drop_nulls("code")
    return rows.select(pl.col("code").cast(pl.Int64), "slug")


@OWN.transform("dispatch_key")
def dispatch_key(inputs: Sequence[pl.Expr], context: TransformContext, what: str = "") -> Outcome:
    """The UUID of a legacy id of `what`, or of a text as it stands."""
    return key_of(inputs, context, NAMESPACE, what)


@OWN.transform("moment")
def moment(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """A time with or without fraction and offset, as UTC; a day alone is none."""
    read = instant(inputs, context)
    is_day = inputs[0].str.len_chars() == len("2000-01-01")
    problem = Problem("unparseable", is_day & read.value.is_not_null(), pl.format("{} is no time", shown(inputs[0])))
    return replace(read, value=pl.when(~is_day).then(read.value), problems=(*read.problems, problem))


@OWN.transform("first_moment")
def first_moment(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """The first of two times, or where it is NULL the other one, counted."""
    first, second = (moment([source], context) for source in inputs)
    is_second = inputs[0].is_null()
    value = pl.when(is_second).then(second.value).otherwise(first.value)
    counted = (*first.coercions, Coercion("created_at_from_updated_at", is_second))
    return Outcome(value, (*first.problems, *second.problems), counted)


@OWN.transform("moment_of_change")
def moment_of_change(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """When a state changed; one without such a time gives no history, which is counted."""
    (at,) = inputs
    read = moment(inputs, context)
    return replace(read, coercions=(*read.coercions, Coercion("no_changed_at", at.is_null())))


@OWN.transform("amount")
def amount(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """Money; NULL is nothing."""
    read = numeric(inputs, context, 10, 2)
    return replace(read, value=pl.when(inputs[0].is_null()).then(pl.lit("0.00")).otherwise(read.value))


@OWN.transform("gender")
def gender(inputs: Sequence[pl.Expr], context: TransformContext, code: Literal["iso_5218", "keep_code"]) -> Outcome:
    """What `sex.csv` says of a code, or under `keep_code` the code itself, if it is listed."""
    listed = context.value_maps["sex"]
    number = canonical_integer(inputs[0])
    value = number.replace_strict(listed["sex"], listed["gender"], default=None, return_dtype=pl.String)
    lost = number.is_not_null() & number.is_in(listed["sex"].implode()).not_()
    unknown = Problem("unmapped_value", lost, pl.format("{} is not listed in sex.csv", shown(inputs[0])))
    problems = integer(inputs, context).problems
    return Outcome(number if code == "keep_code" else value, (*problems, unknown))


@OWN.transform("message_type")
def message_type(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """The type of a message by `message_type.csv`; NULL is general, counted. It is no content type."""
    (source,) = inputs
    number, listed = canonical_integer(source), context.value_maps["message_type"]
    key = number.replace_strict(listed["type"], listed["key"], default=None, return_dtype=pl.String)
    lost = number.is_not_null() & key.is_null()
    unknown = Problem("unmapped_value", lost, pl.format("{} is not listed in message_type.csv", shown(source)))
    value = uuid_of("message_type", pl.when(source.is_null()).then(pl.lit("general")).otherwise(key))
    counted = (Coercion("no_message_type", source.is_null()),)
    return Outcome(value, (*integer(inputs, context).problems, unknown), counted, takes_any_bytes=True)


@OWN.transform("order_state")
def order_state(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    crosswalk: str,
    source: Literal["instruction_status", "latest_state"],
    unknown: Literal["add_state", "reject"],
) -> Outcome:
    """The state of an order by its own code, or by that of its latest state row; NULL is the first state, counted."""
    key, own = inputs
    latest = (
        look_up(context, crosswalk, canonical_integer(key), "target_id")[1]
        if source == "latest_state"
        else pl.lit(None, pl.String)
    )
    status = pl.coalesce(latest, own)
    read = state_code([status], context, unknown)
    value = uuid_of("order_state", read.value.fill_null(1).cast(pl.String))
    return Outcome(
        pl.when(status.is_null() | read.value.is_not_null()).then(value),
        read.problems,
        (Coercion("no_status", status.is_null()),),
        takes_any_bytes=True,
    )


@OWN.transform("state_code")
def state_code(
    inputs: Sequence[pl.Expr], context: TransformContext, unknown: Literal["add_state", "reject"]
) -> Outcome:
    """A code of a state; one that the standard states lack is kept, or rejected."""
    if unknown == "add_state":
        return integer(inputs, context, bits=32)
    read = integer(inputs, context)
    known = standard_codes(context, "order_state")["code"]
    lost = read.value.is_not_null() & read.value.is_in(known.implode()).not_()
    unlisted = Problem("unmapped_value", lost, pl.format("{} is no standard state", shown(inputs[0])))
    return replace(read, problems=(*read.problems, unlisted))


@OWN.transform("of_patient")
def of_patient(
    inputs: Sequence[pl.Expr], context: TransformContext, crosswalk: str, gives: Literal["doctor", "office"]
) -> Outcome:
    """The doctor or the office that a patient row names, or why there is none, where the patient is found."""
    key = canonical_integer(inputs[0])
    found, value = look_up(context, crosswalk, key, gives)
    _, why = look_up(context, crosswalk, key, f"{gives}_problem")
    reasons: tuple[str, ...] = ("no_matching_row", "orphan_reference", "unparseable")
    problems = [
        Problem(
            reason,
            found & (why == reason),
            pl.format(f"the patient {{}} has no {gives} that is migrated", shown(inputs[0])),
        )
        for reason in reasons
    ]
    coercions = []
    if gives == "office":
        _, guessed = look_up(context, crosswalk, key, "office_guessed")
        coercions.append(Coercion("office_of_doctor", found & guessed.fill_null(False)))
    return Outcome(value, tuple(problems), tuple(coercions), takes_any_bytes=True)


@OWN.transform("file_part")
def file_part(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """The part of a row that a file is."""
    return Outcome(pl.concat_str(pl.lit("file:"), canonical_integer(inputs[0])), integer(inputs, context).problems)


@OWN.transform("task_facts", ("unknown_code",))
def task_facts(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """Category and status of a task, and the code of a function that is not listed."""
    category, status, function = inputs
    unlisted = unlisted_code([function], context, "task_function").value
    fields = {"category_id": "integer", "status": "integer", "legacy_function": "integer"}
    return object_of([category, status, unlisted], context, fields)


TRANSFORMS = GENERIC | OWN
