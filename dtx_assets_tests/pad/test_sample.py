"""The sample of PAD: the same bytes for a seed, clean requests, and the ugly rows behind them."""

import csv
from pathlib import Path

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.samples.sample import DEFAULT_SEED
from dtx_assets.pad.decided_system import SYSTEM
from dtx_assets.pad.sample import write_sample

SEED = 7


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob("*.csv")}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    for name, seed in (("one", SEED), ("two", SEED), ("other", SEED + 1)):
        write_sample(tmp_path / name, 300, seed, ugly_share=0.1)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert bytes_of(tmp_path / "one") != bytes_of(tmp_path / "other")


def test_the_shipped_sample_is_what_the_generator_gives(tmp_path):
    write_sample(tmp_path, 100, DEFAULT_SEED)
    assert bytes_of(tmp_path) == bytes_of(SYSTEM.sample_dir)


def test_a_sample_takes_no_export_s_place(tmp_path):
    write_sample(tmp_path, 50, SEED)
    with pytest.raises(ConfigurationError, match="already has"):
        write_sample(tmp_path, 50, SEED)


def test_ugly_rows_come_behind_the_clean_ones_with_bytes_that_are_no_text(tmp_path):
    counts = write_sample(tmp_path / "ugly", 50, SEED)
    clean = write_sample(tmp_path / "clean", 50, SEED, ugly=False)
    content = bytes_of(tmp_path / "ugly")["personal_account_dealing.csv"]
    assert clean["personal_account_dealing"] == 50 < counts["personal_account_dealing"] - 300
    assert content.startswith(bytes_of(tmp_path / "clean")["personal_account_dealing.csv"])
    assert b"\xff" in content
    assert b"\0" in content
    text = content.decode(errors="surrogateescape").splitlines(keepends=True)
    rows = list(csv.DictReader(text))
    assert {row["buysell"] for row in rows} > {"B", "S", "BUY", ""}
    assert len({row["status"] + row["status_manager"] + row["status_compliance"] for row in rows}) > 3 * 4 * 4
