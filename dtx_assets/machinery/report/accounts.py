"""Which entries of the accounting count on the page, and what the plan calls the target tables."""

from dtx_assets.machinery.load.archived import ARCHIVE
from dtx_assets.machinery.report.figures import Accounting, Figures
from dtx_assets.machinery.system.system import System


class Accounts:
    """The accounting of a system, source table by target table.

    `expected` are the pairs that a whole run accounts for, under the chosen options. `current` is the last entry of
    each of them: what other options once loaded is not part of it. `models` are the target tables by name, with the
    model that is called first where several fill one.
    """

    def __init__(self, system: System, figures: Figures) -> None:
        self.expected = {
            (source, system.target(model).name) for flow in system.flows for source, model in flow.accounted
        }
        self.expected |= {(table, ARCHIVE) for table in system.legacy_tables if table not in system.migrated_tables}
        last = {(entry.source_table, entry.target_table): entry for entry in figures.accounting}
        self.current = {pair: entry for pair, entry in last.items() if pair in self.expected}
        self.models = {ARCHIVE: "Archive"}
        for target in system.targets:
            self.models.setdefault(target.name, target.model)
        for flow in system.flows:
            self.models |= {system.target(model).name: model for model in flow.targets}

    def of(self, table: str) -> tuple[Accounting, ...]:
        """The current entries of a legacy table."""
        return tuple(entry for (source, _), entry in self.current.items() if source == table)
