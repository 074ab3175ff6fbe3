"""What Dify and the target hold when a run that sends documents, or its undo, is killed, and what an undo does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import FAILPOINT, PROOF
from dtx_assets.machinery.derived import schema
from dtx_assets.machinery.derived.undo import undo_derived
from dtx_assets_tests.machinery.derived.place import DECLARED
from dtx_assets_tests.machinery.derived.test_run import BODIES, deriving
from dtx_assets_tests.machinery.derived.test_sending import (
    client,
    derive,
    is_whole,
    name_of,
    service,
    texts,
    write,
)

__all__ = ["service"]

WORKER = """
import sys
from dtx_assets.machinery.derived import undo, undo_documents
from dtx_assets.machinery.derived.dify import Dify
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets_tests.machinery.derived.knowledge import KEY
from dtx_assets_tests.machinery.derived.place import DECLARED, Place
from dtx_assets_tests.machinery.derived.test_run import deriving
url, runs, service, undone = sys.argv[1:]
undo_documents.DOCUMENTS_A_BATCH = 2
place = Place(url, connect(url), runs=int(runs))
dify = Dify(service, KEY, embedding_provider="embeds", rerank_provider="ranks")
if undone:
    undo.undo_derived(place.connection, DECLARED, undone, dify, place.clock)
else:
    deriving(place, dify=dify).run()
"""


@pytest.fixture
def worker(place, service, tmp_path):
    def work(point="", undone=""):
        place.runs += 0 if undone else 1
        proof = tmp_path / "proof"
        proof.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", WORKER, place.url, str(place.runs - 1), service.url, undone],
            env={**os.environ, FAILPOINT: point, PROOF: str(proof)},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == (-9 if point else 0), done.stderr
        assert proof.exists() == bool(point)

    return work


@pytest.mark.parametrize(
    "point",
    [
        "derived.base_made",
        "derived.document_sent",
        "derived.document_sent:3",
        "derived.document_before_commit",
        "derived.document_removed",
    ],
)
def test_a_kill_at_any_point_leaves_each_document_once(place, service, worker, point):
    if point != "derived.base_made":
        write(place, changes="before", goes="to go")
        derive(place, service)
    write(place, changes="after", goes=" ", new="new", more="more")
    worker(point)
    derive(place, service)
    assert len(service.bases) == 1
    is_whole(place, service, changes="after", new="new", more="more")
    asked = len(service.asked)
    derive(place, service)
    assert len(service.asked) == asked


def everything(place):
    documents = "SELECT to_jsonb(d) - 'batch' - 'updated_at' FROM dify_documents AS d ORDER BY id"
    return [
        place.rows("SELECT to_jsonb(q) - 'leased_until' FROM embedding_queue AS q ORDER BY id"),
        place.rows("SELECT to_jsonb(e) FROM message_embeddings AS e ORDER BY id"),
        place.rows(documents),
    ]


def undo(place, service, run_id):
    return undo_derived(place.connection, DECLARED, run_id, client(service), place.clock)


def test_the_undo_of_a_run_gives_dify_back_what_it_had(place, service):
    write(place, stays="stays", changes="before", goes="to go")
    derive(place, service)
    before, had = everything(place), texts(service)
    schema.switch_triggers(place.connection, DECLARED, on=False)
    write(place, changes="after", goes=" ", new="new")
    run = deriving(place, dify=client(service))
    run.run()
    assert texts(service) != had
    assert undo(place, service, run.run_id).documents == 3
    assert texts(service) == had
    queue, embeddings, documents = everything(place)
    assert [queue, embeddings] == before[:2]
    # What was taken away is another document for Dify now, with the same name and text.
    ids = {each.name: each.id for each in service.documents.values()}
    assert documents == [({**row, "dify_document_id": ids[row["document_name"]]},) for (row,) in before[2]]
    assert derive(place, service).sent == 2
    is_whole(place, service, stays="stays", changes="after", new="new")


def test_the_undo_of_the_first_run_leaves_nothing_in_the_knowledge_bases(place, service):
    write(place, **BODIES)
    run = deriving(place, dify=client(service))
    run.run()
    mine = service.make_document(next(iter(service.bases)), {"name": "by hand", "text": "mine"})
    assert mine[0] == 200
    undo(place, service, run.run_id)
    assert texts(service) == {"by hand": "mine"}
    assert everything(place) == [[], [], []]
    assert undo(place, service, run.run_id).documents == 0
    assert place.rows("SELECT entity_type, document_count FROM dify_knowledgebases") == [("messages", 0)]


@pytest.mark.parametrize("nth", [1, 2])
def test_an_undo_that_was_killed_leaves_dify_as_it_was_when_it_is_done_again(place, service, worker, nth):
    write(place, stays="stays", changes="before", goes="to go")
    derive(place, service)
    had = texts(service)
    schema.switch_triggers(place.connection, DECLARED, on=False)
    write(place, changes="after", goes=" ", new="new", more="more")
    worker()
    run = f"run-{place.runs}"
    worker(f"derived.document_undone:{nth}", undone=run)
    assert place.rows("SELECT count(*) FROM migration.derived_document WHERE run_id = %s", run) == [(6 - 2 * nth,)]
    worker(undone=run)
    assert texts(service) == had
    assert len(service.documents) == 3


def test_a_dry_undo_asks_dify_nothing(place, service):
    write(place, one="one")
    run = deriving(place, dify=client(service))
    run.run()
    before, asked = everything(place), len(service.asked)
    with place.connection.transaction(force_rollback=True):
        done = undo_derived(place.connection, DECLARED, run.run_id, client(service), place.clock, dry=True)
    assert done.documents == 1
    assert everything(place) == before
    assert (len(service.asked), texts(service)) == (asked, {name_of("one"): "one"})


def test_an_undo_that_has_to_ask_dify_says_so_before_it_does_anything(place, service):
    write(place, one="one")
    run = deriving(place, dify=client(service))
    run.run()
    before = everything(place)
    with pytest.raises(LoadError, match="sent 1 documents to Dify") as told:
        undo_derived(place.connection, DECLARED, run.run_id)
    assert "DIFY_URL" in told.value.remedy
    assert everything(place) == before


def test_the_undo_of_a_run_without_dify_needs_none(place):
    write(place, **BODIES)
    run = deriving(place)
    run.run()
    assert undo_derived(place.connection, DECLARED, run.run_id).documents == 3
    assert everything(place) == [[], [], []]
    assert place.rows("SELECT count(*) FROM dify_knowledgebases") == [(0,)]
