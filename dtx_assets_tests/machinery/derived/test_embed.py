"""The queue is worked off whatever the model says: texts wait, die, are halved, and nothing is asked twice."""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from dtx_assets.machinery.base.failpoints import FAILPOINT, PROOF
from dtx_assets.machinery.derived.bedrock import TitanV2
from dtx_assets.machinery.derived.embed import DEAD_IN_A_ROW
from dtx_assets.machinery.derived.embedder import EmbeddingStopped, Refused, TooManyTokens, TryAgain
from dtx_assets.machinery.derived.queue import LEASE, to_embed
from dtx_assets.machinery.derived.standin import StandIn
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets_tests.machinery.derived.place import DECLARED, Asked, StandingClock, key
from dtx_assets_tests.machinery.derived.titan import Says, titan

ANSWER = StandIn(DECLARED.dimensions).embed


LATER = TryAgain("ThrottlingException: later")


def failing(times, error=LATER, text="bad"):
    """Answers as a stand-in, but for the first so many times it is asked for a text."""
    left = [times]

    def answer(asked):
        if asked == text and left[0]:
            left[0] -= 1
            raise error
        return ANSWER(asked)

    return Asked(answer)


def test_each_text_becomes_an_embedding_of_the_model_with_its_tokens(place):
    place.message("one", "some words")
    place.put("profiles", "p", profile_type="doctor", is_active=True, allergies="nuts")
    embedding = place.embed(Asked())
    found = place.rows(
        "SELECT chunk_index, content_text, content_hash, embedding <=> %s::vector < 1e-6, model_name, model_version,"
        " token_count, metadata FROM message_embeddings",
        str(ANSWER("some words").vector.tolist()),
    )
    assert found == [(0, "some words", place.state("one")["content_hash"], True, "standin:asked", "1", 2, {})]
    assert place.rows("SELECT content_text FROM profile_embeddings") == [("Type: doctor\nAllergies: nuts",)]
    assert (embedding.summary.embedded, embedding.summary.asked, embedding.summary.tokens) == (2, 2, 8)
    state = place.state("one")
    assert (state["status"], state["pgvector_completed"], state["leased_until"]) == ("completed", True, None)
    assert state["processed_at"] is not None


def test_equal_texts_are_asked_once_in_a_run_and_in_later_ones(place):
    for number in range(5):
        place.message(f"m{number}", "Yes" if number else "Yes ")
    asked = Asked()
    assert place.embed(asked).summary.embedded == 5
    place.message("later", "Yes")
    place.put("projects", "p", name="No")
    later = place.embed(asked)
    assert asked.texts == ["Yes", "Project: No"]
    assert (later.summary.embedded, later.summary.adopted) == (1, 1)
    assert place.rows("SELECT count(*), count(DISTINCT embedding) FROM message_embeddings") == [(6, 1)]


def test_a_long_text_has_its_chunks_and_a_changed_one_none_of_the_old(place):
    place.message("long", "word " * 12_000)
    place.embed(Asked())
    assert [number for number, _hash in place.embedded()[key("long")]] == [0, 1, 2]
    assert len({hashed for _number, hashed in place.embedded()[key("long")]}) == 1
    place.message("long", "short")
    place.embed(Asked())
    assert [number for number, _hash in place.embedded()[key("long")]] == [0]
    place.message("long", "word " * 12_000)
    place.message("copy", "word " * 12_000)
    embedding = place.embed(Asked(), truncate=True)
    assert embedding.summary.truncated == 1
    assert [number for number, _hash in place.embedded()[key("copy")]] == [0]


def test_a_text_with_too_many_tokens_is_halved_and_that_is_no_attempt(place):
    def answer(text):
        if len(text) > 300:
            raise TooManyTokens
        return ANSWER(text)

    place.message("dense", "好 " * 400)
    place.embed(Asked(answer))
    assert (place.state("dense")["status"], place.state("dense")["attempts"]) == ("completed", 0)
    texts = place.rows("SELECT content_text FROM message_embeddings ORDER BY chunk_index")
    assert "".join(text for (text,) in texts) == ("好 " * 400).strip()


def test_a_text_is_tried_again_after_a_longer_and_longer_time(place):
    place.message("one", "bad")
    place.message("two", "good")
    embedding = place.embed(failing(4))
    assert place.state("one")["status"] == "completed"
    assert place.clock.slept == pytest.approx([2, 4, 8, 16], abs=1e-3)
    assert (embedding.summary.tried_again, embedding.summary.dead) == (4, 0)


