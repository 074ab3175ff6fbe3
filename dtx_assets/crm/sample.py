"""A sample."""

from pathlib import Path


def write_sample(directory: Path, rows: int, seed: int, **_: object) -> dict[str, int]:
    raise NotImplementedError
