"""What the preflight says: one line for each thing that it looked at."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dtx_assets.machinery.base.errors import MigrationError

State = Literal["yes", "no", "warn"]
SHOWN_NAMES = 8
SECONDS_TO_CONNECT = 10
Now = Callable[[], datetime]


@dataclass(frozen=True)
class Finding:
    """One line of the preflight: what was looked at, whether it will do, what was seen, and what to do about it.

    `stops`: whether no load can be done while it says no.
    """

    part: str
    subject: str
    state: State
    says: str = ""
    remedy: str = ""
    stops: bool = True


@contextmanager
def refusal(found: list[Finding], part: str, subject: str) -> Iterator[None]:
    """An error that users are meant to read becomes a finding."""
    try:
        yield
    except MigrationError as error:
        what = f"{error.what} ({error.where})" if error.where else error.what
        found.append(Finding(part, subject, "no", what, error.remedy or ""))


def shortened(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
