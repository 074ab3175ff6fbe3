"""Each text is one document of its knowledge base, whatever Dify says, loses, or does not know any more."""

import logging

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.derived.checks import DEAD, DOCUMENTS, evaluate_derived
from dtx_assets.machinery.derived.dify import Dify, SendingStopped
from dtx_assets.machinery.derived.queue import Queue
from dtx_assets.machinery.derived.sending import DEAD_IN_A_ROW, Sending
from dtx_assets.machinery.derived.settings import DerivedSettings
from dtx_assets.machinery.derived.undo import undo_derived
from dtx_assets_tests.machinery.derived.knowledge import KEY, Does, knowledge
from dtx_assets_tests.machinery.derived.place import DECLARED, Asked, key
from dtx_assets_tests.machinery.derived.test_run import BODIES, deriving

OPEN: list[Dify] = []
"""The clients of a test, which are closed after it."""


@pytest.fixture
def service():
    with knowledge() as server:
        yield server
        while OPEN:
            OPEN.pop().close()
        assert server.refused == []


def client(service, secret=KEY, seconds=20.0):
    dify = Dify(service.url, secret, embedding_provider="embeds", rerank_provider="ranks", seconds_to_answer=seconds)
    OPEN.append(dify)
    return dify


def derive(place, service, **options):
    """A run with Dify; what it did to documents."""
    return deriving(place, dify=client(service, **options)).run().sending


def write(place, **bodies):
    for name, body in bodies.items():
        place.message(name, body)


def name_of(name, entity="messages"):
    return f"{entity}/{key(name)}"


def texts(service):
    return {each.name: each.text for each in service.documents.values()}


def rows(place):
    return place.rows("SELECT document_name, processing_status, attempts FROM dify_documents ORDER BY document_content")


def outcome(place, name=DOCUMENTS, url="http://dify/v1"):
    return evaluate_derived(place.connection, DECLARED, "standin:asked", url)[name]


def is_whole(place, service, **bodies):
    """Dify has each text once, and the target says so."""
    assert texts(service) == {name_of(name): body for name, body in bodies.items()}
    assert len(service.documents) == len(bodies)
    known = place.rows("SELECT document_name, dify_document_id FROM dify_documents ORDER BY 1")
    assert known == sorted((each.name, each.id) for each in service.documents.values())
    states = place.rows("SELECT DISTINCT processing_status FROM dify_documents")
    assert states == [("completed",)] * bool(bodies)
    queued = "SELECT DISTINCT status, dify_completed FROM embedding_queue WHERE process_dify"
    assert place.rows(queued) == [("completed", True)]
    assert outcome(place).passed


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_each_text_is_a_document_of_the_knowledge_base_of_its_entity(place, service):
    write(place, one="some words", two="Ünïcode 🦷")
    place.put("profiles", "p", profile_type="doctor", is_active=True, allergies="nuts")
    assert derive(place, service).sent == 3
    bases = {base["name"]: base["id"] for base in service.bases.values()}
    assert sorted(bases) == ["Dispatch messages", "Dispatch profiles"]
    assert service.bases[bases["Dispatch messages"]]["retrieval_model"] == {
        "search_method": "hybrid_search",
        "reranking_enable": True,
        "reranking_mode": "reranking_model",
        "reranking_model": {"reranking_provider_name": "ranks", "reranking_model_name": "cohere.rerank-v3-5:0"},
        "top_k": 10,
        "score_threshold_enabled": False,
    }
    assert service.bases[bases["Dispatch messages"]]["embedding_model"] == "amazon.titan-embed-text-v2:0"
    assert service.bases[bases["Dispatch messages"]]["embedding_model_provider"] == "embeds"
    assert texts(service) == {
        name_of("one"): "some words",
        name_of("two"): "Ünïcode 🦷",
        name_of("p", "profiles"): "Type: doctor\nAllergies: nuts",
    }
    [created] = [body for body in service.bodies if body["name"] == name_of("two")]
    assert created["process_rule"] == {"mode": "automatic"}
    assert created["indexing_technique"] == "high_quality"
    found = place.rows(
        "SELECT source_table, source_id::text, document_name, document_content, content_hash, file_size::int,"
        " document_type, processing_status, base.name FROM dify_documents AS d"
        " JOIN dify_knowledgebases AS base ON base.id = d.dify_kb_id WHERE source_id = %s",
        key("two"),
    )
    hashed = place.state("two")["content_hash"]
    size = len("Ünïcode 🦷".encode())
    whole = ("messages", key("two"), name_of("two"), "Ünïcode 🦷", hashed, size, "text", "completed")
    assert found == [(*whole, "Dispatch messages")]
    told = place.rows("SELECT entity_type, dify_kb_id, document_count, sync_status FROM dify_knowledgebases ORDER BY 1")
    assert told == [
        ("messages", bases["Dispatch messages"], 2, "completed"),
        ("orders", None, 0, "completed"),
        ("profiles", bases["Dispatch profiles"], 1, "completed"),
        ("projects", None, 0, "completed"),
    ]


