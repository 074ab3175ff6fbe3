"""Which column of a sample holds whose ids, and which columns together tell rows apart, by what is declared."""

from collections.abc import Iterator, Mapping

from dtx_assets.machinery.declare.folder import read_declarations
from dtx_assets.machinery.mapping.load import TABLES
from dtx_assets.machinery.mapping.model import ColumnMapping, SourceMapping
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.samples.verdict import Judge
from dtx_assets.machinery.system.system import System

Place = tuple[str, str]
"""A column: of a legacy table, a crosswalk, or a model of others."""


class References:
    """What refers to what, in the legacy tables, the crosswalks, and the tables of others."""

    def __init__(self, system: System, judge: Judge) -> None:
        self._system, self._judge = system, judge
        self.others = {
            target.model: target
            for target in system.targets
            if not system.flow_of(target.model) and target.writes == "nothing"
        }
        self._crosswalks = self._led_to()
        self._handed_over = self._given_ids()

    def of_legacy(self, table: LegacyTable) -> dict[str, Place]:
        """By column of a legacy table, the column whose values it holds."""
        found: dict[str, Place] = {}
        for mapping, entry in self._judge.entries(table.name):
            target = self._system.target(mapping.target)
            for name, column in entry.made:
                local = column.local
                if len(local) == 1 and (place := self._place(target, name, column)) and place != (table.name, local[0]):
                    found.setdefault(local[0], place)
        return found

    def of_crosswalk(self, table: str) -> dict[str, Place]:
        return self._handed_over.get(table, {})

    def of_other(self, target: TargetTable) -> dict[str, Place]:
        """By column of a table of others, the key of another one of theirs."""
        return {
            column.name: (model, self.others[model].key[0])
            for column in target.columns
            if column.references and (model := self._other(column.references))
        }

    def tell_apart(self, table: LegacyTable) -> Iterator[tuple[str, ...]]:
        """Sets of columns of a legacy table whose values, taken together, no two rows may share."""
        if table.has_unique_key:
            yield table.key
        for mapping, entry in self._judge.entries(table.name):
            target = self._system.target(mapping.target)
            keys = [target.natural_key, *([target.key] if target.key_is_written else [])]
            if entry.duplicates:
                keys.append(entry.duplicates.key)
            for key in keys:
                if (columns := behind(entry, key)) and not entry.merge and not entry.expand:
                    yield columns

    def _place(self, target: TargetTable, name: str, column: ColumnMapping) -> Place | None:
        if column.crosswalk:
            return self._crosswalks.get(column.crosswalk)
        if column.is_constant or all(each.name != name for each in target.columns):
            return None
        referred = target.column(name).references
        if referred is None:
            return None
        if model := self._other(referred):
            return model, self.others[model].key[0]
        for parent in self._system.targets:
            if referred in parent.names and parent.key_is_written:
                return self._written_key(parent)
        return None

    def _written_key(self, parent: TargetTable) -> Place | None:
        """The legacy column that the key of a target is made of."""
        mapping = self._system.mappings.targets.get(parent.model)
        for source, entry in (mapping.sources if mapping else {}).items():
            if len(parent.key) == 1 and (columns := behind(entry, parent.key)) and len(columns) == 1:
                return source, columns[0]
        return None

    def _other(self, table: str) -> str | None:
        return next((model for model, target in self.others.items() if table in target.names), None)

    def _led_to(self) -> Mapping[str, Place]:
        """By crosswalk the column with the legacy ids that it knows."""
        found: dict[str, Place] = {}
        for asset in self._system.mapping_assets:
            if asset.kind != "crosswalk":
                continue
            tables = [name for layer, name in asset.upstream if layer == "legacy"]
            tables = [name for name in tables if name in self._system.crosswalk_tables]
            models = [name for layer, name in asset.upstream if layer == "target"]
            if tables:
                found[asset.name] = (tables[0], self._system.crosswalk_tables[tables[0]].key[0])
            elif models and (mapping := self._system.mappings.targets.get(models[0])):
                source = next(iter(mapping.sources))
                key = self._system.legacy_tables[source].key
                if len(key) == 1:
                    found[asset.name] = (source, key[0])
        return found

    def _given_ids(self) -> dict[str, dict[str, Place]]:
        """By crosswalk table its column with the ids of the target."""
        if not (self._system.mappings_dir / TABLES).exists():
            return {}
        declared, _ = read_declarations(self._system.mappings_dir)
        return {
            name: {
                leads_to.target_id: (leads_to.target, self._system.target(leads_to.target).key[0])
                for leads_to in crosswalk.crosswalks(name).values()
                if leads_to.target in self.others
            }
            for name, crosswalk in declared.crosswalks.items()
        }


def behind(entry: SourceMapping, key: tuple[str, ...]) -> tuple[str, ...]:
    """The legacy columns that the columns of a key are made of; none where another thing makes one of them."""
    made = {**entry.helpers, **entry.columns}
    columns: list[str] = []
    for name in key:
        column = made.get(name)
        if column is None or column.by or (column.input and column.input not in column.from_):
            return ()
        if column.is_constant:
            continue
        if len(column.local) != 1 or len(column.from_) != 1:
            return ()
        columns += column.local
    return tuple(dict.fromkeys(columns))
