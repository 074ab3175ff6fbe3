"""What a letter of DTX 1.0 holds: macros, its language (Area 8 decision 4). Pure expressions over text columns."""

import polars as pl

MACRO = r"__([A-Z0-9]+(?:_[A-Z0-9]+)*)__"
"""Upper-case words joined by single underscores, so that adjacent macros come apart and look-alikes stay."""

TAG = r"(?s)<[^>]*>"


def with_placeholders(text: pl.Expr) -> pl.Expr:
    """`__NAME__` → `{NAME}`, leftmost first and without overlap; surplus underscores stay."""
    return text.str.replace_all(MACRO, "{${1}}")


def macro_names(text: pl.Expr) -> pl.Expr:
    """The distinct macro names of a text, sorted: List(String)."""
    return text.str.extract_all(MACRO).list.eval(pl.element().str.slice(2).str.head(-2)).list.unique().list.sort()


def has_marker(body: pl.Expr, markers: list[str]) -> pl.Expr:
    """Whether the body, each tag replaced by a blank and case ignored, holds one of the markers."""
    if not markers:
        return pl.lit(False)
    plain = body.str.replace_all(TAG, " ").str.to_lowercase()
    return plain.str.contains_any([marker.lower() for marker in markers])
