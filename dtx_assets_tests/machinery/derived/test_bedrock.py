"""The real client of Bedrock asks a local server that answers, throttles, fails and hangs as Titan v2 does."""

import logging
from collections.abc import Iterator

import numpy as np
import pytest

from dtx_assets.machinery.derived.bedrock import PASSING, TitanV2
from dtx_assets.machinery.derived.embedder import EmbeddingStopped, Refused, TooManyTokens, TryAgain
from dtx_assets.machinery.derived.standin import StandIn
from dtx_assets_tests.machinery.derived.titan import INVOKED, Says, Titan, titan

SECRET = "wJalr/SECRET+KEY"


@pytest.fixture(scope="module")
def server() -> Iterator[Titan]:
    with titan() as server:
        yield server


@pytest.fixture
def service(server, monkeypatch) -> Titan:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    server.asked.clear()
    server.paths.clear()
    server.script.clear()
    server.rule = lambda _text: None
    return server


def client(service: Titan, seconds: float = 20.0) -> TitanV2:
    return TitanV2(1024, region="us-east-1", endpoint_url=service.url, seconds_to_answer=seconds)


def test_a_text_is_asked_for_as_titan_wants_it(service):
    answer = client(service).embed("Ünïcode 🦷\n")
    assert service.paths == [INVOKED]
    assert service.asked == [{"inputText": "Ünïcode 🦷\n", "dimensions": 1024, "normalize": True}]
    assert np.allclose(answer.vector, StandIn(1024).embed("Ünïcode 🦷\n").vector)
    assert answer.tokens == 2


@pytest.mark.parametrize("code", sorted(PASSING))
def test_what_passes_is_to_be_tried_again_and_not_by_the_client_itself(service, code):
    status = 429 if code in ("ThrottlingException", "ModelNotReadyException") else 500
    service.script[:] = [Says(status, code, "the secret text")] * 2
    with pytest.raises(TryAgain) as told:
        client(service).embed("the secret text")
    assert code in str(told.value)
    assert "secret" not in str(told.value)
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "says",
    [
        Says(breaks=True),
        Says(body=b"{"),
        Says(body=b"[1]"),
        Says(body=b"{}"),
        Says(body=b'{"embedding": [1, 2, 3], "inputTextTokenCount": 1}'),
        Says(502, body=b"<html>bad gateway</html>"),
        Says(429, "SomethingNew"),
    ],
)
def test_broken_connections_and_answers_that_are_none_are_to_be_tried_again(service, says):
    service.script[:] = [says]
    with pytest.raises(TryAgain):
        client(service).embed("text")
    assert len(service.asked) == 1


def test_what_hangs_is_given_up(service):
    service.script[:] = [Says(hangs=True)]
    with pytest.raises(TryAgain, match="ReadTimeout"):
        client(service, seconds=0.2).embed("text")


def test_nobody_at_the_endpoint_is_to_be_tried_again(service):
    from dtx_assets_tests.servers import free_ports

    [port] = free_ports(1)
    nobody = TitanV2(1024, region="us-east-1", endpoint_url=f"http://127.0.0.1:{port}", seconds_to_answer=5)
    with pytest.raises(TryAgain, match="EndpointConnectionError"):
        nobody.embed("text")


def test_too_many_tokens_are_told_apart_from_what_the_model_refuses(service):
    with pytest.raises(TooManyTokens):
        client(service).embed("x" * 45_000)
    service.script[:] = [Says(400, "ValidationException", "Malformed input request: the secret text")]
    with pytest.raises(Refused) as told:
        client(service).embed("the secret text")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("says", "advice"),
    [
        (Says(403, "AccessDeniedException"), "bedrock:InvokeModel"),
        (Says(404, "ResourceNotFoundException"), "region"),
        (Says(403, "UnrecognizedClientException"), "AWS_ACCESS_KEY_ID"),
        (Says(403, "ExpiredTokenException"), "AWS_ACCESS_KEY_ID"),
        (Says(400, "ServiceQuotaExceededException"), "documentation"),
    ],
)
def test_what_no_second_try_mends_stops_with_advice(service, says, advice):
    service.script[:] = [says]
    with pytest.raises(EmbeddingStopped) as told:
        client(service).embed("text")
    assert says.code in told.value.what
    assert advice in told.value.remedy
    assert "us-east-1" in told.value.where


def test_without_credentials_it_stops_and_says_which_are_missing(service, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(EmbeddingStopped) as told:
        client(service).embed("text")
    assert "AWS_ACCESS_KEY_ID" in told.value.remedy
    assert service.asked == []


def test_no_secret_and_no_text_is_logged(service, caplog):
    service.script[:] = [Says(500, "InternalServerException", "the secret text")]
    with caplog.at_level(logging.INFO), pytest.raises(TryAgain):
        client(service).embed("the secret text")
    assert SECRET not in caplog.text
    assert "secret text" not in caplog.text
