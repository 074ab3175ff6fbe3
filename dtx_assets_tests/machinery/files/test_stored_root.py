"""Legacy files under a prefix of S3 are found, hashed and sent as those of a directory are."""

import hashlib
from pathlib import Path

import obstore
import polars as pl
import pytest

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.files.inventory import LegacyFiles, chunks, open_below
from dtx_assets.machinery.files.paths import FileProblem
from dtx_assets.machinery.files.store import DirectoryStore, FileToSend, send
from dtx_assets.machinery.files.stored_root import StoredRoot

FILES = {"a": b"solid a", "in/b.stl": b"x" * 3_000_000, "empty": b""}


@pytest.fixture
def root(s3_bucket: str) -> StoredRoot:
    root = StoredRoot(f"s3://{s3_bucket}/files")
    for name, content in FILES.items():
        obstore.put(root.store, name, content)
    return root


def paths(*names: str) -> pl.Series:
    return pl.Series([name.encode() for name in names], dtype=pl.Binary)


def test_objects_are_found_with_their_hashes_and_looked_at_again_only_when_they_changed(root, monkeypatch):
    files = LegacyFiles(root)
    found = files.inventory(paths(*FILES, "gone"), None)
    told = {row["path"].decode(): (row["size"], row["sha256"], row["problem"]) for row in found.iter_rows(named=True)}
    hashes = {name: (len(content), hashlib.sha256(content).hexdigest(), None) for name, content in FILES.items()}
    assert told == {**hashes, "gone": (None, None, "file_missing")}
    obstore.put(root.store, "a", b"solid b")
    read: list[bytes] = []
    monkeypatch.setattr("dtx_assets.machinery.files.inventory.chunks", lambda file: (read.append(b""), chunks(file))[1])
    again = files.inventory(paths(*FILES), found)
    assert len(read) == 1
    assert again.filter(pl.col("path") == b"a")["sha256"][0] == hashlib.sha256(b"solid b").hexdigest()


def test_objects_are_sent(root, tmp_path):
    store = DirectoryStore(tmp_path / "store")
    wanted = [FileToSend(n.encode(), f"x/{n}", len(c), hashlib.sha256(c).hexdigest()) for n, c in FILES.items()]
    wanted.append(FileToSend(b"a", "x/other", 7, hashlib.sha256(b"another").hexdigest()))
    results = {result.file.key: result.status for result in send(wanted, root, store)}
    assert results == {**{f"x/{name}": "sent" for name in FILES}, "x/other": "rejected"}
    assert {name: (tmp_path / "store" / "x" / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize("name", [b"../a", b"a\x00", b"/a", b"caf\xe9", b""])
def test_what_is_no_name_of_an_object_is_a_problem_of_its_row(root, name):
    with pytest.raises(FileProblem):
        open_below(root, name)


def test_an_object_that_changes_while_it_is_read_is_a_problem_of_its_row(root):
    with open_below(root, b"in/b.stl") as file:
        obstore.put(root.store, "in/b.stl", b"y")
        with pytest.raises(FileProblem, match="changed"):
            list(chunks(file))


def test_a_prefix_with_nothing_under_it_or_no_bucket_blames_no_row(root, tmp_path, s3_bucket):
    with pytest.raises(StructureError, match="empty"):
        LegacyFiles(StoredRoot(f"s3://{s3_bucket}/nothing")).inventory(paths("a"), None)
    with pytest.raises(StructureError, match="none of the 2"):
        LegacyFiles(root).inventory(paths("b", "c/d"), None)
    for url in (f"s3://{s3_bucket}x/files",):
        with pytest.raises(StructureError, match="NoSuchBucket"):
            LegacyFiles(StoredRoot(url)).inventory(paths("a"), None)
    with pytest.raises(StructureError, match="not a directory"):
        LegacyFiles(Path(tmp_path / "gone")).objects(paths("a"), None)
    assert LegacyFiles(Path(tmp_path / "gone")).objects(paths(), None).is_empty()
