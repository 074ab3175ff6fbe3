"""The transforms that column mappings name, and the readings of legacy text they are made of.

Each is a pure function over Polars expressions: it gives a value, the problems that reject the row, and the coercions
that are counted. Transforms that only one system needs live with that system.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import date as calendar_date
from typing import Any, Literal, cast, get_type_hints
from zoneinfo import ZoneInfo

import polars as pl

from dtx_assets.machinery.base.masking import QUOTED
from dtx_assets.machinery.model.legacy import ColumnKind
from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.model.types import ColumnType
from dtx_assets.machinery.transforms.long_keys import short_key

DATE = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?: 00:00:00)?$"
IN_UTC = r"\+00(?::00)?$"
"""What an instant ends with, as databases give it; any other time is in the zone of the legacy times."""
TIMESTAMP = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]+)?$"
UUID = r"^([0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12})$"
OBJECT_ID = '{"$oid":'
"""What an ObjectId begins with in Extended JSON."""
BLANK = r"(?:[\s\x1c-\x1f]|\\[ntrf]|\\u000b|\\u001[c-f])"
"""White space in a JSON string."""
HEX_ID = rf'^(?:\{{"\$oid":"([0-9A-Fa-f]{{24}})"\}}|"{BLANK}*([0-9A-Fa-f]{{24}}){BLANK}*")$'
"""An ObjectId in Extended JSON, or a text that is the digits of one."""
IN_BRACES = r"^\{(.*)\}$"
INSTANT = pl.Datetime("us", "UTC")
OF_THE_CALENDAR = " of the years 1 to 9999 in UTC"
LAST_YEAR_OF_RULES = 2099
"""Until then Polars knows when the clock of a zone changes; afterwards it has no summer time."""
SHOWN = QUOTED
"""Characters of a value that a problem quotes."""
READ = "_read:"
"""Begins the names of columns that hold what functions read."""


@dataclass(frozen=True)
class Problem:
    """Why a row is rejected: a reason code (spec 5), where it holds, and a sentence."""

    reason: str
    when: pl.Expr
    detail: pl.Expr | str


@dataclass(frozen=True)
class Coercion:
    """A lossy change that is accepted and counted: its kind, and where it happens."""

    kind: str
    when: pl.Expr
    values: pl.Expr | None = None
    """To how many values of a row it happens, where that may be several."""


@dataclass(frozen=True)
class Outcome:
    """What a transform gives for one target column."""

    value: pl.Expr
    problems: tuple[Problem, ...] = ()
    coercions: tuple[Coercion, ...] = ()
    takes_any_bytes: bool = False
    """Whether it reads the bytes of the source themselves, so that a NUL and what is no text are values like others."""


@dataclass(frozen=True)
class TransformContext:
    """What transforms may look at besides the row.

    `crosswalks` are frames of `source_id` (canonical text) and `target_id` (Int64); `timezone` is the zone of naive
    legacy times; `cutover_at` is the instant that counts as now.
    """

    crosswalks: Mapping[str, pl.LazyFrame]
    value_maps: Mapping[str, pl.DataFrame]
    decisions: Mapping[str, str]
    timezone: str
    cutover_at: datetime
    id_kinds: Mapping[str, ColumnKind] = field(default_factory=dict)
    """How the ids of crosswalks are compared, where they are no integers."""
    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    """The types of the columns of the target, as they are live where that is known."""
    held: Mapping[str, TargetColumn] = field(default_factory=dict)
    """The columns of the target, as they are live where that is known: with defaults and foreign keys then."""
    column: str = ""
    """The column or helper that is made."""
    reads: dict[str, pl.Expr] | None = None
    """Where transforms put what Python functions read, by the column in which `with_reads` makes it; None: nowhere."""

    @property
    def today(self) -> calendar_date:
        """The day of the cutover, in the zone of naive legacy times."""
        return self.cutover_at.astimezone(ZoneInfo(self.timezone)).date()

    def read(
        self, source: pl.Expr, read: Callable[[pl.Series], pl.Series], dtype: pl.DataType | type[pl.DataType]
    ) -> pl.Expr:
        """What a function reads of a source, value by value.

        The value, the problems and the coercions of a transform are an expression each, and Polars calls the function
        for each of them, unless what it reads is made before.
        """
        made = source.map_batches(remembered(read), dtype, is_elementwise=True)
        if self.reads is None:
            return made
        name = f"{READ}{self.column}:{len(self.reads)}"
        self.reads[name] = made
        return pl.col(name)

    def canonical_id(self, crosswalk: str, text: pl.Expr) -> pl.Expr:
        """A legacy id as that crosswalk holds it."""
        return canonical_id(text, self.id_kinds.get(crosswalk, "integer"))


Transform = Callable[..., Outcome]


@dataclass
class Registry:
    """Transforms by name."""

    transforms: dict[str, Transform] = field(default_factory=dict)
    decisions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Those that a transform reads in its context, besides those that its settings name."""

    def transform(self, name: str, decisions: Sequence[str] = ()) -> Callable[[Transform], Transform]:
        def register(function: Transform) -> Transform:
            if name in self.transforms:
                raise ValueError(f"two transforms are called {name!r}")
            self.transforms[name] = function
            self.decisions[name] = tuple(decisions)
            return function

        return register

    def parameters(self, name: str) -> dict[str, Any]:
        """The settings that a mapping may give a transform, with their types."""
        types = get_type_hints(self.transforms[name])
        return {
            parameter: types.get(parameter, Any)
            for parameter in tuple(inspect.signature(self.transforms[name]).parameters)[2:]
        }

    def __contains__(self, name: object) -> bool:
        return name in self.transforms

    def __getitem__(self, name: str) -> Transform:
        return self.transforms[name]

    def __or__(self, other: "Registry") -> "Registry":
        return Registry({**self.transforms, **other.transforms}, {**self.decisions, **other.decisions})


