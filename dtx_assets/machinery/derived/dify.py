"""Dify's service API for knowledge bases: one HTTP call a method. Its errors become those of `embedder`.

The key goes into a header and is told nowhere; neither is what Dify says in words, which may quote a text.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.derived.embedder import Refused, TryAgain
from dtx_assets.machinery.derived.model import Knowledge

SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 10.0, 60.0
PAGE = 100
HIGH_QUALITY = "high_quality"
STILL_INDEXED = ("is being indexed", "being processed", "is not available", "during indexing")
"""What Dify says, among other words, of a document that cannot be changed yet."""
State = Literal["completed", "error", "paused", "indexing"]


class SendingStopped(LoadError):
    """No document can be sent until somebody does something."""


class NotThere(Exception):
    """There is no such thing in Dify."""


class StillIndexed(Exception):
    """A document cannot be changed before it is indexed."""


class NameTaken(Exception):
    """There is a knowledge base of this name."""


@dataclass(frozen=True)
class Sent:
    """A document that Dify has. `batch` is what its indexing is asked by, None for one that was found by its name."""

    document_id: str
    batch: str | None
    state: State = "indexing"


class Dify:
    """The API behind one key; several threads use it at once. Each method raises TryAgain, Refused, SendingStopped."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        embedding_provider: str,
        rerank_provider: str,
        seconds_to_answer: float = SECONDS_TO_ANSWER,
    ) -> None:
        self.url = url
        self._providers = (embedding_provider, rerank_provider)
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(seconds_to_answer, connect=min(SECONDS_TO_CONNECT, seconds_to_answer)),
        )

    def close(self) -> None:
        self._client.close()

    # --- knowledge bases ---

    def base_called(self, name: str, knowledge: Knowledge) -> str:
        """The id of the knowledge base of this name, which is made where there is none."""
        body = {
            "name": name,
            "indexing_technique": HIGH_QUALITY,
            "embedding_model": knowledge.embedding_model,
            "embedding_model_provider": self._providers[0],
            "retrieval_model": retrieval(knowledge, self._providers[1]),
        }
        try:
            return _id_of(self._ask("POST", "/datasets", json=body))
        except NameTaken:
            for base in self._pages("/datasets", name):
                if base.get("name") == name:
                    return _id_of(base)
            raise SendingStopped(
                f"Dify has a knowledge base {name!r} that this key does not see",
                where=self.url,
                remedy="let the key's account see it (permission of the knowledge base), or give it another name",
            ) from None
        except NotThere:
            raise SendingStopped(
                "there is no service API of Dify", where=self.url, remedy="give its address with /v1 at the end"
            ) from None

    # --- documents ---

    def create(self, base: str, name: str, text: str) -> Sent:
        """Add a document. NotThere where the knowledge base is not there any more."""
        body = {
            "name": name,
            "text": text,
            # The first document of a knowledge base needs it.
            "indexing_technique": HIGH_QUALITY,
            "process_rule": {"mode": "automatic"},
        }
        return _sent(self._ask("POST", f"/datasets/{base}/document/create-by-text", json=body))

    def update(self, base: str, document: str, name: str, text: str) -> Sent:
        """Replace the text of a document; NotThere, or StillIndexed."""
        body = {"name": name, "text": text}
        return _sent(self._ask("POST", f"/datasets/{base}/documents/{document}/update-by-text", json=body))

    def delete(self, base: str, document: str) -> None:
        """Take a document away, if it is there; StillIndexed."""
        try:
            self._ask("DELETE", f"/datasets/{base}/documents/{document}")
        except NotThere:
            return

    def called(self, base: str, name: str) -> list[Sent]:
        """The documents of exactly this name `<entity>/<uuid>`."""
        found = self._pages(f"/datasets/{base}/documents", name.rpartition("/")[2])
        return [
            Sent(_id_of(each), None, _state(str(each.get("indexing_status")))) for each in found if each["name"] == name
        ]

    def state(self, base: str, name: str, sent: Sent) -> State:
        """How far the indexing of a document is; NotThere."""
        if sent.batch is None:
            states = {each.document_id: each.state for each in self.called(base, name)}
            if sent.document_id not in states:
                raise NotThere
            return states[sent.document_id]
        answer = self._ask("GET", f"/datasets/{base}/documents/{sent.batch}/indexing-status")
        listed = {str(each.get("id")): each for each in _listed(answer)}
        return _state(str(listed.get(sent.document_id, {}).get("indexing_status")))

    # --- calls ---

    def _pages(self, path: str, keyword: str) -> Iterator[Mapping[str, Any]]:
        page = 1
        while True:
            answer = self._ask("GET", path, params={"keyword": keyword, "page": page, "limit": PAGE})
            yield from _listed(answer)
            if not answer.get("has_more"):
                return
            page += 1

    def _ask(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, **given)
        except httpx.HTTPError as error:
            raise TryAgain(f"{type(error).__name__}: the connection broke, or the answer took too long") from None
        try:
            answer = response.json() if response.content else {}
        except ValueError:
            answer = None
        if response.is_success:
            if not isinstance(answer, dict):
                raise TryAgain("the answer is no JSON object")
            return answer
        self._raise_for(response.status_code, answer if isinstance(answer, dict) else {})
        raise AssertionError("an error of the service is raised")

    def _raise_for(self, status: int, answer: Mapping[str, Any]) -> None:
        code, words = str(answer.get("code", "unknown")), str(answer.get("message", "")).casefold()
        if status in (408, 429) or status >= 500 or (status == 403 and "rate limit" in words):
            raise TryAgain(f"{code}: the service could not answer (HTTP {status})")
        if code == "provider_not_initialize":
            raise SendingStopped(
                f"Dify has no credentials for its models ({code})",
                where=self.url,
                remedy="give them in Dify under Settings, Model Provider, then run again",
            )
        if status in {401, 403}:
            raise SendingStopped(
                f"Dify refuses the key ({code}, HTTP {status})",
                where=self.url,
                remedy="give a key of the knowledge API that may write (DIFY_KEY), see whether the API is switched on",
            )
        if status < 400:
            raise SendingStopped(
                f"Dify answers from elsewhere (HTTP {status})", where=self.url, remedy="give its address with /v1"
            )
        if status == 404:
            raise NotThere
        if code == "dataset_name_duplicate":
            raise NameTaken
        if code == "document_indexing" or any(said in words for said in STILL_INDEXED):
            raise StillIndexed
        raise Refused(f"{code}: Dify refuses it (HTTP {status})")


