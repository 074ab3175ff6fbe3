"""The section Rejected: the rows by table and reason, how to mend them, and examples that people may see."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dtx_assets.machinery.legacy import LegacyTable
from dtx_assets.machinery.masking import mask, mask_emails, mask_row
from dtx_assets.machinery.report.accounts import Accounts
from dtx_assets.machinery.report.figures import RejectedKind, RejectedRows
from dtx_assets.machinery.system import System

COLUMNS_SHOWN = 8


REMEDIES = {
    "unmapped_value": "Add the value to the value map that is named, or correct it in the source.",
    "unparseable": "Correct the value in the source; the sentence says which column and what was expected.",
    "orphan_reference": "Ask the area that owns the crosswalk to add the id, or leave the row behind on purpose.",
    "duplicate_key": "Another row of this key counts. Nothing to do, unless it is the wrong one: correct it then.",
    "no_matching_row": "What to link to is not there: see whether it was rejected itself, or is another area's.",
    "invalid_email": "Correct the address in the source; valid addresses of the same row were kept.",
    "unsafe_path": "The path leads out of the file repository: correct it in the source. It was not opened.",
    "file_missing": "Restore the file under its path, or leave the row behind on purpose.",
    "schema_violation": "The target does not take the value: correct it in the source, or have the column changed.",
    "target_conflict": "Someone else made or changed the row in the target: decide which of the two is right.",
}
"""What to do about rows that were rejected for a reason of spec 5."""


@dataclass(frozen=True)
class Example:
    """A kind of rejected rows: what is wrong, how many, and one of them; masked."""

    detail: str
    rows: int
    source_key: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RejectedGroup:
    figures: RejectedRows
    model: str
    examples: tuple[Example, ...]
    remedies: tuple[str, ...]


def rejected_group(system: System, group: RejectedRows, accounts: Accounts) -> RejectedGroup:
    table = system.legacy_tables.get(group.source_table)
    return RejectedGroup(
        group,
        accounts.models.get(group.target_table, group.target_table),
        tuple(masked_example(table, kind) for kind in group.kinds),
        tuple(REMEDIES.get(reason, "See the sentence.") for reason in group.reasons),
    )


def masked_example(table: LegacyTable | None, kind: RejectedKind) -> Example:
    """A rejected row as people may see it: of a table nobody declared, and of columns nobody named, just the shape."""
    declared = frozenset(table.columns) if table else frozenset()
    personal = (table.personal if table else frozenset()) | (frozenset(kind.row) - declared)
    told = [name for name in kind.row if re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", kind.detail)]
    key = [name for name in (table.key if table else ()) if name in kind.row]
    chosen = list(dict.fromkeys([*key, *told, *kind.row]))[:COLUMNS_SHOWN]
    values = mask_row({name: kind.row[name] for name in chosen}, personal)
    return Example(
        masked_detail(kind.detail, kind.row, personal), kind.rows, mask_emails(kind.source_key), tuple(values.items())
    )


def masked_detail(detail: str, row: Mapping[str, Any], personal: Collection[str]) -> str:
    """What is wrong with a row, without what a personal column holds: `webhook: not an address: a… (9 characters)`.

    A detail is sentences such as `column: what is wrong`, joined by `; `; of a personal column, what follows a second
    colon is a value of it.
    """
    columns = "|".join(sorted(map(re.escape, row), key=len, reverse=True)) or r"(?!)"
    pieces = re.split(rf"(?:^|; )((?:{columns})(?:, (?:{columns}))*): ", detail)
    told = [mask_emails(pieces[0])] if pieces[0] else []
    for names_, sentence in zip(pieces[1::2], pieces[2::2], strict=True):
        text = sentence
        if set(names_.split(", ")) & set(personal):
            before, colon, value = sentence.partition(": ")
            text = f"{before}: {mask(value)}" if colon else before
            for name in personal:
                if isinstance(held := row.get(name), str) and len(held.strip()) > 1:
                    text = text.replace(held.strip(), mask(held.strip()))
        told.append(f"{names_}: {mask_emails(text)}")
    return "; ".join(told)