GENERIC = Registry()

Unreadable = Literal["reject", "null"]
"""What becomes of a text that a transform cannot read: its row is rejected, or it is NULL and counted."""

Blank = Literal["reject", "null"]
"""What becomes of a text of nothing but white space: it is unreadable, or NULL and counted as `empty_to_null`."""


def reading(
    source: pl.Expr,
    value: pl.Expr,
    what: str,
    unreadable: Unreadable,
    blank: Blank = "reject",
    *,
    is_readable: pl.Expr | None = None,
    problems: tuple[Problem, ...] = (),
    coercions: tuple[Coercion, ...] = (),
    takes_any_bytes: bool = False,
) -> Outcome:
    """The outcome of a transform that reads one text as a `what`: it could where `value`, or else `is_readable`, says.

    `problems` and `coercions` are what is to be said of texts that are read.
    """
    lost = source.is_not_null() & (value.is_null() if is_readable is None else ~is_readable)
    if blank == "null":
        is_blank = (source.str.strip_chars() == "").fill_null(False)
        lost &= ~is_blank
        coercions = (*coercions, Coercion("empty_to_null", is_blank))
    if unreadable == "null":
        coercions = (*coercions, Coercion(f"unreadable_{what.replace(' ', '_')}", lost))
    else:
        problems = (*problems, Problem("unparseable", lost, pl.format(f"{{}} is no {what}", shown(source))))
    return Outcome(value, problems, coercions, takes_any_bytes)


def with_reads(rows: pl.LazyFrame, reads: Mapping[str, pl.Expr]) -> pl.LazyFrame:
    """The rows with what transforms put into the `reads` of their context."""
    for name, made in reads.items():
        rows = rows.with_columns(made.alias(name))
    return rows


def remembered(read: Callable[[pl.Series], pl.Series]) -> Callable[[pl.Series], pl.Series]:
    """The same function, which does not do its work again for the column that it was asked about last: the value, the
    problems and the coercions of a transform are one expression each, and each of them asks.
    """
    last: list[tuple[pl.Series, pl.Series]] = []

    def reading_once(texts: pl.Series) -> pl.Series:
        for known, result in tuple(last):
            if known.equals(texts, null_equal=True):
                return result
        result = read(texts)
        last[:] = [(texts, result)]
        return result

    return reading_once


