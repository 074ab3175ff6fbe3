"""The world of a run: the code, the declarations and the places that all processes which do its steps must have.

A run by several processes carries it, and each of them compares before it does anything. A password is no part of it.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import dtx_assets
from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.settings import mask_url, parameters_of, schemas_of
from dtx_assets.machinery.run.environment import RunEnvironment

CODE = {".py", ".sql", ".yaml", ".csv", ".j2"}
PACKAGES = ("dagster", "polars", "psycopg")
World = Mapping[str, str]


def world_of(environment: RunEnvironment) -> dict[str, str]:
    """By the names that a refusal calls its parts."""
    settings, system = environment.settings, environment.system
    target, dialect = parameters_of(environment.target_url), settings.legacy_dialect_path
    return {
        "code": _digest_of((Path(dtx_assets.__file__).parent, system.code_dir)),
        "packages": ", ".join(
            [f"python {sys.version_info.major}.{sys.version_info.minor}", *(f"{p} {version(p)}" for p in PACKAGES)]
        ),
        "mappings": _digest_of((system.mappings_dir,)),
        "decisions": _digest(json.dumps(dict(environment.decisions.chosen), sort_keys=True).encode()),
        "target": f"{target.get('host', 'localhost')}:{target.get('port', '5432')}/{target.get('dbname', '')}",
        "options of the target": str(target.get("options", "")),
        "schemas": ", ".join(f"{name} {schema}" for name, schema in vars(schemas_of(system.name)).items() if schema),
        "S3": mask_url(os.environ.get("AWS_ENDPOINT_URL") or "Amazon's"),
        "lake": settings.lake_url,
        "archive": settings.archive_url,
        "object store": settings.object_store_url,
        "how objects are kept": f"{settings.object_store_encryption}, {settings.object_store_storage_class}",
        "legacy tables": mask_url(settings.legacy_url),
        "crosswalks": mask_url(settings.crosswalk_url),
        "dialect of CSV files": _digest(dialect.read_bytes()) if dialect else "by default",
        "legacy files": f"{settings.files_url} without {settings.files_prefix!r}",
        "cutover_at": settings.cutover_at.isoformat() if settings.cutover_at else "the start of the run",
        "mode": environment.mode,
        "zone of legacy times": settings.legacy_timezone,
        "rows of a batch": str(settings.batch_rows),
        "indexes after a first load": str(settings.indexes_after_load),
        "rows of a shard": str(settings.workers.shard_rows or "all"),
        "files of a shard": str(settings.workers.shard_files or "all"),
    }


def require_same(of_run: World, own: World, who: str) -> None:
    """ConfigurationError that names what differs, where the worlds of a run and of a process do."""
    parts = [name for name in {**of_run, **own} if of_run.get(name) != own.get(name)]
    if parts:
        told = "\n".join(
            f"    - {name}: {of_run.get(name, 'nothing')} in the run, {own.get(name, 'nothing')} here" for name in parts
        )
        raise ConfigurationError(
            f"this process has another world than the run, and does nothing:\n{told}",
            where=who,
            remedy="give it the code, the files and the variables that the run was started with, and start it again",
        )


def as_text(world: World) -> str:
    return json.dumps(dict(world), ensure_ascii=False)


def from_text(text: str) -> dict[str, str]:
    return {str(name): str(value) for name, value in json.loads(text).items()}


@cache
def _digest_of(directories: Iterable[Path]) -> str:
    """Of the contents of files, by their places under the directories, wherever these are."""
    whole = hashlib.sha256()
    for directory in directories:
        for path in sorted(path for path in directory.rglob("*") if path.suffix in CODE and path.is_file()):
            if "sample" not in path.relative_to(directory).parts:
                whole.update(f"{path.relative_to(directory).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()[:12]


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:12]
