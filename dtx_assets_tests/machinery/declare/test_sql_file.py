"""A file of SQL as pg_dump writes it makes a schema; what is not understood is refused by name and line."""

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.declare.sql_file import schema_statements, scratch_database
from dtx_assets.machinery.postgres.catalogue import target_catalogue

DUMP = r"""--
-- PostgreSQL database dump; with a ; in a comment
--

\restrict abc
SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE TYPE public.mood AS ENUM ('so; so', 'it''s "well"');

/* a comment; of
   two lines */
CREATE FUNCTION public.one() RETURNS integer LANGUAGE sql AS $body$
    SELECT 1; -- a ' in a body
$body$;
ALTER FUNCTION public.one() OWNER TO nobody_knows;

CREATE TABLE public."Odd ; name" (
    id bigint NOT NULL,
    mood public.mood DEFAULT 'so; so'::public.mood,
    note text DEFAULT E'a\'; b'
);
ALTER TABLE public."Odd ; name" OWNER TO nobody_knows;
GRANT SELECT ON TABLE public."Odd ; name" TO nobody_knows;

COPY public."Odd ; name" (id, mood, note) FROM stdin;
1	so; so	CREATE TABLE no (no int);
\.

INSERT INTO public."Odd ; name" VALUES (2, NULL, 'x;');
SELECT pg_catalog.setval('public.nothing', 3, true);
ALTER TABLE ONLY public."Odd ; name" ADD PRIMARY KEY (id);
\unrestrict abc
"""


def test_a_dump_is_its_schema(tmp_path, server_directory, postgres_server):
    path = tmp_path / "dump.sql"
    path.write_text(DUMP)
    with scratch_database(path, server_directory / "state") as (connection, sql):
        [table] = target_catalogue(connection)
        assert connection.execute('SELECT count(*) FROM "Odd ; name"').fetchone() == (0,)
    assert (table.name, table.schema, table.key) == ("Odd ; name", None, ("id",))
    assert table.columns[1].labels == ("so; so", 'it\'s "well"')
    again = tmp_path / "again.sql"
    again.write_text(sql)
    assert [one.text for one in schema_statements(again)] == [one.text for one in schema_statements(path)]
    assert "nobody_knows" not in sql


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / "dump.sql"
    path.write_text(DUMP)
    lines = DUMP.splitlines()
    for statement in schema_statements(path):
        assert lines[statement.line - 1].startswith(statement.text.splitlines()[0].split(";")[0])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("CREATE TABLE a (id int);\n\\i other.sql\n", ("psql's command \\i", ":2")),
        ("\n\\! rm x\n", ("psql's command \\!", ":2")),
        ("CREATE TABLE a (id int);\n\n-- and\nCREATE TABLE b (id nothing);\n", ('type "nothing" does not exist', ":4")),
        ("CREATE EXTENSION no_such_thing;\n", ("no_such_thing", ":1")),
    ],
)
def test_what_cannot_be_done_is_named_with_its_line(tmp_path, server_directory, postgres_server, text, told):
    path = tmp_path / "schema.sql"
    path.write_text(text)
    with (
        pytest.raises(ConfigurationError) as caught,
        scratch_database(path, server_directory / "state"),
    ):
        pass
    what, line = told
    assert what in str(caught.value)
    assert f"{path}{line}" in str(caught.value)


def test_no_file_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        schema_statements(tmp_path / "none.sql")
