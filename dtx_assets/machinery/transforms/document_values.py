"""What a field of documents becomes in a column of the target as it is live: by its type, nullability, default, key.

How a value of each type is read is `bson_values`; which option is chosen of what the plan leaves open, `DocumentRules`
says. Ids that name other documents are looked up in a crosswalk of those that are migrated.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, cast

import polars as pl
import polars_hash  # noqa: F401

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.model.target import TargetColumn, polars_type
from dtx_assets.machinery.transforms.bson_values import (
    _Fault,
    _id_of,
    _is_blank,
    _members_of,
    _timestamp_text,
    _typed,
    bson_boolean,
    bson_enum,
    bson_integer,
    bson_json,
    bson_text,
    bson_texts,
    bson_timestamp,
    bson_uuid,
)
from dtx_assets.machinery.transforms.columns import (
    BLANK,
    Coercion,
    Outcome,
    Problem,
    TransformContext,
    object_id_value,
    shown,
)
from dtx_assets.machinery.transforms.json_values import _literal
from dtx_assets.machinery.transforms.looks_typed import parsed

IS_BLANK = rf'^"{BLANK}*"$'
CROSSWALK = pl.Schema(
    {
        "source_id": pl.String(),
        "target_id": pl.String(),
        "fate": pl.String(),
        "merged": pl.Boolean(),
        "named": pl.String(),
    }
)
"""A crosswalk of documents, one row an id (24 hex digits in lower case), whether it is migrated or not.

`target_id`: the key of the row that stands for it, as text; null where none does. `fate`: null of what is migrated,
else `rejected` or `dropped`. `merged`: whether that row is not its own, but another document's (its fate is `rejected`
then) or one that was in the target before (null then). `named`: the id of the document that counts, mostly itself.
"""


@dataclass(frozen=True)
class DocumentRules:
    """What was decided about fields that are not as the target wants them; `defaults` are constants by column name."""

    scalars: Literal["convert", "reject"] = "convert"
    numbers: Literal["reject", "epoch_ms"] = "reject"
    form: Literal["plain", "extended_json"] = "plain"
    missing: Literal["schema_default", "reject"] = "schema_default"
    created: Literal["reject", "object_id_time"] = "reject"
    dangling: Literal["null", "reject"] = "null"
    unconstrained: Literal["keep", "null"] = "keep"
    namespace: str | None = None
    """Of the version 5 UUIDs that ids become; None where they are random."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    key: str = "_id"


def is_missing(source: pl.Expr) -> pl.Expr:
    return source.is_null()


def is_null(source: pl.Expr) -> pl.Expr:
    """Whether a field is there and null."""
    return (source == "null").fill_null(False)


def held_column(context: TransformContext) -> TargetColumn:
    """The column that is made, as the target has it live; a text where nobody knows it, as in a helper."""
    return context.held.get(context.column) or TargetColumn(context.column, "text", "", nullable=True)


def document_value(inputs: Sequence[pl.Expr], context: TransformContext, rules: DocumentRules) -> Outcome:
    """The value of a field for the column that is made, whatever its type."""
    (source,) = inputs
    held = held_column(context)
    kind, nullable = held.kind, held.nullable
    if kind.is_array:
        return bson_texts([source], context, scalars=rules.scalars)
    if held.allowed:
        taken = bson_enum([source], context, labels=held.allowed, nullable=nullable)
    elif kind.is_integer:
        taken = bson_integer([source], context, bits=64 if kind.name == "bigint" else 32, nullable=nullable)
    elif kind.name == "boolean":
        taken = bson_boolean([source], context, nullable=nullable)
    elif kind.name.startswith("timestamp"):
        taken = bson_timestamp([source], context, numbers=rules.numbers, nullable=nullable)
    elif kind.is_json:
        taken = bson_json([source], context, form=rules.form)
    elif kind.name == "uuid" and rules.namespace:
        taken = bson_uuid([source], context, namespace=rules.namespace, nullable=nullable)
    else:
        taken = bson_text([source], context, scalars=rules.scalars)
    return _as_required(taken, source, held, rules)


