"""What is said where a lake or an archive cannot be used, or is full; nothing that may hold credentials."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
from obstore.exceptions import BaseError as ObjectStoreError

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import mask_url

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""What only writing fails with: a full disk or quota, a limit of the file system, one that became read-only."""


@contextmanager
def told(called: str, url: str, *, in_directory: bool) -> Iterator[None]:
    """A store that cannot be used is told without what it said, which may hold credentials."""
    try:
        yield
    except (ObjectStoreError, OSError) as error:
        remedy = (
            "check that the directory can be made and written, and that the disk is not full"
            if in_directory
            else "check bucket, prefix, AWS_ENDPOINT_URL, AWS_REGION and the AWS_* credentials"
        )
        number = _number_of(error) if in_directory else None
        said = os.strerror(number) if number else type(error).__name__
        raise ConfigurationError(f"{called} cannot be used ({said})", where=mask_url(url), remedy=remedy) from None


@contextmanager
def told_when_full(called: str, url: str, *, in_directory: bool) -> Iterator[None]:
    """What a writer says where there is no place to write; any other error of the writing block is its own."""
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        number = _number_of(error)
        if number is None or number not in _CANNOT_WRITE:
            raise
        raise ConfigurationError(
            f"{called} cannot be written: {os.strerror(number)}",
            where=mask_url(url) if in_directory else tempfile.gettempdir(),
            remedy=f"make room there, or give another place to {called}"
            if in_directory
            else "make room there, or set TMPDIR to a larger place",
        ) from None


def _number_of(error: Exception) -> int | None:
    """What the operating system said; Polars and obstore keep the number in their messages only."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    said = re.search(r"\(os error (\d+)\)", str(error)) or re.search(r"\bcode: (\d+), kind:", str(error))
    return int(said[1]) if said else None
