"""MariaDB as a source: every value as the server's own text, one snapshot, faults told without secrets."""

import struct
import threading
from collections.abc import Iterator
from contextlib import closing

import polars as pl
import pymysql
import pytest
from sqlalchemy.engine import make_url

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import landing, open_source
from dtx_assets.machinery.sources.frames import has_key, legacy_frame, may_have_key, source_key
from dtx_assets.machinery.transforms.columns import timestamp_value
from dtx_assets_tests import servers


@pytest.fixture
def server(mariadb_url: str) -> Iterator[pymysql.Connection]:
    url = make_url(mariadb_url)
    options = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    with closing(pymysql.connect(**options, database=url.database, charset="utf8mb4", autocommit=True)) as connection:
        yield connection
        with connection.cursor() as cursor:
            cursor.execute("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'legacy'")
            for name, kind in cursor.fetchall():
                doubled = name.replace("`", "``")
                cursor.execute(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} `{doubled}`")


def execute(server: pymysql.Connection, *statements: str) -> None:
    with server.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_every_type_lands_as_the_servers_own_text(server, mariadb_url, place):
    execute(
        server,
        "CREATE TABLE t (i INT, z INT(6) ZEROFILL, u BIGINT UNSIGNED, d DECIMAL(30,15), f DOUBLE, at DATETIME(3),"
        " ts TIMESTAMP NULL, day DATE, t TIME, y YEAR, e ENUM('A','B'), s SET('x','y'), c CHAR(4), v VARCHAR(9),"
        " b BIT(9), bool BOOL, j JSON, l LONGTEXT)",
        "INSERT INTO t VALUES (-1, 42, 18446744073709551615, 0.123456789012345, 0.1, '2020-02-29 23:59:59.5',"
        " '2021-01-01 00:00:01', '2020-02-29', '-838:59:59', 1999, 'B', 'x,y', 'ab', ' v ', b'100000001', true,"
        " '{\"a\": 1}', '')",
        "INSERT INTO t (at, day, ts) VALUES ('0000-00-00 00:00:00', '2020-00-31', NULL)",
    )
    manifest = place.land(mariadb_url, "t")
    first, second = place.frame("t").drop("_row", "_undecodable").to_dicts()
    assert first == {
        "i": "-1",
        "z": "000042",
        "u": "18446744073709551615",
        "d": "0.123456789012345",
        "f": "0.1",
        "at": "2020-02-29 23:59:59.500",
        "ts": "2021-01-01 00:00:01",
        "day": "2020-02-29",
        "t": "-838:59:59",
        "y": "1999",
        "e": "B",
        "s": "x,y",
        "c": "ab",
        "v": " v ",
        "b": "257",
        "bool": "1",
        "j": '{"a": 1}',
        "l": "",
    }
    assert (second["at"], second["day"], second["l"]) == ("0000-00-00 00:00:00.000", "2020-00-31", None)
    facts = manifest.metadata
    assert (facts["dialect"], facts["source_rows"], facts["row_count_matches"]) == ("database", 2, True)
    assert (facts["consistent_snapshot"], facts["changed_while_read"]) == (True, [])


@pytest.fixture
def in_new_york(server):
    """The server's own zone has summer time."""
    servers.load_time_zone(server, "America/New_York")
    execute(server, "SET GLOBAL time_zone = 'America/New_York'")
    yield server
    execute(server, "SET GLOBAL time_zone = '+00:00'")


