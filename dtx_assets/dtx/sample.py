"""DTX's part of its sample: the functions that `sample.yaml` names, and the files of the legacy file repository."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dtx_assets.dtx.sample_rows import MAKERS, SAMPLE_FILES, file_names


def write_files(directory: Path, ugly: bool) -> None:
    """The file repository: small text files that are named like certificates."""
    folder = directory / "files" / "unlinked"
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(file_names(), start=1):
        content = f"%PDF-1.4\n% Certificate {number} of {SAMPLE_FILES} of the sample\n%%EOF\n" * number
        (folder / name).write_bytes(content.encode())
    if ugly:
        (folder / "empty.txt").write_bytes(b"")
        (folder / "r\u00e9sum\u00e9 & co.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")


FUNCTIONS: dict[str, Callable[..., Any]] = {"write_files": write_files}
"""What `sample.yaml` names."""
FUNCTIONS |= {function.__name__: function for function in MAKERS}
