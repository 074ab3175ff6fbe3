"""The members of arrays of ids, as fields of documents hold them in Extended JSON: what each of them says.

Whether what an id names is there, and what becomes of a member that names nothing, is `prepare.members`.
"""

import json
from typing import Any

import polars as pl

from dtx_assets.machinery.model.legacy import ColumnKind
from dtx_assets.machinery.transforms.bson_values import WHOLE, _id_of, _is_blank, _members_of, _typed
from dtx_assets.machinery.transforms.columns import SHOWN, canonical_id
from dtx_assets.machinery.transforms.looks_typed import MARKED, parsed

OF_OBJECT_IDS = r'^\[\{"\$oid":"[0-9a-f]{24}"\}(?:,\{"\$oid":"[0-9a-f]{24}"\})*\]$'
DIGITS = "[0-9a-f]{24}"

MEMBERS = pl.Schema(
    {
        "_place": pl.UInt32(),
        "is_nothing": pl.Boolean(),
        "id": pl.String(),
        "from_text": pl.Boolean(),
        "alone": pl.Boolean(),
        "shown": pl.String(),
    }
)
"""A member a row, in the order of the arrays. `_place`: that of the array in its column; `is_nothing`: null or blank;
`id`: canonical text, null where it is none; `from_text`: of a text where ids are none; `alone`: the value is no array;
`shown`: how a problem quotes a member that is no id."""

Member = tuple[bool, str | None, bool, bool, str | None]


def read_members(arrays: pl.Series, kind: ColumnKind) -> pl.DataFrame:
    """MEMBERS of a column of Extended JSON; `kind` is that of the ids. A missing value, null and `[]` have none."""
    frame = arrays.alias("text").to_frame().with_row_index("_place")
    plain = pl.lit(False)
    if kind == "object_id":
        plain = pl.col("text").str.contains(OF_OBJECT_IDS).fill_null(False)
    ids = (
        frame.filter(plain)
        .select("_place", pl.col("text").str.extract_all(DIGITS).alias("id"))
        .explode("id")
        .select(
            "_place",
            pl.lit(False).alias("is_nothing"),
            "id",
            pl.lit(False).alias("from_text"),
            pl.lit(False).alias("alone"),
            pl.lit(None, pl.String).alias("shown"),
        )
        .cast(MEMBERS)
    )
    others = frame.filter(~plain & pl.col("text").is_not_null())
    if others.is_empty():
        return ids
    distinct = others.select("text").unique(maintain_order=True).with_row_index("number")
    # By number: a text of megabytes is not to be there once a member.
    numbered = others.join(distinct, on="text", maintain_order="left").select("_place", "number")
    read = _read_distinct(distinct.get_column("text"), kind)
    found = numbered.join(read, on="number", how="inner", maintain_order="left_right").select(MEMBERS.names())
    return pl.concat([ids, found.cast(MEMBERS)]).sort("_place", maintain_order=True)


def _read_distinct(texts: pl.Series, kind: ColumnKind) -> pl.DataFrame:
    names = [name for name in MEMBERS if name != "_place"]
    rows = [(number, *member) for number, text in enumerate(texts) for member in _members(text, kind)]
    schema = {"number": pl.UInt32(), **{name: MEMBERS[name] for name in names}}
    read = pl.DataFrame(rows, schema=schema, orient="row")
    # Ids of other kinds have several spellings.
    return read if kind in ("object_id", "integer") else read.with_columns(canonical_id(pl.col("id"), kind))


def _members(text: str, kind: ColumnKind) -> list[Member]:
    try:
        members, alone = _members_of(parsed(text), blank_is_empty=True)
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        return [(False, None, False, True, text[:SHOWN])]
    return [_member(member, kind, bool(alone)) for member in members]


def _member(member: Any, kind: ColumnKind, alone: bool) -> Member:
    try:
        type_name, held = _typed(member)
        if type_name == "null" or (type_name == "string" and _is_blank(held)):
            return True, None, False, alone, None
        found = _id_of(type_name, held) if kind == "object_id" else _other_id(type_name, held, kind)
    except (ValueError, KeyError, TypeError, ArithmeticError):
        found = None
    if found is None:
        return False, None, False, alone, json.dumps(member, ensure_ascii=False).replace(MARKED, '{"$')[:SHOWN]
    return False, found[0], found[1], alone, None


def _other_id(type_name: str, held: Any, kind: ColumnKind) -> tuple[str, bool] | None:
    """An id of another kind than ObjectId, and whether a text stands for it where ids are numbers."""
    if kind == "integer":
        if type_name in ("int", "long"):
            return str(held), False
        whole = WHOLE.fullmatch(held.strip()) if type_name == "string" else None
        return (str(int(whole[1])), True) if whole else None
    return (held, False) if type_name == "string" else None
