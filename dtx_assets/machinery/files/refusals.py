"""What an object store says where it cannot be used: in its own words, and without what may be secret in them."""

import errno
import html
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError as ObjectStoreError

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.settings import mask_url

LONGEST = 200
_ANSWER = re.compile(r"<Code>([^<]+)</Code>(?:\s*<Message>([^<]+)</Message>)?")
_STATUS = re.compile(r"status code: ([0-9]{3}[ A-Za-z-]*)")
_SYSTEM = re.compile(r'Os \{\s*code: [0-9]+,\s*kind: \w+,\s*message: "([^"]+)"')

NO_BUCKET = "NoSuchBucket"
_OF_THE_OBJECT = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EILSEQ}
_OF_THE_OBJECT |= {errno.EINVAL, errno.ELOOP}
_CODES_OF_THE_OBJECT = {
    "EntityTooLarge",
    "ExistingObjectIsDirectory",
    "ExistingObjectIsFile",
    "InvalidObjectName",
    "InvalidURI",
    "KeyTooLongError",
    "XMinioInvalidObjectName",
    "XMinioObjectExistsAsDirectory",
    "XMinioParentIsObject",
}


def words_of(error: Exception) -> str:
    """What the server or the system says. An error as a whole names keys, requests and, at times, credentials."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    said = str(error)
    if answer := _ANSWER.search(said):
        return html.unescape(": ".join(part.strip() for part in answer.groups() if part))[:LONGEST]
    if found := _STATUS.search(said) or _SYSTEM.search(said):
        return found[1].strip()
    return type(error).__name__


def is_of_the_object(error: Exception) -> bool:
    """Whether the store cannot take this one object, because of its name or size; others it would take."""
    if isinstance(error, OSError) and error.errno:
        return error.errno in _OF_THE_OBJECT
    answer = _ANSWER.search(str(error))
    return bool(answer and answer[1] in _CODES_OF_THE_OBJECT)


def refused(what: str, url: str) -> LoadError:
    """The failure of a step for which the store has to be mended, and no row rejected."""
    remedy = (
        "check bucket, prefix, AWS_ENDPOINT_URL, AWS_REGION, the AWS_* credentials and what quota is left"
        if url.startswith("s3://")
        else "check that it is a directory, mounted, that this account may write it, and that there is room"
    )
    return LoadError(
        what,
        where=mask_url(url),
        remedy=f"{remedy}; then run again: it goes on from there. No row was rejected for it",
    )


@contextmanager
def told(url: str) -> Iterator[None]:
    """What a store says that cannot be used, as LoadError."""
    try:
        yield
    except (ObjectStoreError, OSError) as error:
        raise refused(f"the object store cannot be used: {words_of(error)}", url) from None
