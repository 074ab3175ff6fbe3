"""Writing prepared rows into the target database, and everything the schema `migration` remembers of it."""

from dtx_assets.machinery.load.activation import activate_target
from dtx_assets.machinery.load.archived import book_archive
from dtx_assets.machinery.load.found import FoundByLoad, read_found_by_load
from dtx_assets.machinery.load.orphans import Planned
from dtx_assets.machinery.load.outcome import LoadSummary
from dtx_assets.machinery.load.preview import first_rows
from dtx_assets.machinery.load.runs import RunContext, finish_run, note_failure, open_run, prepare_bookkeeping
from dtx_assets.machinery.load.sent_files import SentFilesOfRun
from dtx_assets.machinery.load.subset import Subset
from dtx_assets.machinery.load.target_load import load_target, load_together
from dtx_assets.machinery.load.undo import UndoSummary, undo_run
from dtx_assets.machinery.load.verification import Verification
from dtx_assets.machinery.load.verify import verify_target
from dtx_assets.machinery.postgres.ddl import (
    LiveTarget,
    compare_target,
    create_target,
    live_target,
    read_live_targets,
    target_ddl,
    untouched,
)

__all__ = [
    "FoundByLoad",
    "LiveTarget",
    "LoadSummary",
    "Planned",
    "RunContext",
    "SentFilesOfRun",
    "Subset",
    "UndoSummary",
    "Verification",
    "activate_target",
    "book_archive",
    "compare_target",
    "create_target",
    "finish_run",
    "first_rows",
    "live_target",
    "load_target",
    "load_together",
    "note_failure",
    "open_run",
    "prepare_bookkeeping",
    "read_found_by_load",
    "read_live_targets",
    "target_ddl",
    "undo_run",
    "untouched",
    "verify_target",
]
