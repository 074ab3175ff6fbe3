"""The section Rejected: the rows by table and reason, how to mend them, and examples that people may see."""

import re
from dataclasses import dataclass

from dtx_assets.machinery.base.masking import mask_emails, mask_row, masked_detail
from dtx_assets.machinery.checks.obstacles import REMEDIES
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.report.accounts import Accounts
from dtx_assets.machinery.report.figures import RejectedKind, RejectedRows
from dtx_assets.machinery.system.system import System

COLUMNS_SHOWN = 8


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
    personal = frozenset(filter(table.is_personal, kind.row)) if table else frozenset(kind.row)
    told = [name for name in kind.row if re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", kind.detail)]
    key = [name for name in (table.key if table else ()) if name in kind.row]
    chosen = list(dict.fromkeys([*key, *told, *kind.row]))[:COLUMNS_SHOWN]
    values = mask_row({name: kind.row[name] for name in chosen}, personal)
    return Example(
        masked_detail(kind.detail, kind.row, personal), kind.rows, mask_emails(kind.source_key), tuple(values.items())
    )
