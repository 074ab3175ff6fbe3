"""A run derives everything: its cost is known before, its indexes are made after, it can be checked and undone."""

import shutil

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError, LoadError, StructureError
from dtx_assets.machinery.derived import schema
from dtx_assets.machinery.derived.bedrock import MODEL
from dtx_assets.machinery.derived.checks import (
    COVERAGE,
    DEAD,
    DOCUMENTS,
    FINDS_ITSELF,
    TRIGGERS,
    derived_checks,
    evaluate_derived,
)
from dtx_assets.machinery.derived.checks import MODEL as MODEL_CHECK
from dtx_assets.machinery.derived.embedder import EmbeddingStopped, Refused
from dtx_assets.machinery.derived.run import Deriving, progress_line
from dtx_assets.machinery.derived.search import entity_of, matches, search
from dtx_assets.machinery.derived.standin import StandIn
from dtx_assets.machinery.derived.undo import undo_derived
from dtx_assets_tests.machinery.derived.place import CHOSEN, DECLARED, MAPPINGS, Asked, StandingClock, key

ANSWER = StandIn(DECLARED.dimensions).embed
NAMES = ("aligner", "invoice", "scan")
BODIES = {
    "aligner": "The aligner does not fit, please send a new one.",
    "invoice": "Invoice for March was sent to the office.",
    "scan": "New scans of the upper jaw are there; the aligner is to be made again.",
}


def deriving(place, embedder=None, **options):
    said = []
    queue = place.queue()
    given = {
        "connection": place.connection,
        "declared": DECLARED,
        "mappings_dir": MAPPINGS,
        "run_id": queue.run_id,
        "chosen": CHOSEN,
        "legacy": place.legacy_rows,
        "embedder": embedder or Asked(),
        "a_minute": None,
        "concurrency": 2,
        "log": said.append,
        "clock": place.clock,
    }
    run = Deriving(**{**given, **options})
    run.said = said  # type: ignore[attr-defined]
    return run


@pytest.fixture
def written(place):
    for name, body in BODIES.items():
        place.message(name, body)
    return place


def index_names(place):
    return {
        name: [index for index, _ in schema._indexes(place.connection, entity)]
        for name, entity in DECLARED.entities.items()
    }


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_embeds_makes_the_indexes_and_enables_the_triggers(written):
    run = deriving(written)
    done = run.run()
    assert (done.queued.created, done.embedding.embedded, done.dollars) == (3, 3, 0)
    assert index_names(written)["messages"] == ["message_embeddings_gin", "message_embeddings_hnsw"]
    [definition] = written.rows("SELECT pg_get_indexdef('message_embeddings_hnsw'::regclass)")
    assert "vector_cosine_ops" in definition[0]
    assert "m='16', ef_construction='64'" in definition[0]
    written.message("live", "written by the application")
    assert written.state("live")["status"] == "pending"
    assert run.said[0] == f"to be embedded by standin:asked: 3 texts, 3 distinct; {_estimated(written)}"
    again = deriving(written, asked := Asked()).run()
    assert asked.texts == ["written by the application"]
    assert again.indexes == ()


def _estimated(place):
    characters = sum(len(body) for body in BODIES.values())
    return f"about {round(characters / 4.7)} tokens, $0.0000"


def test_indexes_are_dropped_for_a_bulk_and_made_again_also_after_a_failure(written, monkeypatch):
    deriving(written).run()
    written.connection.execute("ALTER INDEX message_embeddings_hnsw RENAME TO of_the_target_team")
    monkeypatch.setattr(schema, "BULK_ROWS", 3)
    for number in range(3):
        written.message(f"m{number}", f"text {number}")
    seen = []

    def answer(text):
        seen.append(index_names(written_again)["messages"])
        raise EmbeddingStopped("no access")

    from dtx_assets.machinery.postgres.connection import connect

    with connect(written.url) as other:
        written_again = type(written)(written.url, other)
        with pytest.raises(EmbeddingStopped):
            deriving(written, Asked(answer), concurrency=1).run()
    assert [] in seen
    assert not any(seen)
    assert index_names(written)["messages"] == ["message_embeddings_gin", "of_the_target_team"]
    assert written.rows("SELECT count(*) FROM migration.derived_index") == [(0,)]


