"""What is said of one environment variable. Which there are is `settings` and `workers`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """What a variable says, and what holds where it is not set. `schemes` are those of the URLs that it may be."""

    says: str
    unset: str
    allowed: str = "any text"
    schemes: tuple[str, ...] = ()
