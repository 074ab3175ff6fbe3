"""A local server that keeps knowledge bases as Dify's service API does, and misbehaves as it is told to.

A request whose body Dify's OpenAPI document would refuse is answered 400, and remembered as `refused`.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from dtx_assets_tests.machinery.derived.served import served

KEY = "dataset-very-secret"
STATES = ("waiting", "parsing", "cleaning", "splitting", "indexing")

# --- what the bodies may be, as the OpenAPI document says it ---

TEXT = {"type": str}
TECHNIQUE = {"type": str, "enum": {"high_quality", "economy"}}
RETRIEVAL = {
    "required": {"search_method", "reranking_enable", "top_k", "score_threshold_enabled"},
    "properties": {
        "search_method": {
            "type": str,
            "enum": {"hybrid_search", "semantic_search", "full_text_search", "keyword_search"},
        },
        "reranking_enable": {"type": bool},
        "reranking_mode": {"type": str, "enum": {"reranking_model", "weighted_score"}},
        "reranking_model": {"properties": {"reranking_provider_name": TEXT, "reranking_model_name": TEXT}},
        "top_k": {"type": int},
        "score_threshold_enabled": {"type": bool},
        "score_threshold": {"type": float},
    },
}
PROCESS = {
    "required": {"mode"},
    "properties": {"mode": {"type": str, "enum": {"automatic", "custom", "hierarchical"}}, "rules": {"type": dict}},
}
MODELS = {"embedding_model": TEXT, "embedding_model_provider": TEXT, "retrieval_model": RETRIEVAL}
BASE = {
    "required": {"name"},
    "properties": {
        "name": {"type": str, "most": 40},
        "description": {"type": str, "most": 400},
        "indexing_technique": TECHNIQUE,
        "permission": {"type": str, "enum": {"only_me", "all_team_members", "partial_members"}},
        "provider": {"type": str, "enum": {"vendor", "external"}},
        **MODELS,
    },
}
CREATED = {
    "required": {"name", "text"},
    "properties": {
        "name": TEXT,
        "text": TEXT,
        "indexing_technique": TECHNIQUE,
        "doc_form": {"type": str, "enum": {"text_model", "hierarchical_model", "qa_model"}},
        "doc_language": TEXT,
        "process_rule": PROCESS,
        **MODELS,
    },
}
UPDATED = {"properties": {"name": TEXT, "text": TEXT, "process_rule": PROCESS}}


def wrong(schema: dict[str, Any], value: Any, where: str = "body") -> str | None:
    """What a schema has against a value."""
    if "properties" not in schema:
        if not isinstance(value, schema["type"]) or (schema["type"] is int and isinstance(value, bool)):
            return f"{where} is {type(value).__name__}"
        if "enum" in schema and value not in schema["enum"]:
            return f"{where} is {value!r}"
        return f"{where} is too long" if "most" in schema and not 0 < len(value) <= schema["most"] else None
    if not isinstance(value, dict):
        return f"{where} is no object"
    if missing := schema.get("required", set()) - value.keys():
        return f"{where} lacks {missing}"
    if more := value.keys() - schema["properties"].keys():
        return f"{where} has {more}"
    told = (wrong(schema["properties"][name], each, f"{where}.{name}") for name, each in value.items())
    return next((words for words in told if words), None)


# --- the server ---


@dataclass(frozen=True)
class Does:
    """What is done instead of, or after, the next request whose method and path hold `on`."""

    on: str = ""
    status: int = 0
    code: str = "unknown"
    message: str = ""
    body: bytes | None = None
    breaks: bool = False
    hangs: bool = False
    loses: bool = False
    """It is done, and nobody gets to know."""


@dataclass
class Kept:
    id: str
    base: str
    name: str
    text: str
    batch: str
    left: int
    """So often it is looked at before it is indexed."""
    fate: str = "completed"

    @property
    def state(self) -> str:
        return self.fate if not self.left else STATES[self.left % len(STATES)]


Reply = tuple[int, dict[str, Any] | None]


@dataclass
class Knowledge:
    """What the server keeps, and was asked."""

    url: str = ""
    looks: int = 1
    fates: Callable[[str], str] = lambda _text: "completed"
    script: list[Does] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    bases: dict[str, dict[str, Any]] = field(default_factory=dict)
    documents: dict[str, Kept] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ends: threading.Event = field(default_factory=threading.Event)

    def called(self, name: str) -> list[str]:
        """The texts of the documents of a name."""
        return [each.text for each in self.documents.values() if each.name == name]

    def count(self, on: str) -> int:
        return sum(on in each for each in self.asked)

    def planned(self, request: str) -> Does:
        with self._lock:
            self.asked.append(request)
            for place, does in enumerate(self.script):
                if does.on in request:
                    return self.script.pop(place)
        return Does()

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any], key: str) -> Reply:
        with self._lock:
            if key != f"Bearer {KEY}":
                return error(401, "unauthorized", "Access token is invalid")
            if body:
                self.bodies.append(body)
            parts = path.removeprefix("/v1/").strip("/").split("/")
            match (method, parts):
                case ("POST", ["datasets"]):
                    return self.checked(BASE, body) or self.make_base(body)
                case ("GET", ["datasets"]):
                    return self.page([b for b in self.bases.values() if query["keyword"] in b["name"]], query)
                case (_, ["datasets", base, *_]) if base not in self.bases:
                    return error(404, "not_found", "Dataset not found.")
                case ("POST", ["datasets", base, "document", "create-by-text"]):
                    return self.checked(CREATED, body) or self.make_document(base, body)
                case ("GET", ["datasets", base, "documents"]):
                    found = [d for d in self.documents.values() if d.base == base and query["keyword"] in d.name]
                    listed = [{"id": d.id, "name": d.name, "indexing_status": self.seen(d)} for d in found]
                    return self.page(listed, query)
                case ("GET", ["datasets", base, "documents", batch, "indexing-status"]):
                    found = [d for d in self.documents.values() if (d.base, d.batch) == (base, batch)]
                    if not found:
                        return error(404, "not_found", "Documents not found.")
                    return 200, {"data": [{"id": d.id, "indexing_status": self.seen(d)} for d in found]}
                case (_, ["datasets", base, "documents", document, *_]) if document not in self.documents:
                    return error(404, "not_found", "Document Not Exists.")
                case ("POST", ["datasets", _, "documents", document, "update-by-text"]):
                    return self.checked(UPDATED, body) or self.change(self.documents[document], body)
                case ("DELETE", ["datasets", _, "documents", document]):
                    if self.seen(self.documents[document]) in STATES:
                        return error(400, "document_indexing", "Cannot delete document during indexing.")
                    del self.documents[document]
                    return 204, None
        return error(404, "not_found", "The requested URL was not found on the server.")

    def checked(self, schema: dict[str, Any], body: dict[str, Any]) -> Reply | None:
        words = wrong(schema, body)
        if words is None:
            return None
        self.refused.append(words)
        return error(400, "invalid_param", words)

    def make_base(self, body: dict[str, Any]) -> Reply:
        if any(base["name"] == body["name"] for base in self.bases.values()):
            return error(409, "dataset_name_duplicate", "The dataset name already exists.")
        made = {"id": str(uuid4()), **body}
        self.bases[made["id"]] = made
        return 200, made

    def make_document(self, base: str, body: dict[str, Any]) -> Reply:
        is_first = all(each.base != base for each in self.documents.values())
        if is_first and "indexing_technique" not in body:
            return error(400, "invalid_param", "indexing_technique is required.")
        made = Kept(str(uuid4()), base, body["name"], body["text"], uuid4().hex, self.looks, self.fates(body["text"]))
        self.documents[made.id] = made
        return 200, {"document": {"id": made.id, "name": made.name}, "batch": made.batch}

    def change(self, document: Kept, body: dict[str, Any]) -> Reply:
        if self.seen(document) != "completed":
            return error(400, "invalid_param", "Document is not available")
        document.text, document.batch, document.left = body["text"], uuid4().hex, self.looks
        document.fate = self.fates(document.text)
        return 200, {"document": {"id": document.id, "name": document.name}, "batch": document.batch}

    @staticmethod
    def seen(document: Kept) -> str:
        """Its state, which goes on when it is looked at."""
        state = document.state
        document.left = max(0, document.left - 1)
        return state

    @staticmethod
    def page(listed: list[dict[str, Any]], query: dict[str, str]) -> Reply:
        """Two on a page, whatever was asked for."""
        first = (int(query.get("page", 1)) - 1) * 2
        return 200, {"data": listed[first : first + 2], "has_more": len(listed) > first + 2}


def error(status: int, code: str, message: str) -> Reply:
    return status, {"status": status, "code": code, "message": message}


@contextmanager
def knowledge() -> Iterator[Knowledge]:
    """The server, on a free port of 127.0.0.1, until the block ends."""
    kept = Knowledge()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.go_on("GET")

        def do_POST(self) -> None:
            self.go_on("POST")

        def do_DELETE(self) -> None:
            self.go_on("DELETE")

        def go_on(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            there = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(there.query).items()}
            does = kept.planned(f"{method} {there.path}")
            if does.hangs:
                kept._ends.wait(30)
            if does.breaks or does.hangs:
                self.close_connection = True
                return
            if does.status:
                status, answer = error(does.status, does.code, does.message)
            elif does.body is None:
                given = json.loads(body) if body else {}
                status, answer = kept.answer(method, there.path, query, given, self.headers.get("Authorization", ""))
                if does.loses:
                    self.close_connection = True
                    return
            else:
                status, answer = 200, None
            content = does.body if does.body is not None else b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_said: object) -> None:
            pass

    with served(Handler, kept._ends) as url:
        kept.url = f"{url}/v1"
        yield kept
