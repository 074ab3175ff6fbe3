"""CSV for a spreadsheet: it runs nothing of it, wherever it ends its fields, and numbers stay numbers."""

import csv
import io
from decimal import Decimal

import pytest

from dtx_assets.cli.console import harmless, write_csv
from dtx_assets.machinery.archive.query import Answer


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("@SUM(1)", "'@SUM(1)"),
        ("＝1+1", "'＝1+1"),
        ("＠SUM(1)", "'＠SUM(1)"),
        (" \u00a0=1", "' \u00a0=1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("\0=1", "'\0=1"),
        ("\ttext", "'\ttext"),
        ("\rtext", "'\rtext"),
        ("a;=HYPERLINK(1)", "a;'=HYPERLINK(1)"),
        ("a\n=1\t@x", "a\n'=1\t'@x"),
        ("-", "'-"),
        ("+49 30 1234", "'+49 30 1234"),
        ("٣=", "٣="),
        ("-٣", "'-٣"),
    ],
)
def test_what_a_spreadsheet_would_run_becomes_text(value, written):
    assert harmless(value) == written


@pytest.mark.parametrize(
    "value",
    [
        "-5",
        "+5",
        "-1.50",
        "-1,234.50",
        "1e-5",
        "-1E+9",
        "-12%",
        -5,
        -1.5,
        Decimal("-2.5"),
        None,
        True,
        "a=b",
        "x-1",
        "",
    ],
)
def test_numbers_and_other_text_stay(value):
    assert harmless(value) == value


def test_names_of_columns_and_values_of_other_types_are_looked_at_too():
    stream = io.StringIO()
    write_csv(stream, Answer(["=1+1", "n"], iter([(["a;=1"], -5), (b"=1", None)])))
    assert list(csv.reader(io.StringIO(stream.getvalue()))) == [["'=1+1", "n"], ["['a;'=1']", "-5"], ["b'=1'", ""]]