def _as_required(taken: Outcome, source: pl.Expr, held: TargetColumn, rules: DocumentRules) -> Outcome:
    """The outcome with what becomes of a missing or null field where the column takes no NULL."""
    if held.nullable:
        return taken
    value, coercions = taken.value, list(taken.coercions)
    refused = is_null(source)
    default = held.default if held.default is not None else rules.defaults.get(held.name)
    if held.filled_with_now:
        if rules.created == "object_id_time":
            created = _time_of_id(pl.col(rules.key))
            value = pl.when(is_missing(source)).then(created).otherwise(value)
            made = is_missing(source) & created.is_not_null()
            coercions.append(Coercion("created_from_id", made))
            refused |= is_missing(source) & ~made
        else:
            refused |= is_missing(source)
    elif default is not None and rules.missing == "schema_default":
        value = pl.when(is_missing(source)).then(_constant(default, held)).otherwise(value)
        coercions.append(Coercion("defaulted", is_missing(source)))
    else:
        refused |= is_missing(source)
    why = pl.when(is_missing(source)).then(pl.lit("is missing")).otherwise(pl.lit("is null"))
    detail = pl.format("{}, and the column takes no NULL", why)
    problems = (*taken.problems, Problem("schema_violation", refused, detail))
    return Outcome(value, problems, tuple(coercions), taken.takes_any_bytes)


def _constant(default: str, held: TargetColumn) -> pl.Expr:
    if held.kind.name == "boolean":
        return pl.lit(default in ("true", "t"))
    return pl.lit(int(default)) if held.kind.is_integer else pl.lit(default).cast(polars_type(held.type))


def _time_of_id(key: pl.Expr) -> pl.Expr:
    """The time in an ObjectId, as PostgreSQL prints it."""
    seconds = object_id_value(key).str.head(8).str.to_integer(base=16, strict=False, dtype=pl.Int64)
    return seconds.map_batches(
        lambda some: pl.Series(
            some.name, [None if each is None else _timestamp_text(each * 1000) for each in some], pl.String()
        ),
        pl.String(),
        is_elementwise=True,
    )


def document_time(inputs: Sequence[pl.Expr], context: TransformContext, rules: DocumentRules, column: str) -> Outcome:
    """The milliseconds since 1970 of what a field becomes in a column of times: to sort by."""
    if context.held and column not in context.held:
        raise ConfigurationError(
            f"there is no column {column} whose times a helper could have", where=context.column, remedy="name one"
        )
    times = {column: TargetColumn(column, "timestamp", "", nullable=True)}
    made = document_value(inputs, replace(context, column=column, held={**times, **context.held}), rules)
    return Outcome(made.value.map_batches(_milliseconds, pl.Int64(), is_elementwise=True), takes_any_bytes=True)


def _milliseconds(texts: pl.Series) -> pl.Series:
    made = {text: _moment_of(text) for text in texts.drop_nulls().unique()}
    return pl.Series(texts.name, [None if text is None else made[text] for text in texts], pl.Int64())


def _moment_of(text: str) -> int:
    """The milliseconds since 1970 of a time as PostgreSQL prints it."""
    era = -1 if text.endswith(" BC") else 1
    day, clock = text.removesuffix(" BC").split(" ")
    year, month, day_of_month = map(int, day.split("-"))
    year = year if era == 1 else 1 - year
    # The calendar repeats itself every 400 years, which are 146,097 days.
    circles, of_circle = divmod(year - 2000, 400)
    whole, _, fraction = clock.partition(".")
    hours, minutes, seconds = map(int, whole.split(":"))
    moment = datetime(2000 + of_circle, month, day_of_month, hours, minutes, seconds, tzinfo=UTC)
    days = (moment - datetime(1970, 1, 1, tzinfo=UTC)).days + circles * 146_097
    return ((days * 24 + hours) * 60 + minutes) * 60_000 + seconds * 1000 + int(fraction.ljust(3, "0") or 0)


# --- ids --------------------------------------------------------------------------------------------------------------


