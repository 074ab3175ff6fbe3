"""repo_file → Document and the file itself (spec 4.5): what is moved, what is refused, no row without its file."""

import hashlib
import os
import signal
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import obstore
import psycopg
import pytest

from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.base.errors import LoadError, MigrationError
from dtx_assets.machinery.files import store as store_module
from dtx_assets.machinery.files.inventory import LegacyFiles
from dtx_assets.machinery.files.sending import FileSender
from dtx_assets.machinery.files.store import BucketStore, FileStore, open_store
from dtx_assets.machinery.files.stored import StoredFiles
from dtx_assets.machinery.load import (
    LoadSummary,
    RunContext,
    SentFilesOfRun,
    Verification,
    load_target,
    open_run,
    undo_run,
    verify_target,
)
from dtx_assets.machinery.load.write import Writer
from dtx_assets_tests.dtx.oracle import RawRow, Result, Value
from dtx_assets_tests.dtx.running import SMALL_WORLD, Migration, World, reasons, rows
from dtx_assets_tests.forking import run_script

MODEL = "Document"
TABLE = "docutrax_profiles_document"
WORLD = World(
    {**SMALL_WORLD.crosswalks, "crosswalk_repo_file": rows("repo_file_id target_model target_id", (77, "Document", 1))},
    SMALL_WORLD.other_areas,
)
CONTENT = b"%PDF content"


def file(number: Value = "1", path: Value = "in/a.pdf", **changes: Value) -> RawRow:
    row: dict[str, Value] = dict.fromkeys(SYSTEM.legacy_tables["repo_file"].columns)
    row |= {
        "repo_file_id": number,
        "customer_id": "1",
        "vendor_id": "1",
        "name": "scan.pdf",
        "status": "SUBMITTED",
        "upload_user_id": "1",
        "intake_date": "2020-02-29 12:34:56",
        "repo_filepath": path,
    }
    return row | changes


@pytest.fixture
def migration(tmp_path: Path, database_url: str) -> Migration:
    migration = Migration(tmp_path / "migration", database_url, WORLD)
    migration.files = tmp_path / "files"
    (migration.files / "in").mkdir(parents=True)
    (migration.files / "in" / "a.pdf").write_bytes(CONTENT)
    (migration.files / "in" / "b.pdf").write_bytes(b"b")
    (migration.files / "out").symlink_to(tmp_path)
    return migration


@pytest.fixture(params=["directory", "bucket"])
def store(request, tmp_path: Path) -> FileStore:
    if request.param == "directory":
        return open_store(str(tmp_path / "store"))
    return open_store(f"s3://{request.getfixturevalue('s3_bucket')}/the/prefix")


def address(store: FileStore) -> str:
    return store.url if isinstance(store, BucketStore) else str(store.directory)


def prepare(migration: Migration, *files: RawRow, **options: Any) -> Result:
    migration.extract({"repo_file": files})
    migration.build_mappings(["handled_file", "file_inventory"])
    return migration.prepare([flow for flow in SYSTEM.flows if flow.name == "document"], **options)


def load(migration: Migration, store: Any, run_id: str) -> tuple[LoadSummary, FileSender]:
    target = SYSTEM.target(MODEL)
    context = open_run(migration.database_url, "dtx", run_id, mode="rehearsal", decisions={})
    context = replace(context, decisions=migration.lake.require(("dtx", "prepared", MODEL)).metadata["decisions"])
    sender = FileSender(target, store, LegacyFiles(migration.files), noted=SentFilesOfRun(context, target.name))
    return load_target("dtx", target, migration.lake, migration.database_url, context, send=sender), sender


def verify(migration: Migration, store: FileStore) -> Verification:
    target = SYSTEM.target(MODEL)
    decisions = migration.lake.require(("dtx", "prepared", MODEL)).metadata["decisions"]
    context = RunContext(migration.database_url, "dtx", "verify", "rehearsal", decisions, None, dry=True)
    with StoredFiles(store) as files:
        return verify_target("dtx", target, migration.lake, migration.database_url, context, files=files)


