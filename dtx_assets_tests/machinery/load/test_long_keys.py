"""Keys that are longer than an entry of an index may be: they name rows of the legacy system, and end no load."""

import random
import string

import pytest

from dtx_assets_tests.machinery.load.prepared import REMINDER, Batch, Refusal, Shop, write_prepared

LETTERS = random.Random(7)
LONG = "".join(LETTERS.choices(string.ascii_letters + string.digits, k=20_000))


@pytest.fixture
def shop(tmp_path, database_url):
    return Shop(tmp_path, database_url)


def test_rejected_rows_with_long_keys_are_listed_and_closed_when_they_are_mended(shop):
    refused = [Refusal("reminder", LONG + end, ["unparseable"], number=n) for n, end in enumerate("ab", 1)]
    write_prepared(shop.lake, REMINDER, [Batch([], [], refused)], sources=["reminder"])
    shop.load(REMINDER)
    listed = "SELECT source_key, reasons FROM migration.rejected ORDER BY 1"
    assert shop.sql(listed) == [(each.key, ["unparseable"]) for each in refused]
    shop.load(REMINDER, "second")
    assert len(shop.sql(listed)) == 2
    write_prepared(shop.lake, REMINDER, [Batch([], [], refused[1:])], sources=["reminder"])
    shop.load(REMINDER, "third")
    assert shop.sql(listed) == [(refused[1].key, ["unparseable"])]
