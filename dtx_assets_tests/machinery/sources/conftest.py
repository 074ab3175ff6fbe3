"""The landing place as a fixture."""

from pathlib import Path

import pytest

from dtx_assets_tests.machinery.sources.landing_place import LandingPlace


@pytest.fixture
def place(tmp_path: Path) -> LandingPlace:
    return LandingPlace(tmp_path)
