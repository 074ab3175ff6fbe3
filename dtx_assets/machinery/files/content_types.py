"""What a file is called in HTTP: as its database says, or by the extension of its name; the same on every machine."""

import mimetypes
import re
from pathlib import PurePosixPath

DEFAULT_TYPE = "application/octet-stream"

# The first halves that are registered: n/a is no type.
_MEDIA_TYPE = re.compile(
    r"(?:application|audio|font|image|message|model|multipart|text|video|x-[a-z0-9-]+)"
    r"/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
)

# Python's own table, without those of the machine, and what it lacks.
_TYPES = mimetypes.MimeTypes().types_map[True] | {
    ".bz2": "application/x-bzip2",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".jfif": "image/jpeg",
    ".msg": "application/vnd.ms-outlook",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".rtf": "application/rtf",
    ".tgz": "application/gzip",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xz": "application/x-xz",
}


def content_type_of(name: str, given: str | None = None) -> str:
    """The given type where it is one, else by the extension of the name."""
    if given and _MEDIA_TYPE.fullmatch(declared := given.strip().lower()):
        return declared
    return _TYPES.get(PurePosixPath(name.lower()).suffix, DEFAULT_TYPE)
