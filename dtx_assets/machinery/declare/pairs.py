"""Which transform makes a target type of a legacy kind: one table, a line a pair."""

import re
from typing import Any

from dtx_assets.machinery.model.types import column_type
from dtx_assets.machinery.postgres.catalogue import FoundTargetColumn
from dtx_assets.machinery.sources.found import FoundColumn
from dtx_assets.machinery.transforms.columns import Registry

FAMILIES = {
    "smallint": "integer",
    "integer": "integer",
    "bigint": "integer",
    "numeric": "numeric",
    "money": "numeric",
    "real": "float",
    "double precision": "float",
    "boolean": "boolean",
    "text": "text",
    "character varying": "text",
    "character": "text",
    "citext": "text",
    "date": "date",
    "timestamptz": "instant",
    "timestamp": "timestamp",
    "uuid": "uuid",
    "json": "json",
    "jsonb": "json",
    "bytea": "bytes",
}
"""PostgreSQL types that are made alike; arrays and enums are told by themselves."""
OTHER = "other"
"""Any other type, `interval`, `inet` or `tsvector`: it reads a text by itself, and says of each row where it cannot."""

TEXTS = ("text", "code", "integer", "decimal", "boolean", "date", "time", "instant", "uuid", "json", "set", "list")
Settings = dict[str, Any]
BY_A_CLOCK: Settings = {"offset": "legacy"}
"""Of an instant that becomes a time without a zone; by which clock is a guess."""
PAIRS: tuple[tuple[tuple[str, ...], tuple[str, ...], str, Settings], ...] = (
    (("integer",), ("integer",), "integer", {}),
    (("integer", "decimal"), ("numeric",), "numeric", {}),
    # Which reads all that a float can be: NaN, Infinity, and the smallest there is.
    (("integer", "decimal"), ("float",), "text", {}),
    (("boolean", "integer"), ("boolean",), "boolean", {}),
    (("date", "time"), ("date",), "date", {}),
    (("time", "date"), ("timestamp",), "local_timestamp", {}),
    (("instant",), ("timestamp",), "local_timestamp", BY_A_CLOCK),
    (("instant",), ("instant",), "instant", {}),
    (("time", "instant"), ("instant",), "timestamp", {}),
    (("uuid", "text", "code"), ("uuid",), "uuid", {}),
    (("json", "text"), ("json",), "json", {}),
    (("bytes",), ("bytes",), "bytes", {}),
    (("set",), ("array",), "array", {"separator": ","}),
    (("json",), ("array",), "array", {}),
    # As PostgreSQL itself writes one.
    (("list",), ("array",), "text", {}),
    (("text", "code"), ("enum",), "text", {}),
    (TEXTS, ("text",), "text", {}),
    # That they are text is a guess; a row with other bytes is rejected.
    (("bytes",), ("text",), "text", {}),
    (("text", "code"), (OTHER,), "text", {}),
)
"""Legacy kinds, target families, transform, its settings; the first that fits and is there counts."""


def family_of_target(column: FoundTargetColumn) -> str:
    """What the type of a target column is made like."""
    if column.base.endswith("[]"):
        return "array"
    if column.labels:
        return "enum"
    return FAMILIES.get(re.sub(r"\(.*\)", "", column.base).rpartition(".")[2], OTHER)


HELD_AS_TEXT = ("date", "timestamp without time zone", "numeric")
"""Types of the target whose values are prepared as the text that the type reads."""


def _is_its_own(legacy: FoundColumn, target: FoundTargetColumn) -> bool:
    """Whether a column of PostgreSQL has the type of the target: each of its values fits as it is, infinity, NaN and
    years before Christ too, which transforms refuse."""
    if not legacy.is_postgresql:
        return False
    held = column_type(target.type)
    return held.name in HELD_AS_TEXT and not held.is_array and column_type(legacy.type.lower()) == held


def transform_for(legacy: FoundColumn, target: FoundTargetColumn, transforms: Registry) -> tuple[str, Settings] | None:
    """The transform that makes one of the other, with its settings; None where there is none."""
    if _is_its_own(legacy, target):
        return "text", {}
    kind, family = legacy.holds or legacy.kind, family_of_target(target)
    return next(
        (
            (transform, settings)
            for kinds, families, transform, settings in PAIRS
            if kind in kinds and family in families and transform in transforms
        ),
        None,
    )
