"""What the exit code of a command says."""

from dtx_assets.interrupts import EXIT_INTERRUPTED

EXIT_OK, EXIT_STEP_FAILED, EXIT_USAGE, EXIT_CHECK_FAILED = range(4)
EXIT_CODES = {
    EXIT_OK: "all is well",
    EXIT_STEP_FAILED: "a step failed, or what was asked cannot be done",
    EXIT_USAGE: "wrong usage or configuration",
    EXIT_CHECK_FAILED: "everything ran and a check failed",
    EXIT_INTERRUPTED: "interrupted; run again, and it goes on from there",
}
"""Of every command."""
