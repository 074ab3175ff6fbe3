"""What things are called where not every name is allowed: in Dagster, and so in the lake and the archive."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator

from dtx_assets.machinery.base.errors import ConfigurationError

RENAME = "declare it under another name, which a view in the source may have"
DIGITS = 6
"""Of the digest that tells names apart which look alike in Dagster."""


def dagster_name(name: str) -> str:
    """A name as it is where Dagster takes it (letters, digits, `_`), else a likeness: `a-b` → `a_b_d44362`.

    The digest is of the whole name, so a name has one likeness, and that of a likeness is itself.
    """
    if re.fullmatch(r"[A-Za-z0-9_]+", name):
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_") or "name"
    return f"{readable}_{hashlib.sha256(name.encode()).hexdigest()[:DIGITS]}"


def dataset_name(name: str) -> str:
    """A name as it is where it may name a dataset of the lake, else its likeness."""
    return dagster_name(name) if not name.strip() or "/" in name or name in (".", "..") else name


def unusable_names(names: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Which of the names (by position) cannot be had beside those before it, and why."""
    known: dict[str, str] = {}
    for position, name in enumerate(names):
        likeness = dagster_name(name)
        if not name.strip() or "/" in name or "\0" in name or name in (".", ".."):
            yield position, f"{name!r} names no file, and so no dataset of the lake"
        elif likeness in known:
            yield position, f"{known[likeness]!r} and {name!r} would be one asset, {likeness}"
        else:
            known[likeness] = name


def refuse_likenesses(kind: str, names: Iterable[str]) -> None:
    """Raises ConfigurationError where two of the names would be one asset, or one names no file."""
    given = list(names)
    for position, why in unusable_names(given):
        raise ConfigurationError(why, where=f"{kind} {given[position]!r}", remedy=RENAME)
