"""A store that refuses, cuts connections, loses answers or bytes; runs that are killed; files that change meanwhile."""

import errno
import hashlib
import os
import resource
import shutil
import signal
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import obstore
import polars as pl
import pytest

from dtx_assets.machinery.base.errors import LoadError, StructureError
from dtx_assets.machinery.files import store as store_module
from dtx_assets.machinery.files import stored as stored_module
from dtx_assets.machinery.files.inventory import LegacyFiles
from dtx_assets.machinery.files.paths import object_name
from dtx_assets.machinery.files.sending import FileSender
from dtx_assets.machinery.files.store import (
    MOST_PARTS,
    PART_BYTES,
    BucketStore,
    DirectoryStore,
    EntityTag,
    FileStore,
    FileToSend,
    open_store,
    part_bytes,
    send,
)
from dtx_assets.machinery.files.stored import WANTED, FileFault, StoredFiles
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets_tests import servers
from dtx_assets_tests.forking import run_script
from dtx_assets_tests.machinery.files.faulty import Door, faulty_door
from dtx_assets_tests.machinery.files.test_store import content, leftovers, root, store, to_send  # noqa: F401 – fixtures


@pytest.fixture
def door(s3_server: servers.S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """A door to the server of `s3_bucket`, which the AWS_* variables name now; retries are quick."""
    monkeypatch.setattr(store_module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(store_module, "REQUEST_RETRIES", {"max_retries": 0})
    with faulty_door(s3_server.endpoint) as door:
        monkeypatch.setenv("AWS_ENDPOINT_URL", door.endpoint)
        yield door


@pytest.fixture
def many(tmp_path: Path) -> list[FileToSend]:
    """60 small files and a large one, below `root`."""
    (tmp_path / "root").mkdir(exist_ok=True)
    files = []
    for number in range(60):
        (tmp_path / "root" / f"{number}.pdf").write_bytes(os.urandom(2000))
        files.append(to_send(tmp_path / "root", f"{number}.pdf"))
    (tmp_path / "root" / "large.bin").write_bytes(os.urandom(3 * PART_BYTES + 5))
    return [*files, to_send(tmp_path / "root", "large.bin")]


def uploads(bucket: str) -> list[str]:
    """Keys of the uploads in parts that were begun and neither finished nor aborted."""
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    return [upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def whole(bucket_store: BucketStore, file: FileToSend) -> bool:
    return hashlib.sha256(content(bucket_store, file.key) or b"").hexdigest() == file.sha256


@pytest.mark.parametrize("kind", ["500", "503", "cut", "lost"])
def test_a_store_that_fails_now_and_then_gets_every_file(root, many, door, s3_bucket, monkeypatch, kind):  # noqa: F811
    monkeypatch.setattr(store_module, "REQUEST_RETRIES", {"max_retries": 3})
    bucket_store = BucketStore(f"s3://{s3_bucket}/p")
    seen: Counter[str] = Counter()

    def every_third(method: str, _path: str) -> str | None:
        seen[method] += 1
        return kind if method == "PUT" and seen[method] % 3 == 0 else None

    door.fault = every_third
    results = list(send(many, root, bucket_store))
    door.fault = lambda _method, _path: None
    assert {result.status for result in results} <= {"sent", "present"}, [result.detail for result in results]
    assert seen["PUT"] > len(many)
    assert all(whole(bucket_store, file) for file in many)
    assert len(leftovers(bucket_store)) == len(many)
    assert uploads(s3_bucket) == []


def test_a_store_that_always_refuses_rejects_each_file_and_is_soon_left_alone(root, many, door, s3_bucket, monkeypatch):  # noqa: F811
    monkeypatch.setattr(store_module, "SENDERS", 2)
    monkeypatch.setattr(store_module, "DOWN_AFTER", 3)
    door.fault = lambda _method, _path: "503"
    results = list(send(many, root, BucketStore(f"s3://{s3_bucket}/p")))
    assert len(results) == len(many)
    assert {result.status for result in results} == {"rejected"}
    details = Counter(str(result.detail) for result in results)
    assert details["the object store cannot be reached; not tried"] > 40
    assert sum(number for text, number in details.items() if text.endswith("tried 5 times")) in (3, 4, 5)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(details)


def test_a_store_that_comes_back_is_used_again(root, many, door, s3_bucket, monkeypatch):  # noqa: F811
    monkeypatch.setattr(store_module, "SENDERS", 1)
    monkeypatch.setattr(store_module, "DOWN_AFTER", 2)
    monkeypatch.setattr(store_module, "SECONDS_DOWN", 0.0)
    left = [20]

    def at_first(_method: str, _path: str) -> str | None:
        left[0] -= 1
        return "500" if left[0] > 0 else None

    door.fault = at_first
    statuses = [result.status for result in send(many, root, BucketStore(f"s3://{s3_bucket}/p"))]
    assert statuses[:2] == ["rejected", "rejected"]
    assert statuses[-40:] == ["sent"] * 40


def test_nobody_is_there(root, many, s3_bucket, monkeypatch):  # noqa: F811
    monkeypatch.setattr(store_module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(store_module, "REQUEST_RETRIES", {"max_retries": 0})
    [port] = servers.free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    results = list(send(many, root, BucketStore(f"s3://{s3_bucket}/p")))
    assert {result.status for result in results} == {"rejected"}
    assert len(results) == len(many)


class Noted:
    """Who is told what a part sends."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def about_to_send(self, keys: pl.Series, _digests: pl.Series) -> set[str]:
        self.keys = keys.to_list()
        return set(self.keys)

    def not_sent(self, _keys: Any) -> None:
        raise AssertionError("nothing was settled")

    told = not_sent


def send_part(root: Path, place: FileStore, files: list[FileToSend]) -> pl.DataFrame:  # noqa: F811
    """What a load does with the rows of a part."""
    target = TargetTable("t", "T", "area", (), file_columns=("file", "hash"))
    rows = pl.DataFrame(
        [(number, file.key, file.sha256, file.path.hex(), file.size, None) for number, file in enumerate(files)],
        schema={"_row": pl.Int64, "file": pl.String, "hash": pl.String, "_path": pl.String, "_size": pl.Int64}
        | {"_content_type": pl.String},
        orient="row",
    )
    return FileSender(target, place, LegacyFiles(root), noted=Noted())(rows)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("507", "InsufficientStorage: The disk is full."),
        ("403", "QuotaExceeded: The quota of this bucket is used up & no more is taken."),
        ("403", "AccessDenied: Access Denied."),
        ("404", "NoSuchBucket: The specified bucket does not exist"),
        ("503", "SlowDown: Please reduce your request rate."),
    ],
)
def test_a_store_that_takes_nothing_fails_the_step_with_its_own_words(root, many, door, s3_bucket, status, words):  # noqa: F811
    door.fault = lambda method, _path: status if method in ("PUT", "POST") else None
    door.words = words.replace("&", "&amp;")
    with pytest.raises(LoadError, match="no row of this part is written") as caught:
        send_part(root, BucketStore(f"s3://{s3_bucket}/p"), many)
    assert words in caught.value.what
    assert caught.value.where == f"s3://{s3_bucket}/p"
    assert "run again" in str(caught.value.remedy)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)
    # And it was not asked about each of the files.
    assert len({path for method, path in door.requests if method == "PUT"}) < len(many) - 1


def test_an_endpoint_that_is_down_fails_the_step(root, many, s3_bucket, monkeypatch):  # noqa: F811
    monkeypatch.setattr(store_module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(store_module, "REQUEST_RETRIES", {"max_retries": 0})
    [port] = servers.free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(LoadError, match="Connection refused"):
        send_part(root, BucketStore(f"s3://{s3_bucket}/p"), many)


def test_a_bucket_that_is_not_there_is_not_made(root, many, s3_bucket, monkeypatch):  # noqa: F811
    monkeypatch.setattr(store_module, "REQUEST_RETRIES", {"max_retries": 0})
    with pytest.raises(LoadError, match="NoSuchBucket"):
        send_part(root, BucketStore("s3://not-made/p"), many)
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    assert "not-made" not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}


def a_file(directory: Path) -> None:
    directory.write_bytes(b"")


def below_a_file(directory: Path) -> None:
    directory.parent.rmdir()
    directory.parent.write_bytes(b"")


def full(_directory: Path) -> None:
    # What a full disk says too, as a limit of this process.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize(
    ("plant", "words"), [(a_file, "Not a directory"), (below_a_file, "Not a directory"), (full, "File too large")]
)
def test_a_directory_that_takes_nothing_fails_the_step(root, many, tmp_path, monkeypatch, plant, words):  # noqa: F811
    monkeypatch.setattr(store_module, "FIRST_DELAY", 0.001)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "mount").mkdir()
    plant(tmp_path / "mount" / "store")
    try:
        with pytest.raises(LoadError, match=words) as caught:
            send_part(root, DirectoryStore(tmp_path / "mount" / "store"), many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.where == str(tmp_path / "mount" / "store")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE])
def test_what_the_file_system_says_is_no_fault_of_a_row(root, many, tmp_path, monkeypatch, number):  # noqa: F811
    monkeypatch.setattr(store_module, "FIRST_DELAY", 0.001)

    def refuse(_number: int) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(store_module.os, "fsync", refuse)
    with pytest.raises(LoadError, match=os.strerror(number)):
        send_part(root, DirectoryStore(tmp_path / "store"), many)
    assert leftovers(DirectoryStore(tmp_path / "store")) == []


def test_a_directory_that_goes_away_meanwhile_is_not_made_anew(root, many, tmp_path):  # noqa: F811
    place = DirectoryStore(tmp_path / "store")
    assert [result.status for result in send(many[:1], root, place)] == ["sent"]
    shutil.rmtree(place.directory)
    with pytest.raises(LoadError, match="No such file or directory"):
        send_part(root, place, many)
    assert not place.directory.exists()
    with pytest.raises(LoadError):
        place.remove(many[0].key, many[0].sha256)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOTCONN])
def test_a_process_or_mount_that_is_out_of_order_loses_no_legacy_file(root, many, monkeypatch, number):  # noqa: F811
    real = os.open

    def refuse(path: Any, flags: int, *more: Any, **rest: Any) -> int:
        if isinstance(path, bytes) and path.endswith(b".pdf"):
            raise OSError(number, "")
        return real(path, flags, *more, **rest)

    monkeypatch.setattr(os, "open", refuse)
    paths = pl.Series("path", [file.path for file in many], pl.Binary)
    with pytest.raises(StructureError, match=os.strerror(number)):
        LegacyFiles(root).inventory(paths, None)
    with pytest.raises(StructureError, match=os.strerror(number)):
        send_part(root, DirectoryStore(root.parent / "store"), many)


def test_a_root_of_which_nothing_may_be_read_loses_no_legacy_file(root, many, monkeypatch):  # noqa: F811
    real, paths = os.open, pl.Series("path", [file.path for file in many], pl.Binary)
    denied: tuple[bytes, ...] = (b".pdf", b".bin")

    def refuse(path: Any, flags: int, *more: Any, **rest: Any) -> int:
        if isinstance(path, bytes) and path.endswith(denied):
            raise PermissionError(errno.EACCES, "")
        return real(path, flags, *more, **rest)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StructureError, match=r"none of the 61 legacy files can be read: .*Permission denied"):
        LegacyFiles(root).inventory(paths, None)
    denied = (b".pdf",)
    assert LegacyFiles(root).inventory(paths, None)["problem"].null_count() == 1


@pytest.mark.parametrize("name", ["0.pdf", "large.bin"])
def test_a_store_whose_tags_say_nothing_is_read_when_it_is_verified(root, many, door, s3_bucket, name):  # noqa: F811
    [file] = [each for each in many if each.key.endswith(f"/{name}")]
    bucket_store = BucketStore(f"s3://{s3_bucket}/p")
    door.entity_tag = '"encrypted"'
    [result] = send([file], root, bucket_store)
    assert result.e_tag is None
    assert faults_of(bucket_store, [file], []) == ({"read": 1}, [])
    other = bytes(file.size)
    obstore.put(bucket_store.store, file.key, other)
    _, faults = faults_of(bucket_store, [file], [])
    assert [(fault.kind, fault.found) for fault in faults] == [("changed", hashlib.sha256(other).hexdigest())]


def faults_of(place: FileStore, files: list[FileToSend], tags: list[str]) -> tuple[dict[str, int], list[FileFault]]:
    with StoredFiles(place) as stored:
        rows = [(file.key, file.size, file.sha256, tags) for file in files]
        stored.add(pl.DataFrame(rows, schema=WANTED, orient="row"))
        faults = [fault for fault, _ in stored.faults()]
    return dict(stored.compared), faults


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("listed_from", [0, 1000])
def test_a_store_that_fails_while_it_is_verified_has_lost_nothing(
    root,  # noqa: F811
    many,
    door,
    s3_bucket,
    monkeypatch,
    method,
    listed_from,
):
    monkeypatch.setattr(stored_module, "LISTED_FROM", listed_from)
    bucket_store = BucketStore(f"s3://{s3_bucket}/p")
    assert {result.status for result in send(many, root, bucket_store)} == {"sent"}
    door.fault = lambda asked, _path: "503" if asked == method else None
    with pytest.raises(LoadError, match="SlowDown" if method == "GET" else "503"):
        faults_of(bucket_store, many, [])


def test_a_listing_spares_a_request_for_each_file(root, many, door, s3_bucket, monkeypatch):  # noqa: F811
    monkeypatch.setattr(stored_module, "LISTED_FROM", 0)
    bucket_store = BucketStore(f"s3://{s3_bucket}/p")
    results = list(send(many, root, bucket_store))
    tags = [str(result.e_tag) for result in results]
    assert "None" not in tags
    door.requests.clear()
    assert faults_of(bucket_store, many, tags) == ({"told": len(many)}, [])
    assert len(door.requests) <= 2


@pytest.mark.parametrize("name", ["0.pdf", "large.bin"])
def test_a_store_that_does_not_say_the_hash_is_read_again(root, many, door, s3_bucket, name):  # noqa: F811
    [file] = [each for each in many if each.key.endswith(f"/{name}")]
    bucket_store = BucketStore(f"s3://{s3_bucket}/p")
    door.entity_tag = '"encrypted"'
    assert [result.status for result in send([file], root, bucket_store)] == ["sent"]
    assert any(method == "GET" and file.key in path for method, path in door.requests)
    assert whole(bucket_store, file)


@pytest.mark.parametrize("name", ["0.pdf", "large.bin"])
def test_what_the_store_holds_otherwise_is_not_left_there(root, many, door, s3_bucket, name):  # noqa: F811
    [file] = [each for each in many if each.key.endswith(f"/{name}")]
    bucket_store = BucketStore(f"s3://{s3_bucket}/p")
    door.entity_tag, door.spoil = '"encrypted"', True
    [result] = send([file], root, bucket_store)
    assert result.detail == "the store holds other bytes than those of the file; tried 5 times"
    door.spoil = False
    assert leftovers(bucket_store) == []


def test_a_file_that_is_cut_short_while_it_is_sent_leaves_no_upload(root, many, s3_bucket, monkeypatch):  # noqa: F811
    real = store_module.chunks

    def cut_meanwhile(file: Any) -> Iterator[bytes]:
        for number, chunk in enumerate(real(file)):
            if number == 10:
                os.truncate(root / "large.bin", 11 << 20)
            yield chunk

    monkeypatch.setattr(store_module, "chunks", cut_meanwhile)
    bucket_store = BucketStore(f"s3://{s3_bucket}/p")
    [result] = send([many[-1]], root, bucket_store)
    assert (result.status, result.detail) == ("rejected", "the file changed since it was prepared")
    assert leftovers(bucket_store) == []
    assert uploads(s3_bucket) == []


@pytest.mark.parametrize("name", ["0.pdf", "large.bin"])
def test_a_file_that_cannot_be_read_to_its_end_is_rejected_at_once(root, many, store, monkeypatch, name):  # noqa: F811
    def broken(file: Any) -> Iterator[bytes]:
        yield file.read(1000)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(store_module, "chunks", broken)
    [file] = [each for each in many if each.key.endswith(f"/{name}")]
    [result] = send([file], root, store)
    assert (result.status, result.detail) == ("rejected", "the file cannot be read: Input/output error")
    assert leftovers(store) == []


def killed(root: Path, url: str, files: list[FileToSend], at: str) -> None:  # noqa: F811
    """Sends the files in another process, and kills it at a place: a line of code that can use `done` and `module`."""
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from dtx_assets.machinery.files import store as module
        FileToSend = module.FileToSend
        die = lambda: os.kill(os.getpid(), signal.SIGKILL)
        {at}
        for done, result in enumerate(module.send({files!r}, Path({str(root)!r}), module.open_store({url!r})), 1):
            if done == 30:
                die()
    """)
    assert run_script(script).returncode == -signal.SIGKILL


def test_a_run_killed_among_small_files_leaves_whole_ones_only(root, many, tmp_path, request):  # noqa: F811
    for url in (str(tmp_path / "store"), f"s3://{request.getfixturevalue('s3_bucket')}/p"):
        place = open_store(url)
        killed(root, url, many[:-1], "pass")
        there = [file for file in many if content(place, file.key) is not None]
        assert 30 <= len(there) < 60
        assert all(hashlib.sha256(content(place, file.key) or b"").hexdigest() == file.sha256 for file in there)
        statuses = Counter(result.status for result in send(many, root, place))
        # What was on its way to the server when the run was killed may arrive after all.
    assert statuses["present"] >= len(there)
    assert statuses["present"] + statuses["sent"] == statuses.total() == len(many)
    assert all(hashlib.sha256(content(place, file.key) or b"").hexdigest() == file.sha256 for file in many)


def test_a_run_killed_in_the_middle_of_a_large_file_leaves_nothing_after_the_next(root, many, s3_bucket):  # noqa: F811
    url = f"s3://{s3_bucket}/p"
    real = "chunk if number < 20 else die() for number, chunk in enumerate(real(file))"
    killed(root, url, [many[-1]], f"real = module.chunks; module.chunks = lambda file: ({real})")
    bucket_store = BucketStore(url)
    assert leftovers(bucket_store) == []
    assert uploads(s3_bucket) == [f"p/{many[-1].key}"]
    assert [result.status for result in send([many[-1]], root, bucket_store)] == ["sent"]
    assert uploads(s3_bucket) == []
    assert whole(bucket_store, many[-1])


def test_what_killed_runs_began_is_removed_when_it_is_old_and_below_the_prefix(root, many, s3_bucket, monkeypatch):  # noqa: F811
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for key in ("p/a", "p/b", "other/c"):
        client.create_multipart_upload(Bucket=s3_bucket, Key=key)
    bucket_store = BucketStore(f"s3://{s3_bucket}/p")
    assert bucket_store.remove_abandoned() == 0
    monkeypatch.setattr(store_module, "LEASE_SECONDS", -3600)
    assert bucket_store.remove_abandoned() == 2
    assert uploads(s3_bucket) == ["other/c"]


@pytest.mark.parametrize(
    "name",
    [
        "a%b%2e%2e.pdf",
        "a#b?c&d=e+f.pdf",
        "\u00fcn\u00ef c\u00f8de \U0001f600.pdf",
        " ~*'()!$@,;: ",
        '{x}|^`"<>[]',
        "\u202e\ufeff",
        "..pdf",
        "a.",
        "x" * 300 + ".pdf",
        "\U0001f600" * 300,
        "a\x00b\nc\x1b[0m",
    ],
)
def test_files_of_any_name_arrive_under_it(root, store, name):  # noqa: F811
    file = to_send(root, "a.pdf", key=f"documents/1/2/{object_name(name)}")
    assert [result.status for result in send([file], root, store)] == ["sent"]
    assert leftovers(store) == [file.key]
    assert content(store, file.key) == b"content of a"
    assert [result.status for result in send([file], root, store)] == ["present"]


def test_entity_tags_do_not_depend_on_how_the_bytes_come():
    whole_bytes = os.urandom(100)
    for size in (7, 50, 99, 100, 101):
        tags = set()
        for step in (1, 3, 100):
            tag = EntityTag(size)
            assert b"".join(tag.of(whole_bytes[at : at + step] for at in range(0, 100, step))) == whole_bytes
            tags.add(str(tag))
        assert len(tags) == 1
    md5 = hashlib.md5
    assert str(EntityTag(100)) == md5().hexdigest()
    halves = md5(md5(whole_bytes[:50]).digest() + md5(whole_bytes[50:]).digest()).hexdigest()
    tag = EntityTag(50)
    tag.add(whole_bytes)
    assert str(tag) == f"{halves}-2"


def test_no_file_has_more_parts_than_a_store_takes():
    for size in (PART_BYTES, PART_BYTES * MOST_PARTS, PART_BYTES * MOST_PARTS + 1, 5 << 40):
        assert part_bytes(size) >= PART_BYTES
        assert -(-size // part_bytes(size)) <= MOST_PARTS