def alter(store: FileStore, key: str, content: bytes | None) -> None:
    """What somebody does to an object behind the back of the migration; None removes it."""
    if isinstance(store, BucketStore) and content is None:
        obstore.delete(store.store, key)
    elif isinstance(store, BucketStore):
        attributes = obstore.get(store.store, key).attributes
        obstore.put(store.store, key, content or b"", attributes=attributes)
    elif content is None:
        (store.directory / key).unlink()
    else:
        (store.directory / key).write_bytes(content)


def documents(migration: Migration) -> list[tuple[Any, ...]]:
    with psycopg.connect(migration.database_url) as connection:
        query = f"SELECT file, content_hash FROM {TABLE} WHERE file NOT LIKE 'documents/area4/%' ORDER BY 1"
        return connection.execute(query).fetchall()


def sent(store: FileStore) -> dict[str, bytes]:
    if isinstance(store, BucketStore):
        paths = [entry["path"] for page in obstore.list(store.store) for entry in page]
        return {path: bytes(obstore.get(store.store, path).bytes()) for path in paths}
    return {
        str(path.relative_to(store.directory)): path.read_bytes()
        for path in store.directory.rglob("*")
        if path.is_file() and not path.name.startswith(".sending-")
    }


def test_an_orphan_becomes_a_document_for_review(migration):
    [row] = prepare(migration, file("7.0")).rows[MODEL]
    assert {name: value for name, value in row.items() if name not in ("created",)} == {
        "account_id": 101,
        "record_id": 201,
        "uploaded_by_id": 201,
        "file": "documents/101/7/scan.pdf",
        "original_filename": "scan.pdf",
        "content_hash": hashlib.sha256(CONTENT).hexdigest(),
        "status": "new",
        "needs_review": True,
        "created_by_id": 11,
    }
    assert row["created"].isoformat() == "2020-02-29T12:34:56+00:00"


def test_rules_drop_rows_before_their_files_are_looked_at(migration):
    result = prepare(
        migration,
        file("1", "../x", status=" Deleted "),
        file("77.0", "none"),
        file("3", "none", certificate_id="5"),
        file("4", "none", document_id="5"),
        file("5", certificate_id="0", document_id="0.0", attachment_id="9"),
        file("6", "none", status="deleted", document_id="5"),
    )
    account = result.accounting["repo_file", MODEL]
    assert dict(account.dropped) == {"deleted": 2, "handled_by_area_4": 1, "linked_not_in_crosswalk": 2}
    assert (account.migrated, account.rejected) == (1, 0)
    inventory = migration.lake.scan(("dtx", "mapping", "file_inventory")).collect()
    assert [bytes.fromhex(path) for path in inventory["path"]] == [b"in/a.pdf"]


def test_files_that_cannot_be_had_and_rows_without_account_or_name_are_rejected(migration):
    result = prepare(
        migration,
        file("1", "../a.pdf"),
        file("2", "/etc/hostname"),
        file("3", "out/store"),
        file("4", b"in/a\0.pdf"),
        file("5", "in/none.pdf"),
        file("6", "in"),
        file("7", None),
        file("8", customer_id="7"),
        file("9", "in/none.pdf", customer_id="7", name=None),
        file("10", name="a\0b"),
    )
    assert reasons(result, MODEL) == {
        "1": ["unsafe_path"],
        "2": ["unsafe_path"],
        "3": ["unsafe_path"],
        "4": ["unsafe_path"],
        "5": ["file_missing"],
        "6": ["file_missing"],
        "7": ["file_missing"],
        "8": ["orphan_reference"],
        "9": ["file_missing", "orphan_reference", "schema_violation"],
        "10": ["unparseable"],
    }


