"""Nothing personal is left in what people see, and enough is left to recognise the row."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtx_assets.machinery.base.masking import mask, mask_email, mask_emails, mask_row, plain


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "NULL"),
        ("", "''"),
        ("   ", "… (3 characters)"),
        ("anna.b@example.co.uk", "a***@e***.uk"),
        (" Anna@Example.com ", "A***@E***.com"),
        ("nobody@localhost", "n***@l***"),
        ("Dear Ms. Miller, write to anna@example.com", "D… (42 characters)"),
        ("a,b@example.com", "a… (15 characters)"),
        ("\x00secret", "… (7 characters)"),
        (b"\xff\xfe", "(2 bytes)"),
        (14, "14"),
        (True, "True"),
        (["x@y.org", None], "[x***@y***.org, NULL]"),
        ({"name": "Miller"}, "{name: M… (6 characters)}"),
    ],
)
def test_mask_keeps_the_shape_only(value, shown):
    assert mask(value) == shown


@given(st.text(min_size=3).filter(lambda text: len(text.strip()) >= 3))
def test_no_text_survives_masking(text):
    assert text.strip()[1:] not in mask(text).split("… (")[0]


def test_addresses_in_messages_are_masked():
    assert mask_emails("bad address <x.y@corp.example>, again x.y@corp.example") == (
        "bad address <x***@c***.example>, again x***@c***.example"
    )


def test_rows_mask_personal_columns_and_shorten_the_others():
    row = {"letter_id": "7", "subject": "Hello Anna", "note": "to a@b.com\n" + "x" * 80, "gone": None}
    shown = mask_row(row, {"subject"})
    assert shown["letter_id"] == "7"
    assert shown["subject"] == "H… (10 characters)"
    assert shown["note"].startswith("to a***@b***.com xxx")
    assert shown["note"].endswith("…")
    assert len(shown["note"]) == 61
    assert shown["gone"] == "NULL"
    assert plain(12.5) == "12.5"


@pytest.mark.parametrize("text", ["x" * 5_000_000, "x " * 500_000, "a@" * 500_000 + "b"])
def test_a_value_of_megabytes_takes_no_time(text):
    """A preview of such a value once went on for ever."""
    started = time.process_time()
    mask_emails(text)
    assert time.process_time() - started < 5


@given(st.text("ab@.,( \n", max_size=30))
def test_addresses_are_found_as_by_the_plain_pattern(text):
    part = r"[^\s@<>\"',;:()\[\]]+"
    assert mask_emails(text) == re.sub(f"{part}@{part}", lambda found: mask_email(found.group()), text)
