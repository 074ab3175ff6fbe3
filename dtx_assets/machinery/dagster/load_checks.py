"""A check per target that is evaluated with its load: what only the load can know about its rows is red after it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from dtx_assets.machinery.base.masking import mask_emails
from dtx_assets.machinery.checks.spec import CheckOutcome, CheckSpec
from dtx_assets.machinery.load import FoundByLoad

if TYPE_CHECKING:
    from dtx_assets.machinery.dagster.graph import Graph

NONE_REJECTED = "no_row_is_rejected_by_the_load"


def load_check(model: str) -> CheckSpec:
    return CheckSpec(
        NONE_REJECTED,
        ("target", model),
        "The target took every row that was prepared: no row of others with the same natural key, no missing row that"
        " it refers to, no constraint was in the way. Rows that are rejected in part are a warning.",
        "ERROR",
        blocking=True,
    )


def load_checks(graph: "Graph") -> list[dg.AssetCheckKey]:
    return [
        dg.AssetCheckKey(graph.key("target", target.model), NONE_REJECTED) for target in graph.system.filled_targets
    ]


def load_outcome(found: Sequence[FoundByLoad]) -> CheckOutcome:
    """Fails with the number of source rows that loads rejected whole; those in part alone are a warning."""
    whole = sum(group.rows for group in found if not group.partial)
    return CheckOutcome(
        not found,
        whole or sum(group.rows for group in found),
        {
            "reasons": reasons_of(found),
            "examples": [
                {"source": group.source_table, "key": mask_emails(key), "why": ", ".join(group.reasons)}
                for group in found
                for key in group.keys
            ],
        }
        if found
        else {},
        severity=None if whole else "WARN",
    )


def reasons_of(found: Sequence[FoundByLoad]) -> dict[str, int]:
    """How many rows are rejected for which reasons."""
    return {
        f"{group.source_table}: {', '.join(group.reasons)}{' (a part of the row)' if group.partial else ''}": group.rows
        for group in found
    }
