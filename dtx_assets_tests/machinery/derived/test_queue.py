"""The queue holds each eligible text once, knows what changed, and gives every row to one process at a time."""

from datetime import timedelta
from uuid import uuid5

import pytest

from dtx_assets.machinery.derived.filling import Filling
from dtx_assets.machinery.derived.queue import LEASE, to_embed
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets_tests.machinery.derived.place import CHOSEN, DECLARED, Asked, key


def test_an_eligible_row_has_one_row_of_the_queue_whose_id_is_known_beforehand(place):
    place.message("one", " hello ")
    place.message("blank", " ")
    queued = place.fill(place.queue())
    assert (queued.created, queued.updated, queued.deleted) == (1, 0, 0)
    assert (queued.texts, queued.distinct, queued.characters) == (1, 1, 5)
    state = place.state("one")
    assert str(state["id"]) == str(uuid5(DECLARED.namespace, f"embedding_queue:messages:{key('one')}:message_content"))
    told = {name: state[name] for name in ("operation", "status", "priority", "attempts", "max_attempts")}
    assert told == {"operation": "create", "status": "pending", "priority": 3, "attempts": 0, "max_attempts": 5}
    assert not state["process_dify"]


def test_the_trigger_makes_the_same_id_and_honours_a_load(place):
    place.connection.execute("ALTER TABLE messages ENABLE TRIGGER queue_message_embeddings")
    with place.connection.transaction():
        place.connection.execute("SET LOCAL dispatch.loading = 'on'")
        place.message("loaded", "by the load")
    place.message("live", "by the application")
    assert place.rows("SELECT source_id::text FROM embedding_queue") == [(key("live"),)]
    expected = str(uuid5(DECLARED.namespace, f"embedding_queue:messages:{key('live')}:message_content"))
    assert str(place.state("live")["id"]) == expected
    names = ["", "ü🦷", "x" * 39, "x" * 40, "x" * 500]
    made = place.rows("SELECT uuid5(%s, name)::text FROM unnest(%s::text[]) AS name", DECLARED.namespace, names)
    assert [found for (found,) in made] == [str(uuid5(DECLARED.namespace, name)) for name in names]


def test_what_the_application_writes_is_queued_and_asked_only_where_its_text_changed(place):
    place.message("same", "one text")
    place.message("other", "another text")
    place.message("gone", "a third text")
    place.embed(Asked())
    place.connection.execute("ALTER TABLE messages ENABLE TRIGGER queue_message_embeddings")
    place.message("same", " one text ")
    place.message("other", "changed")
    place.connection.execute("DELETE FROM messages WHERE id = %s", [key("gone")])
    place.message("new", "a fourth text")
    assert {place.state(name)["status"] for name in ("same", "other", "gone", "new")} == {"pending"}
    asked = Asked()
    place.embed(asked)
    assert sorted(asked.texts) == ["a fourth text", "changed"]
    operations = {name: place.state(name)["operation"] for name in ("same", "other", "gone", "new")}
    assert operations == {"same": "update", "other": "update", "gone": "delete", "new": "create"}
    assert {place.state(name)["status"] for name in operations} == {"completed"}


def test_a_second_run_asks_nothing_and_changes_nothing(place):
    place.message("one", "text")
    place.embed(Asked())
    queries = ("SELECT * FROM embedding_queue", "SELECT id, xmin FROM message_embeddings")
    before = [place.rows(query) for query in queries]
    asked = Asked()
    embedding = place.embed(asked)
    assert asked.texts == []
    assert (embedding.summary.embedded, embedding.summary.adopted) == (0, 0)
    assert [place.rows(query) for query in queries] == before


def test_a_changed_text_is_an_update_and_takes_the_place_of_the_old_one(place):
    place.message("one", "before")
    place.embed(Asked())
    place.message("one", "after")
    queued = place.fill(place.queue())
    assert (queued.created, queued.updated, queued.deleted) == (0, 1, 0)
    assert place.state("one")["operation"] == "update"
    assert not place.state("one")["pgvector_completed"]
    place.embed(Asked())
    assert place.rows("SELECT content_text FROM message_embeddings") == [("after",)]


@pytest.mark.parametrize("how", ["gone", "blank"])
def test_what_is_gone_or_no_longer_eligible_is_taken_away_and_may_come_back(place, how):
    place.message("one", "text")
    place.message("other", "other text")
    place.embed(Asked())
    if how == "gone":
        place.connection.execute("DELETE FROM messages WHERE id = %s", [key("one")])
    else:
        place.message("one", "  ")
    embedding = place.embed(Asked())
    assert embedding.summary.removed == 1
    assert (place.state("one")["operation"], place.state("one")["status"]) == ("delete", "completed")
    assert list(place.embedded()) == [key("other")]
    place.message("one", "text")
    place.embed(Asked())
    assert (place.state("one")["operation"], place.state("one")["status"]) == ("create", "completed")
    assert key("one") in place.embedded()