def test_two_instants_are_two_texts_whatever_zone_the_server_is_in(in_new_york, mariadb_url, place):
    execute(
        in_new_york,
        "SET time_zone = '+00:00'",
        "CREATE TABLE ev (at TIMESTAMP PRIMARY KEY, ts TIMESTAMP NULL, ms TIMESTAMP(3) NULL, dt DATETIME NULL)",
        "INSERT INTO ev VALUES ('2021-11-07 05:30:00', '2021-11-07 05:30:00', '2021-11-07 05:30:00.5', '2021-11-07'),"
        " ('2021-11-07 06:30:00', '2021-11-07 06:30:00', '2038-01-19 03:14:07.999', '2021-11-07 01:30:00'),"
        " ('2022-01-01', 0, 0, 0), ('2022-01-02', NULL, NULL, NULL)",
        "CREATE VIEW plain AS SELECT at, ts FROM ev",
        "CREATE VIEW latest AS SELECT ts, MAX(ts) AS last FROM ev WHERE ts > 0 GROUP BY ts UNION ALL SELECT at, ts"
        " FROM ev WHERE ts > 0",
    )
    for name in ("ev", "plain", "latest"):
        place.land(mariadb_url, name)
    early, late, zero = "2021-11-07 05:30:00", "2021-11-07 06:30:00", "0000-00-00 00:00:00"
    assert place.rows("ev") == [
        (early, early, "2021-11-07 05:30:00.500", "2021-11-07 00:00:00"),
        (late, late, "2038-01-19 03:14:07.999", "2021-11-07 01:30:00"),
        ("2022-01-01 00:00:00", zero, f"{zero}.000", zero),
        ("2022-01-02 00:00:00", None, None, None),
    ]
    assert place.lake.require(("toy", "legacy", "ev")).metadata["instants"] == ["at", "ts", "ms"]
    assert [row[1] for row in place.rows("plain")] == [early, late, zero, None]
    assert sorted(place.rows("latest")) == [(early, early), (early, early), (late, late), (late, late)]

    # A flow is told that they are in UTC; a DATETIME is in the zone of the legacy times.
    table = LegacyTable("ev", "area", ("at", "ts", "ms", "dt"), key=("at",), kind_of=lambda _: "time")
    frame = source_key(table, legacy_frame(place.lake, "toy", table))
    assert frame.select("ts").collect()["ts"].to_list() == [f"{early}+00:00", f"{late}+00:00", zero, None]
    read = frame.select(timestamp_value(pl.col(name), "America/New_York") for name in ("ts", "ms", "dt")).collect()
    assert [[value and value.isoformat() for value in row] for row in read.rows()] == [
        ["2021-11-07T05:30:00+00:00", "2021-11-07T05:30:00.500000+00:00", "2021-11-07T04:00:00+00:00"],
        ["2021-11-07T06:30:00+00:00", "2038-01-19T03:14:07.999000+00:00", "2021-11-07T05:30:00+00:00"],
        [None, None, None],
        [None, None, None],
    ]
    for key in frame.collect()["_source_key"]:
        found = legacy_frame(place.lake, "toy", table, where=may_have_key(table, [key])).filter(has_key(table, [key]))
        assert found.collect().height == 1, key


def test_floats_are_the_stored_numbers(server, mariadb_url, place):
    """The server's own text of a FLOAT has six digits: different keys were one."""
    numbers = [16777217, 16777215, 1234567.89, 1234568.1, 0.1, -1.5, 0, 1e-45, -3.4028234e38, 1e15, 1e10, 1e-5, 8388609]
    execute(
        server,
        "CREATE TABLE f (f FLOAT, u FLOAT UNSIGNED, z FLOAT ZEROFILL, m FLOAT(7,4), w FLOAT(12,2), d DOUBLE)",
        *(f"INSERT INTO f VALUES ({n!r}, ABS({n!r}), ABS({n!r}), 1, {n!r}, {n!r})" for n in numbers),
        "UPDATE f SET m = 999.9999, d = 5e-324 LIMIT 1",
        "CREATE TABLE by_float (f FLOAT PRIMARY KEY, note VARCHAR(9))",
        "INSERT INTO by_float VALUES (1234568, 'other'), (1234567, 'one')",
        "CREATE VIEW floats AS SELECT f, MAX(f) AS most FROM by_float GROUP BY f",
    )
    for name in ("f", "by_float", "floats"):
        place.land(mariadb_url, name)
    landed = place.frame("f")
    stored = [struct.unpack("f", struct.pack("f", n))[0] for n in numbers]
    for column in ("f", "u", "z"):
        read = [struct.unpack("f", struct.pack("f", float(text)))[0] for text in landed[column]]
        assert read == [abs(n) if column != "f" else n for n in stored], column
    assert landed["f"].to_list()[:5] == ["16777216", "16777215", "1234567.9", "1234568.1", "0.1"]
    assert landed["f"].to_list()[5:10] == ["-1.5", "0", "1.4013e-45", "-3.4028235e38", "1000000000000000"]
    assert (landed["m"][0], landed["w"][4]) == ("999.9999", "0.10")
    assert [float(text) for text in landed["d"][1:]] == numbers[1:]
    assert float(landed["d"][0]) == 5e-324
    assert place.rows("by_float") == [("1234567", "one"), ("1234568", "other")]
    assert place.rows("floats") == [("1234567", "1234567"), ("1234568", "1234568")]
    table = LegacyTable("by_float", "area", ("f", "note"), key=("f",))
    keys = source_key(table, legacy_frame(place.lake, "toy", table)).collect()["_source_key"]
    assert keys.to_list() == ["1234567", "1234568"]


