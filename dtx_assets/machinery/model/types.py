"""PostgreSQL's types as SQL spells them, taken apart: `numeric(18,4)`, `timestamp(3) with time zone`, `sales."Mood"[]`.

What values they hold is `postgres.values`; nothing here asks a server.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

ALIASES = {
    "int2": "smallint",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "bool": "boolean",
    "decimal": "numeric",
    "float4": "real",
    "float": "double precision",
    "float8": "double precision",
    "varchar": "character varying",
    "char": "character",
    "varbit": "bit varying",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "timetz": "time with time zone",
    "time": "time without time zone",
}
"""Other names of types, by which the catalogue does not call them."""
INTEGERS = ("smallint", "integer", "bigint")
"""The narrowest first."""
FLOATS = ("real", "double precision")
TEXTS = ("text", "character varying", "character", "bpchar", "citext")
PADDED = ("character", "bpchar")
"""Texts that are filled up with blanks."""
JSON = ("json", "jsonb")
MICROSECONDS = 6
"""Digits of the second that PostgreSQL keeps where a type does not say otherwise."""
EXTENSIONS = {
    "citext": "citext",
    "hstore": "hstore",
    "ltree": "ltree",
    "lquery": "ltree",
    "cube": "cube",
    "vector": "vector",
    "halfvec": "vector",
    "sparsevec": "vector",
    "geometry": "postgis",
    "geography": "postgis",
}
"""The extensions that bring types which are often met."""
BUILT_IN = frozenset(
    (
        *INTEGERS,
        *TEXTS,
        *JSON,
        *ALIASES.values(),
        *("interval", "date", "uuid", "bytea", "bit", "money", "name", "xml", "oid", "pg_lsn", "jsonpath"),
        *("inet", "cidr", "macaddr", "macaddr8", "tsvector", "tsquery"),
        *("point", "line", "lseg", "box", "path", "polygon", "circle"),
        *(
            f"{kind}{shape}"
            for kind in ("int4", "int8", "num", "ts", "tstz", "date")
            for shape in ("range", "multirange")
        ),
    )
)

QUOTED = frozenset(("char", "bit", "order", "user", "table", "group", "check", "default", "end", "all", "any"))
"""Names that are something else without quotes; only those of types that anybody would make."""
_IDENTIFIER = r'(?:"(?:[^"\x00]|"")+"|[^\W\d][\w$]*)'
_WORDS = r"(?:\s+(?:varying|precision|with|without|time|zone|year|month|day|hour|minute|second|to))*"
_SPELLED = re.compile(
    rf"\s*(?P<name>{_IDENTIFIER}(?:\.{_IDENTIFIER})*)(?P<words>{_WORDS})"
    rf"(?:\s*\((?P<arguments>\s*-?\w+(?:\s*,\s*-?\w+)*\s*)\))?(?P<more>{_WORDS})"
    r"(?P<array>(?:\s*\[\s*\d*\s*\])*)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ColumnType:
    """`name` as the catalogue has it, `arguments` as they stand in the brackets behind it."""

    name: str
    arguments: tuple[str, ...] = ()
    is_array: bool = False

    @property
    def is_integer(self) -> bool:
        return self.name in INTEGERS and not self.is_array

    @property
    def is_text(self) -> bool:
        return self.name in TEXTS and not self.is_array

    @property
    def is_json(self) -> bool:
        return self.name in JSON and not self.is_array

    @property
    def length(self) -> int | None:
        """How many characters a text may have, where it says so."""
        if self.is_text and self.arguments:
            return int(self.arguments[0])
        return 1 if self.name == "character" and not self.is_array else None

    @property
    def precision(self) -> int | None:
        """How many digits of the second a time keeps, where it says so."""
        timed = self.name.startswith("time") and not self.is_array
        return int(self.arguments[0]) if timed and self.arguments else None

    @property
    def decimals(self) -> tuple[int, int] | None:
        """The digits of a `numeric` in all, and those behind the point; None where it takes any number of them."""
        if self.name != "numeric" or self.is_array or not self.arguments:
            return None
        precision, scale = map(int, self.arguments)
        return precision, scale


@lru_cache(maxsize=4096)
def column_type(spelled: str) -> ColumnType:
    """ValueError where a text is no type as SQL spells one."""
    found = _SPELLED.fullmatch(spelled)
    if found is None:
        raise ValueError(f"{spelled!r} is no type of PostgreSQL, as in numeric(18,4), timestamptz or integer[]")
    name = ".".join(_plain(part) for part in _parts(found["name"]))
    name = " ".join((name, *(found["words"] + found["more"]).lower().split())).removeprefix("pg_catalog.")
    arguments = tuple(part.strip() for part in (found["arguments"] or "").split(",") if part.strip())
    name = ALIASES.get(name, name)
    if name == "numeric" and len(arguments) == 1:
        arguments = (*arguments, "0")
    return ColumnType(name, arguments, bool(found["array"].strip()))


def same_name(one: str, other: str) -> bool:
    """Whether two types are one by their names, each told with its schema or without it."""
    mine, theirs = _parts(one), _parts(other)
    shared = min(len(mine), len(theirs))
    return mine[-shared:] == theirs[-shared:]


def _parts(name: str) -> list[str]:
    """What the dots part of a name, quotes and all."""
    return re.findall(r'"(?:[^"]|"")*"|[^".]+', name)


def _plain(part: str) -> str:
    """An identifier as the catalogue writes it: quoted where it has to be."""
    if not part.startswith('"'):
        return part.lower()
    inner = part[1:-1].replace('""', '"')
    return inner if re.fullmatch(r"[a-z_][a-z0-9_$]*", inner) and inner not in QUOTED else part
