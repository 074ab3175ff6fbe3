"""Files into a directory and into a real bucket: whole and verified or not there, sent once, whatever happens."""

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.files import store as store_module
from dtx_assets.machinery.files.store import (
    HALF_SENT,
    PART_BYTES,
    BucketStore,
    DirectoryStore,
    FileStore,
    FileToSend,
    content_type_of,
    open_store,
    send,
)

LARGE = os.urandom(PART_BYTES + 1234)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.pdf").write_bytes(b"content of a")
    (root / "empty.txt").write_bytes(b"")
    (root / "large.bin").write_bytes(LARGE)
    return root


@pytest.fixture(params=["directory", "bucket"])
def store(request, tmp_path: Path) -> FileStore:
    if request.param == "directory":
        return open_store(str(tmp_path / "store"))
    bucket = request.getfixturevalue("s3_bucket")
    return open_store(f"s3://{bucket}/the/prefix")


def to_send(root: Path, name: str, **changes: Any) -> FileToSend:
    content = (root / name).read_bytes() if (root / name).exists() else b""
    facts = {
        "path": os.fsencode(name),
        "key": f"documents/1/2/{name}",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return FileToSend(**{**facts, **changes})


def content(store: FileStore, key: str) -> bytes | None:
    if isinstance(store, DirectoryStore):
        path = store.directory / key
        return path.read_bytes() if path.exists() else None
    try:
        return bytes(obstore.get(store.store, key).bytes())
    except FileNotFoundError:
        return None


def leftovers(store: FileStore) -> list[str]:
    """All that is there, half files included."""
    if isinstance(store, DirectoryStore):
        return [str(path.relative_to(store.directory)) for path in store.directory.rglob("*") if path.is_file()]
    return [entry["path"] for page in obstore.list(store.store) for entry in page]


def test_files_arrive_whole_and_are_sent_once(root, store):
    files = [to_send(root, name) for name in ("a.pdf", "empty.txt", "large.bin")]
    assert {result.file.key: result.status for result in send(files, root, store)} == {
        "documents/1/2/a.pdf": "sent",
        "documents/1/2/empty.txt": "sent",
        "documents/1/2/large.bin": "sent",
    }
    assert content(store, "documents/1/2/large.bin") == LARGE
    assert content(store, "documents/1/2/empty.txt") == b""
    assert {result.status for result in send(files, root, store)} == {"present"}
    changed = to_send(root, "a.pdf", key="documents/1/2/empty.txt")
    assert [result.status for result in send([changed], root, store)] == ["sent"]
    assert content(store, "documents/1/2/empty.txt") == b"content of a"


@pytest.mark.parametrize("name", ["a.pdf", "large.bin"])
@pytest.mark.parametrize("change", ["same size", "shorter", "longer"])
def test_a_file_that_changed_since_is_rejected_and_nothing_of_it_is_there(root, store, name, change):
    file = to_send(root, name)
    kept = (root / name).read_bytes()
    (root / name).write_bytes({"same size": b"X" + kept[1:], "shorter": kept[:-1], "longer": kept + b"!"}[change])
    [result] = send([file], root, store)
    assert (result.status, result.detail) == ("rejected", "the file changed since it was prepared")
    assert leftovers(store) == []


def test_files_that_cannot_be_read_stop_no_other(root, store):
    files = [
        to_send(root, "none.pdf"),
        to_send(root, "a.pdf", path=b"../a.pdf", key="x"),
        *(to_send(root, "a.pdf", key=f"documents/{number}") for number in range(100)),
    ]
    results = {result.file.key: result for result in send(files, root, store)}
    assert len(results) == 102
    assert results["x"].status == "rejected"
    assert "part .." in (results["x"].detail or "")
    assert results["documents/1/2/none.pdf"].detail == "there is no such file"
    assert sum(result.status == "sent" for result in results.values()) == 100


def test_objects_say_what_they_are(root, s3_bucket):
    store = open_store(f"s3://{s3_bucket}/p", storage_class="STANDARD_IA")
    assert isinstance(store, BucketStore)
    list(send([to_send(root, "a.pdf"), to_send(root, "large.bin", content_type="Image/TIFF")], root, store))
    pdf = obstore.get(store.store, "documents/1/2/a.pdf").attributes
    assert pdf["Content-Type"] == "application/pdf"
    assert pdf["sha256"] == hashlib.sha256(b"content of a").hexdigest()
    assert obstore.get(store.store, "documents/1/2/large.bin").attributes["Content-Type"] == "image/tiff"


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("a.pdf", None, "application/pdf"),
        ("a.pdf", "text/plain", "text/plain"),
        ("a.pdf", "pdf", "application/pdf"),
        ("a.pdf", "text/html; x\r\nEvil: 1", "application/pdf"),
        ("a", "", "application/octet-stream"),
    ],
)
def test_content_types(name, given, expected):
    assert content_type_of(name, given) == expected