def retrieval(knowledge: Knowledge, rerank_provider: str) -> dict[str, Any]:
    """How a knowledge base looks for things: by meaning and words, ranked again."""
    return {
        "search_method": "hybrid_search",
        "reranking_enable": True,
        "reranking_mode": "reranking_model",
        "reranking_model": {
            "reranking_provider_name": rerank_provider,
            "reranking_model_name": knowledge.rerank_model,
        },
        "top_k": knowledge.top_k,
        "score_threshold_enabled": False,
    }


def _id_of(answer: Mapping[str, Any]) -> str:
    if not answer.get("id"):
        raise TryAgain("the answer names no id")
    return str(answer["id"])


def _sent(answer: Mapping[str, Any]) -> Sent:
    document = answer.get("document")
    return Sent(_id_of(document if isinstance(document, dict) else {}), str(answer.get("batch") or "") or None)


def _listed(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = answer.get("data")
    if not isinstance(listed, list):
        raise TryAgain("the answer holds no list")
    return [each for each in listed if isinstance(each, dict)]


def _state(said: str) -> State:
    """`waiting`, `parsing`, `cleaning`, `splitting` and `indexing` come before the end, and what nobody knows does."""
    match said:
        case "completed" | "error" | "paused":
            return said
        case _:
            return "indexing"
