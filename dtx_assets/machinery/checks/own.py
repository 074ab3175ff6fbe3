"""A system's own checks: each is a decorated function whose name is the check's and whose docstring describes it.

What the declarations of a system call for is derived elsewhere; here is how a system says the rest.
"""

import inspect
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import polars as pl

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.yaml_file import suggestion
from dtx_assets.machinery.checks.spec import (
    CheckContext,
    CheckGroup,
    CheckOutcome,
    CheckSpec,
    DatasetName,
    Severity,
    declared_table,
    found,
)
from dtx_assets.machinery.checks.survey import Engine, Rows, Survey, listed, shown_values
from dtx_assets.machinery.mapping.decisions import Decisions
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import with_reads

KEYS = ("_source_key", "source_key", "source_id")
"""What names a row in examples: the first of these that a frame has, or else its first column."""
FEW_BYTES = 4 << 20
"""Files of less than this are read as a whole: to stream them takes longer than to look at them."""
Shown = str | pl.Expr
Function = TypeVar("Function", bound=Callable[..., Any])


# --- what a check asks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Find:
    """Asks which rows `when` holds for. Returned by a check, it passes where there are none.

    `show`: columns that examples show beside the key. `values`: what distinct values the rows that are found have, by
    the name they are shown under; `all_values`: the same of all rows. Of a list, each of its elements counts. `masked`
    names what is shown masked besides the personal columns of the table. `distinct` counts the first of `values`
    instead of rows. `counts` (of all rows) and `facts` stand beside what was found; `severity` takes the place of the
    check's own.
    """

    when: pl.Expr
    show: Shown | Sequence[Shown] = ()
    values: Mapping[str, pl.Expr] = field(default_factory=dict)
    all_values: Mapping[str, pl.Expr] = field(default_factory=dict)
    masked: Collection[str] = ()
    distinct: bool = False
    counts: Mapping[str, pl.Expr] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity | None = None


@dataclass(frozen=True)
class Count:
    """Asks how many rows `when` holds for."""

    when: pl.Expr


@dataclass(frozen=True)
class Values:
    """Asks how often each distinct value occurs: a frame of `value` and `rows`, the most frequent first."""

    value: pl.Expr


@dataclass(frozen=True)
class Found:
    """What a Find found: how many rows out of `total`, masked examples with their keys, tallies (`value`, `rows`)."""

    rows: Rows
    total: int
    values: Mapping[str, pl.DataFrame]
    counts: Mapping[str, int]
    question: Find

    @property
    def count(self) -> int:
        return self.rows.count

    def outcome(self, **facts: Any) -> CheckOutcome:
        """Passes where nothing was found; shows tallies, facts and examples."""
        shown: dict[str, Any] = {name: shown_values(tally) for name, tally in self.values.items()}
        shown |= {**self.counts, **self.question.facts, **facts}
        if self.question.distinct:
            examples = {"examples": self.rows.examples} if self.rows.examples else {}
            outcome = found(next(iter(self.values.values())).height, rows=self.count, **shown, **examples)
        else:
            outcome = self.rows.outcome(**shown)
        outcome.severity = self.question.severity
        return outcome


Asking = Generator[Any, Any, Any]
"""A check that yields questions (one, or any nesting of lists, tuples and dicts), is sent the answers in the same
shape, and returns its outcome."""


# --- what a check looks at --------------------------------------------------------------------------------------------


