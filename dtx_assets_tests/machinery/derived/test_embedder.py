"""Long texts are cut where people would cut them, vectors are looked at, and the stand-in keeps a model's limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtx_assets.machinery.derived.clock import Rate, wait_before_try
from dtx_assets.machinery.derived.embedder import (
    SHORTEST_CHUNK,
    Answer,
    Refused,
    TooManyTokens,
    TryAgain,
    checked_vector,
    chunks_of,
    embed_text,
    is_stand_in,
)
from dtx_assets.machinery.derived.standin import StandIn
from dtx_assets_tests.machinery.derived.place import StandingClock

VECTOR = Answer(np.zeros(4, dtype=np.float32), 1)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("short", ["short"]),
        ("one two.\nthree\n\nfour five", ["one two.\nthree\n\n", "four five"]),
        ("one two. and\nthree four five", ["one two. and\n", "three four five"]),
        ("one two three. four five six", ["one two three. ", "four five six"]),
        ("one two three four five six", ["one two three four ", "five six"]),
        ("x" * 45, ["x" * 20, "x" * 20, "x" * 5]),
        ("\n\n" + "x" * 30, ["\n\n" + "x" * 18, "x" * 12]),
    ],
)
def test_a_text_is_cut_at_the_last_paragraph_line_sentence_or_word(text, pieces):
    assert list(chunks_of(text, 20)) == pieces


@given(st.text(alphabet="ab .\n\u00a0🦷", max_size=200), st.integers(1, 40))
def test_nothing_of_a_text_is_lost_or_longer_than_it_may_be(text, most):
    pieces = list(chunks_of(text, most))
    assert "".join(pieces) == text
    assert all(len(piece) <= most for piece in pieces)
    assert all(pieces) or text == ""


def test_a_note_of_60000_characters_gives_three_chunks():
    pieces = list(chunks_of("word " * 12_000))
    assert [len(piece) for piece in pieces] == [24_000, 24_000, 12_000]


def limited(most: int):
    asked: list[str] = []

    def ask(text: str) -> Answer:
        asked.append(text)
        if len(text) > most:
            raise TooManyTokens
        return VECTOR

    return ask, asked


def test_too_many_tokens_halve_a_chunk_until_the_model_takes_it():
    text = "a sentence of words. " * 100
    ask, asked = limited(600)
    embedded = embed_text(ask, text, truncate=False)
    assert "".join(chunk.text for chunk in embedded.chunks) == text
    assert all(len(chunk.text) <= 600 for chunk in embedded.chunks)
    assert all(chunk.text.endswith(". ") for chunk in embedded.chunks)
    assert len(asked) == len(embedded.chunks) + 3
    assert not embedded.truncated


def test_truncating_takes_the_first_chunk_alone_halved_where_it_must_be():
    ask, asked = limited(600)
    embedded = embed_text(ask, "a sentence of words. " * 100, truncate=True)
    assert len(embedded.chunks) == 1
    assert embedded.truncated
    assert len(asked) == 3
    assert not embed_text(ask, "short", truncate=True).truncated


def test_what_cannot_be_halved_any_more_is_refused():
    ask, asked = limited(10)
    with pytest.raises(Refused, match="too many tokens"):
        embed_text(ask, "x" * 1000, truncate=False)
    assert len(asked[-1]) <= SHORTEST_CHUNK


@pytest.mark.parametrize("text", ["", " \n\u00a0"])
def test_a_blank_text_is_never_asked(text):
    ask, asked = limited(10)
    with pytest.raises(Refused, match="blank"):
        embed_text(ask, text, truncate=False)
    assert asked == []


def test_a_blank_piece_of_a_long_text_is_not_asked():
    ask, asked = limited(30_000)
    embed_text(ask, "x" * 24_000 + " " * 24_000 + "y", truncate=False)
    assert [text.strip()[:1] for text in asked] == ["x", "y"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (None, "no vector"),
        ("text", "no vector"),
        ([1.0, 0.0], "of 3 numbers"),
        ([[1.0, 0.0, 0.0]], "of 3 numbers"),
        ([1.0, float("nan"), 0.0], "no finite number"),
        ([float("inf"), 0.0, 0.0], "no finite number"),
        ([1.02, 0.0, 0.0], "norm"),
        ([0.0, 0.0, 0.0], "norm"),
        ([1.0, None, 0.0], "no "),
    ],
)
def test_anything_but_finite_numbers_of_norm_1_is_an_error(values, words):
    with pytest.raises(TryAgain, match=words):
        checked_vector(values, 3)


def test_a_norm_may_be_a_hundredth_off():
    assert checked_vector([1.009, 0.0, 0.0], 3).dtype == np.float32


def test_the_stand_in_is_deterministic_and_says_what_it_is():
    one, other = StandIn(1024), StandIn(1024)
    assert is_stand_in(one.model_name)
    assert not is_stand_in("amazon.titan-embed-text-v2:0")
    first, second = one.embed("The aligner does not fit"), other.embed("The aligner does not fit")
    assert np.array_equal(first.vector, second.vector)
    assert np.linalg.norm(first.vector) == pytest.approx(1, abs=1e-5)


def test_the_stand_in_puts_texts_that_share_words_near_and_no_two_in_one_place():
    embed = StandIn(1024).embed
    asked = embed("aligner does not fit").vector
    near = float(asked @ embed("Patient says that the aligners do not fit well.").vector)
    far = float(asked @ embed("Invoice for March was sent to the office").vector)
    assert near > 2 * abs(far)
    assert float(embed("Yes").vector @ embed("yes").vector) < 1 - 1e-6
    assert np.linalg.norm(embed("🦷").vector) == pytest.approx(1, abs=1e-5)


def test_the_stand_in_takes_no_more_than_a_model():
    with pytest.raises(TooManyTokens):
        StandIn(1024).embed("x" * 50_001)
    with pytest.raises(TooManyTokens):
        StandIn(1024).embed("x" * 45_000)


def test_calls_are_let_through_evenly():
    clock = StandingClock()
    rate = Rate(120, clock)
    began = clock.now()
    for _ in range(121):
        rate.pass_one()
    assert (clock.now() - began).total_seconds() == pytest.approx(60)
    unbounded = Rate(None, clock)
    unbounded.pass_one()
    assert len(clock.slept) == 120


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 2), (2, 4), (5, 32), (6, 60), (9, 60)])
def test_the_wait_before_the_next_try_doubles_up_to_a_minute(attempts, seconds):
    assert wait_before_try(attempts, lambda: 0.0).total_seconds() == seconds * 0.5
    assert wait_before_try(attempts, lambda: 1.0).total_seconds() == seconds * 1.5
