"""Stored documents that look like other types in Extended JSON, `{"$oid": "…"}` for one, told apart from them.

An import that took an export for plain JSON has made such documents. Extended JSON has no way to say so, JSON has.
"""

import json
from typing import Any

WRAPPERS = frozenset(
    {
        *("$oid", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$date", "$binary", "$timestamp"),
        *("$regularExpression", "$minKey", "$maxKey", "$code", "$scope", "$dbPointer"),
    }
)
"""What values of other types than documents begin with in canonical Extended JSON."""
AS_STORED, MARKED = '{"\\u0024', '{"\\u0000$'
"""How a stored document begins whose first field is called like one of these: the dollar is escaped. No text holds that
sign before it, and no field's name begins with a NUL."""


def parsed(value: str) -> Any:
    """A value in canonical Extended JSON as JSON has it; fields that are only called like a type begin with a NUL."""
    return json.loads(value.replace(AS_STORED, MARKED) if AS_STORED in value else value)


def name_of(field: str) -> str:
    """A field's name as it is stored."""
    return field[1:] if field.startswith("\x00$") else field
