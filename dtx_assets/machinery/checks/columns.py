"""The checks of mapped columns: each legacy column that can fail has one, made of what its mapping says.

A value fails where the column's own transform or value map rejects it, where the target takes no NULL, no text so long,
no number so large and no such value, and where it is no text. What goes through crosswalks is `crosswalks`.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import polars as pl

from dtx_assets.machinery.base.names import dagster_name
from dtx_assets.machinery.checks.own import Asking, Find, Look, OwnCheck
from dtx_assets.machinery.checks.spec import COERCION_THRESHOLD, CheckOutcome, CheckSpec, Severity, undecodable
from dtx_assets.machinery.checks.survey import listed
from dtx_assets.machinery.mapping.conditions import drop_rules, holds, is_active
from dtx_assets.machinery.mapping.model import ColumnMapping, RowMapping, SourceMapping
from dtx_assets.machinery.model.target import TargetColumn
from dtx_assets.machinery.prepare.schemas import INTEGER_RANGES
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import Outcome, TransformContext, with_reads

MOST = 25
"""More columns of one table than this are one check: a page of the UI holds no more than some fifty."""
ALL = "columns_can_be_read"
TEXTS = "texts_can_be_kept"
NO_TEXT = "no text"
SHOWN = 40


@dataclass
class Failures:
    """How the values of one legacy column can fail: where they reject the row, and where they are changed, by kind.

    `made` are the target columns that come from it, `sure` says whether each row that is found is rejected for it: a
    function may leave rows out before.
    """

    column: str
    rejects: dict[str, pl.Expr] = field(default_factory=dict)
    changes: dict[str, pl.Expr] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    """The look-ups in tables of others that its transforms read."""
    sure: bool = True

    def reject(self, kind: str, when: pl.Expr) -> None:
        self.rejects[kind] = self.rejects[kind] | when if kind in self.rejects else when

    def change(self, kind: str, when: pl.Expr) -> None:
        self.changes[kind] = self.changes[kind] | when if kind in self.changes else when


def column_checks(system: System, own: Sequence[OwnCheck]) -> list[OwnCheck]:
    """A check of each legacy column that flows read and that can fail, unless one of the `own` takes its place."""
    return [check for table in system.legacy_tables for check in _checks_of(system, table, own)]


def _checks_of(system: System, table: str, own: Sequence[OwnCheck]) -> Iterator[OwnCheck]:
    mine = [check for check in own if check.spec.asset == ("legacy", table)]
    replaced = {column for check in mine for column in check.replaces}
    names = {check.spec.name for check in mine}
    failing = failures(system, table, planning(system))
    named: dict[str, list[Failures]] = {}
    for column, found in failing.items():
        if column not in replaced and (found.rejects or found.changes):
            only_text = not found.changes and found.rejects.keys() == {NO_TEXT}
            named.setdefault(TEXTS if only_text else name_of(column), []).append(found)
    if len(named) > MOST:
        named = {ALL: [found for several in named.values() for found in several]}
    for name, several in named.items():
        if name not in names:
            yield _check(table, name, several)


def name_of(column: str) -> str:
    """`exempt_exp_date_can_be_read` of `ExemptExpDate`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column).lower()
    return f"{dagster_name(words)}_can_be_read"


def _check(table: str, name: str, several: Sequence[Failures]) -> OwnCheck:
    columns = [found.column for found in several]
    rejects = dict.fromkeys(kind for found in several for kind in found.rejects)
    changes = dict.fromkeys(kind for found in several for kind in found.changes)
    made = dict.fromkeys(name for found in several for name in found.made)
    goal = f" to {', '.join(made)}" if made else ""
    said = [f"Every value of {', '.join(columns)} can be mapped{goal}."]
    if rejects:
        said.append(f"What rejects its row: {', '.join(rejects)}.")
    if changes:
        said.append(f"What is changed and counted ({COERCION_THRESHOLD:.0%} may be): {', '.join(changes)}.")
    if not all(found.sure for found in several):
        said.append("Rows that a rule or a function leaves out later are looked at, too.")
    severity: Severity = "ERROR" if rejects and all(found.sure for found in several) else "WARN"
    spec = CheckSpec(name, ("legacy", table), " ".join(said), severity)

    def evaluate(look: Look) -> Asking:
        now, _ = failures_now(look)
        return (yield from _asked(look, [now[column] for column in columns]))

    needs = dict.fromkeys(("mapping", name) for found in several for name in found.needs)
    return OwnCheck(spec, evaluate, None, tuple(needs), "the mapping files", reads_more=reads_now)


def _asked(look: Look, several: Sequence[Failures]) -> Asking:
    rejected, changed = yield (
        _find(look, several, {found.column: found.rejects for found in several}, "rejected for"),
        _find(look, several, {found.column: found.changes for found in several}, "changed for"),
    )
    facts = {
        name: shown
        for found in (rejected, changed)
        for name, shown in found.outcome().metadata.items()
        if shown and (name != "examples" or found is rejected or not rejected.count)
    }
    too_many = changed.count > COERCION_THRESHOLD * max(rejected.total, 1)
    return CheckOutcome(
        not rejected.count and not too_many,
        rejected.count or (changed.count if too_many else 0),
        facts,
        None if rejected.count else "WARN",
    )


