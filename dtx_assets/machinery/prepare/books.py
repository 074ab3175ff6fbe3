"""What became of the source rows of a flow, counted, and whether it adds up."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import polars as pl

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.system.flow import Flow, Outcome
from dtx_assets.machinery.system.system import System


class Books:
    """Counts what became of the source rows and says whether it adds up."""

    def __init__(self, coerced: Literal["rows", "values"]) -> None:
        self._coerced = coerced
        self.fates: Counter[tuple[str, str, str]] = Counter()
        self.coerced: Counter[tuple[str, str, str]] = Counter()

    def add(self, outcome: Outcome) -> None:
        for frame in outcome.fates:
            for source, model, fate, rows in frame.group_by("source_table", "model", "fate").len().iter_rows():
                self.fates[source, model, fate] += rows
            coerced = frame.filter(pl.col("fate") == "migrated").select("source_table", "model", "coercions")
            if self._coerced == "rows":
                coerced = coerced.with_columns(pl.col("coercions").list.unique())
            kinds = coerced.explode("coercions", empty_as_null=False, keep_nulls=False).group_by(pl.all())
            for source, model, kind, rows in kinds.len().iter_rows():
                self.coerced[source, model, kind] += rows

    def counts(self) -> dict[str, list[list[Any]]]:
        """What was counted, as JSON has it."""
        each = {"fates": self.fates, "coerced": self.coerced}
        return {name: [[*key, rows] for key, rows in counted.items()] for name, counted in each.items()}

    def add_counts(self, counts: Mapping[str, list[list[Any]]]) -> None:
        """What others counted of other rows."""
        for name, counted in (("fates", self.fates), ("coerced", self.coerced)):
            for first, second, third, rows in counts[name]:
                counted[first, second, third] += rows

    def balance(self, flow: Flow, sources: Mapping[str, Manifest], system: System) -> list[dict[str, Any]]:
        """The accounting of every (source table → target); StructureError where rows are missing or doubled."""
        entries: list[dict[str, Any]] = []
        for source, model in flow.accounted:
            counts = {fate: rows for (s, m, fate), rows in self.fates.items() if (s, m) == (source, model)}
            entries.append(
                {
                    "source_table": source,
                    "target_table": system.target(model).name,
                    "read": sum(counts.values()),
                    "migrated": counts.get("migrated", 0),
                    "rejected": counts.get("rejected", 0),
                    "dropped": {rule: n for rule, n in sorted(counts.items()) if rule not in ("migrated", "rejected")},
                    "coerced": {k: n for (s, m, k), n in sorted(self.coerced.items()) if (s, m) == (source, model)},
                }
            )
        for source in dict.fromkeys(source for source, _ in flow.accounted):
            read = sources[source].tables["rows"].rows
            each = [entry["read"] for entry in entries if entry["source_table"] == source]
            booked = next((one for one in each if one != read), read) if flow.counted_apart else sum(each)
            if read < booked or (read > booked and source not in flow.shared):
                raise StructureError(
                    f"the accounting of {source} does not balance: {read} rows were read, {booked} are accounted for",
                    where=f"flow {flow.name}",
                    remedy="nothing was prepared; this is a fault of the flow, please report it",
                )
        return entries