def test_after_its_last_attempt_a_text_is_dead_with_what_was_said_last(place):
    place.message("one", "bad")
    place.message("same", "bad")
    place.message("two", "good")
    model = failing(99)
    embedding = place.embed(model)
    for name in ("one", "same"):
        state = place.state(name)
        told = (state["status"], state["attempts"], state["error_message"])
        assert told == ("dead", 5, "ThrottlingException: later")
    assert model.texts.count("bad") == 5
    assert embedding.summary.dead == 2
    assert list(place.embedded()) == [key("two")]
    again = failing(0)
    place.embed(again)
    assert again.texts == []
    queue = place.queue()
    assert queue.retry_dead() == 2
    place.embedding(queue, again).run()
    assert again.texts == ["bad"]
    assert place.state("one")["status"] == "completed"


def test_a_dead_text_that_changed_is_tried_anew(place):
    place.message("one", "bad")
    place.embed(failing(99))
    place.message("one", "mended")
    place.embed(Asked())
    assert (place.state("one")["status"], place.state("one")["attempts"]) == ("completed", 0)


def test_what_the_model_refuses_is_dead_at_once(place):
    place.message("one", "bad")
    model = failing(99, Refused("ValidationException: the model refuses the text"))
    place.embed(model)
    assert model.texts == ["bad"]
    assert (place.state("one")["status"], place.state("one")["attempts"]) == ("dead", 1)


def test_twenty_dead_in_a_row_stop_the_phase_and_one_answer_between_them_does_not(place):
    for number in range(DEAD_IN_A_ROW + 5):
        place.message(f"m{number:02}", f"text {number}")

    def refuse(_text):
        raise Refused("ValidationException: the model refuses the text")

    some_answers = Asked(lambda text: ANSWER(text) if text.endswith("1") else refuse(text))
    place.embed(some_answers, concurrency=1)
    place.queue().retry_dead()
    with pytest.raises(EmbeddingStopped, match=r"2\d texts in a row") as told:
        place.embed(Asked(refuse), concurrency=1)
    assert "--retry-dead" in told.value.remedy
    left = dict(place.rows("SELECT status, count(*) FROM embedding_queue GROUP BY 1"))
    assert left["dead"] >= DEAD_IN_A_ROW
    assert left.get("processing", 0) == 0


def test_what_stops_the_phase_gives_back_what_was_leased_and_keeps_what_was_answered(place):
    for number in range(10):
        place.message(f"m{number}", f"text {number}")
    asked = Asked()

    def answer(text):
        if len(asked.texts) > 4:
            raise EmbeddingStopped("no access", where="here", remedy="ask for it")
        return ANSWER(text)

    asked.answer = answer
    with pytest.raises(EmbeddingStopped, match="no access"):
        place.embed(asked, concurrency=1)
    states = dict(place.rows("SELECT status, count(*) FROM embedding_queue GROUP BY 1"))
    assert states == {"completed": 4, "pending": 6}
    assert place.rows("SELECT max(attempts) FROM embedding_queue") == [(0,)]
    place.embed(Asked())
    assert place.rows("SELECT count(*) FROM message_embeddings") == [(10,)]


def test_another_error_of_an_embedder_is_not_hidden(place):
    place.message("one", "bad")
    with pytest.raises(ZeroDivisionError):
        place.embed(failing(1, ZeroDivisionError()))
    assert place.state("one")["status"] == "pending"


def test_what_was_written_while_it_was_asked_is_not_overwritten(place):
    place.connection.execute("ALTER TABLE messages ENABLE TRIGGER queue_message_embeddings")
    place.message("one", "before")

    def answer(text):
        if text == "before":
            with connect(place.url) as other:
                other.execute("UPDATE messages SET body = 'after' WHERE id = %s", [key("one")])
        return ANSWER(text)

    place.embed(Asked(answer))
    assert place.embedded() == {}
    assert (place.state("one")["status"], place.state("one")["content_hash"]) == ("pending", None)
    place.embed(Asked())
    assert place.rows("SELECT content_text FROM message_embeddings") == [("after",)]


def test_a_text_that_changed_after_it_was_queued_waits_until_it_is_queued_again(place):
    place.message("one", "before")
    queue = place.queue()
    place.fill(queue)
    place.message("one", "after")
    asked = Asked()
    place.embedding(queue, asked).run()
    assert asked.texts == []
    place.embed(asked)
    assert asked.texts == ["after"]


def test_a_lease_is_renewed_while_calls_are_long(place):
    clock = place.clock
    for number in range(12):
        place.message(f"m{number:02}", f"text {number}")

    def answer(text):
        clock.sleep(30)
        return ANSWER(text)

    embedding = place.embed(Asked(answer), concurrency=1)
    assert embedding.summary.embedded == 12
    assert (clock.now() - StandingClock().now()) >= timedelta(seconds=360) > LEASE
    assert len(embedding.embedder.texts) == 12


def test_what_another_process_has_leased_is_waited_for(place):
    place.message("one", "text")
    killed = place.queue()
    place.fill(killed)
    killed.lease(to_embed, place.clock.now(), 10)
    told = []
    embedding = place.embedding(place.queue(), Asked(), waiting=told.append)
    assert embedding.run().embedded == 1
    assert sum(place.clock.slept) == pytest.approx(LEASE.total_seconds(), abs=2)
    assert "another process" in told[0]


