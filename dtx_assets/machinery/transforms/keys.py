"""References and keys from legacy text: what an id refers to, keys that are functions of ids, objects of columns."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import polars as pl

from dtx_assets.machinery.transforms.binary import uuids_of
from dtx_assets.machinery.transforms.codes import FALSE, TRUE
from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Coercion,
    Outcome,
    Problem,
    TransformContext,
    canonical_id,
    integer_value,
    json_object,
    json_text,
    shown,
    uuid_value,
)
from dtx_assets.machinery.transforms.numbers import numeric

FieldKind = Literal["text", "filled_text", "integer", "boolean", "number", "uuid"]


@GENERIC.transform("reference")
def reference(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    crosswalk: str,
    gives: str = "target_id",
    needed: bool = False,
    missing: Literal["reject", "null", "nothing"] = "reject",
) -> Outcome:
    """What a crosswalk has for an id, in its column `gives`. NULL stays NULL, or is a `schema_violation` where it is
    `needed`; no integer is `unparseable`; what is `missing` there is an `orphan_reference`, or NULL, counted or not.
    """
    (source,) = inputs
    key = canonical_id(source, "integer")
    is_there, value = look_up(context, crosswalk, key, gives)
    is_lost = key.is_not_null() & ~is_there
    problems = [
        Problem("unparseable", source.is_not_null() & key.is_null(), pl.format("{} is no integer", shown(source)))
    ]
    if needed:
        problems.append(Problem("schema_violation", source.is_null(), "has no value"))
    if missing == "reject":
        problems.append(
            Problem("orphan_reference", is_lost, pl.format(f"{{}} is no {crosswalk} that is migrated", shown(source)))
        )
    counted = (Coercion(f"{crosswalk}_not_found", is_lost),) if missing == "null" else ()
    return Outcome(value, tuple(problems), counted, takes_any_bytes=True)


def look_up(context: TransformContext, crosswalk: str, key: pl.Expr, column: str) -> tuple[pl.Expr, pl.Expr]:
    """Whether a crosswalk has a key, and what it has for it in a column."""
    if crosswalk not in context.crosswalks:
        # Mapping files are checked before there are any.
        return pl.lit(False), pl.lit(None, pl.String)
    frame = context.crosswalks[crosswalk].select("source_id", column).collect()
    value = key.replace_strict(frame["source_id"], frame[column], default=None, return_dtype=frame[column].dtype)
    return key.is_in(frame["source_id"].implode()).fill_null(False), value


@GENERIC.transform("key_of")
def key_of(inputs: Sequence[pl.Expr], context: TransformContext, namespace: str, what: str = "") -> Outcome:
    """A UUID version 5 of `what:<id>`, or of the text itself where there is no `what`; of several ids, of all of them
    with colons between. An id has no leading zeros; NULL where one of them is none.
    """
    texts = [canonical_id(source, "integer") for source in inputs] if what else list(inputs)
    made = context.read(_name(what, *texts), partial(uuids_of, namespace=namespace), pl.String())
    return Outcome(made, takes_any_bytes=True)


def named_uuid(namespace: str, what: str, *ids: pl.Expr) -> pl.Expr:
    """The UUID version 5 of `what:<id>:…`."""
    made = partial(uuids_of, namespace=namespace)
    return _name(what, *ids).map_batches(made, pl.String(), is_elementwise=True)


def _name(what: str, *ids: pl.Expr) -> pl.Expr:
    return pl.concat_str(*([pl.lit(what)] if what else []), *ids, separator=":")


@GENERIC.transform("object")
def object_of(inputs: Sequence[pl.Expr], context: TransformContext, fields: Mapping[str, str]) -> Outcome:
    """A JSON object of columns: `fields` names each with its kind, in their order. What is NULL is left out.

    Kinds are text, filled_text (blank is left out), integer, boolean, uuid, and number: as text, as it came. What does
    not read as its kind is `unparseable`.
    """
    entries, problems = {}, []
    for source, (name, kind) in zip(inputs, fields.items(), strict=True):
        value = field(source, kind)
        entries[name] = value
        if kind not in ("text", "filled_text"):
            read = numeric([source], context).value if kind == "number" else value
            wrong = source.is_not_null() & read.is_null()
            problems.append(Problem("unparseable", wrong, pl.format(f"{name}: {{}} is no {kind}", shown(source))))
    return Outcome(pl.coalesce(json_object(entries), pl.lit("{}")), tuple(problems))


def field(source: pl.Expr, kind: str) -> pl.Expr:
    """A legacy text as a value in JSON; NULL where it is none."""
    match kind:
        case "integer":
            return integer_value(source).cast(pl.String)
        case "boolean":
            given = source.str.to_lowercase()
            return pl.when(given.is_in(TRUE)).then(pl.lit("true")).when(given.is_in(FALSE)).then(pl.lit("false"))
        case "uuid":
            return pl.when(uuid_value(source).is_not_null()).then(json_text(uuid_value(source)))
        case "filled_text":
            return pl.when(source.str.strip_chars() != "").then(json_text(source))
    return json_text(source)


def with_members(text: pl.Expr, entries: Mapping[str, pl.Expr]) -> pl.Expr:
    """A JSON object with more members, which are JSON themselves and not in it yet; NULL ones are left out."""
    more = json_object(entries)
    return (
        pl.when(more.is_null())
        .then(text)
        .when(text == json.dumps({}))
        .then(more)
        .otherwise(pl.concat_str(text.str.head(-1), pl.lit(","), more.str.slice(1)))
    )
