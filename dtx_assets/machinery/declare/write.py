"""Writes drafts so that nobody's edits are lost: a file that was written here, and was not changed since, is renewed.

The first line of a file that is written here holds a digest of the others.
"""

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HEADER = "Written by `dtx init` (sha256:{}); edit it freely: an edited file is not written again."
DIGEST = re.compile(r"^\S+ Written by `dtx init` \(sha256:([0-9a-f]{16})\)")
COMMENT = {".sql": "--"}


@dataclass(frozen=True)
class Written:
    """What became of a file: `written`, `unchanged`, or `kept`, and what would have been written then, as a diff."""

    path: Path
    state: Literal["written", "unchanged", "kept"]
    diff: tuple[str, ...] = ()


def write_drafts(drafts: Mapping[Path, str]) -> list[Written]:
    """Writes each file that is not there, or is as it was written here last; all others stay as they are."""
    return [_write(path, content) for path, content in drafts.items()]


def with_header(path: Path, content: str) -> str:
    """The file as it is written: a comment with the digest of what follows it."""
    return f"{COMMENT.get(path.suffix, '#')} {HEADER.format(_digest(content))}\n{content}"


def is_untouched(text: str) -> bool:
    """Whether a file is as it was written here."""
    header, _, content = text.partition("\n")
    found = DIGEST.match(header)
    return bool(found and found[1] == _digest(content))


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _write(path: Path, content: str) -> Written:
    wanted = with_header(path, content)
    if path.exists():
        there = path.read_text("utf-8", errors="replace")
        if there == wanted:
            return Written(path, "unchanged")
        if not is_untouched(there):
            theirs = there.partition("\n")[2] if DIGEST.match(there) else there
            if theirs == content:
                return Written(path, "unchanged")
            shown = difflib.unified_diff(
                theirs.splitlines(),
                content.splitlines(),
                f"{path} (as it is)",
                f"{path} (as init would write it)",
                "",
                "",
            )
            return Written(path, "kept", tuple(line.rstrip("\n") for line in shown))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(wanted, "utf-8")
    return Written(path, "written")


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two findings of `found_facts`, a line each."""
    return [line for side in ("legacy", "target") for line in _changes_of(side, before[side], now[side])]


def _changes_of(side: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    for table in sorted(before.keys() | now.keys()):
        if table not in now:
            yield f"{side} {table}: the table is gone"
        elif table not in before:
            yield f"{side} {table}: the table is new"
        else:
            yield from _changes_of_table(f"{side} {table}", before[table], now[table])


def _changes_of_table(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    had, has = before["columns"], now["columns"]
    for column in dict.fromkeys((*had, *has)):
        if column not in has:
            yield f"{name}.{column}: the column is gone; it was {had[column]}"
        elif column not in had:
            yield f"{name}.{column}: the column is new; it is {has[column]}"
        elif had[column] != has[column]:
            yield f"{name}.{column}: it was {had[column]}, and is {has[column]}"
    for fact in sorted((before.keys() | now.keys()) - {"columns"}):
        if before.get(fact) != now.get(fact):
            yield f"{name}: its {fact} was {before.get(fact) or 'none'}, and is {now.get(fact) or 'none'}"