def test_indexes_that_a_killed_run_dropped_are_made_by_the_next(written, monkeypatch):
    deriving(written).run()
    monkeypatch.setattr(schema, "BULK_ROWS", 1)
    dropped = schema.drop_for_bulk(written.connection, DECLARED, {"messages": 1})
    assert dropped == ["message_embeddings_gin", "message_embeddings_hnsw"]
    monkeypatch.undo()
    assert deriving(written).run().indexes == tuple(dropped)


# --- cost -------------------------------------------------------------------------------------------------------------


def titan(**rest):
    return Asked(model_name=MODEL, **rest)


def test_a_cutover_asks_that_its_cost_is_accepted(place):
    place.message("one", "x" * 23_500)
    with pytest.raises(LoadError, match="nobody accepted") as told:
        deriving(place, titan(), cutover=True, a_minute=600).run()
    assert "--accept-cost" in told.value.remedy
    assert told.value.where == "1 texts, 1 distinct; about 5,000 tokens, $0.0001, at least 0.0 min at that rate"
    assert place.embedded() == {}
    with pytest.raises(LoadError, match=r"\$0.0000 is accepted"):
        deriving(place, titan(), cutover=True, accepted_cost=0.00001).run()
    done = deriving(place, titan(), cutover=True, accepted_cost=0.01).run()
    assert done.dollars == pytest.approx(done.embedding.tokens / 1000 * 0.00002)
    assert deriving(place, titan(), cutover=True).run().expected.distinct == 0


def test_a_cutover_refuses_a_stand_in_unless_that_is_accepted(written):
    with pytest.raises(LoadError, match="only stands in") as told:
        deriving(written, cutover=True).run()
    assert "embedding_model" in told.value.where
    assert written.rows("SELECT count(*) FROM embedding_queue") == [(0,)]
    assert deriving(written, cutover=True, accepts_stand_in=True).run().embedding.embedded == 3


def test_equal_and_known_texts_cost_nothing_twice(written):
    deriving(written).run()
    written.message("copy", BODIES["scan"])
    written.message("new", "new")
    written.message("new copy", "new")
    written.connection.execute("UPDATE embedding_queue SET content_hash = NULL WHERE content_hash IS NULL")
    expected = deriving(written).run().expected
    assert (expected.texts, expected.distinct, expected.tokens) == (3, 1, round(3 / 4.7))


def test_prices_that_are_missing_or_unreadable_are_told_with_their_file(written, tmp_path):
    for file in ("derived.sql", "embeddings.sql"):
        shutil.copy(MAPPINGS / file, tmp_path)
    for content, words in ((None, "cannot be read"), ("model,usd_per_1000_tokens\nx,cheap\n", "cannot be read"),
                           ("model,usd_per_1000_tokens\nother,1\n", "no price of amazon")):  # fmt: skip
        if content:
            (tmp_path / "model_price.csv").write_text(content)
        with pytest.raises(ConfigurationError, match=words) as told:
            deriving(written, titan(), mappings_dir=tmp_path).run()
        assert "model_price.csv" in told.value.where


def test_progress_says_speed_time_left_and_cost():
    clock = StandingClock()
    started = clock.now()
    clock.sleep(10)
    line = progress_line(1_200, 4_000, started, clock.now(), 0.0021)
    assert line == "1,200 of 4,000 texts, 120 texts/s, 23 s left, $0.0021 so far"


# --- what has to be there ---------------------------------------------------------------------------------------------


def test_without_pgvector_the_phase_is_refused_and_the_queue_can_be_there(vector_server):
    import psycopg

    from dtx_assets.machinery.postgres.connection import connect
    from dtx_assets_tests.machinery.derived.place import TABLES

    url = vector_server.create_database("without_vector")
    try:
        with psycopg.connect(url) as plain:
            plain.execute(TABLES)
        with connect(url) as connection:
            connection.execute((MAPPINGS / "derived.sql").read_bytes())
            with pytest.raises(StructureError, match="no pgvector") as told:
                schema.require_parts(connection, DECLARED)
            assert "CREATE EXTENSION vector" in told.value.remedy
            assert set(schema.trigger_states(connection, DECLARED).values()) == {"off"}
            schema.create_derived(connection, DECLARED, MAPPINGS)
            schema.require_parts(connection, DECLARED)
            schema.create_derived(connection, DECLARED, MAPPINGS)
            connection.execute("DROP FUNCTION match_orders")
            connection.execute("DROP TRIGGER queue_order_embeddings ON orders")
            with pytest.raises(StructureError, match="function match_orders, trigger queue_order_embeddings of orders"):
                schema.require_parts(connection, DECLARED)
    finally:
        vector_server.drop_database("without_vector")