def test_a_second_run_asks_nothing(place, service):
    write(place, **BODIES)
    derive(place, service)
    asked = len(service.asked)
    done = derive(place, service)
    assert (done.sent, done.removed, len(service.asked)) == (0, 0, asked)


def test_a_changed_text_changes_its_document_and_one_that_is_gone_goes_with_it(place, service):
    write(place, stays="stays", changes="before", goes="to go")
    derive(place, service)
    former = {each.name: each.id for each in service.documents.values()}
    write(place, changes="after", goes=" ", new="new")
    done = derive(place, service)
    assert (done.sent, done.removed) == (2, 1)
    is_whole(place, service, stays="stays", changes="after", new="new")
    assert {each.name: each.id for each in service.documents.values()}[name_of("changes")] == former[name_of("changes")]
    write(place, goes="again")
    derive(place, service)
    is_whole(place, service, stays="stays", changes="after", new="new", goes="again")


def test_without_dify_documents_wait_and_a_later_run_sends_and_removes_them(place, service):
    write(place, one="one", two="two")
    done = deriving(place)
    assert done.run().sending is None
    assert any("nothing is sent to Dify" in line for line in done.said)
    assert [status for _, status, _ in rows(place)] == ["pending", "pending"]
    assert place.rows("SELECT DISTINCT status, process_dify FROM embedding_queue") == [("completed", False)]
    found = outcome(place, url=None)
    assert (found.passed, found.count) == (False, 2)
    assert "no address of Dify" in found.metadata["sent to"]
    derive(place, service)
    is_whole(place, service, one="one", two="two")
    # What goes while nothing is sent is not forgotten, and what was never sent leaves nothing.
    write(place, one=" ", three="three")
    deriving(place).run()
    write(place, three=" ")
    deriving(place).run()
    assert [status for _, status, _ in rows(place)] == ["removing", "completed"]
    assert not outcome(place).passed
    assert derive(place, service).removed == 1
    is_whole(place, service, two="two")


def test_a_knowledge_base_of_the_name_is_taken_wherever_it_stands_in_the_list(place, service):
    for number, name in enumerate(("x Dispatch messages", "Dispatch messages 2", "Dispatch messages")):
        service.bases[f"base-{number}"] = {"id": f"base-{number}", "name": name}
    write(place, one="one")
    derive(place, service)
    assert [each.base for each in service.documents.values()] == ["base-2"]
    assert place.rows("SELECT dify_kb_id FROM dify_knowledgebases WHERE entity_type = 'messages'") == [("base-2",)]


# --- a service that misbehaves ----------------------------------------------------------------------------------------

CREATE, UPDATE, LIST, LOOK = "create-by-text", "update-by-text", "/documents", "indexing-status"


