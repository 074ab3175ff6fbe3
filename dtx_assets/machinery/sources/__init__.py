# TEMPORARY PLACEHOLDER by the lead, so that others can go on. H3/H3b: overwrite everything in this package with yours.
from pathlib import Path
from urllib.parse import urlsplit

from dtx_assets.machinery.sources.csv_files import CsvDirectory


def open_source(url: str) -> CsvDirectory:
    parts = urlsplit(url)
    return CsvDirectory(Path(parts.path if parts.scheme == "file" else url))
