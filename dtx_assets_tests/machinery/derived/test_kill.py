"""A run of the derived layer, or its undo, that is killed between its steps: what is left, and what the next one does.

Kills within the embedding are in `test_embed`.
"""

import pytest

from dtx_assets.machinery.base.failpoints import FAILPOINT, PROOF
from dtx_assets.machinery.derived import schema
from dtx_assets_tests.forking import run_script
from dtx_assets_tests.machinery.derived.place import DECLARED
from dtx_assets_tests.machinery.derived.test_run import BODIES, everything, index_names

WORKER = """
import sys
from dtx_assets.machinery.derived import schema, undo
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets_tests.machinery.derived.place import DECLARED, Place
from dtx_assets_tests.machinery.derived.test_run import deriving
url, runs, undone = sys.argv[1:]
schema.BULK_ROWS, undo.ROWS_A_BATCH = 3, 1
place = Place(url, connect(url), runs=int(runs))
if undone:
    undo.undo_derived(place.connection, DECLARED, undone)
else:
    run = deriving(place)
    done = run.run()
    print(run.run_id, len(run.embedder.texts), *done.indexes)
"""


@pytest.fixture
def worker(place, tmp_path):
    """Runs, or undoes a run, in a process of its own, which is to die at a point where one is named."""

    def work(point="", undone=""):
        place.runs += 0 if undone else 1
        proof = tmp_path / "proof"
        proof.unlink(missing_ok=True)
        watched = {FAILPOINT: point, PROOF: str(proof)}
        done = run_script(WORKER, place.url, str(place.runs - 1), undone, **watched)
        assert done.returncode == (-9 if point else 0), done.stderr
        assert proof.exists() == bool(point)
        return done.stdout.split()

    return work


def write(place, **bodies):
    for name, body in bodies.items():
        place.message(name, body)


INDEXES = ["message_embeddings_gin", "message_embeddings_hnsw"]


def test_a_run_killed_when_indexes_were_dropped_leaves_their_definitions_and_the_next_makes_them(place, worker):
    write(place, **BODIES)
    worker()
    definitions = dict(schema._indexes(place.connection, DECLARED.entities["messages"]))
    assert list(definitions) == INDEXES
    write(place, **{name: f"{body} Changed." for name, body in BODIES.items()})
    before = place.embedded()
    worker("derived.indexes_dropped")
    assert index_names(place)["messages"] == []
    noted = place.rows("SELECT index_name, definition FROM migration.derived_index ORDER BY 1")
    assert dict(noted) == definitions
    assert place.embedded() == before
    assert place.rows("SELECT status, count(*) FROM embedding_queue GROUP BY 1") == [("pending", 3)]
    _, asked, *made = worker()
    assert (asked, sorted(made)) == ("3", INDEXES)
    assert dict(schema._indexes(place.connection, DECLARED.entities["messages"])) == definitions
    assert place.rows("SELECT count(*) FROM migration.derived_index") == [(0,)]
    texts = place.rows("SELECT content_text FROM message_embeddings ORDER BY 1")
    assert texts == sorted((f"{body} Changed.",) for body in BODIES.values())


def test_a_run_killed_between_indexes_asks_nothing_again_and_the_next_makes_the_others(place, worker):
    write(place, **BODIES)
    worker("derived.index_built")
    made = {name: len(indexes) for name, indexes in index_names(place).items()}
    assert made == {"profiles": 2, "orders": 0, "messages": 0, "projects": 0}
    assert place.rows("SELECT status, count(*) FROM embedding_queue GROUP BY 1") == [("completed", 3)]
    before = everything(place)
    _, asked, *indexes = worker()
    assert asked == "0"
    assert len(indexes) == 6
    assert all(len(there) == 2 for there in index_names(place).values())
    assert everything(place) == before


@pytest.mark.parametrize("nth", [1, 2])
def test_an_undo_that_was_killed_goes_on_where_it_stopped(place, worker, nth):
    write(place, **BODIES)
    worker()
    before = everything(place)
    schema.switch_triggers(place.connection, DECLARED, on=False)
    write(place, invoice=" ", scan="changed", new="new")
    [run, *_] = worker()
    after = everything(place)
    worker(f"derived.undone:{nth}", undone=run)
    assert set(schema.trigger_states(place.connection, DECLARED).values()) == {"off"}
    assert place.rows("SELECT count(*) FROM migration.derived_journal WHERE run_id = %s", run) == [(3 - nth,)]
    assert everything(place) not in (before, after)
    worker(undone=run)
    assert everything(place) == before
    assert place.rows("SELECT count(*) FROM migration.derived_journal WHERE run_id = %s", run) == [(0,)]
    [_, asked, *_] = worker()
    assert asked == "2"
