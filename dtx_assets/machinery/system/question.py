"""What a cutover asks people."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """What a cutover asks people. It is asked where `asked_when` says so of the chosen options."""

    name: str
    text: str
    asked_when: Callable[[Mapping[str, str]], bool] = lambda _chosen: True
    owner: str = ""
    """Who has to answer."""
