"""What stands for keys that are too long: made by PostgreSQL too, once and for all, and with room for all columns."""

import random

import polars as pl
import psycopg
import pytest
from psycopg import sql

from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.postgres.content import kept_key
from dtx_assets.machinery.sources.frames import key_elements, key_in_bookkeeping, source_key
from dtx_assets.machinery.sources.landing import ROW
from dtx_assets.machinery.transforms.columns import canonical_id
from dtx_assets.machinery.transforms.long_keys import short_key

INDEX_TAKES = 2704
RANDOM = random.Random(11)
PLAIN, WIDE, ESCAPED = "abcdefghijklmnop", "äöüßéè漢字😀𝔘", '"\\\x01\n\x7f'


def of(letters: str, length: int) -> str:
    return "".join(RANDOM.choices(letters, k=length))


def shortened(*texts: str | None) -> list[str | None]:
    return pl.DataFrame({"k": texts}, schema={"k": pl.String}).select(short_key(pl.col("k"))).to_series().to_list()


def test_keys_that_fit_are_as_they_are_and_others_fit_then():
    fitting = ["", "a", None, of(PLAIN, 2000), "ä" * 1000]
    assert shortened(*fitting) == fitting
    long = [of(letters, length) for letters in (PLAIN, WIDE, ESCAPED) for length in (2001, 1 << 20)]
    short = shortened(*long)
    assert len({*short}) == len(long)
    assert all(len(each.encode()) <= 500 for each in short)
    assert all(key.startswith(each[:100]) for key, each in zip(long, short, strict=True))
    assert shortened(*short) == short
    # A reference is looked up by the same.
    for kind in ("text", "uuid"):
        assert pl.select(canonical_id(pl.lit(long[0]), kind)).item() == short[0]


def test_the_server_calls_a_row_by_the_same(database_url):
    keys = [of(letters, length) for letters in (PLAIN, WIDE, ESCAPED) for length in (10, 2001, 10_000)]
    with psycopg.connect(database_url) as connection:
        for key, short in zip(keys, shortened(*keys), strict=True):
            assert connection.execute(sql.SQL("SELECT {}").format(kept_key(sql.Literal(key)))).fetchone() == (short,)


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("letters", [PLAIN, WIDE, ESCAPED])
@pytest.mark.parametrize("columns", [1, 2, 5, 16, 32])
def test_keys_of_several_columns_share_the_room(columns, letters, repeats):
    names = [f"c{number}" for number in range(columns)]
    table = LegacyTable("t", "all", (*names,), key=(*names,), key_repeats=repeats)
    rows = [[of(letters, length) for _ in names] for length in (3, 400, 5000)]
    frame = pl.DataFrame(rows, schema=names, orient="row").with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))
    made = source_key(table, frame.lazy()).collect().get_column("_source_key").to_list()
    assert len({*made}) == len(rows)
    # With the table's number and the portion beside it.
    assert all(len(key.encode()) <= INDEX_TAKES - 40 for key in made)
    assert len(key_elements(table, made[0])) == columns
    assert all(key_in_bookkeeping(table, key) == key for key in made)
    if columns > 1 or repeats:
        whole = pl.DataFrame({"k": [rows[2]]}).select(pl.struct(pl.col("k")).struct.json_encode()).item()
        assert key_in_bookkeeping(table, whole.removeprefix('{"k":').removesuffix("}")) == made[2]
    else:
        assert key_in_bookkeeping(table, rows[2][0]) == made[2]
