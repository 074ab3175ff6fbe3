"""A phase of a migration: targets that are loaded before those of the next phase, with a gate between."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Phase:
    """The targets of one area, and what holds of their rows: by name, a query that gives those of which it does not."""

    number: int
    area: str
    rules: Mapping[str, str] = field(default_factory=dict)

    @property
    def report(self) -> str:
        """The name of its report, which the loads of the next phase wait for."""
        return f"phase_{self.number}"