def test_progress_counts_texts_and_tokens(place):
    for number in range(3):
        place.message(f"m{number}", "twelve chars")
    told = []
    place.embed(Asked(), progress=lambda asked, tokens: told.append((asked, tokens)))
    assert told == [(1, 3)]


# --- against a server -------------------------------------------------------------------------------------------------


@pytest.fixture
def service(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    with titan() as server:
        yield server


def model(service, seconds=20.0):
    return TitanV2(1024, region="us-east-1", endpoint_url=service.url, seconds_to_answer=seconds)


def test_a_throttled_and_broken_service_is_asked_once_an_attempt_until_all_is_there(place, service):
    for number in range(6):
        place.message(f"m{number}", f"text {number}")
    service.script[:] = [
        Says(429, "ThrottlingException"),
        Says(500, "InternalServerException"),
        Says(breaks=True),
        Says(503, "ServiceUnavailableException"),
        Says(body=b"{}"),
    ]
    embedding = place.embed(model(service), concurrency=2)
    assert (embedding.summary.embedded, embedding.summary.tried_again) == (6, 5)
    assert len(service.asked) == 11
    assert place.rows("SELECT DISTINCT status FROM embedding_queue") == [("completed",)]


def test_no_more_calls_are_in_flight_than_may_be(place, service):
    service.gate = threading.Event()
    for number in range(12):
        place.message(f"m{number}", f"text {number}")

    def open_when_as_many_wait() -> None:
        until = time.monotonic() + 60
        while service.most_at_once < 3 and time.monotonic() < until:
            time.sleep(0.01)
        # Another one would come now.
        time.sleep(0.5)
        service.gate.set()

    opened = threading.Thread(target=open_when_as_many_wait)
    opened.start()
    place.embed(model(service), concurrency=3)
    opened.join()
    assert service.most_at_once == 3
    assert len(service.asked) == 12


def test_no_more_requests_are_made_in_a_minute_than_may_be(place, service):
    for number in range(12):
        place.message(f"m{number}", f"text {number}")
    began = place.clock.now()
    place.embed(model(service), a_minute=60, concurrency=2)
    assert (place.clock.now() - began).total_seconds() == pytest.approx(11, abs=0.1)


def test_a_long_text_is_asked_in_halves_where_titan_counts_too_many_tokens(place, service):
    service.rule = lambda text: (
        Says(400, "ValidationException", "400 Bad Request: Too many input tokens. Max input tokens: 8192")
        if len(text) > 9_000
        else None
    )
    place.message("long", "many words of it " * 1_400)
    place.embed(model(service))
    chunks = place.rows("SELECT content_text, token_count FROM message_embeddings ORDER BY chunk_index")
    assert "".join(text for text, _ in chunks) == ("many words of it " * 1_400).strip()
    assert len(chunks) == 4
    assert all(tokens for _, tokens in chunks)


# --- kills ------------------------------------------------------------------------------------------------------------

WORKER = """
import sys, json
from datetime import UTC, datetime, timedelta
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets_tests.machinery.derived.place import Asked, Place
url, file, run, ahead = sys.argv[1:]
place = Place(url, connect(url), runs=int(run))
place.clock.at = datetime.now(UTC) + timedelta(hours=int(ahead))
asked = Asked()
try:
    place.embed(asked)
finally:
    print(json.dumps(asked.texts))
"""
POINTS = (
    "derived.before_queued",
    "derived.queued",
    "derived.leased",
    "derived.after_copy",
    "derived.before_commit",
    "derived.after_commit",
    "derived.before_removed",
)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_loses_nothing_and_doubles_nothing(place, tmp_path, point):
    place.message("changes", "before")
    place.message("goes", "to go")
    place.embed(Asked())
    place.message("changes", "after")
    place.message("goes", " ")
    for number in range(3):
        place.message(f"m{number}", f"text {number}")
    proof = tmp_path / "proof"

    def worker(run, environment):
        return subprocess.run(
            [sys.executable, "-c", WORKER, place.url, str(tmp_path), str(run), str(run)],
            env={**os.environ, **environment},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    killed = worker(1, {FAILPOINT: point, PROOF: str(proof)})
    assert killed.returncode == -9, killed.stderr
    assert point in proof.read_text()
    again = worker(2, {})
    assert again.returncode == 0, again.stderr
    assert place.rows("SELECT DISTINCT status FROM embedding_queue") == [("completed",)]
    texts = place.rows("SELECT content_text FROM message_embeddings ORDER BY 1")
    assert texts == [("after",), ("text 0",), ("text 1",), ("text 2",)]
    if point == "derived.after_commit":
        # What was committed is not asked again.
        assert len(json.loads(again.stdout.splitlines()[-1])) < 4
    assert worker(3, {}).stdout.splitlines()[-1] == "[]"