@dataclass
class Look(CheckContext):
    """What a check looks at: everything of the run, and the `rows` of its own asset."""

    asset: DatasetName = ("", "")
    _rows: Callable[[], pl.LazyFrame] | None = None

    @property
    def rows(self) -> pl.LazyFrame:
        """The rows that the questions of this check are about."""
        if self._rows:
            return self._rows()
        layer, name = self.asset
        readers = {
            "legacy": self.legacy,
            "crosswalk": self.legacy,
            "mapping": self.mapping,
            "prepared": self.prepared,
            "rejected": self.rejected,
        }
        if layer not in readers:
            raise ConfigurationError(
                f"nothing says which rows the checks of {layer}/{name} ask about",
                where="/".join(self.asset),
                remedy="give `rows=`, a function of the look: look.select(…) reads the live target",
            )
        return readers[layer](name)

    @property
    def chosen(self) -> Mapping[str, str]:
        """The option that was chosen of each decision."""
        return self.decisions.chosen

    def lists(self, value_map: str, value: pl.Expr) -> pl.Expr:
        """Whether a text is listed in a value map, compared as mappings do: trimmed, without case. NULL is not."""
        return listed(value, self.value_maps[value_map].to_series(0))

    @contextmanager
    def target(self) -> Iterator[Connection]:
        """A connection with the live target that cannot write."""
        if self.target_url is None:
            raise ConfigurationError("this check looks at the live target, and there is none", where=str(self.asset))
        with refusals_told(), connect(self.target_url()) as connection:
            connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            yield connection

    def select(self, query: Any, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pl.LazyFrame:
        """What a query with bound parameters gives of the live target, whole: let it select what is wrong, not all."""
        with self.target() as connection:
            cursor = connection.execute(query, parameters)
            names = [column.name for column in cursor.description or ()]
            return pl.LazyFrame(cursor.fetchall(), schema=names, orient="row", infer_schema_length=None)


# --- how a system says them -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnCheck:
    """One check as it was decorated. `rows` makes the frame that it asks about, once for all checks that name it."""

    spec: CheckSpec
    function: Callable[..., Any]
    rows: Callable[[Look], pl.LazyFrame] | None
    needs: tuple[DatasetName, ...]
    where: str
    replaces: tuple[str, ...] = ()
    reads_more: Callable[[Look], Mapping[str, pl.Expr]] | None = None
    """Columns that it needs besides, which are made for all checks of the same rows at once."""

    @property
    def reads(self) -> tuple[DatasetName, ...]:
        return (self.spec.asset, *self.needs)


class Checks:
    """The own checks of a system, or of a part of it: `Checks(letters, files)` has those of both.

    `irrelevant_decisions` gives the decisions that make no difference under what else was chosen.
    """

    def __init__(
        self, *parts: "Checks", irrelevant_decisions: Callable[[Decisions], Collection[str]] = lambda _: ()
    ) -> None:
        self.own: list[OwnCheck] = [check for part in parts for check in part.own]
        self.irrelevant_decisions = irrelevant_decisions

    def on(
        self,
        asset: str,
        severity: Severity = "WARN",
        *,
        blocking: bool = False,
        structure: bool = False,
        rows: Callable[[Look], pl.LazyFrame] | None = None,
        needs: str | Sequence[str] = (),
        replaces: str | Sequence[str] = (),
        name: str = "",
        description: str = "",
    ) -> Callable[[Function], Function]:
        """Makes a function the check of an asset `layer/name`; of several assets, decorated several times.

        `needs` are the datasets it reads besides, `replaces` the columns of a legacy table of which it says what the
        check that is derived of their mapping would. `name` and `description` take the place of the function's own.
        """

        def added(function: Function) -> Function:
            called = name or function.__name__
            text = description or inspect.getdoc(function) or ""
            where = f"{inspect.getsourcefile(function)}:{function.__code__.co_firstlineno}"
            if not text:
                raise ConfigurationError(
                    f"the check {called} of {asset} does not say what holds when it passes",
                    where=where,
                    remedy="give it a docstring: people read it beside the result",
                )
            dataset = dataset_name(asset)
            if any((check.spec.asset, check.spec.name) == (dataset, called) for check in self.own):
                raise ConfigurationError(
                    f"{asset} has two checks called {called}", where=where, remedy="give one of them another name"
                )
            spec = CheckSpec(called, dataset, " ".join(text.split()), severity, blocking, structure)
            read = tuple(map(dataset_name, _several(needs)))
            self.own.append(OwnCheck(spec, function, rows, read, where, _several(replaces)))
            return function

        return added

    def of(self, system: System) -> list[OwnCheck]:
        """The checks of a system; those of models that no flow fills as it is decided are left out.

        ConfigurationError where one looks at what the system does not have, or waits for what is made of its asset.
        """
        for check in self.own:
            _require_known(check, system)
        return [check for check in self.own if all(_is_made(name, system) for name in check.reads)]


def groups_of(checks: Sequence[OwnCheck]) -> tuple[CheckGroup, ...]:
    """The checks, a group an asset."""
    by_asset: dict[DatasetName, list[OwnCheck]] = {}
    for check in checks:
        by_asset.setdefault(check.spec.asset, []).append(check)
    return tuple(
        CheckGroup(asset, tuple(check.spec for check in own), partial(evaluate, own), _needs(own))
        for asset, own in by_asset.items()
    )


def dataset_name(text: str) -> DatasetName:
    """Layer and name of `layer/name`."""
    layer, _, name = text.partition("/")
    return layer, name


def _several(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _needs(checks: Sequence[OwnCheck]) -> tuple[DatasetName, ...]:
    return tuple(dict.fromkeys(name for check in checks for name in check.reads))


MADE_FROM_FLOWS = ("prepared", "rejected", "target")


def _require_known(check: OwnCheck, system: System) -> None:
    known: dict[str, Collection[str]] = {
        "legacy": system.legacy_tables,
        "crosswalk": system.crosswalk_tables,
        "mapping": [asset.name for asset in system.mapping_assets],
        **{layer: [target.model for target in system.targets] for layer in MADE_FROM_FLOWS},
    }
    layer, name = check.spec.asset
    table = system.legacy_tables.get(name) if layer == "legacy" else None
    for column in check.replaces:
        if table is None or column not in table.columns:
            raise ConfigurationError(
                f"the check {check.spec.name} replaces that of {column}, which {layer}/{name} has not",
                where=check.where,
                remedy=suggestion(column, table.columns) if table else "it belongs to checks of legacy tables",
            )
    for layer, name in check.reads:
        if layer not in known or name not in known[layer]:
            raise ConfigurationError(
                f"the check {check.spec.name} looks at {layer}/{name}, which there is not",
                where=check.where,
                remedy=suggestion(name, known[layer]) if layer in known else f"layers: {', '.join(known)}",
            )
        if layer in MADE_FROM_FLOWS and check.spec.asset[0] not in MADE_FROM_FLOWS:
            raise ConfigurationError(
                f"the check {check.spec.name} of {'/'.join(check.spec.asset)} waits for {layer}/{name}, which waits for"
                " the checks of what it is made from",
                where=check.where,
                remedy=f"make it a check of {layer}/{name}, with {'/'.join(check.spec.asset)} among its `needs`",
            )


def _is_made(dataset: DatasetName, system: System) -> bool:
    layer, name = dataset
    return layer not in ("prepared", "rejected") or system.flow_of(name) is not None


# --- how they are evaluated together ----------------------------------------------------------------------------------


def evaluate(checks: Sequence[OwnCheck], context: CheckContext) -> dict[str, CheckOutcome]:
    """The outcome of each check of one asset by name; questions about the same rows are asked in one pass.

    What checks ask after they were answered is asked together again.
    """
    frames: dict[Callable[[Look], pl.LazyFrame] | None, pl.LazyFrame] = {}
    plain = Look(**vars(context), asset=checks[0].spec.asset)

    def frame_of(rows: Callable[[Look], pl.LazyFrame] | None) -> pl.LazyFrame:
        if rows not in frames:
            frame = plain.rows if rows is None else rows(plain)
            reads = dict.fromkeys(check.reads_more for check in checks if check.reads_more and check.rows is rows)
            for more in reads:
                frame = with_reads(frame, more(plain))
            frames[rows] = frame
        return frames[rows]

    outcomes: dict[str, CheckOutcome] = {}
    running: dict[OwnCheck, Asking] = {}
    asked: dict[OwnCheck, Any] = {}
    for check in checks:
        look = Look(**vars(context), asset=check.spec.asset, _rows=partial(frame_of, check.rows))
        running[check] = _asking(check, look)
        _go_on(running, asked, outcomes, check, None)
    while asked:
        answers: dict[OwnCheck, Any] = {}
        for rows in dict.fromkeys(check.rows for check in asked):
            questions = {check: question for check, question in asked.items() if check.rows is rows}
            engine: Engine = "in-memory" if _bytes_of(checks, rows, plain) < FEW_BYTES else "streaming"
            answers |= _answers(frame_of(rows), questions, _personal(plain), engine)
        asked = {}
        for check, answer in answers.items():
            _go_on(running, asked, outcomes, check, answer)
    return {check.spec.name: outcomes[check.spec.name] for check in checks}


def _bytes_of(checks: Sequence[OwnCheck], rows: Callable[[Look], pl.LazyFrame] | None, look: Look) -> int:
    """How much the lake holds of all that checks read which ask about the same rows."""
    names = {name for check in checks if check.rows is rows for name in check.reads}
    manifests = [look.lake.manifest((look.system.name, *name)) for name in sorted(names)]
    tables = [files for manifest in manifests if manifest for files in manifest.tables.values()]
    return sum(entry.bytes for files in tables for entry in files.files)


def _asking(check: OwnCheck, look: Look) -> Asking:
    """The check as a generator, whichever form its function has."""
    made = check.function(look)
    if inspect.isgenerator(made):
        made = yield from made
    if isinstance(made, Find):
        made = cast(Found, (yield made)).outcome()
    if not isinstance(made, CheckOutcome):
        raise TypeError(f"{check.spec.name} gives {made!r}, neither an outcome nor a Find ({check.where})")
    return made


def _go_on(
    running: Mapping[OwnCheck, Asking],
    asked: dict[OwnCheck, Any],
    outcomes: dict[str, CheckOutcome],
    check: OwnCheck,
    answer: Any,
) -> None:
    """Lets a check run to its next question, or to its end."""
    try:
        asked[check] = running[check].send(answer)
    except StopIteration as end:
        outcomes[check.spec.name] = end.value


def _personal(look: Look) -> Collection[str]:
    """The columns of the asset whose values are masked; of a landed table those that nobody declared, too."""
    layer, name = look.asset
    if layer in ("legacy", "crosswalk"):
        _, table = declared_table(look.system, name)
        landed = look.manifest(layer, name).metadata["columns"]
        return [column for column in {*table.columns, *landed} if table.is_personal(column)]
    if layer in ("prepared", "target"):
        return look.system.personal_columns(look.system.target(name))
    return ()


def _answers(
    frame: pl.LazyFrame, questions: Mapping[OwnCheck, Any], personal: Collection[str], engine: Engine
) -> dict[OwnCheck, Any]:
    """What the rows say to all questions, in the shape in which each check asked."""
    named: dict[str, Find | Count | Values] = {}

    def name_all(asked: Any, name: str) -> None:
        if isinstance(asked, Find | Count | Values):
            named[name] = asked
        elif isinstance(asked, Mapping):
            for key, each in asked.items():
                name_all(each, f"{name}:{key}")
        elif isinstance(asked, list | tuple):
            for place, each in enumerate(asked):
                name_all(each, f"{name}:{place}")
        else:
            raise TypeError(f"a check asks {asked!r}; it may ask Find, Count, Values, and lists or dicts of them")

    for check, asked in questions.items():
        name_all(asked, check.spec.name)
    answers = _surveyed(frame, named, personal, engine)

    def shaped(asked: Any, name: str) -> Any:
        if isinstance(asked, Mapping):
            return {key: shaped(each, f"{name}:{key}") for key, each in asked.items()}
        if isinstance(asked, list | tuple):
            return type(asked)(shaped(each, f"{name}:{place}") for place, each in enumerate(asked))
        return answers[name]

    return {check: shaped(asked, check.spec.name) for check, asked in questions.items()}


def _surveyed(
    frame: pl.LazyFrame, questions: Mapping[str, Find | Count | Values], personal: Collection[str], engine: Engine
) -> dict[str, Any]:
    columns = frame.collect_schema().names()
    masked = {name for question in questions.values() if isinstance(question, Find) for name in question.masked}
    key = next((name for name in KEYS if name in columns), columns[0])
    survey = Survey(frame, personal={*personal, *masked}, key=key, engine=engine)
    for name, question in questions.items():
        match question:
            case Find():
                show = (question.show,) if isinstance(question.show, str | pl.Expr) else question.show
                survey.rows(name, question.when, show=show, values=question.values)
                for label, value in question.all_values.items():
                    survey.values(f"{name}|{label}", value)
                for label, when in question.counts.items():
                    survey.count(f"{name}|{label}", when)
            case Count():
                survey.count(name, question.when)
            case Values():
                survey.values(name, question.value)
    answers = survey.answers()
    found_by: dict[str, Any] = {}
    for name, question in questions.items():
        match question:
            case Find():
                tallies = {label: answers.values[f"{name}/{label}"] for label in question.values}
                tallies |= {label: answers.values[f"{name}|{label}"] for label in question.all_values}
                counts = {label: answers.rows[f"{name}|{label}"].count for label in question.counts}
                found_by[name] = Found(answers.rows[name], answers.total, tallies, counts, question)
            case Count():
                found_by[name] = answers.rows[name].count
            case Values():
                found_by[name] = answers.values[name]
    return found_by
