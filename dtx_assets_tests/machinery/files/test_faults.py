"""A store that refuses, cuts connections, loses answers or bytes; runs that are killed; files that change meanwhile."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from dtx_assets.machinery.files import store as store_module
from dtx_assets.machinery.files.paths import object_name
from dtx_assets.machinery.files.store import (
    MOST_PARTS,
    PART_BYTES,
    BucketStore,
    EntityTag,
    FileToSend,
    open_store,
    part_bytes,
    send,
)
from dtx_assets_tests import servers
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
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL


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
