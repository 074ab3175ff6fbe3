"""JSON documents that several write to: what is in the way of a value, what a unit wrote, what is left without it."""

import json
import re
from collections.abc import Callable
from decimal import Decimal

from dtx_assets.machinery.postgres.content import canonical_json

_TAGGED_NUMBER = re.compile(r'"\\u0000([^"]*)"')
EMPTY_DOCUMENTS = frozenset(("null", "false", '""', "[]", "{}"))


def shape_of(document: str | None) -> str | None:
    """The keys of a document, however deep, without its values: `{"labels":{"NAME":null}}`."""
    return None if document is None else json.dumps(_shape_of(json.loads(document)))


def _shape_of(document: object) -> object:
    return {key: _shape_of(inner) for key, inner in document.items()} if isinstance(document, dict) else None


def project_json(now: str | None, shape: str | None) -> str | None:
    """What the document `now` holds at the keys of a shape (`shape_of`)."""
    if now is None or shape is None:
        return None
    return _as_text(_project(_with_tagged_numbers(now), json.loads(shape)))


def _project(now: object, shape: object) -> object:
    if isinstance(now, dict) and isinstance(shape, dict):
        return {key: _project(now[key], inner) for key, inner in shape.items() if key in now}
    return now


def merge_json(now: str | None, wanted: str | None) -> tuple[str | None, bool]:
    """The document `now` with what is `wanted` put in, and whether something else was there.

    Objects are merged key by key; anything else is one value. An empty document, a missing key and JSON's null can be
    filled. Numbers stay as they were written.
    """
    if now is None or wanted is None:
        return (wanted if wanted is not None else now), False
    if now in EMPTY_DOCUMENTS:
        return (now if canonical_json(wanted) == now else wanted), False
    conflicts: list[object] = []
    text = _as_text(_merge(_with_tagged_numbers(now), _with_tagged_numbers(wanted), conflicts.append))
    return (now if canonical_json(text) == canonical_json(now) else text), bool(conflicts)


def _with_tagged_numbers(text: str) -> object:
    # No text of jsonb holds a NUL.
    return json.loads(text, parse_int=lambda number: f"\x00{number}", parse_float=lambda number: f"\x00{number}")


def _as_text(document: object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _TAGGED_NUMBER.sub(r"\1", text)


def _merge(now: object, wanted: object, conflict: Callable[[object], None]) -> object:
    if isinstance(now, dict) and isinstance(wanted, dict):
        return {**now, **{key: _merge(now.get(key), value, conflict) for key, value in wanted.items()}}
    if now is not None and _comparable(now) != _comparable(wanted):
        conflict(wanted)
    return wanted


def _comparable(value: object) -> object:
    if isinstance(value, str) and value.startswith("\x00"):
        # Not the number itself: Python takes 1 for true and 0 for false.
        return ("number", Decimal(value[1:]))
    if isinstance(value, list):
        return [_comparable(element) for element in value]
    if isinstance(value, dict):
        return {key: _comparable(inner) for key, inner in value.items()}
    return value


def restored_document(now: object, before: object, shape: object) -> object:
    """The document `now` with the places of a shape as they were `before`; what is beside them stays.

    Where nothing is left of a document that was empty, it is as empty as it was.
    """
    if not (isinstance(now, dict) and isinstance(shape, dict)):
        return before
    held = before if isinstance(before, dict) else {}
    kept = dict(now)
    for key, inner in shape.items():
        if key in held:
            kept[key] = restored_document(kept.get(key), held[key], inner)
        elif isinstance(inner, dict) and isinstance(kept.get(key), dict):
            rest = restored_document(kept[key], None, inner)
            if rest:
                kept[key] = rest
            else:
                kept.pop(key, None)
        else:
            kept.pop(key, None)
    return kept if kept or held else before
