"""Paths that leave their root are never opened; what files hold is read once, and again when it changed."""

import hashlib
import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.files import inventory as inventory_module
from dtx_assets.machinery.files.inventory import INVENTORY, LegacyFiles, inventory
from dtx_assets.machinery.files.paths import (
    LONGEST_NAME,
    FileMissing,
    UnsafePath,
    object_name,
    open_inside,
    without_prefix,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (root / "in" / "a.pdf").write_bytes(b"content of a")
    (root / "in" / "empty").write_bytes(b"")
    (tmp_path / "outside.pdf").write_bytes(b"secret")
    (root / "in" / "link").symlink_to("a.pdf")
    (root / "escape.pdf").symlink_to(tmp_path / "outside.pdf")
    (root / "escape").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    return root


def test_a_file_inside_is_opened_through_links_that_stay_inside(root):
    for path in (b"in/a.pdf", b"./in//a.pdf", b"in/link"):
        with open_inside(root, path) as file:
            assert file.read() == b"content of a"


@pytest.mark.parametrize(
    "path",
    [
        b"../outside.pdf",
        b"in/../in/a.pdf",
        b"/etc/hostname",
        b"in/a\x00.pdf",
        b"escape.pdf",
        b"escape/outside.pdf",
        b"..",
    ],
)
def test_what_leads_out_of_the_root_is_never_opened(root, path, monkeypatch):
    def opened(*_arguments, **_options):
        raise AssertionError("it was opened")

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(UnsafePath):
        open_inside(root, path)


@pytest.mark.parametrize("path", [b"in/none.pdf", b"in", b"", b".", b"pipe", b"in/a.pdf/x", b"x" * 5000])
def test_what_is_no_file_is_missing_and_keeps_no_one_waiting(root, path):
    with pytest.raises(FileMissing):
        open_inside(root, path)


@pytest.mark.parametrize("swapped", ["in", "in/a.pdf"])
def test_a_link_that_was_put_there_in_between_is_not_followed(root, tmp_path, monkeypatch, swapped):
    (tmp_path / "a.pdf").write_bytes(b"secret")
    real = os.path.realpath

    def swap_afterwards(path):
        found = real(path)
        if found.endswith(b"a.pdf"):
            (root / swapped).rename(tmp_path / "kept")
            (root / swapped).symlink_to(tmp_path if swapped == "in" else tmp_path / "a.pdf")
        return found

    monkeypatch.setattr(os.path, "realpath", swap_afterwards)
    with pytest.raises(FileMissing):
        open_inside(root, b"in/a.pdf")


def test_a_pipe_that_was_put_there_in_between_keeps_no_one_waiting(root, monkeypatch):
    real = os.stat

    def swap_afterwards(path, **options):
        found = real(path, **options)
        if path == b"a.pdf":
            (root / "in" / "a.pdf").unlink()
            os.mkfifo(root / "in" / "a.pdf")
        return found

    monkeypatch.setattr(os, "stat", swap_afterwards)
    with pytest.raises(FileMissing, match="no regular file"):
        open_inside(root, b"in/a.pdf")


def test_no_descriptor_is_left_open(root):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (b"in/none.pdf", b"in", b"pipe", b"in/a.pdf/x", b"escape.pdf"):
        with pytest.raises((FileMissing, UnsafePath)):
            open_inside(root, path)
    open_inside(root, b"in/a.pdf").close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_that_may_not_be_read_is_missing(root, monkeypatch):
    def refused(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(FileMissing, match="Permission denied"):
        open_inside(root, b"in/a.pdf")


def test_a_prefix_is_taken_off_whole_parts_only():
    assert without_prefix(b"/mnt/efs/in/a.pdf", "/mnt/efs") == b"in/a.pdf"
    assert without_prefix(b"/mnt/efs/in/a.pdf", "/mnt/efs/") == b"in/a.pdf"
    assert without_prefix(b"/mnt/efs2/a.pdf", "/mnt/efs") == b"/mnt/efs2/a.pdf"
    assert without_prefix(b"/a.pdf", "") == b"/a.pdf"
    assert without_prefix(b"/in/a.pdf", "/") == b"in/a.pdf"
    assert without_prefix(b"/mnt/efs/../a.pdf", "/mnt/efs") == b"../a.pdf"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b/c.pdf", "c.pdf"),
        ("C:\\scans\\policy.pdf", "policy.pdf"),
        ("bell\x07and\ttab\x85.pdf", "bellandtab.pdf"),
        ("", "file"),
        ("folder/", "file"),
        ("..", "file"),
        ("x" * 200 + ".pdf", "x" * 146 + ".pdf"),
        ("\u00e9" * 100 + ".pdf", "\u00e9" * 73 + ".pdf"),
        ("x." + "y" * 200, ("x." + "y" * 200)[:150]),
    ],
)
def test_object_names(name, expected):
    assert object_name(name) == expected


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=300))
def test_any_name_makes_one_part_of_a_key(name):
    made = object_name(name)
    assert made not in ("", ".", "..")
    assert not set(made) & {"/", "\\", "\x00", "\n", "\x7f"}
    assert len(made.encode()) <= LONGEST_NAME


