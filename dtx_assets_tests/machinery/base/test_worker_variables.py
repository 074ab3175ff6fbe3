"""Who does the steps of runs, as the environment says."""

import pytest

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import reader
from dtx_assets.machinery.base.workers import DEFAULT_SHARD_FILES, DEFAULT_SHARD_ROWS, Workers, read_workers

CELERY = {"DTX_EXECUTOR": "celery", "DTX_BROKER_URL": "amqp://user:geheim@broker/vhost"}


def read(**variables: str) -> Workers:
    return read_workers(reader("dtx", environ=variables))


def test_one_process_does_all_where_nothing_is_said():
    assert read() == Workers()
    assert not read().are_several
    assert read().queue == "dtx-development"


def test_each_variable_has_its_effect(tmp_path):
    (tmp_path / ".env.qa").touch()
    several = read_workers(
        reader(
            "dtx",
            environ={**CELERY, "DTX_SHARED": "/mnt/a, /mnt/b", "DTX_WORKER_SECONDS": "90", "APP_ENV": "qa"},
            project_dir=tmp_path,
        )
    )
    assert several == Workers(
        "celery",
        CELERY["DTX_BROKER_URL"],
        ("/mnt/a", "/mnt/b"),
        90,
        shard_rows=DEFAULT_SHARD_ROWS,
        shard_files=DEFAULT_SHARD_FILES,
    )
    assert (several.queue, several.are_several) == ("dtx-qa", True)
    assert several.have("/mnt/a/lake")
    assert not several.have("/mnt/ab")
    assert not several.are_on_one_machine
    assert "geheim" not in repr(several)


def test_tables_are_shared_by_several_processes_or_where_it_is_asked_for():
    assert read().shard_rows == 0
    assert read(DTX_SHARD_ROWS="500").shard_rows == 500
    assert (read().shard_files, read(DTX_SHARD_FILES="70").shard_files) == (0, 70)
    assert read(DTX_SHARD_FILES="70").shard_rows == 0
    assert read(DTX_EXECUTOR="multiprocess").shard_rows == DEFAULT_SHARD_ROWS
    assert read(**CELERY, DTX_SHARD_ROWS="0").shard_rows == 0


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"DTX_EXECUTOR": "kubernetes"}, "DTX_EXECUTOR"),
        ({"DTX_EXECUTOR": "celery"}, "DTX_BROKER_URL"),
        ({**CELERY, "DTX_BROKER_URL": "redis://:geheim@broker"}, "DTX_BROKER_URL"),
        ({**CELERY, "DTX_BROKER_URL": "amqp://"}, "DTX_BROKER_URL"),
        ({**CELERY, "DTX_SHARED": "lake"}, "DTX_SHARED"),
        ({**CELERY, "DTX_WORKER_SECONDS": "0"}, "DTX_WORKER_SECONDS"),
        ({"DTX_SHARD_ROWS": "1e6"}, "DTX_SHARD_ROWS"),
        ({"DTX_SHARD_FILES": "-1"}, "DTX_SHARD_FILES"),
        ({"DTX_EXTRACT_CONNECTIONS": "9"}, "DTX_EXTRACT_CONNECTIONS"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name_and_without_a_password(variables, name):
    with pytest.raises(ConfigurationError) as told:
        read(**variables)
    assert name in str(told.value)
    assert "geheim" not in str(told.value)


def test_on_one_machine_all_see_all():
    assert read(DTX_EXECUTOR="multiprocess").have("/anywhere")
    assert read(**CELERY, DTX_SHARED="this-machine").have("/anywhere")
