"""Files of documents sent in shards, before one process loads the rows: as by one process, whatever dies."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from dtx_assets.dtx.decided_system import SYSTEM
from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.files.inventory import LegacyFiles
from dtx_assets.machinery.files.sending import FileSender
from dtx_assets.machinery.files.store import FileStore
from dtx_assets.machinery.load import RunContext, SentFilesOfRun, Subset, load_target, open_run, sent_ahead, undo_run
from dtx_assets.machinery.load.sent_ahead import Sending
from dtx_assets_tests.dtx.running import MANY, Migration
from dtx_assets_tests.dtx.test_document import (
    MODEL,
    documents,
    file,
    migration,
    prepare,
    sent,
    store,
    verify,
)

__all__ = ["migration", "store"]
TARGET = SYSTEM.target(MODEL)
FILES = 24


@pytest.fixture
def prepared(migration: Migration) -> Migration:
    """Documents in several parts; of two of them the file is not what it was when it was listed, or is gone."""
    for number in range(FILES):
        (migration.files / "in" / f"{number}.pdf").write_bytes(b"%d" % number * number)
    rows = [
        # Of many accounts: those of one lie in one part.
        file(str(number + 1), f"in/{number}.pdf", name=f"{number}.pdf", customer_id=str(customer))
        for number, customer in zip(range(FILES), MANY, strict=False)
    ]
    result = prepare(migration, *rows, file("90", "in/none.pdf"), file("91", "../x"), batch_rows=3)
    assert result.accounting["repo_file", MODEL].rejected == 2
    (migration.files / "in" / "5.pdf").write_bytes(b"another")
    (migration.files / "in" / "6.pdf").unlink()
    return migration


def run_of(migration: Migration, run_id: str) -> RunContext:
    context = open_run(migration.database_url, "dtx", run_id, mode="rehearsal", decisions={})
    return replace(context, decisions=migration.lake.require(("dtx", "prepared", MODEL)).metadata["decisions"])


def sender_of(migration: Migration, store: FileStore, run: RunContext) -> FileSender:
    return FileSender(TARGET, store, LegacyFiles(migration.files), noted=SentFilesOfRun(run, TARGET.name))


def sending_of(migration: Migration, run: RunContext) -> Sending:
    return Sending("dtx", TARGET, migration.lake, run)


def loaded(migration: Migration, run: RunContext, send: Any) -> dict[str, Any]:
    summary = load_target("dtx", TARGET, migration.lake, migration.database_url, run, send=send)
    return {"inserted": summary.inserted, "rejected": summary.rejected, "accounting": summary.accounting}


def found(migration: Migration, store: FileStore, run: RunContext, sender: FileSender) -> dict[str, Any]:
    with psycopg.connect(migration.database_url) as connection:
        noted = connection.execute(
            "SELECT object_key, sha256, e_tag FROM migration.sent_file WHERE run_id = %s ORDER BY 1", [run.run_id]
        ).fetchall()
        rejected = connection.execute(
            "SELECT source_key, reasons, detail FROM migration.rejected WHERE target_table = %s ORDER BY 1, 2",
            [TARGET.name],
        ).fetchall()
    return {
        "documents": documents(migration),
        "sent": sent(store),
        "noted": noted,
        "rejected": rejected,
        "counts": dict(sender.counts),
        "bytes": sender.bytes_sent,
    }


def in_one_process(migration: Migration, store: FileStore, run_id: str = "alone") -> dict[str, Any]:
    """What one process does, and undoes again."""
    run = run_of(migration, run_id)
    sender = sender_of(migration, store, run)
    alone = loaded(migration, run, sender) | found(migration, store, run, sender)
    undo_run(migration.database_url, "dtx", SYSTEM.targets, run_id, remove_file=store.remove)
    assert documents(migration) == []
    return alone


def in_shards(migration: Migration, store: FileStore, run: RunContext, files: int = 8) -> dict[str, Any]:
    sending = sending_of(migration, run)
    for shard in reversed(sending.plan(files)):
        sending.send(shard, sender_of(migration, store, run))
    sender = sender_of(migration, store, run)
    done = loaded(migration, run, sending.ahead(sender)) | found(migration, store, run, sender)
    sending.forget()
    return done


@pytest.mark.parametrize("files", [1, 8])
def test_files_and_rows_are_those_of_one_process(prepared, store, files):
    alone = in_one_process(prepared, store)
    assert alone["inserted"] == FILES - 2
    assert alone["counts"] == {"sent": FILES - 2, "rejected": 2}
    details = {key: detail for key, _, detail in alone["rejected"]}
    assert details["6"] == "file: the file changed since it was prepared"
    assert details["7"] == "file: there is no such file"
    assert len(alone["noted"]) == FILES - 2
    run = run_of(prepared, "shared")
    assert len(sending_of(prepared, run).plan(files)) == min(-(-FILES // files), _parts(prepared))
    assert in_shards(prepared, store, run, files) == alone
    assert verify(prepared, store).is_clean
    assert prepared.lake.manifest(("dtx", "shards", f"load_{MODEL}", "plan")) is None
    undone = undo_run(prepared.database_url, "dtx", SYSTEM.targets, "shared", remove_file=store.remove)
    assert undone.files_removed == FILES - 2
    assert sent(store) == {}


def _parts(migration: Migration) -> int:
    return len(migration.lake.require(("dtx", "prepared", MODEL)).metadata["parts"])


def test_shards_write_no_row_and_the_load_sends_nothing_again(prepared, store):
    run = run_of(prepared, "shared")
    sending = sending_of(prepared, run)
    shards = sending.plan(8)
    assert len(shards) > 1
    for shard in shards:
        sending.send(shard, sender_of(prepared, store, run))
    assert documents(prepared) == []
    assert len(sent(store)) == FILES - 2
    with psycopg.connect(prepared.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM migration.load").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM migration.target_row").fetchone() == (0,)
    # Done is done: a shard that is handed out once more reads nothing, nor is it planned again in the same run.
    for path in (prepared.files / "in").iterdir():
        path.unlink()
    sending.send(shards[0], sender_of(prepared, store, run))
    assert sending.plan(8) == []
    assert loaded(prepared, run, sending.ahead(sender_of(prepared, store, run)))["inserted"] == FILES - 2


class Died(BaseException):
    """What a process that is killed does not catch either."""


def dies_at(point: str, nth: int) -> Callable[[str], None]:
    reached = iter(range(1, 1000))

    def reach(name: str) -> None:
        if name == point and next(reached) == nth:
            raise Died

    return reach


@pytest.mark.parametrize(
    ("point", "nth"), [("shards.files_sent", 1), ("shards.files_sent", 3), ("shards.before_done", 1)]
)
def test_a_shard_that_died_half_way_is_done_again_and_no_file_is_unknown(prepared, store, monkeypatch, point, nth):
    alone = in_one_process(prepared, store)
    run = run_of(prepared, "shared")
    sending = sending_of(prepared, run)
    shards = sending.plan(8)
    with monkeypatch.context() as patch:
        patch.setattr(sent_ahead, "reach", dies_at(point, nth))
        with pytest.raises(Died):
            sending.send(shards[0], sender_of(prepared, store, run))
    there = set(sent(store))
    assert there
    assert sending.plan(8) == shards
    done = in_shards(prepared, store, run)
    # What was sent before it died is there when it is done again, as of a load that is killed.
    assert done.pop("counts") == {"sent": FILES - 2 - len(there), "present": len(there), "rejected": 2}
    assert done.pop("bytes") + sum(len(alone["sent"][key]) for key in there) == alone["bytes"]
    assert done == {name: fact for name, fact in alone.items() if name not in ("counts", "bytes")}
    undone = undo_run(prepared.database_url, "dtx", SYSTEM.targets, "shared", remove_file=store.remove)
    assert undone.files_removed == FILES - 2


def test_what_no_shard_of_this_run_sent_the_load_sends(prepared, store):
    before = run_of(prepared, "before")
    sending = sending_of(prepared, before)
    sending.send(sending.plan(8)[0], sender_of(prepared, store, before))
    there = len(sent(store))
    assert 0 < there < FILES - 2
    run = run_of(prepared, "later")
    later = sending_of(prepared, run)
    sender = sender_of(prepared, store, run)
    # Of another run, nothing is believed.
    assert loaded(prepared, run, later.ahead(sender))["inserted"] == FILES - 2
    assert sender.counts["present"] >= there
    # And once all is loaded there is nothing to send, in however many shards.
    again = run_of(prepared, "again")
    for shard in sending_of(prepared, again).plan(8):
        sender = sender_of(prepared, store, again)
        sending_of(prepared, again).send(shard, sender)
        assert dict(sender.counts).keys() <= {"rejected"}


def test_nothing_is_sent_while_the_gate_is_closed(prepared, store):
    def closed(_model: str) -> None:
        raise LoadError("a decision is open")

    run = replace(run_of(prepared, "shared"), gate=closed)
    with pytest.raises(LoadError, match="a decision is open"):
        sending_of(prepared, run).plan(8)
    shards = sending_of(prepared, replace(run, gate=None)).plan(8)
    with pytest.raises(LoadError, match="a decision is open"):
        sending_of(prepared, run).send(shards[0], sender_of(prepared, store, run))
    assert sent(store) == {}


def test_of_few_files_or_of_some_rows_there_are_no_shards(prepared):
    run = run_of(prepared, "shared")
    assert sending_of(prepared, run).plan(FILES) == []
    assert sending_of(prepared, run).plan(0) == []
    some = replace(run, subset=Subset("first", 5))
    assert sending_of(prepared, some).plan(8) == []