def test_other_values_at_their_ends(server, mariadb_url, place):
    execute(
        server,
        "CREATE TABLE t (b BIT(64), y YEAR, tm TIME(6), e ENUM('a','b'), s SET('x','y'), d DECIMAL(65,30),"
        " bi BINARY(4), dz DOUBLE ZEROFILL, hid INT INVISIBLE DEFAULT 7, made INT AS (tinyint_ + 1) VIRTUAL,"
        " tinyint_ TINYINT(1))",
        "INSERT INTO t (b, y, tm, e, s, d, bi, dz, tinyint_)"
        " VALUES (18446744073709551615, 0, '-838:59:59.999999', 99, 0,"
        " -12345678901234567890123456789012345.123456789012345678901234567891, 'ab', 1.5, 3)",
        "INSERT INTO t (y) VALUES (2155)",
        "SET GLOBAL sql_select_limit = 1, max_join_size = 1, max_statement_time = 0.00001",
    )
    try:
        place.land(mariadb_url, "t")
    finally:
        execute(server, "SET GLOBAL sql_select_limit = DEFAULT, max_join_size = DEFAULT, max_statement_time = DEFAULT")
    first, second = place.frame("t").drop("_row", "_undecodable").to_dicts()
    assert first == {
        "b": "18446744073709551615",
        "y": "0000",
        "tm": "-838:59:59.999999",
        "e": "",
        "s": "",
        "d": "-12345678901234567890123456789012345.123456789012345678901234567891",
        "bi": "ab\0\0",
        "dz": "00000000000000000001.5",
        "hid": "7",
        "made": "4",
        "tinyint_": "3",
    }
    assert (second["y"], second["hid"], second["b"]) == ("2155", "7", None)


def test_a_view_that_is_broken_says_so(server, mariadb_url, place):
    execute(
        server,
        "CREATE TABLE base2 (id INT)",
        "CREATE VIEW v_gone AS SELECT * FROM base2",
        "DROP TABLE base2",
        "CREATE FUNCTION f_gone() RETURNS INT DETERMINISTIC RETURN 1",
        "CREATE VIEW v_calls AS SELECT f_gone() AS v",
        "DROP FUNCTION f_gone",
        "CREATE TABLE there (id INT)",
        "CREATE DEFINER = 'nobody'@'nowhere' SQL SECURITY DEFINER VIEW v_definer AS SELECT * FROM there",
    )
    for name in ("v_gone", "v_calls", "v_definer"):
        with pytest.raises(SourceError, match=f"{name} is a view that is broken") as caught:
            place.land(mariadb_url, name)
        assert "SHOW CREATE VIEW" in caught.value.remedy
        with open_source(mariadb_url) as source, pytest.raises(SourceError, match="is a view that is broken"):
            source.columns(LegacyTable(name, "area", ()))


def test_columns_that_may_not_be_read_are_not_left_out(server, mariadb_url, place):
    """The catalogue shows an account just the columns that it has a right to."""
    execute(
        server,
        "CREATE TABLE t (v INT, w INT)",
        "CREATE OR REPLACE USER 'half'@'127.0.0.1' IDENTIFIED BY 'secret'",
        "GRANT SELECT (v) ON legacy.t TO 'half'@'127.0.0.1'",
    )
    url = make_url(mariadb_url).set(username="half", password="secret").render_as_string(hide_password=False)
    with pytest.raises(SourceError, match="SELECT command denied") as caught:
        place.land(url, "t")
    assert "grant this account SELECT on the table" in caught.value.remedy
    execute(server, "DROP USER 'half'@'127.0.0.1'")


