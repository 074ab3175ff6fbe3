"""Values of every kind of legacy column: plausible ones as expressions over rows, and ones that break a rule.

Which of them a column takes, the mapping files say: `verdict`.
"""

from collections.abc import Callable, Sequence

import polars as pl

from dtx_assets.machinery.model.legacy import ColumnKind
from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.samples.csv_output import Cell
from dtx_assets.machinery.samples.rows import Rows, join

Form = Callable[[Rows, str], pl.Expr]
"""What a column holds in each row."""

WORDS = (
    "Amber",
    "Birch",
    "Cedar",
    "Delta",
    "Ember",
    "Fjord",
    "Grove",
    "Haven",
    "Indigo",
    "Juniper",
    "Kestrel",
    "Lumen",
)
THINGS = ("Harbor", "Garden", "Station", "Bridge", "Market", "Meadow", "Tower", "Valley", "Archive", "Quarter")
MOST_ROWS = 100_000_000

_PADDED = "0" * 8


def _digits(number: pl.Expr, width: int) -> pl.Expr:
    return number.cast(pl.String).str.zfill(width)


def _named(rows: Rows, name: str) -> pl.Expr:
    return join(rows.pick(f"{name} word", WORDS), " ", rows.pick(f"{name} thing", THINGS))


def _uuid(rows: Rows, name: str, last: pl.Expr) -> pl.Expr:
    first, second = _hex(rows.noise(f"{name} 1")), _hex(rows.noise(f"{name} 2"))
    return join(first, "-", second.str.head(4), "-4", second.str.slice(5), "-8000-", _digits(last, 12))


