"""Content types that databases and names give, plausible or not."""

import pytest

from dtx_assets.machinery.files.content_types import content_type_of


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("a.pdf", None, "application/pdf"),
        ("a.pdf", " Image/TIFF ", "image/tiff"),
        ("a.PDF", "N/A", "application/pdf"),
        ("a.pdf", "/", "application/pdf"),
        ("a.pdf", "image/", "application/pdf"),
        ("a.pdf", "image/png\x00", "application/pdf"),
        ("a.pdf", "text/html\r\nEvil: 1", "application/pdf"),
        ("a.pdf", "COI", "application/pdf"),
        ("scan.docx", "", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.pdf.gz", None, "application/gzip"),
        ("data:,a.pdf", None, "application/pdf"),
        ("pdf", None, "application/octet-stream"),
        (".pdf", None, "application/octet-stream"),
        ("", None, "application/octet-stream"),
    ],
)
def test_a_type_is_as_given_or_by_the_name(name, given, expected):
    assert content_type_of(name, given) == expected
