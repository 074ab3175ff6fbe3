"""Named points at which a test can kill the process, to prove that nothing is lost or doubled wherever a run dies.

They are off unless an environment variable turns one on, which only tests and `make kill` do. What has to be true
after a kill is theirs to say.

    DTX_FAILPOINT=load.after_copy        killed where the point is reached first
    DTX_FAILPOINT=load.after_copy:3      killed where it is reached for the third time
    DTX_FAILPOINT_PROOF=/some/file       gets a line that says which point killed which process
    DTX_FAILPOINT_TRACE=/some/file       gets a line for each point that is reached
"""

import difflib
import os
import re
import signal
import threading
from collections import Counter
from functools import cache

from dtx_assets.machinery.base.errors import ConfigurationError

FAILPOINT = "DTX_FAILPOINT"
PROOF = "DTX_FAILPOINT_PROOF"
TRACE = "DTX_FAILPOINT_TRACE"

POINTS = {
    "extract.table_read": "a legacy table was read whole, and its landing is not in place",
    "lake.before_manifest": "the files of a dataset are written, and its manifest is the old one",
    "lake.after_manifest": "a dataset is in place, and old versions are not removed",
    "prepare.after_part": "the rows of one part of a model are written",
    "prepare.before_publish": "all parts of a flow are written, none of its datasets is in place",
    "shards.before_plan": "the rows of a flow, or paths of files, are spread over shards, and no plan says so",
    "shards.before_done": "a shard is done, and does not say so",
    "shards.files_sent": "the files of a part are sent by a shard, which does not say so",
    "load.opened": "a load has begun and written nothing",
    "indexes.before_dropped": "indexes and foreign keys are dropped and noted, and nothing is committed",
    "indexes.dropped": "they are dropped and noted, and no row is written",
    "indexes.unchecked": "a foreign key holds of new rows again, and the old ones are not looked at",
    "indexes.made": "an index or foreign key is made again and forgotten, others are not",
    "indexes.taken_back": "rows that did not fit are taken back with their load, and what it dropped is not there",
    "load.files_sent": "the files of a part are there, and their rows are not",
    "load.batch_opened": "a transaction holds its batch and nothing else",
    "load.before_copy": "new rows have their ids",
    "load.after_copy": "new rows are in the target",
    "load.after_mapping": "the mapping says which source row gave which of them",
    "load.before_merge": "what becomes of each row of a part was decided, and nothing is written",
    "load.after_journal": "the journal holds what rows were, and they are that still",
    "load.after_update": "rows are updated",
    "load.after_slice": "some rows of a part are updated and mapped, and committed; no list says anything of them yet",
    "load.after_removal": "the mapping has forgotten what gives nothing any more",
    "load.after_rejected": "the rejected rows of a part are listed",
    "load.after_conflicts": "its conflicts are listed",
    "load.after_vanished": "its vanished rows are listed",
    "load.batch_closed": "the batch knows what it wrote",
    "load.before_commit": "the transaction of a part is complete",
    "load.after_commit": "it is committed, and nobody was told",
    "load.after_settling": "all parts are committed, and it is said why each vanished row vanished",
    "load.after_booking": "the accounting is written and not committed",
    "load.finished": "the load is committed as succeeded, and nobody was told",
    "undo.before_commit": "the transaction that undoes a batch is complete",
    "undo.after_commit": "a batch is undone, and nobody was told",
    "undo.after_settling": "the lists are as they were before the load, and that is committed",
    "undo.file_removed": "a file that the run had sent is gone, and it is listed still",
    "undo.finished": "everything is undone, and the run does not say so",
    "upload.before": "a file is about to be sent",
    "upload.amid": "a part of its bytes went to the store",
    "upload.before_rename": "its bytes are in the directory, under another name",
    "upload.after": "it is there, and nobody was told",
    "archive.written": "the copies of a table are written, and nobody has read them back",
    "archive.verified": "they are read back, and not in place",
    "archive.before_commit": "an archived table is booked and not committed",
    "archive.after_commit": "it is committed, and nobody was told",
    "derived.before_queued": "the queue of texts is filled and not committed",
    "derived.queued": "it is committed, and nothing is embedded",
    "derived.leased": "texts are leased, and nobody was asked",
    "derived.after_copy": "embeddings are in their tables, and the queue says nothing of them",
    "derived.before_commit": "the queue says that they are there, and nothing is committed",
    "derived.after_commit": "it is committed, and nobody was told",
    "derived.indexes_dropped": "indexes are dropped for a bulk, and noted so that they are made again",
    "derived.index_built": "the indexes of one table are made again, those of others are not",
    "derived.undone": "some of what a run derived is undone, and the rest is not",
    "derived.base_made": "Dify has a knowledge base, and the target does not know",
    "derived.document_sent": "Dify has a document, and the target does not know",
    "derived.document_before_commit": "a document is indexed, and that is not committed",
    "derived.document_removed": "a document is gone from Dify, and the target does not know",
    "derived.document_undone": "Dify is as it was before a run for some documents, and the target does not know",
    "derived.before_removed": "embeddings that are to go are gone, and that is not committed",
}
"""All there are, each with what is true where it is reached."""

_lock = threading.Lock()
_reached: Counter[str] = Counter()


def reach(point: str) -> None:
    """Kills this process with SIGKILL where the environment asks for it; else nothing happens.

    Raises ConfigurationError where the environment names no point.
    """
    if not _watched():
        return
    armed, nth = require_point()
    with _lock:
        _reached[point] += 1
        reached = _reached[point]
        _tell(TRACE, point)
        if point == armed and reached == nth:
            _tell(PROOF, f"{point}:{nth} killed process {os.getpid()}")
            os.kill(os.getpid(), signal.SIGKILL)


@cache
def _watched() -> bool:
    return bool(os.environ.get(FAILPOINT) or os.environ.get(TRACE))


@cache
def require_point() -> tuple[str | None, int]:
    """The point that is turned on, and which time it kills; ConfigurationError where there is no such point."""
    value = os.environ.get(FAILPOINT, "")
    name, _, nth = value.partition(":")
    if not value:
        return None, 0
    if name in POINTS and re.fullmatch(r"[1-9][0-9]{0,8}|", nth):
        return name, int(nth or 1)
    near = difflib.get_close_matches(name, POINTS, n=1)
    raise ConfigurationError(
        f"{FAILPOINT} is {value!r}, and there is no such point",
        where=f"environment variable {FAILPOINT} (where a test kills the process)",
        remedy=f"unset it, or give one of {', '.join(near or POINTS)}, with :N for the Nth time it is reached",
    )


def _tell(variable: str, line: str) -> None:
    """Adds a line to the file that a variable names, unbuffered: there may be no later."""
    if path := os.environ.get(variable):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)
