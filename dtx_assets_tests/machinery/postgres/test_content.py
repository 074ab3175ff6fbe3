"""Values survive the way into PostgreSQL and back, and hash the same on both sides; no other value hashes like them."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from dtx_assets.machinery.load.documents import merge_json
from dtx_assets.machinery.load.key import Key
from dtx_assets.machinery.model.target import TargetColumn, polars_type
from dtx_assets.machinery.postgres import content
from dtx_assets.machinery.postgres.connection import connect

COLUMNS = (
    TargetColumn("n", "bigint", ""),
    TargetColumn("t", "text", ""),
    TargetColumn("u", "text", ""),
    TargetColumn("b", "boolean", ""),
    TargetColumn("at", "timestamptz", ""),
    TargetColumn("j", "jsonb", ""),
)
SCHEMA = {column.name: polars_type(column.type) for column in COLUMNS}
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
AWKWARD = st.sampled_from(["", "\\N", "\\.", '"', "\\", "\\\\n", "\r\n", "\t", "NULL", "=", "\x01", "\u2028", "\x85"])
DOCUMENT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | TEXT
    | AWKWARD
    | st.decimals(-9, 9, places=3).map(float),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | AWKWARD, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | TEXT | AWKWARD,
        st.none() | TEXT | AWKWARD,
        st.none() | st.booleans(),
        st.none() | st.datetimes(timezones=st.just(UTC)).filter(lambda t: 1900 <= t.year < 9999),
        st.none() | DOCUMENT.map(lambda document: json.dumps(document, sort_keys=True, separators=(",", ":"))),
    ),
    min_size=1,
    max_size=8,
)

WAITING = (
    "SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database"
    " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
)


@pytest.fixture
def connection(database_url):
    with connect(database_url) as connection:
        connection.execute("CREATE TABLE t (n bigint, t text, u text, b boolean, at timestamptz, j jsonb)")
        yield connection


@settings(max_examples=60)
@given(ROWS)
def test_values_come_back_as_they_went_in(connection, rows):
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row").with_row_index("i").cast({"i": pl.Int64})
    connection.execute("TRUNCATE t")
    connection.execute("ALTER TABLE t ADD COLUMN IF NOT EXISTS i bigint")
    content.copy_in(connection, sql.Identifier("t"), frame)
    query = sql.SQL("SELECT i, {} FROM t ORDER BY i").format(
        sql.SQL(", ").join(content.readable(column, "t") for column in COLUMNS)
    )
    back = content.copy_out(connection, query, pl.Schema({"i": pl.Int64(), **content.readable_schema(COLUMNS)}))
    back = content.as_prepared(back, COLUMNS)
    wanted = content.with_canonical_json(frame, COLUMNS)
    assert back.select(*SCHEMA).rows() == wanted.select(*SCHEMA).rows()
    hashed = content.content_hash(COLUMNS).alias("hash")
    assert back.select(hashed).equals(wanted.select(hashed))


def test_texts_are_a_parameter_whatever_is_in_them(connection):
    texts = ["", "a,b", '"', "\\", "{}", "NULL", " x ", "\r\n\t", "\u2028'"]
    for some in (texts, texts * content.MANY, []):
        parameter = content.array_parameter(pl.Series(some, dtype=pl.String))
        assert connection.execute("SELECT %s::text[]", [parameter]).fetchone() == (some,)


def test_other_threads_go_on_while_the_server_makes_rows(database_url):
    # Loads go over several connections, and verify reads ahead: a thread that waits must not hold up the others.
    waits = sql.SQL("SELECT i, CASE WHEN i = 50000 THEN pg_advisory_lock(7) END::text FROM generate_series(1, 60000) i")
    with connect(database_url) as holding, connect(database_url) as other, ThreadPoolExecutor(1) as thread:
        other.execute("SET statement_timeout = '20s'")
        holding.execute("SELECT pg_advisory_lock(7)")
        copied = thread.submit(content.copy_out, other, waits, pl.Schema({"i": pl.Int64(), "locked": pl.String()}))
        while not holding.execute(WAITING).fetchone():
            assert not copied.done(), copied.result()
        holding.execute("SELECT pg_advisory_unlock(7)")
        assert copied.result().height == 60000


def test_different_rows_hash_differently():
    texts = [None, "", "=", "a", "a=", "\x01"]
    rows = [(None, t, u, None, None, None) for t in texts for u in texts]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    assert frame.select(content.content_hash(COLUMNS)).to_series().n_unique() == len(rows)


def test_the_hash_stays_what_it_was():
    # Hashes are kept in databases: another algorithm would make every row look changed.
    row = (7, "text", None, True, datetime(2020, 1, 1, tzinfo=UTC), '["a@b.example"]')
    frame = pl.DataFrame([row], schema=SCHEMA, orient="row")
    assert frame.select(content.content_hash(COLUMNS)).item() == 2138393136899625693


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('{"b": 1, "a": [1, 2]}', '{"a":[1,2],"b":1}', True),
        ("[1.50]", "[1.5]", True),
        ("[1e2]", "[100.0]", True),
        ("[12345678901234567890123]", "[12345678901234567890124]", False),
        ('["1.5"]', "[1.5]", False),
        ('["a", "b"]', '["a","b"]', True),
        ('["a, b"]', '["a","b"]', False),
        ('[", "]', '[",",","]', False),
        ('["\\u00e9"]', '["é"]', True),
        ('{"\\u00e0":0}', '{"à": 0}', True),
        ("[-0.0]", "[0]", True),
        ("[1e400]", "[1e401]", False),
        ("[0." + "1" * 40 + "]", "[0." + "1" * 39 + "2]", False),
    ],
)
def test_equal_documents_are_equal_texts(one, other, equal):
    frame = pl.DataFrame({"j": [one, other]})
    first, second = content.with_canonical_json(frame, COLUMNS[-1:]).to_series()
    assert (first == second) is equal


@pytest.mark.parametrize(
    ("now", "wanted", "merged", "conflict"),
    [
        (None, '{"a":1}', '{"a":1}', False),
        ('{"a": 1}', None, '{"a": 1}', False),
        ('{"a": 1.50}', '{"b":2}', '{"a":1.50,"b":2}', False),
        ('{"l": {"x": "1"}}', '{"l":{"y":"2"}}', '{"l":{"x":"1","y":"2"}}', False),
        ('{"l": {"y": "1"}}', '{"l":{"y":"2"}}', '{"l":{"y":"2"}}', True),
        ('{"l": {"y": 2.0}}', '{"l":{"y":2}}', None, False),
        ('{"l": null}', '{"l":[1]}', '{"l":[1]}', False),
        ('{"l": [1]}', '{"l":[1,2]}', '{"l":[1,2]}', True),
        ('{"n": 12345678901234567890123, "t": "é\\\\u0000"}', '{"l":1}', None, False),
    ],
)
def test_documents_are_merged_key_by_key(now, wanted, merged, conflict):
    text, in_the_way = merge_json(now, wanted)
    assert in_the_way is conflict
    if merged is not None:
        assert text == merged
    elif wanted:
        assert content.canonical_json(text) == content.canonical_json(json.dumps(json.loads(now) | json.loads(wanted)))


def test_ids_as_ranges():
    from dtx_assets.machinery.load.identity import multirange

    assert multirange(pl.Series([5, 1, 2, 3, 9], dtype=pl.Int64)) == "{[1,3],[5,5],[9,9]}"
    assert multirange(pl.Series([], dtype=pl.Int64)) == "{}"
    assert multirange(pl.Series([2**63 - 1, -(2**63), 2**63 - 2])) == (
        "{[-9223372036854775808,-9223372036854775808],[9223372036854775806,)}"
    )


# --- times that Python cannot hold ------------------------------------------------------------------------------------

FAR = (
    *("infinity", "-infinity", "0044-03-15 01:02:03.000004+00 BC", "0001-12-31 23:59:59.000000+00 BC"),
    *("10000-01-01 00:00:00.000000+00", "250000-02-03 04:05:06.500000+00", "4713-01-01 00:00:00.000000+00 BC"),
)


def test_times_of_others_that_python_cannot_hold_come_and_go_as_they_are(database_url):
    at = next(column for column in COLUMNS if column.name == "at")
    with connect(database_url) as connection:
        connection.execute(
            "CREATE TEMPORARY TABLE there (at timestamptz); CREATE TEMPORARY TABLE again (at timestamptz)"
        )
        for text in (*FAR, "2020-01-31 00:00:00+00", None):
            connection.execute("INSERT INTO there VALUES (%s::timestamptz)", [text])
        query = sql.SQL("SELECT {} FROM there").format(content.readable(at, "there"))
        found = content.copy_out(connection, query, pl.Schema(content.readable_schema([at])))
        rows = content.python_rows(content.as_prepared(found, [at]))
        assert [row["at"] for row in rows] == [*FAR, datetime(2020, 1, 31, tzinfo=UTC), None]
        content.copy_in(connection, sql.Identifier("again"), content.as_prepared(found, [at]))
        same = "SELECT array_agg(at ORDER BY at) FROM {}"
        assert connection.execute(same.format("there") + " EXCEPT " + same.format("again")).fetchall() == []


# --- keys as text -----------------------------------------------------------------------------------------------------

INTEGER_KEYS = {"smallint": 16, "integer": 32, "bigint": 64}
KEYS = st.lists(st.sampled_from(["uuid", *INTEGER_KEYS]), min_size=2, max_size=4)


@settings(max_examples=30)
@given(KEYS, st.data())
def test_a_key_that_is_put_together_is_the_text_of_the_servers_own_array(connection, types, data):
    values = [str(data.draw(st.uuids())) if kind == "uuid" else data.draw(st.integers(*bounds(kind))) for kind in types]
    columns = [f"c{place}" for place in range(len(types))]
    row = sql.SQL("(SELECT {}) AS t").format(
        sql.SQL(", ").join(
            sql.SQL("CAST({} AS " + kind + ") AS {}").format(sql.Literal(value), sql.Identifier(name))
            for name, kind, value in zip(columns, types, values, strict=True)
        )
    )
    own = sql.SQL("jsonb_build_array({})::text").format(sql.SQL(", ").join(sql.Identifier("t", n) for n in columns))
    texts = [own, content.key_text("t", columns, types), content.key_text("t", columns)]
    found = set(connection.execute(sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(texts), row)).fetchone())
    key = Key(sql.Identifier("t"), "t", tuple(columns), tuple(types))
    printed = key.printed(pl.DataFrame({name: [value] for name, value in zip(columns, values, strict=True)}))
    assert found == {*printed}


def bounds(kind: str) -> tuple[int, int]:
    half = 1 << (INTEGER_KEYS[kind] - 1)
    return -half, half - 1


def test_a_key_with_a_null_is_the_servers_own_array_too(connection):
    text = content.key_text("t", ["a", "b"], ["uuid", "bigint"])
    query = sql.SQL("SELECT {} FROM (SELECT NULL::uuid AS a, 7::bigint AS b) AS t").format(text)
    assert connection.execute(query).fetchone() == ("[null, 7]",)


@pytest.mark.parametrize(
    "values",
    [
        ["6BA7B810-9DAD-11D1-80B4-00C04FD430C8"],
        ["6ba7b8109dad11d180b400c04fd430c8"],
        ["{6ba7b810-9dad-11d1-80b4-00c04fd430c8}"],
        ["6ba7b810-9dad-11d1-80b4-00c04fd430c8", None],
    ],
)
def test_uuids_that_are_written_otherwise_are_left_to_the_server(values):
    key = Key(sql.Identifier("t"), "t", ("a", "b"), ("uuid", "bigint"))
    assert key.printed(pl.DataFrame({"a": values, "b": range(len(values))})) is None
