"""What people may see of personal data: previews, check metadata, logs and reports mask through here.

Keys, reasons and counts are never masked: they are enough to find the row. Secrets in URLs are `settings.mask_url`'s.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

_PART = r"[^\s@<>\"',;:()\[\]]"
EMAIL = re.compile(rf"(?<!{_PART}){_PART}++@{_PART}++")
"""Begins where a word does, and never goes back: a value of many megabytes without an address takes no time."""
KEPT_TYPES = (bool, int, float)
SHORT = 60
QUOTED = 40
"""Characters of a value that a problem quotes."""


def mask(value: object) -> str:
    """The shape of a value: `a***@e***.com` for an e-mail address, else its first letter and its length.

    Numbers and truth values stay as they are; None is `NULL` and an empty text two quotes. Text that holds addresses
    among other words is cut to its shape as a whole.
    """
    if value is None:
        return "NULL"
    if isinstance(value, KEPT_TYPES):
        return str(value)
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {mask(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(mask(inner) for inner in value) + "]"
    text = str(value)
    if not text:
        return "''"
    stripped = text.strip()
    if EMAIL.fullmatch(stripped):
        return mask_email(stripped)
    first = stripped[:1] if stripped[:1].isprintable() else ""
    return f"{first}… ({len(text)} characters)"


def mask_email(address: str) -> str:
    """`anna@example.com` → `a***@e***.com`."""
    local, _, domain = address.rpartition("@")
    host, dot, ending = domain.rpartition(".")
    if not dot:
        host, ending = domain, ""
    return f"{local[:1]}***@{host[:1]}***{dot}{ending}"


def mask_emails(text: str) -> str:
    """The text with every e-mail address in it masked; for messages that are not personal otherwise."""
    return EMAIL.sub(lambda found: mask_email(found.group()), text)


def mask_row(row: Mapping[str, Any], personal: Collection[str]) -> dict[str, str]:
    """A row for people: values of `personal` columns masked, the others cut to 60 characters with addresses masked."""
    return {name: mask(value) if name in personal else plain(value) for name, value in row.items()}


def plain(value: object) -> str:
    """A value that is not personal, as one short line."""
    if value is None:
        return "NULL"
    text = mask_emails(" ".join(str(value).split()))
    return text if len(text) <= SHORT else f"{text[:SHORT]}…"


def _without_first_value(sentence: str, values: Iterable[Any]) -> str:
    """A sentence that quotes one of some values of a document at its beginning, as JSON and perhaps cut, without it."""
    for value in values:
        if isinstance(value, str | dict | list):
            told = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("\\\\x00", "\\u0000")
            if sentence.startswith(told[:QUOTED]):
                return mask(value) + sentence[len(told[:QUOTED]) :]
    return sentence


def masked_detail(detail: str, row: Mapping[str, Any], personal: Collection[str]) -> str:
    """What is wrong with a row, without what a personal column holds: `webhook: not an address: a… (9 characters)`.

    A detail is sentences such as `column: what is wrong`, joined by `; `, with the part of the row in front where it is
    wrong with a part alone; of a personal column, what follows a second colon is a value of it.
    """
    columns = "|".join(sorted(map(re.escape, row), key=len, reverse=True)) or r"(?!)"
    part = rf"(?:(?!(?:{columns})(?:,|: ))[^:;]+: )?"
    pieces = re.split(rf"(?:^|; )({part})((?:{columns})(?:, (?:{columns}))*): ", detail)
    told = [mask_emails(pieces[0])] if pieces[0] else []
    for of_part, names_, sentence in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        text = sentence
        if set(names_.split(", ")) & set(personal):
            before, colon, value = sentence.partition(": ")
            text = f"{before}: {mask(value)}" if colon else before
            text = _without_first_value(text, [row[name] for name in names_.split(", ") if name in personal])
            for name in personal:
                if isinstance(held := row.get(name), str) and len(value := held.strip()) > 1:
                    # A long one is quoted as far as its beginning.
                    quoted = value if value in text else held[:QUOTED].strip()
                    text = text.replace(quoted, mask(value)) if len(quoted) > 1 else text
        told.append(f"{of_part}{names_}: {mask_emails(text)}")
    return "; ".join(told)
