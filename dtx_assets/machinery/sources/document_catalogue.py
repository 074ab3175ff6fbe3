"""What a source of documents has, for whoever begins a system: the fields of each collection, their BSON types, and
whose ids they hold.

All documents are looked at; of what a field holds, the ids of the first ones are looked up in all collections.
"""

from collections import Counter
from collections.abc import Mapping
from tempfile import TemporaryDirectory

import polars as pl

from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources.extended_json import ID
from dtx_assets.machinery.sources.found import SAMPLED_ROWS, FoundColumn, FoundTable
from dtx_assets.machinery.sources.undeclared import DocumentSource
from dtx_assets.machinery.transforms.columns import object_id_value

SAMPLED_IDS = 200
"""So many ids of a field are looked up."""
IN_FIELD = r'^(?:\{"\$oid":|\[|")'
"""What a value may begin with that is an id, or an array of ids."""
IDS = r'(?:"\$oid":|[\[,]|^)"([0-9A-Fa-f]{24})"'
ARRAY = "array"


def document_catalogue(source: DocumentSource) -> list[FoundTable]:
    """The collections by name. Raises SourceError where one of them cannot be read whole."""
    with TemporaryDirectory() as place:
        lake = Lake(place)
        names = sorted(source.tables())
        landed = {
            name: source.extract(LegacyTable(name, "", (), documents=True), lake, _key(name), "catalogue")
            for name in names
        }
        sampled = {name: _sampled_ids(lake, name, landed[name]) for name in names}
        collection_of = _collections_of(lake, names, sampled)
        return [_found_table(name, landed[name], sampled[name], collection_of) for name in names]


def _key(name: str) -> tuple[str, str, str]:
    return ("catalogue", "legacy", name)


def _sampled_ids(lake: Lake, name: str, landed: Manifest) -> dict[str, list[str]]:
    """By field, some of the ids that it holds."""
    fields = [field for field in landed.metadata["fields"] if field != ID]
    if not fields:
        return {}
    rows = lake.scan(_key(name)).select(fields).head(SAMPLED_ROWS)
    ids = rows.select(
        pl.col(field)
        .filter(pl.col(field).str.contains(IN_FIELD))
        .str.extract_all(IDS)
        .explode(empty_as_null=False, keep_nulls=False)
        .str.extract("([0-9A-Fa-f]{24})")
        .str.to_lowercase()
        .unique()
        .sort()
        .head(SAMPLED_IDS)
        .implode()
        for field in fields
    ).collect(engine="streaming")
    return {field: ids.get_column(field).item().to_list() for field in fields}


def _collections_of(
    lake: Lake, names: list[str], sampled: Mapping[str, Mapping[str, list[str]]]
) -> dict[str, list[str]]:
    """By id, the collections that have a document of it."""
    wanted = {each for fields in sampled.values() for ids in fields.values() for each in ids}
    listed = pl.Series(sorted(wanted), dtype=pl.String)
    found: dict[str, list[str]] = {}
    for name in names:
        rows = lake.scan(_key(name))
        if ID not in rows.collect_schema():
            continue
        there = rows.select(object_id_value(pl.col(ID)).alias(ID)).filter(pl.col(ID).is_in(listed.implode())).unique()
        for digits in there.collect(engine="streaming").get_column(ID):
            found.setdefault(digits, []).append(name)
    return found


def _found_table(
    name: str, landed: Manifest, sampled: Mapping[str, list[str]], collection_of: Mapping[str, list[str]]
) -> FoundTable:
    facts = landed.metadata
    rows = landed.tables["rows"].rows - facts["unreadable"]
    columns = []
    for field in facts["fields"]:
        types: dict[str, int] = facts["types"][field]
        given = {kind: count for kind, count in types.items() if kind != "null"}
        named = Counter(each for digits in sampled.get(field, ()) for each in collection_of.get(digits, ()))
        columns.append(
            FoundColumn(
                field,
                ", ".join(sorted(given, key=lambda kind: (-given[kind], kind))) or "null",
                "object_id" if field == ID else "json",
                nullable=sum(given.values()) < rows,
                holds=ARRAY if ARRAY in given else "",
                names=named.most_common(1)[0][0] if named else "",
            )
        )
    return FoundTable(name, None, tuple(columns), (ID,), documents=True)