def test_bytes_that_are_no_text_are_kept_beside_their_escaped_form(server, mariadb_url, place):
    execute(
        server,
        "CREATE TABLE t (id INT PRIMARY KEY, b BLOB, p POINT, l VARCHAR(9) CHARACTER SET latin1)",
        "INSERT INTO t VALUES (1, 0xff00, POINT(1, 2), 'é€'), (2, 'text\\0', NULL, NULL)",
    )
    assert place.land(mariadb_url, "t").metadata["undecodable_values"] == 2
    (_, blob, point, latin), other = place.rows("t")
    assert (blob, latin) == ("\\xff\x00", "é€")
    assert other == ("2", "text\x00", None, None)
    assert point.startswith("\x00\x00\x00\x00\x01\x01")
    [(row, column, value), (_, _, geometry)] = place.undecodable("t")
    assert (row, column, value) == (1, "b", b"\xff\x00")
    assert geometry.endswith(b"\x00@")
    assert len(geometry) == 25


def test_names_of_any_kind(server, mariadb_url, place):
    names = ["a b", "50%", "#", "it's", "a/b?", 'say "x"', "tick`", "Größe", "%s"]
    quoted = ", ".join("`" + name.replace("`", "``") + "` INT" for name in names)
    execute(server, f"CREATE TABLE `t``%s` ({quoted})", "INSERT INTO `t``%s` VALUES (1,2,3,4,5,6,7,8,9)")
    assert place.land(mariadb_url, "t`%s").metadata["columns"] == names
    assert place.rows("t`%s") == [tuple("123456789")]


def test_tables_come_in_the_order_of_their_primary_key_or_as_stored(server, mariadb_url, place):
    execute(
        server,
        "CREATE TABLE keyed (id INT PRIMARY KEY, v INT, KEY (v))",
        "INSERT INTO keyed VALUES (3, 1), (1, 3), (2, 2)",
        "CREATE TABLE unkeyed (v INT, KEY (v))",
        "INSERT INTO unkeyed VALUES (3), (1), (2)",
        "CREATE TABLE isam (id INT PRIMARY KEY, KEY (id)) ENGINE=MyISAM",
        "INSERT INTO isam VALUES (3), (1), (2)",
    )
    for table in ("keyed", "unkeyed", "isam"):
        place.land(mariadb_url, table)
    assert [row[0] for row in place.rows("keyed")] == ["1", "2", "3"]
    assert [row[0] for row in place.rows("unkeyed")] == ["3", "1", "2"]
    assert [row[0] for row in place.rows("isam")] == ["3", "1", "2"]
    assert place.frame("keyed")["_row"].to_list() == [1, 2, 3]


def test_all_tables_are_read_as_they_were_when_the_source_was_opened(server, mariadb_url, place):
    execute(server, "CREATE TABLE a (v INT)", "CREATE TABLE b (v INT)", "INSERT INTO a VALUES (1)")
    with open_source(mariadb_url) as source:
        execute(server, "INSERT INTO a VALUES (2)", "INSERT INTO b VALUES (2)")
        manifests = [place.land_from(source, name) for name in ("a", "b")]
    assert (place.rows("a"), place.rows("b")) == ([("1",)], [])
    assert [each.metadata["source_rows"] for each in manifests] == [1, 0]
    assert place.frame("b").schema["v"] == place.frame("a").schema["v"]


class ChangesMeanwhile:
    """Progress of an extraction during which someone writes."""

    def __init__(self, server: pymysql.Connection, statement: str) -> None:
        self.server, self.statement = server, statement

    def __call__(self, _rows: int) -> None:
        execute(self.server, self.statement)


def test_a_table_without_snapshot_that_changed_is_named(server, mariadb_url, place):
    execute(server, "CREATE TABLE isam (v INT) ENGINE=MyISAM", "INSERT INTO isam VALUES (1), (2)")
    table, key = LegacyTable("isam", "area", ()), ("toy", "legacy", "isam")
    calm = place.land(mariadb_url, "isam").metadata
    assert (calm["consistent_snapshot"], calm["changed_while_read"]) == (False, [])
    with open_source(mariadb_url) as source:
        changed = source.extract(table, place.lake, key, "r", ChangesMeanwhile(server, "UPDATE isam SET v = v + 1"))
    assert changed.metadata["changed_while_read"] == ["isam"]
    assert changed.metadata["row_count_matches"]
    with open_source(mariadb_url) as source:
        grown = source.extract(table, place.lake, key, "r", ChangesMeanwhile(server, "INSERT INTO isam VALUES (9)"))
    assert grown.metadata["changed_while_read"] == ["isam"]
    assert (grown.metadata["row_count_matches"], grown.metadata["source_rows"]) == (False, 3)


