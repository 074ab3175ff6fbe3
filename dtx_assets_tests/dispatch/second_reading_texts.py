"""dispatch.md 6.1, read a second time: what of the migrated rows is embedded, and in which words."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from dtx_assets_tests.dispatch.second_reading_books import Inputs, Result, target_id
from dtx_assets_tests.dispatch.second_reading_values import Row, is_blank, sources_of, trimmed

Lines = list[tuple[str, str | None]]


@dataclass(frozen=True)
class Queued:
    """An eligible row's text; its hash is the queue's, the embeddings' and the documents'."""

    content_type: str
    priority: int
    text: str

    @property
    def content_hash(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def queue(inputs: Inputs, result: Result) -> dict[tuple[str, str], Queued]:
    """The eligible rows by (entity, id)."""
    queued: dict[tuple[str, str], Queued] = {}
    rows = result.rows
    for identity, row in rows["profiles"].items():
        lines = _profile_lines(row, with_name=inputs.decided("embedding_identifiers", "include"))
        _add(queued, "profiles", identity, "profile_summary", 1, lines, is_open=row["is_active"], beyond="Type")
    for identity, row in rows["orders"].items():
        lines = _order_lines(row, rows["order_types"])
        is_open = not row["metadata"].get("deleted")
        _add(queued, "orders", identity, "treatment_notes", 2, lines, is_open=is_open, beyond="Order type")
    for identity, row in rows["messages"].items():
        if not is_blank(row["body"]):
            queued["messages", identity] = Queued("message_content", 3, trimmed(row["body"]))
    named = _named_projects(inputs, result)
    for identity, row in rows["projects"].items():
        lines = [("Project", row["name"]), ("Type", row["project_type"]), ("Description", row["description"])]
        _add(queued, "projects", identity, "project_description", 4, lines, is_open=identity in named, beyond="")
    return queued


def queue_id(entity: str, identity: str, content_type: str) -> str:
    return target_id("embedding_queue", entity, identity, content_type)


def _add(
    queued: dict[tuple[str, str], Queued],
    entity: str,
    identity: str,
    content_type: str,
    priority: int,
    lines: Lines,
    *,
    is_open: bool,
    beyond: str,
) -> None:
    """ "by lines joined with a line feed; fields trimmed, lines whose field is blank left out"."""
    kept = [(label, trimmed(value)) for label, value in lines if value is not None and not is_blank(value)]
    if is_open and any(label != beyond for label, _ in kept):
        text = "\n".join(f"{label}: {value}" for label, value in kept)
        queued[entity, identity] = Queued(content_type, priority, text)


def _profile_lines(row: Row, *, with_name: bool) -> Lines:
    name = f"{trimmed(row['first_name'])} {trimmed(row['last_name'])}"
    born = row["date_of_birth"]
    return [
        *([("Name", name)] if with_name else []),
        ("Type", row["profile_type"]),
        ("Gender", row["gender"]),
        ("Born", str(born.year) if born else None),
        ("Groups", ", ".join(row["metadata"].get("groups", ()))),
        ("Medical history", row["medical_history"]),
        ("Allergies", row["allergies"]),
        ("Medications", row["medications"]),
    ]


def _order_lines(row: Row, order_types: Mapping[str, Row]) -> Lines:
    data = row["data"]
    return [
        ("Order type", order_types[row["order_type_id"]]["name"]),
        ("Complaint", data.get("complaint")),
        ("Objective", data.get("objective")),
        ("Conditions", data.get("conditions")),
        ("Notes", row["notes"]),
        ("Scanner notes", data.get("scanner_notes")),
    ]


def _named_projects(inputs: Inputs, result: Result) -> set[str]:
    """ "the legacy name is not blank": what became of a project whose name was none."""
    named = set()
    names = {row["legacy_project_id"]: identity for identity, row in result.rows["projects"].items()}
    for raw in _project_names(inputs):
        if raw[0] in names and not is_blank(raw[1]):
            named.add(names[raw[0]])
    return named


def _project_names(inputs: Inputs) -> list[tuple[int | None, str | None]]:
    rows = inputs.tables.get("dispatch_project", ())
    sources = sources_of("dispatch_project", rows, inputs.form, inputs.timezone)
    return [(source.id, source.text("name")) for source in sources if source.counts]
