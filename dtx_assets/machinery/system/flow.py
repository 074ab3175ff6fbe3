"""What a flow is: declared by systems, run by `prepare`, drawn by `dagster`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from dtx_assets.machinery.mapping.provenance import OF
from dtx_assets.machinery.postgres.ddl import LiveTarget
from dtx_assets.machinery.system.system import System
from dtx_assets.machinery.transforms.columns import TransformContext


@dataclass(frozen=True)
class FlowInputs:
    """The rows of one batch and what they are mapped with.

    `legacy` holds, for each source table, the named columns as text, other ones as `extra:<name>`, and `_row`,
    `_source_key`, `_bucket`, `_key_fate` (null, `identical` or `duplicate_key`). `mappings` holds the mapping assets by
    name.
    """

    system: System
    legacy: Mapping[str, pl.DataFrame]
    mappings: Mapping[str, pl.LazyFrame]
    context: TransformContext
    live: Mapping[str, LiveTarget] = field(default_factory=dict)
    """The target tables as they are live, by model: what they cannot hold is rejected. Those not known are left out."""
    migrated: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    """By source, what those that stand before in the mapping file gave of this batch that is written: `:<column>`."""

    is_traced: bool = False
    """Whether functions are asked which cells made what they fill; a run never asks."""

    def decision(self, key: str) -> str:
        return self.context.decisions[key]

    def told(self, **columns: pl.Expr) -> list[pl.Expr]:
        """What a function tells of columns that it fills, each as `made_of` says it; nothing where nobody asks."""
        return [made.alias(f"{OF}{name}") for name, made in columns.items()] if self.is_traced else []


@dataclass
class Prepared:
    """The rows of one target model from one batch.

    `rows` has the target columns (and `id` where rows are updated), `_row` counts them from 0; `links` is LINKS_SCHEMA.
    """

    rows: pl.DataFrame
    links: pl.DataFrame
    is_fitted: bool = False
    """Whether what the live target cannot hold is rejected already."""


@dataclass
class Outcome:
    """What a flow made of one batch: `prepared`, `rejected`, `dropped` by target model, one `fates` row a source row.

    `fates`: source_table, model, source_row, fate (`migrated`, `rejected` or the rule that dropped it), coercions.
    """

    prepared: dict[str, Prepared] = field(default_factory=dict)
    rejected: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    dropped: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    fates: list[pl.DataFrame] = field(default_factory=list)
    stands_for: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    """By model, `source_key` of what another row stands for, and `named`: the key of the row that counts."""
    made: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict)
    """By model and source table, what was made of the rows, rejected or not: `_row`, `_part`, `:<column>`, `_problems`.
    What other models of the flow read of it."""

    merged: dict[str, pl.DataFrame] = field(default_factory=dict)
    """By model, of traced rows that a function made one of several: `_source`, `_source_key`, `_part`, and what it told
    of the row that they went to."""

    def reject(self, model: str, rejected: pl.DataFrame) -> None:
        self.rejected.setdefault(model, []).append(rejected)


@dataclass(frozen=True)
class Flow:
    """From source tables to target models. The first source owns the rows; the others feed or only link to them.

    `owner` names, for each source table, the column of the owner id and the mapping asset that gives it: rows of one
    owner lie in one batch; rows of a table that is not named go by their own key. `accounted` are the sources whose
    rows are counted, `counted_apart` says that each target accounts for all of them, where else they share them.
    `required` gives the columns by source table that the chosen options need besides those a table always requires;
    `reads` those that are read at all, where it is known. `merge` makes the rows of a target of all batches together,
    where several batches may give one row; `unite` does so of those that lie in some buckets.
    """

    name: str
    area: str
    sources: tuple[str, ...]
    accounted: tuple[tuple[str, str], ...]
    mappings: tuple[str, ...]
    targets: tuple[str, ...]
    decisions: tuple[str, ...]
    run: Callable[[FlowInputs], Outcome]
    owner: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    merge: Mapping[str, Callable[[pl.DataFrame], Prepared]] = field(default_factory=dict)
    unite: Mapping[str, Callable[[pl.DataFrame], Prepared]] = field(default_factory=dict)
    required: Callable[[Mapping[str, str]], Mapping[str, tuple[str, ...]]] = lambda _decisions: {}
    reads: Callable[[Mapping[str, str]], Mapping[str, frozenset[str]]] | None = None
    counted_apart: bool = False
    shared: frozenset[str] = frozenset()
    """Sources of which other flows account for the rows that this one leaves out."""
    together: bool = False
    """Whether all rows are prepared in one batch."""
    uses_cutover_time: bool = False
    splits: bool = False
    """Whether each target row comes from one legacy row, so that several batches may be prepared at once."""
    description: str = ""
