"""What becomes of collections of documents: how their fields become columns, and which arrays give the pairs of a
junction.

A system may have its own transforms for what was decided of documents (`document_value` and others); without them the
generic ones are named, with what they have to know of the column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from dtx_assets.machinery.declare.pairs import family_of_target
from dtx_assets.machinery.postgres.catalogue import FoundTarget, FoundTargetColumn
from dtx_assets.machinery.sources.found import FoundColumn, FoundTable
from dtx_assets.machinery.transforms.columns import Registry

NAMESPACE = str(uuid5(NAMESPACE_URL, "urn:dtx_assets:objectid"))
"""Of the UUIDs that ids become: the same in every collection."""
GIVEN_IDS = "given_ids"
"""The look-up of random ids that earlier loads gave."""


@dataclass(frozen=True)
class Side:
    """The documents of a collection that name others in an array: columns of the junction, and who is named."""

    collection: str
    field: str
    own: str
    other: str
    names: str


def document_entry(
    table: FoundTable,
    field: FoundColumn,
    column: FoundTargetColumn,
    *,
    is_key: bool,
    names: str,
    transforms: Registry,
) -> dict[str, Any] | str:
    """How a column is made of a field, as a mapping file says it; a text says why that is undecided.

    `names`: the collection whose ids the field holds, by a foreign key or by what is in it.
    """
    if "document_value" in transforms:
        if is_key:
            settings = {"with": {"of": table.name}, "crosswalk": GIVEN_IDS}
            return {"from": field.name, "transform": "document_id", **settings}
        if names and family_of_target(column) in ("uuid", "array") and "text" not in column.base:
            return {"from": field.name, "transform": "document_reference", "crosswalk": names}
        return {"from": field.name, "transform": "document_value"}
    made = _generic(column)
    if made is None:
        return f"{field.name} ({field.type}) looks alike; no transform makes {column.type} of it"
    transform, settings = made
    return {"from": field.name, "transform": transform, **({"with": settings} if settings else {})}


def _generic(column: FoundTargetColumn) -> tuple[str, dict[str, Any]] | None:
    """The transform that reads a field of any type for a column, with what it has to know."""
    required = {} if column.nullable else {"nullable": False}
    match family_of_target(column):
        case "array":
            of_ids = column.base.startswith("uuid")
            return ("bson_uuids", {"namespace": NAMESPACE}) if of_ids else ("bson_texts", {})
        case "enum":
            return "bson_enum", {"labels": list(column.labels), **required}
        case "integer":
            return "bson_integer", {**({"bits": 64} if column.base == "bigint" else {}), **required}
        case "boolean":
            return "bson_boolean", required
        case "timestamp" | "instant":
            return "bson_timestamp", required
        case "uuid":
            return "bson_uuid", {"namespace": NAMESPACE, **required}
        case "json":
            return "bson_json", {}
        case "text":
            return "bson_text", {}
    return None


def sides_of(
    junction: FoundTarget, collections: Mapping[str, FoundTable], mapped: Mapping[str, set[str]]
) -> list[Side]:
    """Which arrays of documents name the pairs of a table, by the order of its columns; none where it is no junction.

    `collections` by the full names of the tables that they are mapped to; `mapped`: fields by collection that are
    columns of their own table.
    """
    columns = [column.name for column in junction.columns]
    if len(columns) != 2 or set(columns) != set(junction.key) or set(columns) != set(junction.references):
        return []
    tables = [collections.get(junction.references[column]) for column in columns]
    found: list[Side] = []
    for (own, other), (table, named) in zip((columns, columns[::-1]), (tables, tables[::-1]), strict=True):
        if table is None or named is None:
            return []
        arrays = [
            field.name
            for field in table.columns
            if field.holds and field.names == named.name and field.name not in mapped.get(table.name, ())
        ]
        if len(arrays) == 1:
            found.append(Side(table.name, arrays[0], own, other, named.name))
    return found


def mapping_of_sides(sides: Sequence[Side]) -> dict[str, Any]:
    """The sources of a junction's mapping file."""
    return {
        side.collection: {"members": {"field": side.field, "own": side.own, "other": side.other, "names": side.names}}
        for side in sides
    }
