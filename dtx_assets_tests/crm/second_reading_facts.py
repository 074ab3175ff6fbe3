"""What the second reading takes as given: declared fields, the target's columns, junctions, decisions' options.

`fields.csv` is the contract's inventory, one line a stored field. What the live target says otherwise (types,
nullability, labels, defaults, foreign keys) may be put in its place with `dataclasses.replace`.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

USERS, SECOND_BRAIN, ARCHIVE = "Users", "secondBrain_notions", "archive"

OPTIONS = {
    "ids": ("uuid_v5", "uuid_v4"),
    "asymmetric_arrays": ("union", "owner_side"),
    "dangling_optional": ("null", "reject"),
    "unconstrained_reference": ("keep", "null"),
    "missing_required": ("schema_default", "reject"),
    "missing_created": ("reject", "object_id_time"),
    "scalar_to_text": ("convert", "reject"),
    "numeric_dates": ("reject", "epoch_ms"),
    "json_values": ("plain", "extended_json"),
    "duplicate_user": ("reject", "merge_references"),
    "existing_user": ("conflict", "adopt"),
    "undeclared_fields": ("archive", "extra_table"),
    "passwords": ("copy", "drop"),
    "second_brain": ("load", "archive"),
    "on_target_conflict": ("keep_target", "overwrite"),
}


@dataclass(frozen=True)
class Field:
    """A stored field and the column it goes to; of a junction, the column that its members go to."""

    collection: str
    field: str
    rule: str
    column: str
    type: str
    nullable: bool
    default: str
    references: str
    implied_reference: str
    labels: tuple[str, ...]
    junction: str
    side: int
    own_column: str

    @property
    def named(self) -> str:
        """The collection whose documents it names, with or without a foreign key."""
        return self.references or self.implied_reference


@dataclass(frozen=True)
class Facts:
    fields: Sequence[Field]

    @cached_property
    def collections(self) -> list[str]:
        return list(dict.fromkeys(each.collection for each in self.fields))

    @cached_property
    def columns(self) -> Mapping[str, Sequence[Field]]:
        """Of each collection the fields that go to its own table."""
        return {name: self._of(name, is_junction=False) for name in self.collections}

    @cached_property
    def arrays(self) -> Mapping[str, Sequence[Field]]:
        """Of each collection the fields that go to a junction."""
        return {name: self._of(name, is_junction=True) for name in self.collections}

    @cached_property
    def junctions(self) -> Mapping[str, Sequence[Field]]:
        """Of each junction its sides, the first one first."""
        names = sorted({each.junction for each in self.fields if each.junction})
        sides = {name: [each for each in self.fields if each.junction == name] for name in names}
        return {name: sorted(found, key=lambda each: each.side) for name, found in sides.items()}

    @cached_property
    def declared(self) -> Mapping[str, frozenset[str]]:
        return {name: frozenset(each.field for each in self.fields if each.collection == name) for name in self.columns}

    def _of(self, collection: str, *, is_junction: bool) -> list[Field]:
        found = [each for each in self.fields if each.collection == collection]
        return [each for each in found if (each.rule == "junction") == is_junction]

    def in_order(self) -> Iterable[str]:
        """The collections, each after those that its foreign keys name."""
        left = {name: {each.references for each in self.columns[name]} - {"", name} for name in self.collections}
        while left:
            ready = [name for name, needed in left.items() if not needed & set(left)]
            assert ready, f"a cycle among {sorted(left)}"
            yield from ready
            for name in ready:
                del left[name]


def _field(row: Mapping[str, str]) -> Field:
    names = ("collection", "field", "rule", "column", "type", "default", "references", "implied_reference")
    return Field(
        **{name: row[name] for name in names},
        nullable=row["nullable"] == "yes",
        labels=tuple(row["labels"].split("|")) if row["labels"] else (),
        junction=row["junction"],
        side=int(row["side"] or 0),
        own_column=row["own_column"],
    )


def read_facts() -> Facts:
    with (Path(__file__).parent / "fields.csv").open(newline="", encoding="utf-8") as file:
        return Facts([_field(row) for row in csv.DictReader(file)])


FACTS = read_facts()