# --- readings of legacy text ------------------------------------------------------------------------------------------


def shown(text: pl.Expr) -> pl.Expr:
    """A value as a problem quotes it: shortened, NULL spelt out."""
    return text.str.head(SHOWN).fill_null("NULL")


def code(text: pl.Expr) -> pl.Expr:
    """Text as code columns are compared: trimmed and without case."""
    return text.str.strip_chars().str.to_lowercase()


def integer_value(text: pl.Expr) -> pl.Expr:
    """`-?[0-9]+`, with or without `.0`, as Int64; null for anything else and for what 64 bits do not hold."""
    # Read as a number at once, which takes a fifth of the time of a pattern: Polars only takes a plus sign as well.
    return pl.when(~text.str.starts_with("+")).then(text.str.strip_suffix(".0").cast(pl.Int64, strict=False))


def canonical_integer(text: pl.Expr) -> pl.Expr:
    """An integer id as the text that crosswalks hold: `12.0` and `012` are `12`; null where it is no integer."""
    return integer_value(text).cast(pl.String)


def canonical_id(text: pl.Expr, kind: ColumnKind) -> pl.Expr:
    """An id as the text that crosswalks hold: null where it should be an integer or an ObjectId and is none.

    For a text that is too long to be a key, what stands for it.
    """
    match kind:
        case "integer":
            return canonical_integer(text)
        case "code":
            return code(text)
        case "uuid":
            return pl.coalesce(uuid_value(text), short_key(text))
        case "object_id":
            return object_id_value(text)
    return short_key(text)


def object_id_value(value: pl.Expr) -> pl.Expr:
    """The 24 hex digits, in lower case, of an id in Extended JSON: an ObjectId, or a text of them; null for others."""
    found = value.str.extract_groups(HEX_ID)
    return pl.coalesce(found.struct.field("1"), found.struct.field("2")).str.to_lowercase()


def uuid_value(text: pl.Expr) -> pl.Expr:
    """A UUID as PostgreSQL prints it, from 32 hex digits in either case, with or without hyphens and braces."""
    digits = (
        text.str.replace(IN_BRACES, "$1").str.extract(UUID, 1).str.replace_all("-", "", literal=True).str.to_lowercase()
    )
    return digits.str.replace(r"^(.{8})(.{4})(.{4})(.{4})(.{12})$", "$1-$2-$3-$4-$5")


def kind_of_ids(ids: pl.LazyFrame, declared: ColumnKind) -> ColumnKind:
    """How the ids in the one column of a frame are compared: as integers where they are declared so, or all are.

    Leading zeros tell texts apart, and integers not.
    """
    if declared == "integer":
        return declared
    (name,) = ids.collect_schema().names()
    is_integer = (canonical_integer(pl.col(name)) == pl.col(name).str.strip_suffix(".0")).fill_null(False)
    of_integers = ids.drop_nulls().select(is_integer.all()).collect(engine="streaming").item()
    return "integer" if of_integers else declared


def date_value(text: pl.Expr, timezone: str | None = None) -> pl.Expr:
    """`YYYY-MM-DD`, with or without ` 00:00:00`, as Date; null for anything else and for days no calendar has.

    With a zone, an instant that is midnight there is a day too.
    """
    date = text.str.extract(DATE, 1).str.to_date("%Y-%m-%d", strict=False)
    day = pl.when(date.dt.year() >= 1).then(date)
    if timezone is None:
        return day
    instant = pl.when(text.str.contains(IN_UTC)).then(text)
    local = timestamp_value(instant, timezone).dt.convert_time_zone(timezone)
    return pl.coalesce(day, pl.when(local.dt.time() == pl.time(0)).then(local.dt.date()))


