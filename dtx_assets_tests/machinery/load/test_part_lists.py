"""The lists of parts of the mapping: written once, whoever writes them, and remembered only where they stay."""

import polars as pl
import psycopg
import pytest

from dtx_assets.machinery.load.entries import LISTS_AT_ONCE, PartLists
from dtx_assets.machinery.load.runs import prepare_bookkeeping
from dtx_assets.machinery.postgres.connection import connect

LISTS = [["first", "final"], [""], ["first", "final"], ['a "quoted", {one}\\'], [""]]


@pytest.fixture
def database(database_url):
    with connect(database_url) as connection:
        prepare_bookkeeping(connection)
    return database_url


def written(url):
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT id, parts FROM migration.part_list").fetchall())


def read_by(ids, url):
    """The lists to which ids lead."""
    lists = written(url)
    return [lists[number] for number in ids]


def parts(lists):
    return pl.Series("parts", lists, dtype=pl.List(pl.String))


def test_each_list_is_written_once_and_each_id_leads_to_it(database):
    with connect(database) as connection:
        lists = PartLists(connection)
        for _ in range(3):
            with connection.transaction():
                ids = lists.ids(parts(LISTS))
            assert read_by(ids, database) == LISTS
    assert len(written(database)) == 3


def test_committed_lists_are_not_asked_for_again(database):
    with connect(database) as connection:
        lists = PartLists(connection)
        for _ in range(2):
            with connection.transaction():
                ids = lists.ids(parts(LISTS))
        with connection.transaction():
            connection.execute("DROP TABLE migration.part_list CASCADE")
            assert lists.ids(parts(LISTS)).equals(ids)
            raise psycopg.Rollback


def test_what_was_rolled_back_is_written_again(database):
    with connect(database) as connection:
        lists = PartLists(connection)
        with connection.transaction():
            for _ in range(2):
                lists.ids(parts(LISTS))
            raise psycopg.Rollback
        assert written(database) == {}
        with connection.transaction():
            ids = lists.ids(parts(LISTS))
    assert read_by(ids, database) == LISTS


def test_many_lists_lead_to_what_few_of_them_led_to(database):
    many = [[f"part {number}", "é"] for number in range(LISTS_AT_ONCE + 2)]
    with connect(database) as connection:
        lists = PartLists(connection)
        with connection.transaction():
            few = lists.ids(parts(many[:2]))
        with connection.transaction():
            ids = lists.ids(parts(many))
        with connection.transaction():
            assert lists.ids(parts(many[:2])).equals(few)
    assert ids[:2].equals(few)
    assert read_by(ids, database) == many
