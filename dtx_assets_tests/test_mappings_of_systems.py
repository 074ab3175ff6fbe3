"""In the mapping files of all systems, too, no kind of key can be changed without consequence."""

from importlib import import_module

import pytest

from dtx_assets_tests.machinery.mapping_keys import kinds_that_do_nothing
from dtx_assets_tests.machinery.real_mappings import prepared
from dtx_assets_tests.machinery.written_checks import keys_of_checks_that_do_nothing

SYSTEMS = {
    "crm": "dtx_assets.crm.decided_system",
    "pad": "dtx_assets.pad.decided_system",
    "dispatch": "dtx_assets.dispatch.decided_system",
    "dtx": "dtx_assets.dtx.system",
}
OF_OTHER_ROWS = {
    "crm": {
        # Of users that the new system has already (`test_ugly.py`), and of ids that an earlier load gave.
        "altered sources.*.existing.detail",
        "without sources.*.existing.column",
        "altered sources.*.columns.*.with.document_id:of",
    },
    "dispatch": {
        # Of a user with a listed group whom an office names as its doctor (`test_second_reading.py`).
        "without sources.*.columns.*.with.reference:gives",
        # Another file of the same flow names that value map, too.
        "without sources.*.helpers.*.uses",
    },
    "dtx": {
        # Of a keyword that is called as a form field is (`test_account_meta.py`).
        "altered sources.*.taken_by.column",
        "altered sources.*.taken_by.detail",
        "without sources.*.taken_by",
        "without sources.*.taken_by.column",
    },
}
"""Kinds that say something of rows which neither the sample has nor one that is broken in one cell."""


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_kind_of_key_counts(system, tmp_path, database_url):
    """It is altered and taken out in up to three places: in one of them something else comes out, or it is refused.

    Whatever is refused is so in words that lead to a file and a line; any other exception fails the test.
    """
    there = prepared(import_module(SYSTEMS[system]), tmp_path, database_url)
    found = kinds_that_do_nothing(there, tmp_path / "changed")
    assert {kind: places for kind, places in found.items() if kind not in OF_OTHER_ROWS.get(system, ())} == {}


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_key_of_a_check_counts(system, tmp_path):
    """Of checks that are data too: something else is asked or shown, or the file is refused, with its line."""
    assert keys_of_checks_that_do_nothing(import_module(SYSTEMS[system]).SYSTEM, tmp_path) == []