@pytest.mark.parametrize(
    "does",
    [
        Does(CREATE, 429, "too_many_requests"),
        Does(CREATE, 500, "internal_server_error"),
        Does(CREATE, 503),
        Does(CREATE, 403, "forbidden", "Sorry, you have reached the knowledge base request Rate Limit."),
        Does(CREATE, breaks=True),
        Does(CREATE, body=b"<html>"),
        Does(CREATE, body=b"[]"),
        Does(CREATE, body=b"{}"),
        Does(CREATE, hangs=True),
        Does(CREATE, loses=True),
    ],
    ids=["429", "500", "503", "rate limit", "breaks", "no JSON", "no object", "no id", "hangs", "lost answer"],
)
def test_a_document_is_tried_again_and_is_one(place, service, does):
    service.script.append(does)
    write(place, one="one")
    done = derive(place, service, seconds=1.0 if does.hangs else 20.0)
    assert (done.sent, done.tried_again, done.dead) == (1, 1, 0)
    is_whole(place, service, one="one")
    assert 1 <= place.clock.slept[0] <= 3


def test_the_second_try_looks_for_the_first_ones_document_before_it_makes_one(place, service):
    service.script.append(Does(CREATE, loses=True))
    write(place, one="one")
    derive(place, service)
    assert service.count(CREATE) == 1


def test_a_document_whose_answer_was_lost_before_its_text_changed_gets_the_new_text(place, service):
    service.script += [Does(CREATE, loses=True), *[Does("GET /v1/datasets/", 500)] * 9]
    write(place, one="before")
    derive(place, service)
    assert rows(place) == [(name_of("one"), "pending", 5)]
    assert texts(service) == {name_of("one"): "before"}
    service.script.clear()
    write(place, one="after")
    derive(place, service)
    is_whole(place, service, one="after")


@pytest.mark.parametrize("does", [Does(UPDATE, 429), Does(UPDATE, loses=True), Does(UPDATE, breaks=True)])
def test_a_change_is_tried_again(place, service, does):
    write(place, one="before")
    derive(place, service)
    service.script.append(does)
    write(place, one="after")
    assert derive(place, service).tried_again == 1
    is_whole(place, service, one="after")


@pytest.mark.parametrize(
    "does", [Does("DELETE", 500), Does("DELETE", loses=True), Does("DELETE", 400, "document_indexing")]
)
def test_a_removal_is_tried_again(place, service, does):
    write(place, one="one", two="two")
    derive(place, service)
    service.script.append(does)
    write(place, one=" ")
    assert derive(place, service).removed == 1
    is_whole(place, service, two="two")


@pytest.mark.parametrize("does", [Does("POST /v1/datasets", 500), Does("POST /v1/datasets", loses=True)])
def test_the_making_of_a_knowledge_base_is_tried_again_and_it_is_one(place, service, does):
    service.script.append(does)
    write(place, one="one")
    derive(place, service)
    assert len(service.bases) == 1
    is_whole(place, service, one="one")


def test_a_look_at_the_indexing_that_fails_is_no_attempt(place, service):
    service.looks = 7
    service.script += [Does(LOOK, 500), Does(LOOK, breaks=True), Does(LOOK, body=b"{}")]
    write(place, one="one")
    done = derive(place, service)
    assert (done.sent, done.tried_again) == (1, 0)
    assert len(place.clock.slept) == 10
    is_whole(place, service, one="one")


def test_a_change_waits_while_the_document_is_indexed(place, service):
    write(place, one="before")
    derive(place, service)
    [kept] = service.documents.values()
    kept.left = 1
    service.script += [Does(UPDATE, 400, "invalid_param", "Document is not available")] * 3
    kept.left = 0
    write(place, one="after")
    done = derive(place, service)
    assert (done.sent, done.tried_again) == (1, 0)
    assert service.count(UPDATE) == 4
    is_whole(place, service, one="after")