class Refusing:
    """A store that refuses a number of times."""

    def __init__(self, times: int) -> None:
        self.left, self.got = times, []

    def is_empty(self) -> bool:
        raise obstore.exceptions.GenericError("503 SlowDown")

    def has(self, _file: FileToSend) -> bool:
        return False

    def put(self, file: FileToSend, source: Any) -> None:
        if self.left:
            self.left -= 1
            raise obstore.exceptions.GenericError("secret=pa55word: 503 SlowDown")
        self.got.append((file.key, source.read()))


def test_a_store_that_slows_down_is_asked_again_and_one_that_is_down_rejects(root, monkeypatch):
    delays: list[float] = []
    monkeypatch.setattr(store_module.time, "sleep", delays.append)
    refusing = Refusing(2)
    assert [result.status for result in send([to_send(root, "a.pdf")], root, refusing)] == ["sent"]  # type: ignore[arg-type]
    assert len(delays) == 2
    assert refusing.got == [("documents/1/2/a.pdf", b"content of a")]
    [result] = send([to_send(root, "a.pdf")], root, Refusing(99))  # type: ignore[arg-type]
    assert result.status == "rejected"
    assert "pa55word" not in (result.detail or "")
    assert "tried 5 times" in (result.detail or "")


def test_half_files_of_a_killed_run_are_removed_from_a_directory(tmp_path):
    store = DirectoryStore(tmp_path)
    (tmp_path / "documents").mkdir()
    young, old = (tmp_path / "documents" / f"{HALF_SENT}{age}" for age in ("young", "old"))
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert store.remove_abandoned() == 1
    assert young.exists()
    assert not old.exists()


NAMES_LIKE_OURS = (
    ".sending-0f3c",
    ".SENDING-0F3C",
    ".sending-/x",
    ".sending",
    ".uploads/x",
    "..sending-",
    ".half-sent/x",
    "\uff0esending-x",
    "...",
    "a..b",
)


def test_objects_of_any_name_stay_however_old_they_are(root, store, monkeypatch):
    """The sweep of half-sent files went by a name that a migrated file may have."""
    files = [
        to_send(root, "a.pdf", key=f"{folder}{name}") for name in NAMES_LIKE_OURS for folder in ("", "documents/1/")
    ]
    assert {result.status for result in send(files, root, store)} == {"sent"}
    if isinstance(store, DirectoryStore):
        for path in store.directory.rglob("*"):
            os.utime(path, (0, 0))
    monkeypatch.setattr(store_module, "LEASE_SECONDS", -3600)
    assert store.remove_abandoned() == 0
    assert [content(store, file.key) for file in files] == [b"content of a"] * len(files)


def test_what_is_half_sent_has_a_name_that_no_object_can_have(root, store, tmp_path, monkeypatch):
    seen: list[str] = []
    real = store_module.chunks

    def looking(file: Any) -> Any:
        for chunk in real(file):
            # Not by obstore, which is what asks for the chunk.
            found = (
                leftovers(store)
                if isinstance(store, DirectoryStore)
                else store._client.list_objects_v2(Bucket=urlsplit(store.url).netloc).get("Contents", [])
            )
            seen.extend(found)
            yield chunk

    monkeypatch.setattr(store_module, "chunks", looking)
    [sent] = send([to_send(root, "large.bin")], root, store)
    assert sent.status == "sent"
    assert bool(seen) == isinstance(store, DirectoryStore)
    for name in set(seen):
        [result] = send([to_send(root, "a.pdf", key=name)], root, store)
        assert (result.status, result.by_store) == ("rejected", False)
        assert result.detail == "the name of its object holds a control character, or is no text"


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/x", "a//b", "./a", "a/.", "", "a\n", "a\udcff"])
def test_a_key_that_leads_elsewhere_rejects_its_file_alone(root, store, tmp_path, key):
    results = list(send([to_send(root, "a.pdf", key=key), to_send(root, "a.pdf", key="b")], root, store))
    assert {result.file.key: (result.status, result.by_store) for result in results} == {
        key: ("rejected", False),
        "b": ("sent", False),
    }
    assert leftovers(store) == ["b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "store"] or isinstance(store, BucketStore)


def test_a_name_that_is_too_long_for_the_store_is_a_matter_of_its_row(root, store):
    results = list(send([to_send(root, "a.pdf", key="x" * 2000), to_send(root, "a.pdf", key="b")], root, store))
    by_key = {result.file.key: result for result in results}
    assert by_key["b"].status == "sent"
    assert (by_key["x" * 2000].status, by_key["x" * 2000].by_store) == ("rejected", False)
    assert "too long" in str(by_key["x" * 2000].detail)


def test_other_places_are_refused():
    with pytest.raises(ConfigurationError, match="ftp://"):
        open_store("ftp://host/x")
