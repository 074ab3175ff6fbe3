"""Interrupts of the `dtx` command (Ctrl-C, a termination): never lost, told in one line, and exit code 130.

While something is at stake (`unwinding`) the first one is raised where the program is, so that what was begun is given
up in order; a second one, and any at another time, ends the process at once. What it had begun then is found by the
next run: the target rolls back, the embedded server sees that its owner is gone, Dagster's run is closed.

Nothing but the standard library is imported: this has to be there before anything else is.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

EXIT_INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)
WEBSERVER = "dtx_assets.machinery.dagster.guarded_webserver"
DAEMON = "dtx_assets.machinery.dagster.daemon"
ALL_IS_WELL = "Interrupted. Run it again: it goes on from there."
OF_DAGSTER = "DagsterExecutionInterruptedError"
"""What Dagster raises in place of KeyboardInterrupt while a step runs."""
SECONDS_TO_CLOSE = 10
"""So long may a server take to close what it opened."""
SERVED = "DTX_SERVED"
"""Stands in the environment of all that `dtx ui` and `dtx daemon` start."""
AGAIN = 0.1
"""Seconds until an interrupt that was swallowed is raised again."""


@dataclass
class _State:
    received: int = 0
    at_stake: int = 0


_state = _State()


def is_interrupt(kind: type[BaseException] | None) -> bool:
    return kind is not None and (issubclass(kind, KeyboardInterrupt) or kind.__name__ == OF_DAGSTER)


def is_command() -> bool:
    """Whether this process is `dtx`, and not one that imports it."""
    given = iter(sys.orig_argv[1:])
    for part in given:
        if part in ("-W", "-X"):
            next(given, None)
        elif part == "-c":
            return False
        elif part == "-m":
            return next(given, None) == "dtx_assets.cli.main"
        elif not part.startswith("-"):
            return part.rpartition("/")[2] == "dtx"
    return False


def is_server() -> bool:
    """Whether this process is one that `dtx ui` or `dtx daemon` started, and waits for."""
    return any(server in sys.orig_argv[1:3] for server in (WEBSERVER, DAEMON))


def is_worker() -> bool:
    """Whether this process does a run, or a step of one, that such a server has started."""
    return SERVED in os.environ and "--multiprocessing-fork" in sys.orig_argv


def hear_hang_up() -> None:
    """From now on the signal that ends servers of code at once and without a word is a termination here, in order."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, lambda _number, _frame: os.kill(os.getpid(), signal.SIGTERM))


def die_quietly() -> None:
    """From now on interrupts end this server at once and without a word; who started it held them back until now."""
    for number in SIGNALS:
        signal.signal(number, lambda _number, _frame: os._exit(EXIT_INTERRUPTED))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def leave_quietly() -> None:
    """From now on an interrupt makes this server close what it opened, without a traceback, in seconds."""
    for number in SIGNALS:
        signal.signal(number, _leave)
    sys.unraisablehook = _leave_again_if_swallowed


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    # Threads that were being started may keep the process from ending; the alarm's own way ends it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_CLOSE)
    sys.exit(EXIT_INTERRUPTED)


def install() -> None:
    """From now on interrupts are this module's."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)


@contextmanager
def handled() -> Iterator[None]:
    """While it lasts interrupts are this module's, one that something swallows included."""
    _state.received = 0
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    install()
    signal.signal(signal.SIGALRM, _raise)
    hook, sys.unraisablehook = sys.unraisablehook, _raise_what_was_swallowed
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        for number, handler in before.items():
            # The command is at its end, and what it says stands.
            signal.signal(number, signal.SIG_IGN if is_command() else handler)


@contextmanager
def unwinding() -> Iterator[None]:
    """While it lasts, something is at stake that an interrupt must give up in order."""
    _state.at_stake += 1
    try:
        yield
    finally:
        _state.at_stake -= 1


@contextmanager
def left_to_child() -> Iterator[None]:
    """While it lasts, Ctrl-C is for the program in the foreground alone."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end() -> NoReturn:
    """Ends the process as interrupted; nothing disturbs that any more."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    print(f"\n{ALL_IS_WELL}", file=sys.stderr)
    sys.exit(EXIT_INTERRUPTED)


def was_interrupted() -> bool:
    return _state.received > 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    _state.received += 1
    if _state.received == 1 and _state.at_stake:
        # Libraries log the tracebacks of what interrupts them.
        if (last_resort := logging.lastResort) is not None:
            last_resort.setLevel(logging.CRITICAL + 1)
        _raise(number, frame)
    os.write(2, f"\n{ALL_IS_WELL}\n".encode())
    os._exit(EXIT_INTERRUPTED)


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _leave_again_if_swallowed(given: Any) -> None:
    """A finalizer that an interrupt came upon keeps what was raised there, and Python tells it as a traceback."""
    if issubclass(given.exc_type, SystemExit) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, _leave)
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    else:
        sys.__unraisablehook__(given)


def _raise_what_was_swallowed(given: Any) -> None:
    """An exception in a finalizer or a callback goes no further by itself."""
    if is_interrupt(given.exc_type):
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    else:
        sys.__unraisablehook__(given)
