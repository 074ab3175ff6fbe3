"""The log of a run that is started on the command line: everything into a file, Dagster's events to who listens.

The console stays free for the progress display. Runs from the UI use Dagster's own console logger instead.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from dtx_assets.machinery.base.masking import mask_emails

LOGGER = "run_log"

EventListener = Callable[[dg.DagsterEvent], None]
_listeners: list[EventListener] = []
_files: list[logging.Handler] = []


@contextmanager
def logging_runs(path: Path, listener: EventListener) -> Iterator[None]:
    """Write what runs of this process log to a file, and call `listener` with their events, while the block lasts."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(_MaskedFormatter("%(asctime)s %(levelname)s %(message)s"))
    _files.append(file)
    _listeners.append(listener)
    library = logging.getLogger("dagster")
    library.addHandler(file)
    propagated, library.propagate = library.propagate, False
    try:
        yield
    finally:
        library.propagate = propagated
        library.removeHandler(file)
        _listeners.remove(listener)
        _files.remove(file)
        file.close()


class _MaskedFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return mask_emails(super().format(record))


class _Dispatcher(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        for file in _files:
            file.handle(record)
        event = getattr(record, "dagster_meta", {}).get("dagster_event")
        if event is not None:
            for listener in _listeners:
                listener(event)


@dg.logger(None, description="Everything into a file, without e-mail addresses; the console stays free.")
def run_log(_context: dg.InitLoggerContext) -> logging.Logger:
    logger = logging.Logger(LOGGER, level=logging.DEBUG)
    logger.addHandler(_Dispatcher())
    return logger
