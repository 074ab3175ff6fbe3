"""The files that belong to prepared rows, sent part by part before the rows are written."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import polars as pl

from dtx_assets.machinery.files.inventory import LegacyFiles, Progress
from dtx_assets.machinery.files.paths import FileMissing
from dtx_assets.machinery.files.refusals import refused
from dtx_assets.machinery.files.store import FileResult, FileStore, FileToSend, send
from dtx_assets.machinery.model.target import TargetTable


class SentFiles(Protocol):
    """Who remembers what a run sends, so that it can be taken back."""

    def about_to_send(self, keys: pl.Series, digests: pl.Series) -> set[str]:
        """Gives the keys of those that the run has not tried before."""
        ...

    def not_sent(self, keys: Sequence[str]) -> None: ...

    def told(self, e_tags: Mapping[str, str]) -> None: ...


REFUSED = pl.Schema({"_row": pl.Int64(), "reason": pl.String(), "detail": pl.String()})
RESULTS = pl.Schema(
    {"key": pl.String(), "sha256": pl.String(), "size": pl.Int64(), "status": pl.String(), "detail": pl.String()}
)
"""What became of files: `FileResult`."""


class FileSender:
    """Called with the prepared rows of a part, from any thread; gives those whose file could not be sent (REFUSED).

    Where the store or the root of the legacy files fails, no row is to blame: LoadError or StructureError, and nothing
    of the part is to be written.

    The rows have the columns that `target.file_columns` names, and `_path` (hexadecimal), `_size`, `_content_type`.
    """

    def __init__(
        self,
        target: TargetTable,
        store: FileStore,
        files: LegacyFiles,
        progress: Progress | None = None,
        noted: SentFiles | None = None,
    ) -> None:
        assert target.file_columns is not None
        self.key, self.sha256 = target.file_columns
        self.store, self.files, self.progress, self.noted = store, files, progress, noted
        self.counts: Counter[str] = Counter()
        self.bytes_sent = self.bytes_done = 0
        self._lock = threading.Lock()

    def __call__(self, rows: pl.DataFrame, _part: str = "") -> pl.DataFrame:
        results = self.results_of(rows)
        return self.refused(rows, results.rename({"key": self.key, "sha256": self.sha256}))

    def refused(self, rows: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
        """Those of the rows (REFUSED) whose file was rejected; the key of `results` is called as that of the rows."""
        rejected = results.filter(pl.col("status") == "rejected").select(self.key, "detail")
        found = rows.select("_row", self.key).unique(self.key, keep="last", maintain_order=True)
        return found.join(rejected, on=self.key, maintain_order="left").select(
            pl.col("_row").cast(pl.Int64),
            pl.lit(FileMissing.reason).alias("reason"),
            pl.format(f"{self.key}: {{}}", "detail").alias("detail"),
        )

    def results_of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Sends; gives what became of each file (RESULTS), in no order."""
        # A row may have no file.
        rows = rows.filter(pl.col(self.key).is_not_null())
        new: set[str] = set()
        if self.noted:
            new = self.noted.about_to_send(rows.get_column(self.key), rows.get_column(self.sha256))
        wanted = rows.select("_path", self.key, "_size", self.sha256, "_content_type").iter_rows()
        files = (FileToSend(bytes.fromhex(path), key, size, digest, kind) for path, key, size, digest, kind in wanted)
        results = []
        for result in send(files, self.files.root, self.store, prefix=self.files.prefix, progress=self._note):
            if result.by_store:
                raise refused(f"no row of this part is written: {result.detail}", self.store.url)
            results.append(result)
        if self.noted:
            others = [result.file.key for result in results if result.status != "sent"]
            self.noted.not_sent([key for key in others if key in new])
            self.noted.told({result.file.key: result.e_tag for result in results if result.e_tag})
        if any(result.status == "rejected" for result in results):
            self.files.require_root()
        return pl.DataFrame(
            [(each.file.key, each.file.sha256, each.file.size, each.status, each.detail) for each in results],
            schema=RESULTS,
            orient="row",
        )

    def count(self, results: pl.DataFrame) -> None:
        """Files that others have sent count among those of this one."""
        with self._lock:
            self.counts.update(results.get_column("status").to_list())
            self.bytes_sent += int(results.filter(pl.col("status") == "sent").get_column("size").sum())
            self.bytes_done += int(results.get_column("size").sum())
            if self.progress and results.height:
                self.progress(self.counts.total(), None, self.bytes_done)

    def _note(self, result: FileResult) -> None:
        with self._lock:
            self.counts[result.status] += 1
            self.bytes_sent += result.file.size if result.status == "sent" else 0
            self.bytes_done += result.file.size
            if self.progress:
                self.progress(self.counts.total(), None, self.bytes_done)