def document_id(
    inputs: Sequence[pl.Expr], context: TransformContext, rules: DocumentRules, crosswalk: str, of: str
) -> Outcome:
    """The UUID of a document's own id; what is none, or is not there, is `unparseable`.

    Random ones are those that `crosswalk` has of the table `of` already (`source_table`, `source_id`, `target_id`).
    """
    (source,) = inputs
    digits = object_id_value(source)
    problem = Problem("unparseable", digits.is_null(), pl.format("{} is no id", shown(source)))
    from_text = Coercion("id_from_text", (source.str.starts_with('"') & digits.is_not_null()).fill_null(False))
    if rules.namespace:
        value = uuid_of(digits, rules.namespace)
    else:
        given = context.crosswalks.get(crosswalk, pl.LazyFrame(schema=GIVEN)).filter(pl.col("source_table") == of)
        value = context.read(digits, partial(_given, given), pl.String())
    return Outcome(value, (problem,), (from_text,), takes_any_bytes=True)


GIVEN = pl.Schema({"source_table": pl.String(), "source_id": pl.String(), "target_id": pl.String()})


def _given(given: pl.LazyFrame, digits: pl.Series) -> pl.Series:
    """The ids that were given before, and new random ones."""
    listed = given.select("source_id", "target_id").collect().unique("source_id")
    found = digits.alias("source_id").to_frame().join(listed, on="source_id", how="left", maintain_order="left")
    made = {each: str(uuid.uuid4()) for each in found.filter(pl.col("target_id").is_null())["source_id"].drop_nulls()}
    return pl.Series(
        digits.name,
        [known if known or each is None else made[each] for each, known in found.iter_rows()],
        pl.String(),
    )


def uuid_of(digits: pl.Expr, namespace: str) -> pl.Expr:
    """The version 5 UUIDs of ids, as PostgreSQL prints them."""
    hashed: Any = digits
    return cast(pl.Expr, hashed.uuidhash.uuid5(str(uuid.UUID(namespace))))


FOUND = pl.Struct({name: CROSSWALK[name] for name in ("target_id", "fate", "merged", "named")})


def looked_up(digits: pl.Series, crosswalk: pl.LazyFrame) -> pl.DataFrame:
    """What a crosswalk says of ids, in their order: its other columns; `named` of one that it does not have, too."""
    wanted = digits.drop_nulls().unique()
    listed = (
        crosswalk.select(CROSSWALK.names())
        .filter(pl.col("source_id").is_in(wanted.implode()))
        .collect(engine="streaming")
        .unique("source_id")
    )
    return (
        digits.alias("source_id")
        .to_frame()
        .join(listed, on="source_id", how="left", maintain_order="left")
        .select(
            "target_id", "fate", pl.col("merged").fill_null(False), pl.coalesce("named", "source_id").alias("named")
        )
    )


def document_reference(
    inputs: Sequence[pl.Expr], context: TransformContext, rules: DocumentRules, crosswalk: str
) -> Outcome:
    """The key of the row of the document that a field names, by a foreign key of the live target or without one."""
    (source,) = inputs
    held = held_column(context)
    listed = context.crosswalks.get(crosswalk, pl.LazyFrame(schema=CROSSWALK))
    if held.kind.is_array:
        return _references(source, context, listed, rules, crosswalk)
    digits = object_id_value(source)
    found = context.read(digits, lambda ids: looked_up(ids, listed).to_struct(ids.name), FOUND)
    target_id = found.struct.field("target_id")
    names, lost = digits.is_not_null(), digits.is_not_null() & target_id.is_null()
    blank = source.str.contains(IS_BLANK).fill_null(False)
    no_id = source.is_not_null() & ~is_null(source) & ~names
    no_id &= ~blank if held.nullable else pl.lit(True)
    problems = [Problem("unparseable", no_id, pl.format("{} is no id", shown(source)))]
    coercions = [Coercion("empty_to_null", blank)] if held.nullable else []
    told = pl.format(
        f"names {{}} of {crosswalk}, which is {{}}", digits, found.struct.field("fate").fill_null("not there")
    )
    value, kept = target_id, ~lost
    if held.references is None and rules.unconstrained == "keep" and rules.namespace:
        named = pl.when(lost).then(found.struct.field("named"))
        value, kept = pl.coalesce(target_id, uuid_of(named, rules.namespace)), pl.lit(True)
    elif held.nullable and (held.references is None or rules.dangling == "null"):
        coercions.append(Coercion("dangling_reference", lost))
    else:
        problems.append(Problem("orphan_reference", lost, told))
    coercions.append(Coercion("id_from_text", names & kept & source.str.starts_with('"')))
    coercions.append(Coercion("merged_reference", names & kept & found.struct.field("merged").fill_null(False)))
    taken = Outcome(value, tuple(problems), tuple(coercions), takes_any_bytes=True)
    return _as_required(taken, source, held, rules)