def test_a_path_need_not_be_text_and_what_is_not_written_rejects_no_row(migration):
    (Path(os.fsdecode(os.fsencode(migration.files) + b"/in/\xff\n.pdf"))).write_bytes(CONTENT)
    result = prepare(
        migration,
        file("1", b"in/\xff\n.pdf", type=b"\xff\0", treatment=b"\xff\0", size="x"),
        file("2", ""),
        file("3", " in/a.pdf"),
        file("4", "in/./a.pdf"),
        file("5", "in//a.pdf", name="\x01/"),
        file("6", certificate_id="none"),
    )
    assert reasons(result, MODEL) == {"2": ["file_missing"], "3": ["file_missing"]}
    assert [(row["file"], row["content_hash"]) for row in result.rows[MODEL]] == [
        ("documents/101/1/scan.pdf", hashlib.sha256(CONTENT).hexdigest()),
        ("documents/101/4/scan.pdf", hashlib.sha256(CONTENT).hexdigest()),
        ("documents/101/5/file", hashlib.sha256(CONTENT).hexdigest()),
    ]
    assert dict(result.accounting["repo_file", MODEL].dropped) == {"linked_not_in_crosswalk": 1}


def test_what_is_not_found_or_no_time_is_null_and_counted(migration):
    result = prepare(
        migration,
        file("1", vendor_id=None, upload_user_id=None, intake_date=None),
        file("2", vendor_id="9", upload_user_id="9", intake_date="0000-00-00 00:00:00"),
    )
    for row in result.rows[MODEL]:
        assert [row[name] for name in ("record_id", "uploaded_by_id", "created_by_id", "created")] == [None] * 4
    coerced = result.accounting["repo_file", MODEL].coerced
    assert dict(coerced) == {"record_not_found": 1, "user_not_found": 1, "zero_date": 1}


def test_files_are_sent_before_their_rows_are_there_and_once_only(migration, store):
    prepare(migration, file("1"), file("2", "in/b.pdf", name="b/B.PDF"), batch_rows=1)
    summary, sender = load(migration, store, "first")
    assert (summary.inserted, dict(sender.counts), sender.bytes_sent) == (2, {"sent": 2}, len(CONTENT) + 1)
    assert sent(store) == {"documents/101/1/scan.pdf": CONTENT, "documents/101/2/B.PDF": b"b"}
    assert documents(migration) == [
        ("documents/101/1/scan.pdf", hashlib.sha256(CONTENT).hexdigest()),
        ("documents/101/2/B.PDF", hashlib.sha256(b"b").hexdigest()),
    ]
    prepare(migration, file("1"), file("2", "in/b.pdf", name="b/B.PDF"), batch_rows=1)
    again, sender = load(migration, store, "second")
    assert (again.inserted, again.updated, sender.counts.total()) == (0, 0, 0)


def test_a_file_that_was_touched_only_changes_nothing(migration, store):
    prepare(migration, file("1"))
    load(migration, store, "first")
    (migration.files / "in" / "a.pdf").touch()
    prepare(migration, file("1"))
    summary, sender = load(migration, store, "second")
    assert (summary.skipped_parts, summary.unchanged, sender.counts.total()) == (1, 1, 0)


def test_a_file_that_changed_is_sent_again_and_its_row_updated(migration, store):
    prepare(migration, file("1"))
    load(migration, store, "first")
    (migration.files / "in" / "a.pdf").write_bytes(b"another content")
    prepare(migration, file("1"))
    summary, sender = load(migration, store, "second")
    assert (summary.updated, dict(sender.counts)) == (1, {"sent": 1})
    assert sent(store) == {"documents/101/1/scan.pdf": b"another content"}
    assert documents(migration) == [("documents/101/1/scan.pdf", hashlib.sha256(b"another content").hexdigest())]


def test_a_file_that_changed_since_it_was_prepared_rejects_its_row_alone(migration, store):
    prepare(migration, file("1"), file("2", "in/b.pdf"))
    (migration.files / "in" / "b.pdf").write_bytes(b"c")
    summary, _ = load(migration, store, "first")
    assert (summary.inserted, summary.rejected) == (1, 1)
    assert [name for name, _ in documents(migration)] == ["documents/101/1/scan.pdf"]
    assert list(sent(store)) == ["documents/101/1/scan.pdf"]
    assert rejected(migration) == [("2", ["file_missing"], "file: the file changed since it was prepared")]
    # When it was prepared again, it goes.
    prepare(migration, file("1"), file("2", "in/b.pdf"))
    summary, _ = load(migration, store, "second")
    assert (summary.inserted, summary.rejected) == (1, 0)