# --- search -----------------------------------------------------------------------------------------------------------


def ask(place, text, k=3, **how):
    found = search(place.connection, DECLARED.entities["messages"], Asked(), text, k, **how)
    return [next(name for name in (*BODIES, *MORE) if key(name) == match.id) for match in found], found


MORE = [f"m{number:03}" for number in range(200)]


@pytest.mark.parametrize("hybrid", [False, True])
def test_the_nearest_come_first_and_a_copy_before_all(written, hybrid):
    deriving(written).run()
    names, found = ask(written, "aligner does not fit", hybrid=hybrid)
    assert names[0] == "aligner"
    assert names[-1] == "invoice"
    assert [match.similarity for match in found] == sorted((match.similarity for match in found), reverse=True)
    for name, body in BODIES.items():
        names, found = ask(written, f" {body} ", hybrid=hybrid)
        assert names[0] == name
        assert found[0].text == body
    if not hybrid:
        assert found[0].similarity == pytest.approx(1, abs=1e-6)


def test_a_copy_with_words_that_a_query_reads_as_operators_is_found(place):
    text = 'no -pain or "gain" & more'
    place.message("one", text)
    place.message("two", "no more gain, more pain: gain gain pain more")
    deriving(place).run()
    found = search(place.connection, DECLARED.entities["messages"], Asked(), text, 1, hybrid=True)
    assert [match.id for match in found] == [key("one")]


def test_as_many_rows_come_as_are_asked_for_each_once_however_many_chunks_they_have(place):
    for number, name in enumerate(MORE):
        place.message(name, f"a text of number {number}")
    place.message("long", "a text of number 7 " * 8_000)
    deriving(place).run()
    place.connection.execute("SET enable_seqscan = off")
    entity = DECLARED.entities["messages"]
    vector = str(ANSWER("a text of number 7 " * 20).vector.tolist())
    for words in (None, "a text of number 7"):
        for k in (1, 41, 150, 201, 500):
            found = matches(place.connection, entity, vector, k, words)
            assert len(found) == len({match.id for match in found}) == min(k, 201)
        assert matches(place.connection, entity, vector, 0, words) == []
    assert "Index Scan using message_embeddings_hnsw" in str(
        place.rows(
            "EXPLAIN SELECT message_id FROM message_embeddings ORDER BY embedding <=> %s::vector LIMIT 5", vector
        )
    )


def test_searching_other_models_or_nothing_is_told(written):
    deriving(written).run()
    entity = DECLARED.entities["messages"]
    with pytest.raises(ConfigurationError, match="not of standin:other"):
        search(written.connection, entity, Asked(model_name="standin:other"), "text", 1)
    with pytest.raises(ConfigurationError, match="no model"):
        search(written.connection, DECLARED.entities["orders"], Asked(), "text", 1)
    with pytest.raises(ConfigurationError, match="nothing to search for"):
        search(written.connection, entity, Asked(), " \n", 1)
    with pytest.raises(ConfigurationError, match="messages, orders, profiles"):
        entity_of(DECLARED, "people")


# --- checks -----------------------------------------------------------------------------------------------------------


def outcomes(place, model="standin:asked"):
    return evaluate_derived(place.connection, DECLARED, model)


def test_each_check_has_an_outcome_and_only_the_stand_in_and_waiting_documents_are_found(written):
    deriving(written).run()
    found = outcomes(written)
    assert sorted(found) == sorted(spec.name for spec in derived_checks(DECLARED))
    assert [name for name, outcome in found.items() if not outcome.passed] == [MODEL_CHECK, DOCUMENTS]
    assert found[COVERAGE].metadata["embedded"]["orders"] == "no row has a text"
    assert found[FINDS_ITSELF].metadata["looked for"] == 3


def test_a_real_model_passes_and_two_models_do_not(written):
    deriving(written, titan()).run()
    assert outcomes(written, MODEL)[MODEL_CHECK].passed
    written.connection.execute(
        "UPDATE message_embeddings SET model_version = 'v1' WHERE message_id = %s", [key("scan")]
    )
    assert not outcomes(written, MODEL)[MODEL_CHECK].passed


