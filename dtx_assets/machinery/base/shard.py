"""A share of a step that several processes do: which of how many it is."""

from dataclasses import dataclass

SHARDS, PLAN = "shards", "plan"
"""The layer of the lake where what shards need lies until all of them are done, and the name of their plan."""


@dataclass(frozen=True)
class Shard:
    """One of `of` shards, counted from 1."""

    number: int
    of: int

    @property
    def name(self) -> str:
        return f"{self.number}_of_{self.of}"

    @property
    def told(self) -> str:
        return f"shard {self.number} of {self.of}"

    @classmethod
    def named(cls, name: str) -> "Shard":
        number, of = name.split("_of_")
        return cls(int(number), int(of))

    def batches(self, batches: int) -> range:
        """Its share of so many batches, which are counted from 0."""
        return range(batches * (self.number - 1) // self.of, batches * self.number // self.of)


def shards_in_all(of: int) -> list[Shard]:
    return [Shard(number, of) for number in range(1, of + 1)]
