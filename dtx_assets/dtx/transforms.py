"""The transforms that only DTX needs: macros and languages of letters, dates and notes of exemptions."""

from collections.abc import Sequence

import polars as pl

from dtx_assets.dtx.exemptions import expiry_date, sentinel_patterns
from dtx_assets.dtx.letters import has_marker, macro_names, with_placeholders
from dtx_assets.machinery.transforms.columns import (
    GENERIC,
    Coercion,
    DateForm,
    Outcome,
    Problem,
    Registry,
    TransformContext,
    clock_changes,
    date_value,
    iso_date,
    json_strings,
    localized,
    shown,
)

OWN = Registry()


@OWN.transform("macros")
def macros(inputs: Sequence[pl.Expr], context: TransformContext, null: str | None = None) -> Outcome:
    """Text with `__NAME__` turned into `{NAME}` (Area 8 decision 4)."""
    (text,) = inputs
    value = with_placeholders(text)
    return Outcome(value if null is None else value.fill_null(null))


@OWN.transform("macro_names")
def distinct_macro_names(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """The distinct macros of a text, sorted, as a JSON array."""
    (text,) = inputs
    return Outcome(json_strings(macro_names(text)))


@OWN.transform("letter_language")
def letter_language(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """`es` where the body has a Spanish marker, `bilingual` where it has an English one too, else `en`."""
    (body,) = inputs
    markers = context.value_maps["spanish_markers"]
    spanish, english = (
        has_marker(body, markers.filter(pl.col("language") == language)["marker"].to_list())
        for language in ("es", "en")
    )
    return Outcome(
        pl.when(spanish & english).then(pl.lit("bilingual")).when(spanish).then(pl.lit("es")).otherwise(pl.lit("en"))
    )


@OWN.transform("expiry")
def expiry(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """Midnight of a real date in the legacy zone; sentinel dates are NULL, "never expires" (Area 11 decision 7)."""
    (text,) = inputs
    day = date_value(text)
    real = expiry_date(text, sentinel_patterns(context.value_maps["sentinel_dates"]))
    midnight = real.cast(pl.Datetime("us"))
    value = localized(midnight, context.timezone)
    is_lost = (text.is_not_null() & day.is_null()) | (real.is_not_null() & value.is_null())
    return Outcome(
        value,
        (Problem("unparseable", is_lost, pl.format("{} is no date; a guess could make it permanent", shown(text))),),
        (
            Coercion("sentinel_date", day.is_not_null() & real.is_null()),
            *clock_changes(midnight, context.timezone),
        ),
    )


@OWN.transform("until_note")
def until_note(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """Reason and `(until YYYY-MM-DD)` with one blank between them: the target has no column for the end."""
    reason, date = inputs
    trimmed = reason.str.strip_chars_end().fill_null("")
    real = expiry_date(date, sentinel_patterns(context.value_maps["sentinel_dates"]))
    until = pl.format("(until {})", real.dt.to_string("%Y-%m-%d")).fill_null("")
    blank = pl.when((trimmed != "") & (until != "")).then(pl.lit(" ")).otherwise(pl.lit(""))
    day = date_value(date)
    return Outcome(
        pl.concat_str(trimmed, blank, until),
        (Problem("unparseable", date.is_not_null() & day.is_null(), pl.format("{} is no date", shown(date))),),
        (
            Coercion("trimmed", reason != trimmed),
            Coercion("sentinel_date", day.is_not_null() & real.is_null()),
            Coercion("expiry_lost", real.is_not_null()),
        ),
    )


@OWN.transform("form_field_key")
def form_field_key(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """The key under which an account keeps a custom form field (Area 11 decision 5)."""
    (name,) = inputs
    return Outcome(pl.lit("form_field.") + name)


NEVER_ENDS = "12/31/2050"
"""What the feed writes for a lease without an end (Area 11 decision 11)."""


LEASE_DATE = "MM/DD/YYYY"


def lease_day(text: pl.Expr) -> pl.Expr:
    """The date of a text that is exactly LEASE_DATE, else null."""
    return DateForm.of(LEASE_DATE).read(text)


@OWN.transform("lease_date")
def lease_date(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """`MM/DD/YYYY` as an ISO date; an empty one and 12/31/2050 are NULL (Area 11 decision 11)."""
    return iso_date(inputs, context, format=LEASE_DATE, null_values=[NEVER_ENDS])


TRANSFORMS = GENERIC | OWN