def test_an_inventory_says_what_each_path_holds_or_why_it_cannot_be_had(root):
    paths = pl.Series([b"in/a.pdf", b"in/a.pdf", b"in/empty", b"none", b"escape.pdf", None], dtype=pl.Binary)
    told = []
    found = inventory(root, paths, progress=lambda *each: told.append(each))
    assert found.schema == INVENTORY
    rows = {row["path"]: row for row in found.iter_rows(named=True)}
    assert set(rows) == {b"in/a.pdf", b"in/empty", b"none", b"escape.pdf"}
    assert rows[b"in/a.pdf"]["sha256"] == hashlib.sha256(b"content of a").hexdigest()
    assert (rows[b"in/empty"]["size"], rows[b"in/empty"]["problem"]) == (0, None)
    assert rows[b"none"]["problem"] == "file_missing"
    assert rows[b"escape.pdf"]["problem"] == "unsafe_path"
    assert [each[:2] for each in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[-1][2] == len(b"content of a")


def test_only_what_changed_is_read_again(root, monkeypatch):
    paths = pl.Series([b"in/a.pdf", b"in/empty"], dtype=pl.Binary)
    first = inventory(root, paths)
    read = []
    real = inventory_module.chunks
    monkeypatch.setattr(inventory_module, "chunks", lambda file: (read.append(1), real(file))[1])
    assert inventory(root, paths, first).equals(first)
    assert read == []
    state = (root / "in" / "a.pdf").stat()
    (root / "in" / "a.pdf").write_bytes(b"CONTENT OF A")
    changed = inventory(root, paths, first)
    assert len(read) == 1
    assert changed.filter(path=b"in/a.pdf")["sha256"].item() == hashlib.sha256(b"CONTENT OF A").hexdigest()
    # The same size and time hide a change, until someone asks.
    os.utime(root / "in" / "a.pdf", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert inventory(root, paths, first).equals(first)
    assert not inventory(root, paths, first, verify=True).equals(first)


def test_a_file_that_changes_while_it_is_read_is_missing(root, monkeypatch):
    def growing(file):
        with (root / "in" / "a.pdf").open("ab") as other:
            other.write(b"more")
        yield file.read()

    monkeypatch.setattr(inventory_module, "chunks", growing)
    [row] = inventory(root, pl.Series([b"in/a.pdf"], dtype=pl.Binary)).iter_rows(named=True)
    assert (row["problem"], row["detail"]) == ("file_missing", "the file changed while it was read")


@pytest.mark.parametrize(
    ("prefix", "paths"),
    [
        ("", (b"letters/a.pdf", b"letters/b.pdf", b"./letters/c.pdf")),
        ("/mnt/efs", (b"/mnt/efs/old/in/a.pdf", b"/mnt/efs/old/in/empty")),
        ("", (b"b.pdf", b".c.pdf")),
    ],
)
def test_a_root_that_has_no_beginning_of_any_path_is_another_one_and_no_row_is_rejected_for_it(root, prefix, paths):
    with pytest.raises(StructureError, match=r"none of the \d legacy files is there") as refused:
        LegacyFiles(root, prefix).inventory(pl.Series("path", paths, pl.Binary), None)
    assert refused.value.where == str(root)
    assert "FILES_PREFIX" in (refused.value.remedy or "")


@pytest.mark.parametrize(
    "paths",
    [
        # Their directory is there: they were lost.
        (b"in/lost.pdf", b"in/gone.pdf"),
        (b"letters/a.pdf", b"in/lost.pdf"),
        (b"letters/a.pdf",),
    ],
)
def test_files_that_are_lost_below_the_right_root_are_missing_each_by_itself(root, paths):
    found = LegacyFiles(root).inventory(pl.Series("path", paths, pl.Binary), None)
    assert found["problem"].to_list() == ["file_missing"] * len(paths)