def test_a_document_that_could_not_be_indexed_is_made_anew(place, service):
    fates = iter(["error", "error", "completed"])
    service.fates = lambda _text: next(fates)
    write(place, one="one")
    done = derive(place, service)
    assert (done.sent, done.tried_again) == (1, 2)
    is_whole(place, service, one="one")


def test_a_paused_document_is_listed_and_sent_when_dead_ones_are_tried_again(place, service):
    service.fates = lambda text: "paused" if text == "one" else "completed"
    write(place, one="one", two="two")
    assert derive(place, service).dead == 1
    assert rows(place) == [(name_of("one"), "paused", 1), (name_of("two"), "completed", 0)]
    assert "paused in Dify" in outcome(place).metadata["open"][name_of("one")]
    assert list(outcome(place, DEAD).metadata["dead"]) == [name_of("one")]
    [kept] = [each for each in service.documents.values() if each.text == "one"]
    kept.fate = "completed"
    deriving(place, dify=client(service)).run(retry_dead=True)
    is_whole(place, service, one="one", two="two")


def test_what_dify_refuses_is_dead_at_once_and_others_are_sent(place, service):
    service.script.append(Does(CREATE, 400, "invalid_param", "The text may hold one"))
    write(place, one="one")
    assert derive(place, service).dead == 1
    assert rows(place) == [(name_of("one"), "pending", 1)]
    assert place.state("one")["error_message"] == "invalid_param: Dify refuses it (HTTP 400)"
    write(place, two="two")
    assert derive(place, service).sent == 1
    assert not outcome(place).passed
    deriving(place, dify=client(service)).run(retry_dead=True)
    is_whole(place, service, one="one", two="two")


def test_after_its_last_attempt_a_document_is_dead(place, service):
    service.script += [Does(CREATE, 500)] * 9
    write(place, one="one")
    assert derive(place, service).dead == 1
    assert service.count(CREATE) == 5
    assert (place.state("one")["status"], place.state("one")["pgvector_completed"]) == ("dead", True)


def test_a_document_that_somebody_took_away_is_made_anew_when_its_text_changes_or_it_is_looked_at(place, service):
    write(place, one="before", two="two")
    derive(place, service)
    service.documents.clear()
    write(place, one="after")
    derive(place, service)
    assert texts(service) == {name_of("one"): "after"}
    service.looks = 3
    write(place, two="other")
    service.documents.clear()
    derive(place, service)
    assert texts(service) == {name_of("two"): "other"}


@pytest.mark.parametrize(
    ("does", "words", "remedy"),
    [
        (Does(CREATE, 401, "unauthorized"), "refuses the key", "DIFY_KEY"),
        (Does(CREATE, 403, "forbidden", "The api is off"), "refuses the key", "switched on"),
        (Does(CREATE, 400, "provider_not_initialize"), "no credentials for its models", "Model Provider"),
        (Does("POST /v1/datasets", 404), "no service API", "/v1"),
        (Does("POST /v1/datasets", 302), "from elsewhere", "/v1"),
    ],
)
def test_what_refuses_everything_stops_the_phase_with_advice_and_loses_nothing(place, service, does, words, remedy):
    service.script += [does] * 3
    write(place, one="one", two="two", three="three")
    with pytest.raises(SendingStopped, match=words) as told:
        derive(place, service)
    assert remedy in told.value.remedy
    assert KEY not in f"{told.value} {told.value.where} {told.value.remedy}"
    assert len(place.embedded()) == 3
    assert place.rows("SELECT DISTINCT status, attempts FROM embedding_queue") == [("pending", 0)]
    service.script.clear()
    derive(place, service)
    is_whole(place, service, one="one", two="two", three="three")