def _find(look: Look, several: Sequence[Failures], kinds: Mapping[str, Mapping[str, pl.Expr]], label: str) -> Find:
    """Rows in which one of the columns fails in one of these ways, with what is wrong and the values that are."""
    table = look.system.legacy_tables[look.asset[1]]
    alone = len(several) == 1
    why: list[pl.Expr] = []
    values: list[pl.Expr] = []
    hits: list[pl.Expr] = [pl.lit(False)]
    for column, ways in kinds.items():
        hit = pl.any_horizontal(pl.lit(False), *(when.fill_null(False) for when in ways.values()))
        hits.append(hit)
        why += [
            pl.when(when.fill_null(False)).then(pl.lit(kind if alone else f"{column}: {kind}"))
            for kind, when in ways.items()
        ]
        if not table.is_personal(column):
            shown = pl.col(column).str.head(SHOWN).fill_null("NULL")
            values.append(pl.when(hit).then(shown if alone else pl.format(f"{column} = {{}}", shown)))
    tallies = {label: why, f"values {label.split(maxsplit=1)[0]}": values}
    return Find(
        pl.any_horizontal(hits),
        show=[found.column for found in several],
        values={name: pl.concat_list(listed).list.drop_nulls() for name, listed in tallies.items() if listed},
    )


# --- how the values of a column can fail ------------------------------------------------------------------------------


def planning(system: System) -> TransformContext:
    """What transforms look at while nothing is read yet: enough to know in which ways they can fail."""
    return TransformContext({}, system.mappings.value_maps, system.decisions.chosen, "UTC", datetime.now(UTC))


def looked_up(system: System, columns: Iterable[ColumnMapping]) -> list[str]:
    """The look-ups in tables of others that transforms of the columns read."""
    references = [asset.name for asset in system.mapping_assets if asset.kind == "reference"]
    read = {use.partition(".")[0] for column in columns for use in column.uses}
    return [name for name in references if name in read]


def deciding(look: Look) -> TransformContext:
    """What transforms look at, the time included."""
    return _deciding(look, look.now)


def _deciding(look: Look, now: datetime) -> TransformContext:
    return TransformContext(_References(look), look.value_maps, look.chosen, look.settings.legacy_timezone, now)


