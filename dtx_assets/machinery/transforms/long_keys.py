"""Keys that are longer than an entry of an index may be: what stands for them wherever rows are called by their keys.

PostgreSQL takes some 2,700 bytes in an entry. A longer key is told by how it begins, and by its digest. It is the same
key as long as the digest is; should a row really have such a text for a key, the two are one key that is there twice.
"""

import re
from collections.abc import Callable

import polars as pl
import polars_hash as plh

LONGEST = 2000
"""So many bytes of a key are kept as they are; with what stands beside it in the index, it fits."""
BEGINNING = 100
"""So many characters of a longer one are shown, or fewer where it shares the room with others."""
MARK = "…sha256:"
SHORT_FORM = re.compile(rf"(.*){MARK}[0-9a-f]{{64}}", re.DOTALL)
_DIGEST = len(MARK.encode()) + 64 + len('""')


def short_key(text: pl.Expr, *, columns: int = 1, written: Callable[[pl.Expr], pl.Expr] = lambda text: text) -> pl.Expr:
    """A key as it is, or what stands for it where it is too long. What stands for a key stands for itself.

    `columns`: how many of them share an entry; `written`: the form in which each stands in it.
    """
    longest = max(LONGEST // columns, _DIGEST)
    # Of a character six bytes may be written, where it is escaped.
    beginning = min(BEGINNING, (longest - _DIGEST) // 6)
    is_long = written(text).str.len_bytes() > longest
    # Nothing is made of the others.
    long = pl.when(is_long).then(text)
    digest = plh.concat_str([long]).chash.sha2_256()
    return pl.when(is_long).then(pl.concat_str([long.str.head(beginning), pl.lit(MARK), digest])).otherwise(text)


def beginning_of(key: str) -> str | None:
    """How a key begins of which only what stands for it is known; None of a key that is whole."""
    found = SHORT_FORM.fullmatch(key)
    return found.group(1) if found else None