def test_a_document_that_someone_changed_or_deleted_keeps_its_file_as_it_is(migration, store):
    files = [file("1"), file("2", "in/b.pdf"), file("3", "in/a.pdf", name="c")]
    prepare(migration, *files)
    load(migration, store, "first")
    with psycopg.connect(migration.database_url) as connection:
        connection.execute(f"UPDATE {TABLE} SET status = 'reviewed' WHERE file LIKE 'documents/101/1/%'")
        connection.execute(f"DELETE FROM {TABLE} WHERE file LIKE 'documents/101/3/%'")
    before = documents(migration)
    (migration.files / "in" / "a.pdf").write_bytes(b"another content")
    prepare(migration, *files)
    summary, sender = load(migration, store, "second")
    assert (summary.conflicts, summary.updated, summary.inserted) == (2, 0, 0)
    assert sender.counts.total() == 0
    assert documents(migration) == before
    assert sent(store)["documents/101/1/scan.pdf"] == CONTENT


def test_of_a_part_that_changed_just_the_files_of_changed_rows_are_looked_at(migration, store):
    prepare(migration, file("1"), file("2", "in/b.pdf"))
    load(migration, store, "first")
    prepare(migration, file("1", name="renamed.pdf"), file("2", "in/b.pdf"), file("3"))
    summary, sender = load(migration, store, "second")
    assert (summary.inserted, summary.updated, summary.unchanged) == (1, 1, 1)
    assert dict(sender.counts) == {"sent": 2}


def test_a_store_that_is_down_fails_the_load_rejects_no_row_and_the_next_load_takes_them_up(
    migration, store, monkeypatch
):
    prepare(migration, file("1"), file("2", "in/b.pdf"))
    monkeypatch.setattr(store_module, "FIRST_DELAY", 0)
    with monkeypatch.context() as down:
        down.setattr(type(store), "put", refuse)
        with pytest.raises(LoadError, match="no row of this part is written: the object store cannot take it"):
            load(migration, store, "first")
    assert (documents(migration), sent(store)) == ([], {})
    assert rejected(migration) == []
    summary, _ = load(migration, store, "second")
    assert (summary.inserted, summary.rejected) == (2, 0)
    assert {name for name, _ in documents(migration)} == set(sent(store))


def rejected(migration: Migration) -> list[tuple[Any, ...]]:
    with psycopg.connect(migration.database_url) as connection:
        return connection.execute("SELECT source_key, reasons, detail FROM migration.rejected").fetchall()


def refuse(*_: Any) -> None:
    raise obstore.exceptions.GenericError("503 SlowDown")


@pytest.fixture(params=["asked one by one", "listed"])
def listed(request, monkeypatch):
    if request.param == "listed":
        monkeypatch.setattr("dtx_assets.machinery.files.stored.LISTED_FROM", 0)


@pytest.mark.usefixtures("listed")
def test_verify_finds_the_files_that_the_store_lost_or_holds_otherwise(migration, store):
    prepare(migration, *(file(str(number), name=f"{number}.pdf") for number in range(1, 6)), batch_rows=2)
    load(migration, store, "first")
    found = verify(migration, store)
    assert found.is_clean
    assert (found.files, found.files_read) == (5, 0 if isinstance(store, BucketStore) else 5)
    alter(store, "documents/101/2/2.pdf", None)
    alter(store, "documents/101/3/3.pdf", b"other " + CONTENT)
    # Of the same size, and with what was noted beside it.
    alter(store, "documents/101/4/4.pdf", b"X" + CONTENT[1:])
    found = verify(migration, store)
    assert dict(found.counts) == {"files_lost": 1, "files_changed": 2}
    assert (found.rows, found.files) == (5, 5)
    said = {sample.source_key: (sample.fate, str(sample.cause)) for sample in found.samples}
    assert said["2"][0] == "files_lost"
    assert "the object store does not have it; put it back" in said["2"][1]
    assert f"other bytes: {len(CONTENT) + 6} of them, not {len(CONTENT)}" in said["3"][1]
    [other] = [sample for sample in found.samples if sample.source_key == "4"]
    hashes = [hashlib.sha256(content).hexdigest() for content in (b"X" + CONTENT[1:], CONTENT)]
    assert other.columns[1] == ("content_hash", *hashes)
    assert all(sample.target_id for sample in found.samples)