def test_coverage_fails_below_95_percent_of_an_entity_and_dead_letters_are_listed(place):
    for number in range(20):
        place.message(f"m{number:02}", f"text {number}")

    def answer(text):
        if text in bad:
            raise Refused("ValidationException: the model refuses the text")
        return ANSWER(text)

    bad = {"text 3"}
    deriving(place, Asked(answer)).run()
    found = outcomes(place)
    assert found[COVERAGE].passed
    assert found[COVERAGE].count == 1
    assert not found[DEAD].passed
    assert list(found[DEAD].metadata["dead"]) == [f"messages/{key('m03')}"]
    place.message("m04", "changed")
    bad.add("changed")
    deriving(place, Asked(answer)).run()
    found = outcomes(place)
    assert not found[COVERAGE].passed
    assert found[COVERAGE].metadata["below"] == ["messages"]


def test_embeddings_of_an_old_text_or_another_model_do_not_cover(written):
    deriving(written).run()
    assert not outcomes(written, "standin:other")[COVERAGE].passed
    written.connection.execute("UPDATE message_embeddings SET content_hash = 'old'")
    assert not outcomes(written)[COVERAGE].passed


def test_a_text_that_is_not_found_first_and_a_trigger_that_is_off_are_found(written):
    deriving(written).run()
    written.connection.execute("ALTER TABLE orders DISABLE TRIGGER queue_order_embeddings")
    written.connection.execute(
        "UPDATE message_embeddings SET embedding = (SELECT embedding FROM message_embeddings WHERE message_id = %s),"
        " content_text = content_text || ' changed' WHERE message_id = %s",
        [key("scan"), key("invoice")],
    )
    found = outcomes(written)
    assert not found[FINDS_ITSELF].passed
    assert not found[TRIGGERS].passed
    assert found[TRIGGERS].metadata["triggers"]["queue_order_embeddings"] == "off"


# --- undo -------------------------------------------------------------------------------------------------------------


def everything(place):
    return [
        place.rows("SELECT to_jsonb(q) - 'leased_until' FROM embedding_queue AS q ORDER BY id"),
        place.rows("SELECT to_jsonb(e) FROM message_embeddings AS e ORDER BY id"),
    ]


def test_the_undo_of_a_run_gives_back_what_was_there(written):
    deriving(written).run()
    before = everything(written)
    schema.switch_triggers(written.connection, DECLARED, on=False)
    written.message("invoice", " ")
    written.message("scan", "changed")
    written.message("new", "new")
    run = deriving(written)
    run.run()
    assert everything(written) != before
    done = undo_derived(written.connection, DECLARED, run.run_id)
    assert (done.undone, done.left) == (3, [])
    assert everything(written) == before
    assert set(schema.trigger_states(written.connection, DECLARED).values()) == {"off"}


def test_the_undo_of_the_first_run_leaves_nothing_and_can_be_repeated(written):
    run = deriving(written)
    run.run()
    assert undo_derived(written.connection, DECLARED, run.run_id).undone == 3
    assert everything(written) == [[], []]
    assert undo_derived(written.connection, DECLARED, run.run_id).undone == 0
    assert deriving(written).run().embedding.embedded == 3


def test_what_somebody_wrote_since_stays_and_is_listed(written):
    run = deriving(written)
    run.run()
    written.message("scan", "by the application")
    written.connection.execute(
        'UPDATE message_embeddings SET metadata = \'{"by": "hand"}\' WHERE message_id = %s', [key("invoice")]
    )
    done = undo_derived(written.connection, DECLARED, run.run_id)
    assert sorted(done.left) == sorted(f"messages/{key(name)}" for name in ("scan", "invoice"))
    assert sorted(written.embedded()) == sorted(key(name) for name in ("scan", "invoice"))


def test_a_run_that_others_built_on_is_not_undone(written):
    first = deriving(written)
    first.run()
    written.message("new", "new")
    second = deriving(written)
    second.run()
    with pytest.raises(LoadError, match=second.run_id):
        undo_derived(written.connection, DECLARED, first.run_id)
    assert undo_derived(written.connection, DECLARED, second.run_id).undone == 1
    assert undo_derived(written.connection, DECLARED, first.run_id).undone == 3