def test_a_view_is_read_too(server, mariadb_url, place):
    execute(server, "CREATE TABLE t (v INT)", "INSERT INTO t VALUES (1), (2)")
    execute(server, "CREATE VIEW w AS SELECT v, 'x' AS x FROM t WHERE v > 1")
    place.land(mariadb_url, "w")
    assert place.rows("w") == [("2", "x")]


def test_rows_and_fields_beyond_a_batch(server, mariadb_url, place, monkeypatch):
    monkeypatch.setattr(landing, "BATCH_ROWS", 700)
    monkeypatch.setattr(landing, "BATCH_BYTES", 1 << 20)
    execute(
        server,
        "CREATE TABLE t (id INT PRIMARY KEY, l LONGTEXT)",
        "INSERT INTO t SELECT seq, 'x' FROM seq_1_to_1500",
        "UPDATE t SET l = REPEAT('ä', 12000000) WHERE id = 3",
    )
    place.land(mariadb_url, "t")
    frame = place.frame("t")
    assert frame["id"].cast(int).to_list() == list(range(1, 1501))
    assert frame["l"].str.len_chars().to_list() == [1, 1, 12_000_000, *[1] * 1497]


def test_what_has_not_changed_is_not_written_again(server, mariadb_url, place):
    execute(server, "CREATE TABLE t (v INT)", "INSERT INTO t VALUES (1)")
    first = place.land(mariadb_url, "t", run_id="one")
    assert place.land(mariadb_url, "t", run_id="two") == first
    execute(server, "UPDATE t SET v = 2")
    assert place.land(mariadb_url, "t", run_id="three").run_id == "three"
    assert place.rows("t") == [("2",)]


def test_a_missing_table_is_told_with_those_that_are_there(server, mariadb_url, place):
    execute(server, "CREATE TABLE letter (v INT)")
    with pytest.raises(SourceError, match="the table letters is missing") as caught:
        place.land(mariadb_url, "letters")
    assert "letter" in caught.value.remedy
    assert place.is_untouched("letters")


def test_an_error_in_one_table_leaves_the_snapshot_to_the_others(server, mariadb_url, place):
    execute(
        server,
        "CREATE TABLE a (v INT)",
        "INSERT INTO a SELECT seq FROM seq_1_to_60000",
        "CREATE TABLE b (v INT)",
        "INSERT INTO b VALUES (1)",
    )

    def full(_rows: int) -> None:
        raise OSError("no space left")

    with open_source(mariadb_url) as source:
        execute(server, "INSERT INTO b VALUES (2)")
        with pytest.raises(OSError, match="no space left"):
            source.extract(LegacyTable("a", "area", ()), place.lake, ("toy", "legacy", "a"), "r", full)
        place.land_from(source, "b")
    assert place.is_untouched("a")
    assert place.rows("b") == [("1",)]


def test_a_server_that_goes_away_in_mid_read(server, mariadb_url, place):
    execute(
        server,
        "CREATE TABLE t (id INT PRIMARY KEY, l TEXT)",
        "INSERT INTO t SELECT seq, REPEAT('x', 500) FROM seq_1_to_200000",
    )

    def kill(_rows: int) -> None:
        with server.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()")
            for (connection,) in cursor.fetchall():
                cursor.execute(f"KILL {connection}")

    with open_source(mariadb_url) as source:
        with pytest.raises(SourceError) as caught:
            source.extract(LegacyTable("t", "area", ()), place.lake, ("toy", "legacy", "t"), "r", kill)
        assert "run again" in caught.value.remedy
        with pytest.raises(SourceError, match="the connection is lost") as caught:
            place.land_from(source, "t")
        assert "run again" in caught.value.remedy
    assert place.is_untouched("t")


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"password": "Wr0ng%Secret"}, "correct user and password"),
        ({"database": "nosuch"}, "name of the database"),
        ({"port": 1}, "check that the server runs"),
        ({"host": "no.such.host.invalid"}, "correct host and port"),
    ],
)
def test_what_cannot_be_reached_is_told_without_its_password(mariadb_url, place, changes, remedy):
    url = make_url(mariadb_url).set(**changes)
    with pytest.raises(SourceError) as caught:
        place.land(url.render_as_string(hide_password=False), "t")
    assert remedy in caught.value.remedy
    assert url.password not in str(caught.value)
    assert "***" in caught.value.where


