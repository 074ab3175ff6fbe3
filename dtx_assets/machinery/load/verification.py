"""What a verification of a target found."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from dtx_assets.machinery.load.samples import Sample

Fault = Literal["lost", "extra", "changed", "files_lost", "files_changed"]
FAULTS: tuple[Fault, ...] = ("lost", "extra", "changed", "files_lost", "files_changed")
SHOWN_FAULTS = 1000


@dataclass
class Verification:
    """What was found in one target: `rows` were compared; `samples` name the first SHOWN_FAULTS faults.

    `lost` should be there and are not, `extra` are there and should not be, `changed` hold other values; `files_lost`
    and `files_changed` are of rows that are there. A sample's `fate` is its fault; its columns give the value that is
    there and the one that should be.
    """

    rows: int = 0
    files: int = 0
    files_read: int = 0
    """Of the files, those that were compared by reading; the store told of the others."""
    owned_by_others: int = 0
    refused: int = 0
    """Rows that a load rejected, and that are listed with their reasons: they are not there, and nothing is lost."""
    vanished: int = 0
    """Of the extra ones: their source row is gone, and a load leaves and lists them (migration.vanished)."""
    compared_in: str = ""
    """The earlier run that compared each row by value, where no digest of what it compared has changed since."""
    counts: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not self.counts.total()

    def note(self, fault: Fault, sample: Sample) -> None:
        self.counts[fault] += 1
        if len(self.samples) < SHOWN_FAULTS:
            self.samples.append(sample)