DATE_PARTS = {
    "YYYY": (r"[0-9]{4}", "%Y"),
    "MON": (r"(?i:[A-Z]{3})", "%b"),
    "MM": (r"[0-9]{2}", "%m"),
    "DD": (r"[0-9]{2}", "%d"),
    "M": (r"[0-9]{1,2}", "%m"),
    "D": (r"[0-9]{1,2}", "%d"),
}
"""Parts of a date's form: what the text must look like, and how it is read. Two-digit years would be a guess."""

DATE_PART = re.compile("|".join(DATE_PARTS))


@dataclass(frozen=True)
class DateForm:
    """How dates are written, such as `MM/DD/YYYY` or `D-MON-YYYY`: a pattern of the whole text, and how to read it."""

    pattern: str
    reading: str

    @classmethod
    def of(cls, form: str) -> "DateForm":
        """ValueError, with the remedy after a semicolon, where a form does not say year, month and day once each."""
        kinds = sorted(part[0] if part != "MON" else "M" for part in DATE_PART.findall(form))
        rest = DATE_PART.sub("", form)
        if kinds != ["D", "M", "Y"] or any(letter.isalnum() or letter == "%" for letter in rest):
            raise ValueError(
                f"{form!r} is no form of a date; write year, month and day once each, of {', '.join(DATE_PARTS)},"
                " as in MM/DD/YYYY"
            )
        pieces = re.split(f"({DATE_PART.pattern})", form)
        pattern = "".join(DATE_PARTS[piece][0] if piece in DATE_PARTS else re.escape(piece) for piece in pieces)
        return cls(f"^{pattern}$", DATE_PART.sub(lambda part: DATE_PARTS[part[0]][1], form))

    def read(self, text: pl.Expr) -> pl.Expr:
        """The day as Date; null for texts of another form and days that no calendar has."""
        day = pl.when(text.str.contains(self.pattern)).then(text).str.to_date(self.reading, strict=False)
        return pl.when(day.dt.year() >= 1).then(day)

    def days(self, texts: Sequence[str]) -> pl.Series:
        """The days among some texts, as Date."""
        read = pl.DataFrame({"text": texts}, schema={"text": pl.String}).select(self.read(pl.col("text")))
        return read.to_series().drop_nulls()


def naive_time(text: pl.Expr) -> pl.Expr:
    """`YYYY-MM-DD HH:MM:SS`, with or without a fraction, as the clock on the wall; null for anything else."""
    well_formed = pl.when(text.str.contains(TIMESTAMP)).then(text)
    seconds = well_formed.str.head(19).str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    fraction = well_formed.str.slice(20, 6).str.pad_end(6, "0").cast(pl.Int64, strict=False).fill_null(0)
    return pl.when(seconds.dt.year() >= 1).then(seconds + pl.duration(microseconds=fraction, time_unit="us"))


def timestamp_value(text: pl.Expr, timezone: str) -> pl.Expr:
    """What `naive_time` reads, in `timezone` as `localized` gives it; in UTC where it ends with `+00` or `+00:00`."""
    in_utc = pl.when(text.str.contains(IN_UTC)).then(text.str.replace(IN_UTC, ""))
    return pl.coalesce(localized(naive_time(in_utc), "UTC"), localized(naive_time(text), timezone))


def localized(naive: pl.Expr, timezone: str) -> pl.Expr:
    """A naive time of `timezone` as UTC: never fails, whatever the zone's clock did that day.

    Of a time that occurs twice the earlier one counts; one that the zone skips is read as if the clock had not gone
    forward yet, as Python and PostgreSQL do. Both are a guess: `clock_changes` counts them. Null where UTC has the time
    outside of the years 1 to 9999, which neither Python nor what is written in it can read.
    """
    if timezone == "UTC":
        return naive.dt.replace_time_zone("UTC")
    zone = ZoneInfo(timezone)
    return naive.map_batches(lambda times: _instants(times, zone), INSTANT, is_elementwise=True)


