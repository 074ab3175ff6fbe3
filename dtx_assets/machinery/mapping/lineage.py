"""Where each target column comes from, as plain data: for Dagster's lineage, for descriptions, for the mapping book."""

from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING

from dtx_assets.machinery.mapping.model import ColumnMapping, SourceMapping, TargetMapping, decision_of

if TYPE_CHECKING:
    from dtx_assets.machinery.mapping.load import Mappings

Upstream = tuple[tuple[str, ...], str]
"""(asset key, column)."""


def column_lineage(
    mapping: TargetMapping, system: str, sources: Container[str] | None = None
) -> dict[str, list[Upstream]]:
    """For each target column the legacy columns it comes from, and the mapping assets it passes through.

    `sources` are the tables that count: those that the chosen options read; None is all.
    """
    lineage: dict[str, list[Upstream]] = {}
    for table, source in _read(mapping, sources):
        for name, column in source.filled:
            found = lineage.setdefault(name, [])
            found += [upstream for upstream in _upstreams(system, table, column) if upstream not in found]
    return lineage


def _upstreams(system: str, table: str, column: ColumnMapping) -> Iterable[Upstream]:
    for part in column.from_:
        owner, name = column.located(part)
        yield (system, "legacy", owner or table), name
    if column.crosswalk:
        yield (system, "mapping", column.crosswalk), "target_id"
    if column.value_map and column.output:
        yield (system, "mapping", column.value_map), column.output
    if column.cases:
        yield (system, "mapping", column.cases), "target_id"
    for use in column.uses:
        name, _, used = use.partition(".")
        yield (system, "mapping", name), used or "target_id"


def _read(mapping: TargetMapping, sources: Container[str] | None) -> Iterator[tuple[str, SourceMapping]]:
    return ((table, source) for table, source in mapping.sources.items() if sources is None or table in sources)


def column_descriptions(mapping: TargetMapping, sources: Container[str] | None = None) -> dict[str, str]:
    """How each target column is made, in words; what several sources give is told source by source."""
    sentences: dict[str, list[str]] = {}
    for table, source in _read(mapping, sources):
        for name, column in source.filled:
            sentences.setdefault(name, []).append(describe(table, column))
    return {name: "; ".join(told) for name, told in sentences.items()}


def describe(table: str, column: ColumnMapping) -> str:
    """One sentence: from where, by what, and what happens to a value that is not listed."""
    origin = ", ".join(f"{owner or table}.{name}" for owner, name in map(column.located, column.from_))
    if column.is_constant:
        text = "always NULL" if column.constant is None else f"always {column.constant!r}"
    elif column.crosswalk or column.value_map:
        through = f"crosswalk {column.crosswalk}" if column.crosswalk else f"value map {column.value_map}"
        missing = {"reject": "rejected", "null": "NULL and counted", "keep": "kept"}[column.missing]
        text = f"{origin} through {through}; what is not listed is {missing}"
    elif column.cases:
        text = f"{origin} by the first line of the case table {column.cases} that fits"
    elif column.by:
        text = f"{origin}, by the flow's {column.by} function"
    else:
        told = {name: decision_of(value) for name, value in column.with_.items()}
        settings = ", ".join(
            f"{name}: by decision {told[name]}" if told[name] else f"{name}: {value!r}"
            for name, value in column.with_.items()
        )
        text = f"{origin} by transform {column.transform or 'text'}" + (f" ({settings})" if settings else "")
    if column.when:
        text += f" (only under {column.when})"
    return f"{text}. {column.note}" if column.note else text


def accounted_for(mappings: "Mappings", table: str) -> tuple[set[str], dict[str, str]]:
    """The columns of a legacy table that some mapping uses, and those that are dropped, with the reason.

    Of one that is undecided the reason says so.
    """
    used: set[str] = set()
    dropped: dict[str, str] = {}
    for mapping in mappings.targets.values():
        for name, source in mapping.sources.items():
            for _, column in source.made:
                for part in column.from_:
                    owner, legacy = column.located(part)
                    if (owner or name) == table:
                        used.add(legacy)
            if name == table:
                asked = {condition.column for condition in source.asked}
                used |= {column for column in asked if column}
                dropped |= source.dropped
                dropped |= {column: f"undecided: {note}" for column, note in source.undecided.items()}
    return used, dropped
