"""How what a run left differs from what a second reading of the contract says, for whatever system."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """`where` is what differences are counted by, `what` one of them."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def brief(told: Sequence[Difference], *, examples: int = 3) -> str:
    """Where, how often, and a few of each."""
    by_where: dict[str, list[str]] = defaultdict(list)
    for each in told:
        by_where[each.where].append(each.what)
    lines = []
    for where, found in by_where.items():
        lines.append(f"{where}: {len(found)}")
        lines += [f"    {each if len(each) < 600 else each[:600] + '…'}" for each in found[:examples]]
    return "\n".join(lines)
