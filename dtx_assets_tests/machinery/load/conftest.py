"""A small shop to load into: its own database and lake."""

from pathlib import Path

import pytest

from dtx_assets_tests.machinery.load.prepared import Shop


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Shop:
    return Shop(tmp_path, database_url)
