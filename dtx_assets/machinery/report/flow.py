"""The sections Flow and Coercions: where the rows of each legacy table went, and what changed on the way."""

from collections import Counter
from dataclasses import dataclass

from dtx_assets.machinery.load.archived import ARCHIVE
from dtx_assets.machinery.report.accounts import Accounts
from dtx_assets.machinery.report.figures import Accounting, Figures
from dtx_assets.machinery.system.system import System


@dataclass(frozen=True)
class Share:
    """A number of rows of one fate. `kind` is migrated, archived, rejected or dropped."""

    kind: str
    label: str
    rows: int


@dataclass(frozen=True)
class TableFlow:
    """Where the rows of one legacy table went, by target."""

    table: str
    area: str
    read: int
    entries: tuple[Accounting, ...]
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class CoercionRow:
    source_table: str
    target_table: str
    model: str
    kind: str
    rows: int
    migrated: int

    @property
    def share(self) -> float:
        return self.rows / self.migrated if self.migrated else 0.0


@dataclass(frozen=True)
class Became:
    """What rows of the source became in a target: so many of them, so many of its own."""

    model: str
    target_table: str
    migrated: int
    owned: int


def became(figures: Figures, accounts: Accounts) -> tuple[Became, ...]:
    """By target, in the order of their names. A row of the source may become several of the target, or none anew."""
    migrated: Counter[str] = Counter()
    for (_, target), entry in accounts.current.items():
        if target != ARCHIVE:
            migrated[target] += entry.migrated
    return tuple(
        Became(accounts.models[target], target, rows, figures.owned.get(target, 0))
        for target, rows in sorted(migrated.items(), key=lambda pair: accounts.models[pair[0]])
    )


def table_flows(system: System, figures: Figures, accounts: Accounts) -> tuple[TableFlow, ...]:
    flows = []
    for table in system.legacy_tables.values():
        entries = accounts.of(table.name)
        rows: Counter[tuple[str, str]] = Counter()
        for entry in entries:
            rows["archived" if entry.target_table == ARCHIVE else "migrated", accounts.models[entry.target_table]] += (
                entry.migrated
            )
            for group in figures.rejected:
                if (group.source_table, group.target_table) == (table.name, entry.target_table) and not group.partial:
                    rows["rejected", " + ".join(group.reasons)] += group.rows
            for rule, dropped in sorted(entry.dropped.items()):
                rows["dropped", rule] += dropped
        shares = [Share(kind, label, count) for (kind, label), count in rows.items() if count]
        flows.append(TableFlow(table.name, table.area, sum(entry.read for entry in entries), entries, tuple(shares)))
    return tuple(flows)


def coercion_rows(accounts: Accounts) -> tuple[CoercionRow, ...]:
    return tuple(
        CoercionRow(source, target, accounts.models[target], kind, rows, entry.migrated)
        for (source, target), entry in sorted(accounts.current.items())
        for kind, rows in sorted(entry.coerced.items(), key=lambda pair: -pair[1])
    )