@pytest.mark.parametrize("url", ["mysql://u:s3cret@h", "mysql://u:s3cret@h/d?nosuch=1", "mysql://u:s3cret@h:port/d"])
def test_urls_that_are_wrong(url):
    with pytest.raises(ConfigurationError) as caught:
        open_source(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.remedy


def test_a_table_that_may_not_be_read(server, mariadb_url, place):
    execute(
        server,
        "CREATE TABLE t (v INT)",
        "CREATE TABLE u (v INT)",
        "CREATE OR REPLACE USER 'reader'@'127.0.0.1' IDENTIFIED BY 'secret'",
        "GRANT SELECT ON legacy.u TO 'reader'@'127.0.0.1'",
        "GRANT INSERT ON legacy.t TO 'reader'@'127.0.0.1'",
    )
    url = make_url(mariadb_url).set(username="reader", password="secret").render_as_string(hide_password=False)
    with open_source(url) as source:
        with pytest.raises(SourceError, match="command denied"):
            place.land_from(source, "t")
        assert place.land_from(source, "u").metadata["source_rows"] == 0
    execute(server, "DROP USER 'reader'@'127.0.0.1'")


def test_every_scheme_of_the_server(server, mariadb_url, place):
    execute(server, "CREATE TABLE t (v INT)", "INSERT INTO t VALUES (1)")
    for scheme in ("mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql"):
        place.land(make_url(mariadb_url).set(drivername=scheme).render_as_string(hide_password=False), "t")
        assert place.rows("t") == [("1",)]


def test_writing_goes_on_while_it_is_read(server, mariadb_url, place):
    """The snapshot must not lock out the application that still runs."""
    execute(server, "CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t SELECT seq FROM seq_1_to_60000")
    done = threading.Event()

    def write(_rows: int) -> None:
        execute(server, "UPDATE t SET id = -1 WHERE id = 60000")
        done.set()

    with open_source(mariadb_url) as source:
        source.extract(LegacyTable("t", "area", ()), place.lake, ("toy", "legacy", "t"), "r", write)
    assert done.is_set()
    assert place.rows("t")[-1] == ("60000",)


def test_a_table_of_another_database(server, mariadb_url, place):
    """The database of the URL has another table of the same name."""
    execute(
        server,
        "CREATE DATABASE `old ``books`",
        "CREATE TABLE `old ``books`.letter (id INT PRIMARY KEY, note TEXT, at TIMESTAMP NULL)",
        "INSERT INTO `old ``books`.letter VALUES (2, 'CafÃ©', '2021-01-01'), (1, NULL, NULL)",
        "CREATE TABLE letter (v INT)",
        "INSERT INTO letter VALUES (7)",
    )
    letter = LegacyTable("letter", "area", (), schema="old `books")
    try:
        with open_source(mariadb_url) as source:
            assert source.columns(letter) == ["id", "note", "at"]
            assert source.columns(LegacyTable("letter", "area", ())) == ["v"]
            assert source.stored_bytes([letter]) >= 4096
            said = {remark.subject: remark.says for remark in source.remarks([letter], "UTC")}  # type: ignore[attr-defined]
            assert said["table old `books.letter.note"].startswith("1 of 1 values beyond ASCII")
            assert place.land_from(source, letter).metadata["instants"] == ["at"]
            with pytest.raises(SourceError, match=r"the table old `books[.]note is missing") as caught:
                place.land_from(source, LegacyTable("note", "area", (), schema="old `books"))
            assert caught.value.remedy.endswith("old `books.letter")
            with pytest.raises(SourceError, match=r"the table nosuch[.]note is missing"):
                place.land_from(source, LegacyTable("note", "area", (), schema="nosuch"))
        assert place.rows("letter") == [("1", None, None), ("2", "CafÃ©", "2021-01-01 00:00:00")]
    finally:
        execute(server, "DROP DATABASE `old ``books`")
