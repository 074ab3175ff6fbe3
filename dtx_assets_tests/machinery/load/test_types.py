"""Values of every type survive: prepared, loaded, compared again, verified, undone; what cannot be read is rejected."""

import json
from collections.abc import Collection, Mapping, Sequence

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.load import create_target, undo_run, verify_target
from dtx_assets.machinery.load.preview import first_rows
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.model.types import EXTENSIONS, JSON, column_type
from dtx_assets_tests.machinery.load.prepared import Batch, Link, Shop, write_prepared

TABLE = '"Other Things"."Held Values"'
MOODS = ("happy", "so so", "it's\\", "„böse“")
CIVIL = st.datetimes()
ANY_TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)


def array_of(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quoted = texts.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"') | st.just("NULL")
    return st.lists(quoted, max_size=3).map(lambda items: "{" + ", ".join(items) + "}")


INTEGERS = st.lists(st.none() | st.integers(-9, 9), max_size=3)
NUMBER = st.decimals(-(10**6), 10**6, places=4, allow_nan=False).map(str)
RANDOM = {
    "numeric(12,4)": NUMBER,
    "numeric": NUMBER,
    "date": CIVIL.map(lambda at: at.date().isoformat()),
    "timestamp": CIVIL.map(lambda at: at.isoformat(" ")) | CIVIL.map(lambda at: at.isoformat("T") + "Z"),
    "timestamp(3)": CIVIL.map(lambda at: at.isoformat(" ", "milliseconds")),
    "time": CIVIL.map(lambda at: at.time().isoformat()),
    "interval": st.timedeltas().map(lambda span: f"{span.days} days {span.seconds}.{span.microseconds:06} seconds"),
    "uuid": st.uuids().map(str) | st.uuids().map(lambda key: key.hex),
    "bytea": st.binary(max_size=8).map(lambda held: "\\x" + held.hex()),
    "integer[]": INTEGERS.map(lambda items: "{" + ",".join("NULL" if i is None else str(i) for i in items) + "}"),
    "text[]": array_of(ANY_TEXT),
    "numeric(5,2)[]": array_of(st.decimals(-99, 99, places=2).map(str)),
    "jsonb[]": array_of(st.dictionaries(ANY_TEXT, st.integers(0, 9), max_size=2).map(json.dumps)),
    "mood": st.sampled_from(MOODS),
    "mood[]": array_of(st.sampled_from(MOODS)),
    "inet": st.ip_addresses().map(str),
    "varchar(5)": st.text("aé'\"\\ ", max_size=5),
    "char(3)": st.text("aé'\"\\ ", max_size=3).map(lambda text: text + " "),
    "real": st.floats(width=32).map(repr),
    "double precision": st.floats().map(repr),
    "bit varying(5)": st.text("01", max_size=5),
    "citext": ANY_TEXT,
}
UGLY = {
    "numeric(12,4)": ["NaN", "1e3", "-0.000", "+007.5", ".5", "5.", " 1.5 ", "1.500000", "-0", "12345678.9"],
    "numeric": ["NaN", "infinity", "-Infinity", "1" * 60 + "." + "2" * 60, "1e-30", "00.10", "-0.0", "9" * 2000],
    "date": ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01", "5874897-12-31", "2024-02-29 00:00:00"],
    "timestamp": ["infinity", "0044-03-15 01:02:03.4 BC", "294276-12-31 23:59:59.999999", "2024-01-31T10:00"],
    "timestamp without time zone": ["2024-01-31 24:00:00", "2024-01-31 10:00:00.500000", "2024-01-31 10:00:00+00"],
    "timestamp(6)": ["2024-01-31", "2016-12-31 23:59:60"],
    "timestamp(3)": ["2024-01-31 10:00:00.120000", "-infinity"],
    "time": ["24:00:00", "10:00", "10:00:00.100", "23:59:60"],
    "time with time zone": ["10:00:00+02", "10:00:00.5-03:30", "24:00:00Z"],
    "interval": ["-838:59:59", "P1Y2M-3DT4H", "-1 mons +2 days -03:04:05.6", "1 year", "0"],
    "interval(0)": ["1 day 00:00:03", "-00:00:01"],
    "uuid": ["{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11"],
    "bytea": ["\\x", "", "abc", "a\\\\b\\000", "\\xABCD"],
    "integer[]": ["{{1,2},{3,4}}", "[2:3]={1,2}", "{ 1 , 2 }", "{}", "{NULL}"],
    "text[]": ['{a,"b c","null",NULL,""}', "{{a},{b}}", "{now,today}", '{"\\"","\\\\"}'],
    "jsonb": ["1.50", '{"b": 1, "a": null}'],
    "json": ['{"b": 1, "a": [1.50, null]}', '{"a":1,"a":2}', '"\\u00e9"', "[ ]"],
    "mood": list(MOODS),
    "inet": ["10.0.0.1/8", "::ffff:1.2.3.4"],
    "cidr": ["10.0.0.0/8", "2001:db8::/32"],
    "macaddr": ["08:00:2b:01:02:03", "08002B-010203"],
    "int4range": ["empty", "[1,5]", "(,3)", "[2,2)", "(1,2)"],
    "numrange": ["[1.50,2]", "(,)", "empty"],
    "tsrange": ["[2024-01-01,2024-01-02 10:00)", "(,infinity]", "empty"],
    "tstzrange": ["[2024-01-01 00:00+02,)"],
    "datemultirange": ["{[2024-01-01,2024-01-05],[2024-01-05,2024-02-01)}", "{}"],
    "real": ["0.1", "1e10", "-0", "Infinity", "1.50"],
    "double precision": ["0.1", "1e308", "NaN", "-infinity", "100"],
    "bit(3)": ["101", "B000"],
    "bit varying(5)": ["", "B01"],
    "citext": ["Ab", "aB", ""],
    "timestamptz[]": ['{"2024-01-31 10:00:00+02",infinity}'],
    "hstore": ['a=>1, "b c"=>NULL', "", '"x"=>"a\\"b"'],
    "ltree": ["Top.Science", ""],
    "xml": ["<a b='c'>d</a>", "text"],
    "tsvector": ["a fat cat", "'it''s':2 b:1A"],
    "point": ["(1,2.50)", "1,2"],
    "money": ["12.50", "-1,000.00"],
    '"Mixed Case"': ["one", "Two"],
    '"Mixed Case"[]': ["{one,NULL}"],
    "dear": ["1.5"],
    "place": ["(1,a)", '(,"b c")'],
    "price": ["1.5", "1.50"],
    "vector(3)": ["[1,2,3]", "[ 0.10, -1e-3, 3.0 ]"],
}  # fmt: skip
UNREADABLE = {
    "numeric(6,2)": ["1.234", "12345", "abc", "", "Infinity", "1e-3", "1e5", "9999.999", "0x", "--1"],
    "numeric": ["abc", "1.2.3", ""],
    "date": ["2024-02-30", "01/02/2024", "24-01-31", "today", "", "2024-01-31 10:00:00", "5874898-01-01", "0000-00-00"],
    "timestamp": ["2024-02-30 10:00:00", "now", "2024-01-31 10:00:00+02", "2024-01-31 10:00:00 Europe/Paris"],
    "timestamp(6)": ["31.1.2024", "2024-01-31 10:00:00.1234567", "2024-01-31 25:00:00", "294277-01-01 00:00:00"],
    "timestamp without time zone": ["0000-00-00 00:00:00", "2024-01-31 10:00:00-05:30", "tomorrow"],
    "timestamp(0)": ["2024-01-31 10:00:00.5"],
    "time": ["25:00:00", "10:00:00+02", "allballs", "838:59:59", "10:00:00.1234567"],
    "interval": ["abc", "1 fortnight"],
    "interval(0)": ["1.5 seconds"],
    "uuid": ["123", "g0000000-0000-0000-0000-000000000000"],
    "bytea": ["\\x1", "\\xzz", "a\\9"],
    "integer[]": ["{1", "{a}", "1", "{1.5}", "{99999999999}"],
    "numeric(5,2)[]": ["{1.234}", "{1234}"],
    "mood": ["sad", "Happy", ""],
    "mood[]": ["{sad}"],
    "json": ["{", "", "nul"],
    "jsonb": ["{", '"\\u0000"', ""],
    "inet": ["300.1.1.1", "host"],
    "int4range": ["[5,1]", "[1.5,2]"],
    "daterange": ["[today,tomorrow]", "[2024-02-30,)"],
    "varchar(5)": ["abcdef"],
    "varchar(2)[]": ["{abc}"],
    "char(3)": ["abcd"],
    "real": ["1e40", "abc"],
    "double precision": ["1e400", "1,5"],
    "bit(3)": ["1", "1111", "102"],
    "vector(3)": ["[1,2]", "[a,b,c]", "1,2,3"],
    "hstore": ["a=>", "=>"],
    "xml": ["<a>"],
    "price": ["1.234", "x"],
    "place": ["(1)", "(x,a)"],
}  # fmt: skip


MADE = (
    "CREATE TYPE place AS (number integer, name text); CREATE DOMAIN price AS numeric(6,2) CHECK (value > 0);"
    " CREATE DOMAIN dear AS price"
)
LABELS = {"mood": MOODS, '"Mixed Case"': ("one", "Two")}


@pytest.fixture
def kinds(shop) -> set[str]:
    """The types that the server has, those of extensions among them."""
    shop.sql(MADE)
    there = {name for (name,) in shop.sql("SELECT name FROM pg_available_extensions")} | {None}
    kinds = {kind for kind in (*UGLY, *UNREADABLE) if EXTENSIONS.get(column_type(kind).name) in there}
    [(with_xml,)] = shop.sql("SELECT bool_or(setting LIKE '%%with-libxml%%') FROM pg_config WHERE name = 'CONFIGURE'")
    return kinds if with_xml else kinds - {"xml"}


def table_of(kinds: Collection[str]) -> TargetTable:
    """A table with a column of each type, called by it."""
    columns = [TargetColumn("n", "integer", "")]
    columns += [
        TargetColumn(kind, kind, "", nullable=True, allowed=LABELS.get(kind.removesuffix("[]"), ())) for kind in kinds
    ]
    return TargetTable("Held Values", "Held", "all", tuple(columns), writes="insert", schema="Other Things")


def prepare(shop: Shop, table: TargetTable, rows: Sequence[Mapping[str, str | None]]) -> None:
    empty = dict.fromkeys((column.name for column in table.columns), None)
    numbered = [{**empty, **row, "n": number} for number, row in enumerate(rows)]
    links = [Link("held", str(number), {"": number}) for number in range(len(rows))]
    write_prepared(shop.lake, table, [Batch(numbered, links)], sources=["held"])


def make(shop: Shop, table: TargetTable) -> None:
    with psycopg.connect(shop.url) as connection:
        create_target(connection, [table])


def survive(shop: Shop, table: TargetTable, rows: Sequence[Mapping[str, str | None]], run: str) -> None:
    """The rows are there as the server reads them, a second load writes nothing, verify and undo find them."""
    prepare(shop, table, rows)
    loaded = shop.load(table, run)
    assert (loaded.inserted, loaded.rejected) == (len(rows), 0), shop.sql("SELECT detail FROM migration.rejected")
    for kind in rows[0]:
        same = f"""SELECT wanted.it, held."{kind.replace('"', '""')}"::text
            FROM unnest(%s::text[]) WITH ORDINALITY AS wanted(it, n) LEFT JOIN {TABLE} AS held ON held.n = wanted.n - 1
            WHERE held."{kind.replace('"', '""')}"::text IS DISTINCT FROM wanted.it::{kind}::text"""
        assert shop.sql(same, [row[kind] for row in rows]) == [], kind
    compared = shop.load(table, f"{run}-again")
    assert (compared.unchanged, compared.skipped_parts) == (len(rows), 1)
    assert verify_target("shop", table, shop.lake, shop.url, shop.run(f"{run}-verified")).is_clean
    # As if nothing was known of the part: every row is looked at again.
    shop.sql("UPDATE migration.batch SET digest = 'another'")
    compared = shop.load(table, f"{run}-compared")
    assert (compared.unchanged, compared.skipped_parts, compared.conflicts) == (len(rows), 0, 0)
    undone = undo_run(shop.url, "shop", [table], run, with_later=True)
    assert (undone.deleted, undone.left) == ({table.name: len(rows)}, [])


def test_ugly_values_are_there_once_and_again_as_they_are(shop, kinds):
    table = table_of([kind for kind in UGLY if kind in kinds])
    make(shop, table)
    longest = max(map(len, UGLY.values()))
    rows = [
        {kind: (*values, *[None] * longest)[number] for kind, values in UGLY.items() if kind in kinds}
        for number in range(longest + 1)
    ]
    survive(shop, table, rows, "ugly")


def test_random_values_are_there_once_and_again_as_they_are(shop, kinds):
    table, numbers = table_of(RANDOM), iter(range(1000))
    make(shop, table)
    row = st.fixed_dictionaries({kind: st.none() | values for kind, values in RANDOM.items()})

    @settings(max_examples=8)
    @given(st.lists(row, min_size=2, max_size=20))
    def survives(rows: list[dict[str, str | None]]) -> None:
        survive(shop, table, rows, f"random-{next(numbers)}")

    survives()


def test_what_cannot_be_read_or_kept_is_rejected_by_row(shop, kinds):
    table = table_of([kind for kind in UNREADABLE if kind in kinds])
    make(shop, table)
    bad = [(kind, value) for kind, values in UNREADABLE.items() for value in values if kind in kinds]
    prepare(shop, table, [{}, *({kind: value} for kind, value in bad)])
    loaded = shop.load(table)
    rejected = {
        int(key): (reasons, detail)
        for key, reasons, detail in shop.sql("SELECT source_key, reasons, detail FROM migration.rejected")
    }
    taken = [case for number, case in enumerate(bad, 1) if number not in rejected]
    assert taken == []
    assert (loaded.inserted, loaded.rejected) == (1, len(bad))
    for number, (kind, value) in enumerate(bad, 1):
        reasons, detail = rejected[number]
        assert reasons == ["schema_violation"]
        # What is no document is found in the preparation; the load has it from the server alone.
        assert detail.startswith(f"{kind}: ") or kind in JSON
        assert len(value) < 5 or value not in detail


def test_what_others_changed_is_seen_and_restored(shop, kinds):
    """An update notes what was there, in every type, and its undo brings it back."""
    table = table_of([kind for kind in UGLY if kind in kinds])
    make(shop, table)
    first = {kind: values[0] for kind, values in UGLY.items() if kind in kinds}
    other = {kind: values[-1] for kind, values in UGLY.items() if kind in kinds}
    prepare(shop, table, [first])
    shop.load(table)
    now = f"SELECT to_jsonb(t) FROM {TABLE} AS t"
    before = shop.sql(now)
    prepare(shop, table, [other])
    assert shop.load(table, "second").updated == 1
    assert shop.sql(now) != before
    undone = undo_run(shop.url, "shop", [table], "second")
    assert (undone.restored, undone.left) == ({table.name: 1}, [])
    assert shop.sql(now) == before
    shop.sql(f"""UPDATE {TABLE} SET "text[]" = '{{theirs}}'""")
    assert shop.load(table, "third").conflicts == 1
    [sample] = verify_target("shop", table, shop.lake, shop.url, shop.run("verified")).samples
    assert sample.fate == "changed"


# --- keys, rows of others, partitions ---------------------------------------------------------------------------------

KEY = {"name": "citext", "on": "date", "price": "numeric", "code": "char(4)", "of": "uuid", "mood": "mood"}
KEYED = TargetTable(
    "keyed",
    "Keyed",
    "all",
    (
        *(TargetColumn(name, kind, "", allowed=LABELS.get(kind, ())) for name, kind in KEY.items()),
        TargetColumn("span", "interval", "", nullable=True),
    ),
    writes="insert",
    natural_key=tuple(KEY),
    schema="Other Things",
)
ROW = {"name": "Ab", "on": "2024-01-31", "price": "1.50", "code": "x", "of": "A0EEBC999C0B4EF8BB6D6BB9BD380A11"}
ROW |= {"mood": "so so", "span": "26:00:00"}


def one_row(shop: Shop, table: TargetTable, row: Mapping[str, object]) -> None:
    write_prepared(shop.lake, table, [Batch([row], [Link("held", "1", {"": 0})])], sources=["held"])


@pytest.mark.parametrize("spelled", [{}, {"name": "aB", "code": "x  ", "price": "1.500"}], ids=["same", "equal"])
def test_a_row_of_others_is_found_by_its_key_in_any_type(shop, spelled):
    make(shop, KEYED)
    theirs = ROW | spelled
    shop.sql(
        f"""INSERT INTO "Other Things".keyed ({", ".join(f'"{name}"' for name in theirs)})
            VALUES ({", ".join("%s" for _ in theirs)})""",
        *theirs.values(),
    )
    one_row(shop, KEYED, ROW)
    loaded = shop.load(KEYED)
    assert (loaded.inserted, loaded.adopted, loaded.conflicts) == ((0, 0, 1) if spelled else (0, 1, 0))
    assert shop.load(KEYED, "over", on_conflict="overwrite").updated == (1 if spelled else 0)
    again = shop.load(KEYED, "again")
    assert (again.inserted, again.updated, again.conflicts, again.unchanged) == (0, 0, 0, 1)
    assert first_rows(shop.url, "shop", KEYED, ["name", "price", "span"], 9).rows() == [("1", "Ab", "1.50", "26:00:00")]


def test_columns_of_rows_of_others_are_filled_in_any_type_and_emptied_again(shop, kinds):
    names = [kind for kind in UGLY if kind in kinds]
    whole = table_of(names)
    make(shop, whole)
    shop.sql(f"INSERT INTO {TABLE} (n) VALUES (7), (8)")
    filled = TargetTable(whole.name, "Filled", "all", whole.columns[1:], writes="update", schema=whole.schema)
    row = {kind: UGLY[kind][0] for kind in names}
    one_row(shop, filled, {"id": 1, **row})
    assert shop.load(filled, "fills").updated == 1
    again = shop.load(filled, "again")
    assert (again.updated, again.conflicts, again.unchanged) == (0, 0, 1)
    assert verify_target("shop", filled, shop.lake, shop.url, shop.run("verified")).is_clean
    shop.sql("UPDATE migration.batch SET digest = 'another'")
    assert shop.load(filled, "compared").unchanged == 1
    undone = undo_run(shop.url, "shop", [filled], "fills", with_later=True)
    assert (undone.restored, undone.left) == ({whole.name: 1}, [])
    assert shop.sql(f"SELECT jsonb_strip_nulls(to_jsonb(t)) FROM {TABLE} AS t ORDER BY id") == [
        ({"id": 1, "n": 7},),
        ({"id": 2, "n": 8},),
    ]


def test_a_partitioned_table_with_generated_columns(shop):
    shop.sql(
        """CREATE TABLE "Part" (id bigint GENERATED ALWAYS AS IDENTITY, at date, amount numeric(9,2),
               twice numeric GENERATED ALWAYS AS (amount * 2) STORED, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
           CREATE TABLE part_old PARTITION OF "Part" FOR VALUES FROM (MINVALUE) TO ('2000-01-01');
           CREATE TABLE part_new PARTITION OF "Part" FOR VALUES FROM ('2000-01-01') TO ('3000-01-01')"""
    )
    columns = (TargetColumn("at", "date", ""), TargetColumn("amount", "numeric(9,2)", "", nullable=True))
    table = TargetTable("Part", "Part", "all", columns, writes="insert")
    values = [("1999-12-31", "1"), ("2000-01-01", "2.5"), ("3000-01-01", "3"), ("0044-03-15 BC", None)]
    rows = [dict(zip(("at", "amount"), row, strict=True)) for row in values]
    links = [Link("held", str(number), {"": number}) for number in range(len(rows))]
    write_prepared(shop.lake, table, [Batch(rows, links)], sources=["held"])
    loaded = shop.load(table)
    assert (loaded.inserted, loaded.rejected) == (3, 1)
    # That no partition takes a row is found by trying it.
    [(key, detail)] = shop.sql("SELECT source_key, detail FROM migration.rejected")
    assert key == "2"
    assert "no partition of relation" in detail
    assert shop.sql("SELECT twice::text FROM part_new") == [("5.00",)]
    verified = verify_target("shop", table, shop.lake, shop.url, shop.run("verified"))
    assert (verified.is_clean, verified.refused) == (True, 1)
    shop.sql("DELETE FROM part_old")
    verified = verify_target("shop", table, shop.lake, shop.url, shop.run("verified again"))
    assert (verified.counts, verified.refused) == ({"lost": 2}, 1)
    rows[1]["amount"] = "4.00"
    write_prepared(shop.lake, table, [Batch(rows, links)], sources=["held"])
    assert shop.load(table, "second").updated == 1
    assert undo_run(shop.url, "shop", [table], "second").restored == {"Part": 1}
    assert shop.sql("SELECT amount::text, twice::text FROM part_new") == [("2.50", "5.00")]