def test_another_model_queues_all_rows_again_and_the_two_never_mix(place):
    place.message("one", "text")
    place.message("two", "text two")
    place.embed(Asked(model_name="standin:first"))
    asked = Asked(model_name="standin:second")
    place.embed(asked)
    assert sorted(asked.texts) == ["text", "text two"]
    assert place.rows("SELECT DISTINCT model_name FROM message_embeddings") == [("standin:second",)]


def test_embeddings_that_somebody_deleted_are_made_again(place):
    place.message("one", "text")
    place.embed(Asked())
    place.connection.execute("DELETE FROM message_embeddings")
    place.embed(Asked())
    assert list(place.embedded()) == [key("one")]


def test_embeddings_of_rows_that_stand_nowhere_are_taken_away(place):
    place.message("one", "text")
    place.embed(Asked())
    place.connection.execute("DELETE FROM embedding_queue")
    place.message("one", " ")
    place.embed(Asked())
    assert place.embedded() == {}


def test_rows_come_by_priority_and_those_of_one_text_together(place):
    place.put("projects", "p", name="a project")
    for number in range(3):
        place.message(f"m{number}", "the same")
    place.message("last", "another")
    queue = place.queue()
    place.fill(queue)
    now = place.clock.now()
    first = queue.lease(to_embed, now, 1)
    second = queue.lease(to_embed, now, 1)
    sizes = sorted([first.rows.height, second.rows.height])
    assert sizes == [1, 3]
    assert set(first.rows.get_column("source_table")) == {"messages"}
    third = queue.lease(to_embed, now, 10)
    assert third.rows.get_column("source_table").to_list() == ["projects"]
    assert queue.lease(to_embed, now, 10) is None


def test_a_lease_ends_and_whoever_had_it_writes_nothing_any_more(place):
    place.message("one", "text")
    killed = place.queue()
    place.fill(killed)
    lost = killed.lease(to_embed, place.clock.now(), 10)
    assert killed.lease(to_embed, place.clock.now() + LEASE - timedelta(seconds=1), 10) is None
    assert place.state("one")["status"] == "processing"
    place.clock.at += LEASE + timedelta(seconds=1)
    next_one = killed.lease(to_embed, place.clock.now(), 10)
    assert next_one.rows.height == 1
    assert killed.own(lost, lost.rows.get_column("id").to_list()) == []
    assert killed.renew(lost, place.clock.now()).rows.height == 0
    killed.release(lost)
    assert place.state("one")["status"] == "processing"
    renewed = killed.renew(next_one, place.clock.now())
    assert renewed.rows.height == 1
    killed.release(renewed)
    assert place.state("one")["status"] == "pending"


def test_two_processes_never_have_the_same_row(place):
    for number in range(20):
        place.message(f"m{number}", f"text {number}")
    one = place.queue()
    place.fill(one)
    with connect(place.url) as connection:
        other = type(one)(connection, DECLARED, one.run_id, sends=False)
        ids = [
            found
            for turn in range(10)
            for found in (one, other)[turn % 2].lease(to_embed, place.clock.now(), 2).rows.get_column("id")
        ]
    assert len(ids) == len(set(ids)) == 20


def test_nothing_of_a_filling_that_failed_stays(place, monkeypatch):
    place.message("one", "text")
    queue = place.queue()
    monkeypatch.setattr(Filling, "_update", lambda _self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Filling(queue).fill(CHOSEN, place.legacy_rows, ("standin:asked", "1"))
    assert place.rows("SELECT count(*) FROM embedding_queue") == [(0,)]
    monkeypatch.undo()
    assert place.fill(queue).created == 1


def test_the_journal_says_what_the_rows_were(place):
    place.message("one", "before")
    place.embed(Asked())
    place.message("one", "after")
    place.message("two", "new")
    embedding = place.embed(Asked())
    noted = dict(
        place.rows(
            "SELECT source_id::text, jsonb_build_array(before ->> 'status', embeddings -> 0 ->> 'content_text')"
            " FROM migration.derived_journal WHERE run_id = %s",
            embedding.queue.run_id,
        )
    )
    assert noted == {key("one"): ["completed", "before"], key("two"): [None, None]}
