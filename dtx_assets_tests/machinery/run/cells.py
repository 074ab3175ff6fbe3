"""Finds cells that change a column though nobody names them as what made it: the legacy is changed cell by cell.

Owners have no say in each other's rows, so that one run changes a cell of each; what then looks wrong is tried alone.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import polars as pl

from dtx_assets.machinery.mapping.provenance import OF, MadeOf
from dtx_assets.machinery.prepare.preparation import RunSettings, transform_context
from dtx_assets.machinery.prepare.trace import Trace, cells_that_made, traced
from dtx_assets.machinery.sources.frames import legacy_frame
from dtx_assets.machinery.sources.landing import ROW, UNDECODABLE
from dtx_assets.machinery.system.flow import Flow

Link = tuple[str, str, int, str]
"""Model, legacy table, number of the legacy row, part."""
Place = tuple[str, int, str]
"""Legacy table, number of the row, column."""
Rows = Mapping[str, pl.DataFrame]
Named = dict[str, set[tuple[str, int | None, str, bool]]]
"""By column the cells that made it: table, row (None is any), column, whether a function says so."""
What = tuple[str, str, str, str]
"""Model, column, and the legacy table and column of a cell."""


@dataclass
class Found:
    """What changing cells showed."""

    lies: set[What] = field(default_factory=set)
    """Cells that changed a column and were not named."""
    undeclared: set[What] = field(default_factory=set)
    """Cells that a function names and the mapping does not."""
    tried: Counter[What] = field(default_factory=Counter)
    """How often a cell was changed that a function names."""
    moved: set[What] = field(default_factory=set)
    """Those of them that changed the column, or whether there is such a row at all."""
    changed: int = 0
    parts: int = 0
    """How many values a function told of that the mapping tells part by part, before there is any row."""


@dataclass(frozen=True)
class Made:
    """What a flow made: the values of the row of each link, and who it is."""

    trace: Trace
    rows: Mapping[Link, tuple[Any, dict[str, Any]]]

    @cached_property
    def origins(self) -> dict[tuple[str, Any], list[Link]]:
        """The links of each target row: by what tells it apart, or alone where nothing does."""
        found: dict[tuple[str, Any], list[Link]] = {}
        for link, (identity, row) in self.rows.items():
            found.setdefault((link[0], identity or row["_row"]), []).append(link)
        return found

    def beside(self, link: Link) -> set[Link]:
        """The links that lead to the same row."""
        identity, row = self.rows[link]
        return set(self.origins[link[0], identity or row["_row"]])


class Changes:
    """The flow of some target models, run over rows of which cells are changed."""

    def __init__(self, run: RunSettings, flow: Flow, seed: int = 0) -> None:
        self.run, self.flow, self.system, self.random = run, flow, run.system, random.Random(seed)
        self.context = transform_context(
            run, {name: there for name in flow.mappings if (there := run.lake.manifest(run.key("mapping", name)))}
        )
        self.legacy = {
            name: legacy_frame(run.lake, run.system.name, run.system.legacy_tables[name]).sort(ROW).collect()
            for name in flow.sources
        }

    def made(self, legacy: Rows) -> Made:
        trace = traced(self.system, self.flow, legacy, self.context)
        rows: dict[Link, tuple[Any, dict[str, Any]]] = {}
        for model, prepared in trace.outcome.prepared.items():
            target, values = self.system.target(model), prepared.rows.to_dicts()
            who = ("id",) if "id" in prepared.rows.columns else target.natural_key
            for link in prepared.links.to_dicts():
                for part, number in zip(link["parts"], link["rows"], strict=True):
                    row = values[number]
                    identity = tuple(row[name] for name in who if name in row)
                    rows[model, link["source_table"], link["source_row"], part] = identity, row
        return Made(trace, rows)

    @cached_property
    def before(self) -> Made:
        return self.made(self.legacy)

    @cached_property
    def links(self) -> dict[tuple[str, int], list[Link]]:
        """The links of each legacy row by its table and number."""
        found: dict[tuple[str, int], list[Link]] = {}
        for link in self.before.rows:
            found.setdefault(link[1:3], []).append(link)
        return found

    @cached_property
    def told(self) -> dict[Link, dict[str, MadeOf]]:
        """What functions told, link by link: as `Trace.told` gives it, of all at once."""
        outcome, found = self.before.trace.outcome, dict[Link, dict[str, MadeOf]]()
        numbers = {
            (name, key): row
            for name, frame in self.before.trace.legacy.items()
            for key, row in frame.select("_source_key", ROW).iter_rows()
        }
        frames = [
            (model, frame.with_columns(_source=pl.lit(source))) for (model, source), frame in outcome.made.items()
        ]
        for model, frame in [*frames, *outcome.merged.items()]:
            names = [name for name in frame.columns if name.startswith(OF)]
            for row in frame.select("_source", "_source_key", "_part", *names).to_dicts() if names else ():
                link = (model, row["_source"], numbers[row["_source"], row["_source_key"]], row["_part"])
                said = {name.removeprefix(OF): MadeOf.of(row[name]) for name in names if row[name] is not None}
                found.setdefault(link, {}).update(said)
        return found

    @cached_property
    def named(self) -> dict[Link, Named]:
        """What made the columns of the row of each link: all that gave it have a say."""
        alone: dict[Link, Named] = {}
        for link in self.before.rows:
            model, table, row, part = link
            entry, told = self.system.mappings.for_target(model).sources[table], self.told.get(link, {})
            alone[link] = {}
            for name, column in entry.columns_of(part).items():
                says = (bool(column.by) and name in told) or (bool(column.input) and set(column.input) <= set(told))
                alone[link][name] = {
                    (cell.table or table, cell.row if cell.table else row, cell.column, says)
                    for cell in cells_that_made(name, column, entry, told).cells
                }
        together: dict[Link, Named] = {}
        for links in self.before.origins.values():
            every: Named = {}
            for link in links:
                for name, cells in alone[link].items():
                    every.setdefault(name, set()).update(cells)
            together |= dict.fromkeys(links, every)
        return together

    @cached_property
    def reading(self) -> dict[tuple[str, int], list[Link]]:
        """By legacy row that gave nothing itself, the links of those for which a function names it."""
        found: dict[tuple[str, int], dict[Link, None]] = {}
        for link, named in self.named.items():
            for table, row, *_ in (cell for cells in named.values() for cell in cells):
                if row is not None and (table, row) not in self.links:
                    found.setdefault((table, row), {})[link] = None
        return {place: list(links) for place, links in found.items()}

    # --- one by one ---------------------------------------------------------------------------------------------------

    def find(self, rounds: int, at_once: int = 25) -> Found:
        found = Found()
        if not self.links:
            return found
        self._declared(found)
        places = self._places()
        for _ in range(rounds):
            picked = {
                (table, row): (table, row, column) for table, row, column in (next(places) for _ in range(at_once))
            }
            changes = {place: self._other(place) for place in picked.values()}
            after = self.made(self._with(changes))
            for place, value in changes.items():
                found.changed += 1
                wrong = self._compared(place, after, found)
                if wrong:
                    wrong = self._compared(place, self.made(self._with({place: value})), found)
                found.lies |= wrong
        return found

    def _places(self) -> Iterator[Place]:
        """Cells without end: each column in turn, of rows that gave something, and of rows that functions name."""
        rows: dict[str, list[int]] = {}
        for table, row in sorted({*self.links, *self.reading}):
            rows.setdefault(table, []).append(row)
        columns = [(name, column) for name in rows for column in self.legacy[name].columns]
        columns = [(name, column) for name, column in columns if column not in (ROW, UNDECODABLE)]
        while columns:
            self.random.shuffle(columns)
            for table, column in columns:
                yield table, self.random.choice(rows[table]), column

    def _other(self, place: Place) -> str | None:
        """Another value for a cell: none, one that another row has there, or a bit more of it."""
        table, row, column = place
        frame = self.legacy[table]
        [value] = frame.filter(pl.col(ROW) == row).get_column(column)
        others = [other for other in frame.get_column(column).unique().sort() if other != value]
        # What is no JSON does not get into a document.
        more = [] if self.system.legacy_tables[table].documents else [f"{value or ''}1"]
        return self.random.choice([None, *self.random.sample(others, min(2, len(others))), *more])

    def _with(self, changes: Mapping[Place, str | None]) -> Rows:
        changed = dict(self.legacy)
        for (table, row, column), value in changes.items():
            new = pl.when(pl.col(ROW) == row).then(pl.lit(value, pl.String)).otherwise(pl.col(column))
            changed[table] = changed[table].with_columns(new.alias(column))
        return changed

    def _compared(self, place: Place, after: Made, found: Found) -> set[What]:
        """The columns that a changed cell changed though it was not named."""
        table, row, column = place
        wrong: set[What] = set()
        tried: set[What] = set()
        links = self.links.get((table, row)) or self.reading[table, row]
        for link in links:
            identity, values = self.before.rows[link]
            now = after.rows.get(link)
            # Another row came of it, or of other legacy rows: what is told of this one says nothing of that.
            is_there = now is not None and now[0] == identity and after.beside(link) == self.before.beside(link)
            for name, cells in self.named[link].items():
                says = {cell[3] for cell in cells if cell[0] == table and cell[1] in (None, row) and cell[2] == column}
                differs = is_there and now is not None and now[1].get(name) != values.get(name)
                what = (link[0], name, table, column)
                if True in says:
                    tried.add(what)
                    if differs or not is_there:
                        found.moved.add(what)
                elif differs and not says:
                    wrong.add(what)
        found.tried.update(tried)
        return wrong

    def _declared(self, found: Found) -> None:
        """Notes the cells that functions name and the mapping does not: lineage would not have them. Of a part whose
        cells are said before there is any row, they are the same."""
        self._parted(found)
        for link, every in self.named.items():
            sources = self.system.mappings.for_target(link[0]).sources
            for name, cells in every.items():
                declared = {
                    (owner or table, legacy)
                    for table, entry in sources.items()
                    for made_as, column in entry.filled
                    if made_as == name
                    for owner, legacy in map(column.located, column.from_)
                }
                # Rows of several tables meet by their owner.
                declared |= {(table, column) for table, (column, _) in self.flow.owner.items()}
                found.undeclared |= {
                    (link[0], name, table, column)
                    for table, _, column, says in cells
                    if says and (table, column) not in declared
                }

    def _parted(self, found: Found) -> None:
        parts = {
            (model, part.table, part.part): part.columns
            for model in self.flow.targets
            for part in self.system.lineage_by_part(model)
        }
        for link, told in self.told.items():
            model, table, _, part = link
            for name, said in parts.get((model, table, part), {}).items():
                if name in told:
                    found.parts += 1
                    cells = {(cell.table or table, cell.column) for cell in (*told[name].cells, *said.cells)}
                    if told[name] != said:
                        found.undeclared |= {(model, name, *each) for each in cells}


def changed_cells(run: RunSettings, *flows: str, rounds: int = 4, **chosen: str) -> Found:
    """What changing cells shows, in some flows under other decisions."""
    decisions = replace(run.decisions, chosen={**run.decisions.chosen, **chosen})
    run = replace(run, decisions=decisions, system=run.system.under(decisions))
    every = Found()
    for flow in run.system.flows:
        if not flows or flow.name in flows:
            found = Changes(run, flow).find(rounds)
            every.lies |= found.lies
            every.undeclared |= found.undeclared
            every.moved |= found.moved
            every.tried.update(found.tried)
            every.changed += found.changed
            every.parts += found.parts
    return every