# --- arrays of ids ----------------------------------------------------------------------------------------------------

ARRAY = pl.Struct({"value": pl.String(), "fault": pl.String(), "counted": pl.List(pl.String)})
OF_MEMBERS = (
    *("id_from_text", "null_member", "duplicate_member", "scalar_to_array"),
    *("dangling_reference", "merged_reference"),
)


def _references(
    source: pl.Expr, context: TransformContext, crosswalk: pl.LazyFrame, rules: DocumentRules, named: str
) -> Outcome:
    """An array of the keys of rows, in order, each once; a missing one is empty."""
    read = context.read(source, partial(_arrays, crosswalk=crosswalk, rules=rules), ARRAY)
    counted = read.struct.field("counted")
    value = pl.when(source.is_null()).then(pl.lit("{}")).otherwise(read.struct.field("value"))
    fault = read.struct.field("fault")
    return Outcome(
        value,
        (Problem("unparseable", fault.is_not_null(), pl.format("{} {}", shown(source), fault)),),
        tuple(
            Coercion(kind, counted.list.contains(kind).fill_null(False), counted.list.count_matches(kind))
            for kind in OF_MEMBERS
        ),
        takes_any_bytes=True,
    )


Member = tuple[str, bool] | None
"""The hex digits of an id and whether it was text; None of a null or blank member."""


def _arrays(values: pl.Series, crosswalk: pl.LazyFrame, rules: DocumentRules) -> pl.Series:
    """ARRAY of each value; a distinct one is read once."""
    read: dict[str, tuple[list[Member], tuple[str, ...], str | None]] = {
        value: _read_array(value) for value in values.drop_nulls().unique()
    }
    digits = list({member[0] for members, _, _ in read.values() for member in members if member})
    ids = pl.Series(digits, dtype=pl.String)
    listed = looked_up(ids, crosswalk).select("target_id", "merged", "named")
    found = dict(zip(digits, listed.iter_rows(), strict=True))
    resolve = partial(_resolved, found, rules)
    made = {value: _made_array(resolve, *each) for value, each in read.items()}
    nothing: tuple[str | None, str | None, list[str]] = (None, None, [])
    rows = [dict(zip(("value", "fault", "counted"), made.get(value, nothing), strict=True)) for value in values]
    return pl.Series(values.name, rows, ARRAY)


def _read_array(value: str) -> tuple[list[Member], tuple[str, ...], str | None]:
    try:
        members, alone = _members_of(parsed(value), blank_is_empty=True)
        return [_member(each) for each in members], alone, None
    except (_Fault, ValueError, ArithmeticError, KeyError, TypeError, RecursionError):
        return [], (), "holds a member that is no id"


def _member(value: Any) -> Member:
    kind, held = _typed(value)
    if kind == "null" or (kind == "string" and _is_blank(held)):
        return None
    found = _id_of(kind, held)
    if found is None:
        raise _Fault("holds a member that is no id")
    return found


def _resolved(
    found: Mapping[str, tuple[str | None, bool, str]], rules: DocumentRules, digits: str
) -> tuple[str | None, bool]:
    target_id, merged, named = found[digits]
    if target_id is None and rules.unconstrained == "keep" and rules.namespace:
        return str(uuid.uuid5(uuid.UUID(rules.namespace), named)), merged
    return target_id, merged


def _made_array(
    resolve: Callable[[str], tuple[str | None, bool]],
    members: Sequence[Member],
    alone: Sequence[str],
    fault: str | None,
) -> tuple[str | None, str | None, list[str]]:
    if fault:
        return None, fault, []
    counted, ids = list(alone), dict[str, None]()
    for member in members:
        if member is None:
            counted.append("null_member")
            continue
        digits, was_text = member
        target_id, merged = resolve(digits)
        if target_id is None:
            counted.append("dangling_reference")
            continue
        counted += ["id_from_text"] * was_text + ["merged_reference"] * merged
        if target_id in ids:
            counted.append("duplicate_member")
        else:
            ids[target_id] = None
    return _literal(list(ids)), None, counted