def test_a_wrong_key_is_told_without_it(place, service, caplog):
    caplog.set_level(logging.DEBUG)
    write(place, one="words that nobody logs")
    with pytest.raises(SendingStopped, match="HTTP 401"):
        derive(place, service, secret="dataset-another")
    derive(place, service)
    assert "dataset-" not in caplog.text
    assert "words that nobody" not in caplog.text
    assert "/datasets" in caplog.text


def test_a_knowledge_base_that_is_gone_stops_the_phase(place, service):
    write(place, one="one")
    derive(place, service)
    service.bases.clear()
    service.documents.clear()
    write(place, two="two")
    with pytest.raises(SendingStopped, match=r"'Dispatch messages' .* is not in Dify any more") as told:
        derive(place, service)
    assert "dify_kb_id" in told.value.remedy
    place.connection.execute("UPDATE dify_knowledgebases SET dify_kb_id = NULL")
    derive(place, service)
    assert texts(service) == {name_of("two"): "two"}


def test_twenty_dead_in_a_row_stop_the_phase(place, service):
    service.script += [Does(CREATE, 400, "invalid_param")] * 99
    write(place, **{f"m{number:02}": f"text {number}" for number in range(DEAD_IN_A_ROW + 5)})
    with pytest.raises(SendingStopped, match="20 documents in a row") as told:
        derive(place, service)
    assert "--retry-dead" in told.value.remedy
    assert place.rows("SELECT count(*) FROM embedding_queue WHERE status = 'processing'") == [(0,)]


def test_a_document_that_another_process_took_over_is_not_completed_by_this_one(place, service):
    write(place, one="one")
    queue = place.queue(sends=True)
    place.fill(queue)
    place.embedding(queue, Asked()).run()

    class Takes(Dify):
        def create(self, base, name, text):
            sent = super().create(base, name, text)
            with psycopg_of(place) as other:
                other.execute("UPDATE embedding_queue SET leased_until = leased_until + interval '1 minute'")
            return sent

    dify = Takes(service.url, KEY, embedding_provider="embeds", rerank_provider="ranks")
    OPEN.append(dify)
    sending = Sending(queue, dify, place.clock, chance=lambda: 0.5)
    sending.run()
    # The other one never ends it, so that its lease ends, and it is found by what this one noted.
    assert service.count(CREATE) == 1
    is_whole(place, service, one="one")


def psycopg_of(place):
    import psycopg

    return psycopg.connect(place.url, autocommit=True)


# --- what is asked of the environment ---------------------------------------------------------------------------------


def settings(**variables):
    return DerivedSettings.from_environment("dispatch", environ={f"DISPATCH_{n}": v for n, v in variables.items()})


def test_an_address_without_a_key_is_refused_and_the_key_is_never_shown():
    assert settings().make_dify() is None
    with pytest.raises(ConfigurationError, match="no key") as told:
        settings(DIFY_URL="http://dify/v1")
    assert told.value.where == "DISPATCH_DIFY_KEY"
    with pytest.raises(ConfigurationError, match="DISPATCH_DIFY_URL"):
        settings(DIFY_URL="dify/v1", DIFY_KEY=KEY)
    found = settings(DIFY_URL="http://dify/v1/", DIFY_KEY=KEY, DIFY_RERANK_PROVIDER="other")
    assert KEY not in repr(found)
    dify = found.make_dify()
    assert (dify.url, dify._providers) == ("http://dify/v1", ("langgenius/bedrock/bedrock", "other"))
    dify.close()


def test_the_queue_knows_no_documents_of_a_system_without_knowledge_bases(place):
    plain = DECLARED.model_copy(update={"knowledge": None})
    write(place, one="one")
    run = deriving(place, declared=plain)
    run.run()
    assert place.rows("SELECT count(*) FROM dify_documents") == [(0,)]
    assert DOCUMENTS not in evaluate_derived(place.connection, plain, "standin:asked")
    assert undo_derived(place.connection, plain, run.run_id).documents == 0
    assert Queue(place.connection, plain, run.run_id, sends=False).declared.name_of_base("messages") == "messages"