class _References(Mapping[str, pl.LazyFrame]):
    """The look-ups in tables of others that were made, each opened when a transform asks for it."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._names = [asset.name for asset in look.system.mapping_assets if asset.kind == "reference"]

    def __getitem__(self, name: str) -> pl.LazyFrame:
        if name not in self._names or not self._is_made(name):
            raise KeyError(name)
        return self._look.mapping(name)

    def __iter__(self) -> Iterator[str]:
        return filter(self._is_made, self._names)

    def __len__(self) -> int:
        return sum(map(self._is_made, self._names))

    def _is_made(self, name: str) -> bool:
        return self._look.lake.manifest((self._look.system.name, "mapping", name)) is not None


def failures_now(look: Look) -> tuple[dict[str, Failures], dict[str, pl.Expr]]:
    """How the columns of the table that is looked at can fail, and what has to be read for it: once for its checks."""
    if (failures, look.asset) not in look.made:
        # Flows say whether the time makes a difference: where it does not, nobody has to ask for it.
        asks = any(flow.uses_cutover_time for flow in look.system.flows if look.asset[1] in flow.sources)
        context = replace(_deciding(look, look.now if asks else datetime.now(UTC)), reads={})
        look.made[failures, look.asset] = failures(look.system, look.asset[1], context, look), context.reads or {}
    found: tuple[dict[str, Failures], dict[str, pl.Expr]] = look.made[failures, look.asset]
    return found


def reads_now(look: Look) -> dict[str, pl.Expr]:
    return failures_now(look)[1]


def failures(system: System, table: str, context: TransformContext, look: Look | None = None) -> dict[str, Failures]:
    """The ways in which the columns of a legacy table can fail, by the first column that a mapping entry names."""
    found: dict[str, Failures] = {}
    accounted = [model for flow in system.flows for source, model in flow.accounted if source == table]
    for model in dict.fromkeys(accounted):
        entry = system.mappings.for_target(model).sources[table]
        for part, counts, sure in _parts(system, table, entry, context.decisions):
            for name in part.require:
                required = found.setdefault(name, Failures(name))
                required.reject("NULL", counts & pl.col(name).is_null())
                required.sure &= sure
            for name, column in (part.columns | part.helpers).items():
                if _is_read_as_it_is(column, context.decisions):
                    mapped = found.setdefault(column.local[0], Failures(column.local[0]))
                    mapped.sure &= sure
                    mapped.needs += looked_up(system, [column])
                    target = _target_column(system, model, name) if name in part.columns else None
                    if target:
                        mapped.made.append(f"{model}.{name}")
                    _add(mapped, system, column, target, counts, context, bool(entry.expand or entry.merge), look)
    return found


def _is_read_as_it_is(column: ColumnMapping, chosen: Mapping[str, str]) -> bool:
    is_made = column.by or column.input or column.crosswalk or column.is_constant or column.cases
    return not is_made and column.local == list(column.from_) != [] and is_active(column.when, chosen)


def _target_column(system: System, model: str, name: str) -> TargetColumn | None:
    return next((column for column in system.target(model).columns if column.name == name), None)


def _parts(
    system: System, table: str, entry: SourceMapping, chosen: Mapping[str, str]
) -> Iterator[tuple[SourceMapping | RowMapping, pl.Expr, bool]]:
    """What is made of a row, of which rows that is, and whether that is known before anything is made."""
    columns = system.legacy_tables[table].columns
    rules = [rule for rule in entry.drop if is_active(rule.when, chosen)]
    known = [rule for rule in rules if all(condition.column in columns for condition in rule.only)]
    dropped = pl.any_horizontal(pl.lit(False), *drop_rules(known, chosen).values())
    sure = not entry.shape and len(known) == len(rules)
    yield entry, ~dropped, sure
    for row in entry.rows:
        if is_active(row.when, chosen):
            asks = [condition for rule in row.drop for condition in rule.only] + list(row.only)
            is_known = all(condition.column in columns for condition in asks)
            gone = pl.any_horizontal(pl.lit(False), *drop_rules(row.drop, chosen).values())
            yield row, ~dropped & holds(row.only) & ~gone if is_known else ~dropped, sure and is_known


def _add(
    mapped: Failures,
    system: System,
    column: ColumnMapping,
    target: TargetColumn | None,
    counts: pl.Expr,
    context: TransformContext,
    is_made_over: bool,
    look: Look | None,
) -> None:
    """Adds the ways in which one mapped column can fail. What functions make of it is not known here."""
    source = pl.col(column.local[0])
    if column.value_map:
        is_missing = ~_is_listed(column, source, context)
        if column.allow_null or column.missing != "reject":
            is_missing &= source.is_not_null()
        if column.missing == "reject":
            mapped.reject("unmapped_value", counts & is_missing)
        elif column.missing == "null":
            mapped.change(f"{column.value_map}_not_listed", counts & is_missing)
        return
    if target:
        context = replace(context, column=target.name, held={target.name: target})
    outcome = system.mappings.transforms[column.transform or "text"](
        [pl.col(name) for name in column.local], context, **column.settings(context.decisions)
    )
    for problem in outcome.problems:
        mapped.reject(problem.reason, counts & problem.when)
    for coercion in outcome.coercions:
        mapped.change(coercion.kind, counts & coercion.when)
    if (target is None and not column.written) or outcome.takes_any_bytes:
        return
    is_text = _is_text(outcome, column.local, context.reads or {})
    if is_text:
        mapped.reject(NO_TEXT, counts & _no_text(column.local, look))
    if target and not is_made_over:
        wrong = pl.any_horizontal(pl.lit(False), *(problem.when.fill_null(False) for problem in outcome.problems))
        for kind, when in _misfits(target, outcome.value, is_text):
            mapped.reject(kind, counts & ~wrong & when)


def _is_listed(column: ColumnMapping, source: pl.Expr, context: TransformContext) -> pl.Expr:
    keys = context.value_maps[str(column.value_map)].to_series(0)
    return source.is_in(keys.drop_nulls().to_list()).fill_null(False) if column.exact else listed(source, keys)


def _is_text(outcome: Outcome, columns: Collection[str], reads: Mapping[str, pl.Expr]) -> bool:
    used = {name: reads[name] for name in outcome.value.meta.root_names() if name in reads}
    columns = {*columns, *(name for made in used.values() for name in made.meta.root_names())}
    empty = with_reads(pl.LazyFrame(schema=dict.fromkeys(columns, pl.String)), used)
    return empty.select(outcome.value.alias("value")).collect_schema()["value"] == pl.String


def _no_text(columns: Sequence[str], look: Look | None) -> pl.Expr:
    ways = [pl.col(name).str.contains("\x00", literal=True).fill_null(False) for name in columns]
    if look is not None and look.manifest(*look.asset).metadata.get("undecodable_values"):
        ways += [undecodable(name) for name in columns]
    return pl.any_horizontal(ways)


def _misfits(target: TargetColumn, value: pl.Expr, is_text: bool) -> Iterator[tuple[str, pl.Expr]]:
    """Where the declared target column does not take a value."""
    if not target.nullable:
        yield "NULL", value.is_null()
    if is_text and target.longest is not None:
        yield f"longer than {target.longest} characters", value.str.len_chars() > target.longest
    if target.kind.is_integer and target.kind.name in INTEGER_RANGES and not is_text:
        yield f"no {target.kind.name}", ~value.is_between(*INTEGER_RANGES[target.kind.name])
    if target.allowed and is_text and not target.kind.is_array:
        yield "no allowed value", ~value.is_in(list(target.allowed))