def clock_changes(naive: pl.Expr, timezone: str) -> tuple[Coercion, ...]:
    """Where a naive time of `timezone` is no single instant, so that `localized` takes one by a guess."""
    if timezone == "UTC":
        return ()
    zone = ZoneInfo(timezone)
    guesses = naive.map_batches(lambda times: _guesses(times, zone), pl.String(), is_elementwise=True)
    return tuple(Coercion(kind, guesses == kind) for kind in ("ambiguous_time", "skipped_time"))


def _instants(times: pl.Series, zone: ZoneInfo) -> pl.Series:
    known, others = _known_and_others(times, zone)
    return known.fill_null(times.replace_strict(others["time"], others["instant"], default=None, return_dtype=INSTANT))


def _guesses(times: pl.Series, zone: ZoneInfo) -> pl.Series:
    _, others = _known_and_others(times, zone)
    return times.replace_strict(others["time"], others["guess"], default=None, return_dtype=pl.String())


def _known_and_others(times: pl.Series, zone: ZoneInfo) -> tuple[pl.Series, pl.DataFrame]:
    """Instants as Polars knows them, and the few times that it cannot say exactly: `time`, `instant`, `guess`."""
    has_rules = times.dt.year().is_between(2, LAST_YEAR_OF_RULES)
    strict = times.dt.replace_time_zone(zone.key, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
    known = strict.set(~has_rules, None)
    of_python = times.filter(known.is_null() & times.dt.year().is_between(1, 9999)).unique()
    others = [(time, *_instant_and_guess(time, zone)) for time in of_python]
    schema = {"time": times.dtype, "instant": INSTANT, "guess": pl.String()}
    return known, pl.DataFrame(others, schema, orient="row")


def _instant_and_guess(time: datetime, zone: ZoneInfo) -> tuple[datetime | None, str | None]:
    """What Python reads a naive time as, and which guess that took."""
    before, after = (time.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    gained = cast(timedelta, after.utcoffset()) - cast(timedelta, before.utcoffset())
    guess = "ambiguous_time" if gained < timedelta() else "skipped_time" if gained else None
    try:
        return before.astimezone(UTC), guess
    except OverflowError:
        return None, guess


def json_text(text: pl.Expr) -> pl.Expr:
    """Text as a JSON string, NULL as `null`."""
    encoded = pl.struct(text.alias("k")).struct.json_encode()
    return encoded.str.strip_prefix('{"k":').str.strip_suffix("}")


def json_object(entries: Mapping[str, pl.Expr]) -> pl.Expr:
    """A compact JSON object of entries that are JSON themselves, by name; without those that are NULL or `null`.

    NULL where none is left.
    """
    pairs = []
    for name, value in sorted(entries.items()):
        key = pl.select(json_text(pl.lit(name))).item()
        pairs.append(pl.when(value.is_not_null() & (value != "null")).then(pl.concat_str(pl.lit(f"{key}:"), value)))
    joined = pl.concat_str(*pairs, separator=",", ignore_nulls=True)
    return pl.when(joined != "").then(pl.concat_str(pl.lit("{"), joined, pl.lit("}")))


def json_strings(strings: pl.Expr) -> pl.Expr:
    """A list of texts as a compact JSON array; NULL stays NULL."""
    return pl.when(strings.is_not_null()).then(
        # The array is all that the object holds: `{"_":[…]}`.
        pl.struct(strings.alias("_")).struct.json_encode().str.slice(5).str.head(-1)
    )


# --- transforms -------------------------------------------------------------------------------------------------------


@GENERIC.transform("text")
def text(inputs: Sequence[pl.Expr], context: TransformContext, null: str | None = None) -> Outcome:
    """The text as it is; NULL becomes `null` where that is given."""
    (value,) = inputs
    return Outcome(value if null is None else value.fill_null(null))


@GENERIC.transform("integer")
def integer(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
    padded: bool = False,
    least: int | None = None,
    bits: int | None = None,
    most: int | None = None,
) -> Outcome:
    """A whole number, or one that is `padded` with white space; anything else is `unparseable`. One that is below
    `least`, above `most`, or has more than `bits`, is a `schema_violation`.
    """
    (source,) = inputs
    value = integer_value(source.str.strip_chars() if padded else source)
    read = reading(source, value, "integer", unreadable, blank)
    bounds = [value < least] if least is not None else []
    bounds += [value > most] if most is not None else []
    bounds += [~value.is_between(-(1 << bits - 1), (1 << bits - 1) - 1)] if bits is not None else []
    beyond = (Problem("schema_violation", each, pl.format("{} is out of bounds", shown(source))) for each in bounds)
    return replace(read, problems=(*read.problems, *beyond))


@GENERIC.transform("timestamp")
def timestamp(
    inputs: Sequence[pl.Expr], context: TransformContext, invalid: Literal["reject", "null"] = "reject"
) -> Outcome:
    """A naive legacy time as UTC. What is no time, zero dates included, is `unparseable`, or NULL and counted.

    A time that the clock of the zone showed twice, or never, is counted too.
    """
    (source,) = inputs
    naive = naive_time(source)
    value = timestamp_value(source, context.timezone)
    guesses = clock_changes(naive, context.timezone)
    is_invalid = source.is_not_null() & value.is_null()
    if invalid == "null":
        zero = source.str.starts_with("0000-00-00")
        return Outcome(
            value,
            coercions=(
                Coercion("zero_date", is_invalid & zero),
                Coercion("invalid_time", is_invalid & ~zero),
                *guesses,
            ),
        )
    beyond = pl.when(naive.is_null()).then(pl.lit("")).otherwise(pl.lit(OF_THE_CALENDAR))
    return Outcome(
        value, (Problem("unparseable", is_invalid, pl.format("{} is no time{}", shown(source), beyond)),), guesses
    )


@GENERIC.transform("date")
def date(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    unreadable: Unreadable = "reject",
    blank: Blank = "reject",
) -> Outcome:
    """A calendar date; anything else is `unparseable`."""
    (source,) = inputs
    return reading(source, date_value(source, context.timezone), "date", unreadable, blank)


@GENERIC.transform("iso_date")
def iso_date(
    inputs: Sequence[pl.Expr],
    context: TransformContext,
    format: str = "YYYY-MM-DD",
    null_values: Sequence[str] = (),
) -> Outcome:
    """A date in the given form as ISO text; an empty one is NULL, `null_values` are NULL and counted."""
    (source,) = inputs
    form = DateForm.of(format)
    listed = source.is_in(pl.Series(null_values, dtype=pl.String).implode())
    given = source.is_not_null() & (source != "") & ~listed
    day = form.read(source)
    is_null = listed | day.is_in(form.days(null_values).implode()).fill_null(False)
    return Outcome(
        pl.when(~is_null).then(day).dt.to_string("%Y-%m-%d"),
        (Problem("unparseable", given & day.is_null(), pl.format(f"{{}} is no date {format}", shown(source))),),
        (Coercion("sentinel_date", is_null),),
    )


@GENERIC.transform("trimmed_end")
def trimmed_end(inputs: Sequence[pl.Expr], context: TransformContext, null: str | None = None) -> Outcome:
    """Text without the white space at its end; leading white space stays."""
    (source,) = inputs
    value = source.str.strip_chars_end()
    return Outcome(value if null is None else value.fill_null(null), coercions=(Coercion("trimmed", source != value),))


@GENERIC.transform("trimmed")
def trimmed(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """Text without the white space around it, which is counted."""
    (source,) = inputs
    value = source.str.strip_chars()
    return Outcome(value, coercions=(Coercion("trimmed", source != value),))


@GENERIC.transform("joined")
def joined(inputs: Sequence[pl.Expr], context: TransformContext) -> Outcome:
    """Several columns with one blank between them; NULL where one of them is."""
    return Outcome(pl.concat_str(list(inputs), separator=" "))
