"""Digests of files."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path


def digest_of_files(paths: Iterable[Path]) -> str:
    """Changes with the name or the content of any of them, and with their order."""
    digest = sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
