"""When an exemption of DTX 1.0 ends (Area 11 decision 7): sentinel dates and real ones. Pure expressions."""

from datetime import UTC, datetime

import polars as pl

from dtx_assets.machinery.transforms.columns import date_value, localized

DAY = r"^\d{4}-\d{2}-\d{2}"


def sentinel_patterns(sentinel_dates: pl.DataFrame) -> str:
    """The regular expression of `sentinel_dates.csv`: dates, in which `*` stands for any text."""
    listed = (pattern.strip().replace("*", ".*") for pattern in sentinel_dates["date"])
    return "^(?:" + "|".join(listed) + ")$"


def is_sentinel(date: pl.Expr, pattern: str) -> pl.Expr:
    """Whether a real calendar date is one the plan reads as "never expires"."""
    return date_value(date).dt.to_string("%Y-%m-%d").str.contains(pattern)


def expiry_date(date: pl.Expr, pattern: str) -> pl.Expr:
    """The date an exemption really ends on; null where it never does, and where the text is no date."""
    return pl.when(~is_sentinel(date, pattern)).then(date_value(date))


def starts_before(date: pl.Expr, instant: datetime, timezone: str) -> pl.Expr:
    """Whether the start of the day in `timezone` lies before the instant."""
    # Of the first day that Python knows, the start may be before its calendar, and so before any instant.
    midnight = localized(date.cast(pl.Datetime("us")), timezone)
    started = pl.lit(instant.astimezone(UTC)).cast(pl.Datetime("us", "UTC"))
    return pl.when(date.is_not_null()).then((midnight < started).fill_null(True))
