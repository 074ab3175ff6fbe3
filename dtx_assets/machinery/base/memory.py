"""Memory that was freed, and that the allocators of this process keep for themselves."""

import ctypes

import pyarrow as pa


def give_back() -> None:
    """Hand what was freed back to the system, at the end of a piece of work.

    Polars, Arrow and Python each keep what they freed, for themselves: without this the peak of a process is the sum of
    what each of its steps took, not the most that one of them takes.
    """
    pa.default_memory_pool().release_unused()
    # Only the C library of Linux has it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