def _hex(number: pl.Expr) -> pl.Expr:
    digits = [
        pl.lit(pl.Series(list("0123456789abcdef"))).gather(number // (1 << shift) % 16) for shift in range(28, -4, -4)
    ]
    return pl.concat_str(digits)


MOST_DAYS = 36_500
MOST_MINUTES = MOST_DAYS * 24 * 60


def _day(rows: Rows, _name: str) -> pl.Expr:
    day = pl.lit("1920-01-01").str.to_date("%Y-%m-%d") + pl.duration(days=rows.position % MOST_DAYS)
    return day.dt.to_string("%Y-%m-%d")


def _minute(rows: Rows, _name: str) -> pl.Expr:
    moment = pl.lit("1920-01-01").str.to_datetime("%Y-%m-%d") + pl.duration(minutes=rows.position % MOST_MINUTES)
    return moment.dt.to_string("%Y-%m-%d %H:%M:%S")


_TEXT: tuple[Form, ...] = (
    lambda rows, name: join(_named(rows, name), " ", rows.position + 1),
    _named,
    lambda rows, name: rows.pick(name, WORDS),
    lambda rows, name: _digits(rows.below(name, 100_000), 5),
    lambda rows, name: rows.pick(name, ("AB", "CD", "EF")),
    lambda rows, name: rows.pick(name, "ABC"),
)
_NUMBERS: tuple[Form, ...] = tuple(
    lambda rows, name, most=most: rows.below(name, most)  # type: ignore[misc]
    for most in (1_000, 100, 10, 2)
)
FORMS: dict[ColumnKind, tuple[Form, ...]] = {
    "text": _TEXT,
    "code": (lambda rows, name: rows.pick(name, THINGS), *_TEXT[3:]),
    "integer": _NUMBERS,
    "decimal": (
        lambda rows, name: join(rows.below(name, 900), ".", _digits(rows.below(f"{name} decimals", 100), 2)),
        lambda rows, name: join(rows.below(name, 9), ".", _digits(rows.below(f"{name} decimals", 100), 2)),
        lambda rows, name: join(rows.below(name, 90), ".", rows.below(f"{name} decimals", 10)),
        *_NUMBERS,
    ),
    "boolean": (
        lambda rows, name: rows.pick(name, "01"),
        lambda rows, name: rows.pick(name, ("true", "false")),
        lambda rows, name: rows.pick(name, "YN"),
    ),
    "date": (lambda rows, name: rows.date(name), lambda rows, name: rows.date(name, form="%m/%d/%Y")),
    "time": (lambda rows, name: rows.time(name), lambda rows, name: rows.date(name)),
    "instant": (lambda rows, name: join(rows.time(name), "+00:00"), lambda rows, name: rows.time(name)),
    "uuid": (lambda rows, name: _uuid(rows, name, rows.noise(name)),),
    "json": (
        lambda rows, name: join('{"name":"', rows.pick(name, WORDS), '","number":', rows.below(f"{name} n", 100), "}"),
        lambda rows, name: join('["', rows.pick(name, WORDS), '"]'),
        lambda rows, name: join("[", rows.below(name, 100), "]"),
        lambda rows, name: join('"', rows.pick(name, WORDS), '"'),
    ),
}
"""Plausible values, the most telling first."""

UNIQUE_FORMS: dict[ColumnKind, tuple[tuple[Form, int], ...]] = {
    "text": (
        (lambda rows, name: join(rows.pick(f"{name} word", WORDS), " ", rows.position + 1), MOST_ROWS),
        (lambda rows, name: _uuid(rows, name, rows.position), MOST_ROWS),
        (lambda rows, _: (rows.position + 1).cast(pl.String), MOST_ROWS),
        (lambda rows, _: _digits(rows.position + 1, 8), MOST_ROWS - 1),
        (_minute, MOST_MINUTES),
        (_day, MOST_DAYS),
    ),
    "integer": ((lambda rows, _: rows.position + 1, MOST_ROWS),),
    "decimal": ((lambda rows, _: rows.position + 1, MOST_ROWS),),
    "date": ((_day, MOST_DAYS),),
    "time": ((_minute, MOST_MINUTES),),
    "instant": ((lambda rows, name: join(_minute(rows, name), "+00:00"), MOST_MINUTES),),
    "uuid": ((lambda rows, name: _uuid(rows, name, rows.position), MOST_ROWS),),
    "json": ((lambda rows, _: join('{"number":', rows.position + 1, "}"), MOST_ROWS),),
    "boolean": (),
}
"""Values that are another one in each row, and in how many rows they are."""
UNIQUE_FORMS["code"] = UNIQUE_FORMS["text"]

_OF_TYPES: dict[str, tuple[str, ...]] = {
    "date": ("2019-03-04", "2020-02-29", "2021-12-31"),
    "timestamp without time zone": ("2019-03-04 05:06:07", "2020-02-29 23:59:59"),
    "timestamp with time zone": ("2019-03-04 05:06:07+00:00", "2020-02-29 23:59:59+00:00"),
    "time without time zone": ("05:06:07", "23:59:59"),
    "time with time zone": ("05:06:07+00", "23:59:59+00"),
    "interval": ("1 day", "02:03:04"),
    "inet": ("192.0.2.1", "2001:db8::1"),
    "cidr": ("192.0.2.0/24", "198.51.100.0/24"),
    "macaddr": ("08:00:2b:01:02:03",),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "bit": ("1", "0"),
    "bit varying": ("1", "10"),
    "point": ("(1,2)", "(3,4)"),
    "circle": ("<(1,2),3>",),
    "box": ("(3,4),(1,2)",),
    "path": ("((1,2),(3,4))",),
    "polygon": ("((1,2),(3,4),(5,6))",),
    "xml": ("<a/>", "<b>c</b>"),
    "int4range": ("[1,5)", "[7,9)"),
    "int8range": ("[1,5)", "[7,9)"),
    "numrange": ("[1.5,2.5)",),
    "daterange": ("[2019-03-04,2019-03-05)",),
    "tsvector": ("'amber' 'birch'",),
    "money": ("12.50",),
    "bytea": ("\\x00ff", "\\x"),
}


def of_target(column: TargetColumn) -> list[str]:
    """Values that the type of a target column reads, whatever the legacy column is declared to be."""
    if column.allowed:
        return list(column.allowed)
    kind = column.kind
    if kind.is_array:
        return ["{}", "[]", "1,2", "amber"]
    if kind.name in ("bit", "bit varying") and kind.arguments:
        width = int(kind.arguments[0])
        return ["1" * width, "0" * width]
    return list(_OF_TYPES.get(kind.name, ()))


EXOTIC: tuple[str, ...] = (
    "Jos\u00e9",
    "\u65e5\u672c\u8a9e",
    "\U0001f4c4 emoji",
    "\u202ertl\u202c",
    'says "no", twice\r\nand again',
    "  leading stays",
    "trailing blank ",
    "back\\slash",
    "o'clock",
    "=1+1",
    "bell\x07and\ttab",
    "e\u0301",
)
"""Text that tools stumble over, and that has to arrive as it is."""
NO_TEXT: tuple[Cell, ...] = (b"caf\xe9", b"a NUL \x00 inside")

_WRONG_TIMES: tuple[Cell, ...] = (
    "0000-00-00",
    "0000-00-00 00:00:00",
    "yesterday",
    "2019-02-30",
    "2019-02-30 10:00:00",
    "2019-03-04",
    "2019-03-04 05:06:07.123456",
    "2019-03-04 25:00:00",
    "03/04/2019",
    "2019-3-4",
    "9999-12-31",
    "9999-12-31 23:59:59",
)
CLOCK_CHANGES: tuple[str, ...] = (
    "2021-03-14 02:30:00",
    "2021-11-07 01:30:00",
    "2021-03-28 02:30:00",
    "2021-10-31 02:30:00",
)
"""Times that the clock skipped, or showed twice, in New York and in Berlin."""
UGLY: dict[ColumnKind, tuple[Cell, ...]] = {
    "text": (*EXOTIC, *NO_TEXT),
    "code": ("NO SUCH CODE", " ", *NO_TEXT),
    "integer": ("abc", "14.5", "14.0", "1e1", "-1", "40000", "3000000000", "99999999999999999999", "007", " 7"),
    "decimal": ("abc", "1e5", "1,5", "NaN", "-0.5", ".5", "5.", "0.123456789", "9" * 40),
    "boolean": ("2", "maybe", " TRUE ", "-1"),
    "date": _WRONG_TIMES,
    "time": (*_WRONG_TIMES, *CLOCK_CHANGES),
    "instant": (*_WRONG_TIMES, *CLOCK_CHANGES, "2019-03-04 05:06:07+25:00", "2019-03-04T05:06:07Z"),
    "uuid": ("no uuid", "1234", "{6F9619FF-8B86-D011-B42D-00C04FC964FF}", "6F9619FF8B86D011B42D00C04FC964FE"),
    "json": ("{", '{"a":1,"a":2}', '"\\u0000"', '"\\ud800"', "NaN", "null", "[]", '{"a": 1e400}', "1" + _PADDED),
}
"""Values of each kind that break a rule, or seem to. NULL and an empty text are tried of each column besides."""


def overlong(columns: Sequence[TargetColumn]) -> list[str]:
    """Texts one character too long for target columns, and such as fit just so, in characters of two bytes."""
    lengths = sorted({column.longest for column in columns if column.longest is not None})
    return [character * (length + more) for length in lengths for character, more in (("x", 1), ("\u00e9", 0))]