@pytest.mark.usefixtures("listed")
def test_files_that_were_sent_before_tags_were_noted_are_read(migration, store):
    prepare(migration, file("1"), file("2", "in/b.pdf"))
    load(migration, store, "first")
    with psycopg.connect(migration.database_url) as connection:
        connection.execute("UPDATE migration.sent_file SET e_tag = NULL")
    found = verify(migration, store)
    assert (found.is_clean, found.files, found.files_read) == (True, 2, 2)
    alter(store, "documents/101/2/scan.pdf", b"c")
    assert dict(verify(migration, store).counts) == {"files_changed": 1}


def test_files_of_rows_that_are_not_there_or_came_to_be_of_others_are_not_asked_for(migration, store):
    prepare(migration, file("1"), file("2", "in/b.pdf"), file("3"))
    load(migration, store, "first")
    with psycopg.connect(migration.database_url) as connection:
        connection.execute(f"DELETE FROM {TABLE} WHERE file LIKE 'documents/101/1/%'")
    alter(store, "documents/101/1/scan.pdf", None)
    assert dict(verify(migration, store).counts) == {"lost": 1}
    # The source row is gone, the target row is there still, and so is its file.
    prepare(migration, file("1"), file("3"))
    found = verify(migration, store)
    assert (found.vanished, found.files) == (1, 2)
    alter(store, "documents/101/2/scan.pdf", b"c")
    assert verify(migration, store).counts["files_changed"] == 1


def test_a_store_that_cannot_be_asked_is_no_store_that_lost_files(migration, store, tmp_path, request, monkeypatch):
    prepare(migration, file("1"))
    load(migration, store, "first")
    if isinstance(store, BucketStore):
        monkeypatch.setattr(store_module, "REQUEST_RETRIES", {"max_retries": 0})
        elsewhere = [open_store("s3://no-such-bucket/the/prefix")]
        says = "NoSuchBucket: The specified bucket does not exist"
    else:
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_bytes(b"")
        elsewhere = [open_store(str(tmp_path / name)) for name in ("nowhere", "empty", "file")]
        says = "No such file|the object store is empty, and 1 files were sent|Not a directory"
    for other in elsewhere:
        with pytest.raises(LoadError, match=says) as caught:
            verify(migration, other)
        assert caught.value.where == other.url
        assert caught.value.remedy
    assert verify(migration, store).is_clean


def test_a_root_of_legacy_files_that_goes_meanwhile_rejects_no_row(migration, store, tmp_path):
    prepare(migration, file("1"), file("2", "in/b.pdf"))
    migration.files.rename(tmp_path / "away")
    for left in (None, "empty"):
        if left:
            migration.files.mkdir()
        with pytest.raises(MigrationError, match="the root of the legacy files is"):
            load(migration, store, f"run {left}")
        assert (documents(migration), rejected(migration)) == ([], [])


def test_a_row_that_the_target_refuses_sends_no_file(migration, store):
    with psycopg.connect(migration.database_url) as connection:
        connection.execute(f"ALTER TABLE {TABLE} ALTER original_filename TYPE varchar(5)")
    prepare(migration, file("1"), file("2", name="b"))
    summary, _ = load(migration, store, "first")
    assert (summary.inserted, summary.rejected) == (1, 1)
    assert list(sent(store)) == ["documents/101/2/b"]


def test_the_file_of_a_row_that_a_constraint_refuses_stays_until_the_run_is_undone(migration, store):
    with psycopg.connect(migration.database_url) as connection:
        connection.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT no_scans CHECK (original_filename <> 'scan.pdf')")
    prepare(migration, file("1"), file("2", name="b"))
    summary, _ = load(migration, store, "first")
    assert (summary.inserted, summary.rejected) == (1, 1)
    # Files are sent before their rows are written: only the database knows what it refuses.
    assert set(sent(store)) == {"documents/101/1/scan.pdf", "documents/101/2/b"}
    assert [name for name, _ in documents(migration)] == ["documents/101/2/b"]
    undone = undo_run(migration.database_url, "dtx", SYSTEM.targets, "first", remove_file=store.remove)
    assert (undone.files_removed, undone.files_in_use) == (2, 0)
    assert sent(store) == {}


