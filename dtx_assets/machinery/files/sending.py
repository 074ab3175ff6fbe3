"""The files that belong to prepared rows, sent part by part before the rows are written."""

import threading
from collections import Counter
from pathlib import Path

import polars as pl

from dtx_assets.machinery.files.inventory import LegacyFiles, Progress
from dtx_assets.machinery.files.paths import FileMissing
from dtx_assets.machinery.files.store import FileResult, FileStore, FileToSend, send
from dtx_assets.machinery.target import TargetTable

REFUSED = pl.Schema({"_row": pl.Int64(), "reason": pl.String(), "detail": pl.String()})


class FileSender:
    """Called with the prepared rows of a part, from any thread; gives those whose file could not be sent (REFUSED).

    The rows have the columns that `target.file_columns` names, and `_path` (hexadecimal), `_size`, `_content_type`.
    """

    def __init__(
        self,
        target: TargetTable,
        store: FileStore,
        files: LegacyFiles,
        progress: Progress | None = None,
    ) -> None:
        assert target.file_columns is not None
        self.key, self.sha256 = target.file_columns
        self.store, self.files, self.progress = store, files, progress
        self.counts: Counter[str] = Counter()
        self.bytes_sent = self.bytes_done = 0
        self._lock = threading.Lock()

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        numbers = dict(zip(rows.get_column(self.key), rows.get_column("_row"), strict=True))
        wanted = rows.select("_path", self.key, "_size", self.sha256, "_content_type").iter_rows()
        files = (FileToSend(bytes.fromhex(path), key, size, digest, kind) for path, key, size, digest, kind in wanted)
        refused = [
            (numbers[result.file.key], FileMissing.reason, f"{self.key}: {result.detail}")
            for result in send(files, Path(self.files.root), self.store, prefix=self.files.prefix, progress=self._note)
            if result.status == "rejected"
        ]
        return pl.DataFrame(refused, schema=REFUSED, orient="row")

    def _note(self, result: FileResult) -> None:
        with self._lock:
            self.counts[result.status] += 1
            self.bytes_sent += result.file.size if result.status == "sent" else 0
            self.bytes_done += result.file.size
            if self.progress:
                self.progress(self.counts.total(), None, self.bytes_done)