def test_what_a_run_sent_is_its_own_when_its_load_is_done_again(migration, store):
    """A worker that died leaves the step to another one, in the same run."""
    prepare(migration, file("1"), file("2", name="b"))
    theirs, ours = "documents/101/2/b", "documents/101/1/scan.pdf"
    with psycopg.connect(migration.database_url) as connection:
        connection.execute(f"ALTER TABLE {TABLE} ALTER original_filename TYPE varchar(5)")
    load(migration, store, "before")
    with psycopg.connect(migration.database_url) as connection:
        connection.execute(f"ALTER TABLE {TABLE} ALTER original_filename TYPE text")
    prepare(migration, file("1"), file("2", name="b"))

    def dies(*_arguments, **_options):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, "close_batch", dies)
        with pytest.raises(KeyboardInterrupt):
            load(migration, store, "again")
    assert set(sent(store)) == {ours, theirs}
    summary, sender = load(migration, store, "again")
    assert (summary.inserted, dict(sender.counts)) == (1, {"present": 1})
    with psycopg.connect(migration.database_url) as connection:
        noted = connection.execute("SELECT run_id, object_key FROM migration.sent_file ORDER BY 1").fetchall()
    assert noted == [("again", ours), ("before", theirs)]
    undone = undo_run(migration.database_url, "dtx", SYSTEM.targets, "again", remove_file=store.remove)
    assert undone.files_removed == 1
    assert set(sent(store)) == {theirs}


@pytest.mark.parametrize("moment", ["between files", "within a file", "before the transaction ends"])
def test_a_load_that_is_killed_leaves_no_row_without_its_file(migration, store, moment, tmp_path):
    (migration.files / "in" / "large").write_bytes(b"x" * (3 * store_module.PART_BYTES))
    files = [file(str(number), name=f"{number}.pdf") for number in range(1, 40)]
    prepare(migration, *files, file("40", "in/large", name="40.pdf"))
    decisions = migration.lake.require(("dtx", "prepared", MODEL)).metadata["decisions"]
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from dtx_assets.dtx.system import SYSTEM
        from dtx_assets.machinery.files.inventory import LegacyFiles
        from dtx_assets.machinery.files.sending import FileSender
        from dtx_assets.machinery.files import store
        from dtx_assets.machinery.base.lake import Lake
        from dtx_assets.machinery.load import load_target, open_run
        from dtx_assets.machinery.load.write import Writer
        target = SYSTEM.target("Document")
        sender = FileSender(target, store.open_store({address(store)!r}), LegacyFiles(Path({str(migration.files)!r})))
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        chunks, close = store.chunks, Writer.close_batch
        def killed_within(file):
            for number, chunk in enumerate(chunks(file)):
                yield kill() if number == 20 else chunk
        if {moment!r} == "between files":
            sender.progress = lambda done, *_: kill() if done == 20 else None
        elif {moment!r} == "within a file":
            store.chunks = killed_within
        else:
            Writer.close_batch = lambda *arguments: (close(*arguments), kill())
        run = open_run({migration.database_url!r}, "dtx", "killed", mode="rehearsal", decisions={decisions!r})
        load_target("dtx", target, Lake({migration.lake.url!r}), {migration.database_url!r}, run, send=sender)
    """)
    assert run_script(script).returncode == -signal.SIGKILL
    assert documents(migration) == []
    there = set(sent(store))
    wanted = {f"documents/101/{number}/{number}.pdf" for number in range(1, 41)}
    assert there <= (wanted - {"documents/101/40/40.pdf"} if moment == "within a file" else wanted)
    assert len(there) >= (0 if moment == "within a file" else 20)
    summary, sender = load(migration, store, "next")
    assert summary.inserted == 40
    # What was on its way to the server when the load was killed may arrive after all.
    assert sender.counts["present"] >= len(there)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sent(store).items()}
    assert dict(documents(migration)) == hashes
    assert set(hashes) == wanted
