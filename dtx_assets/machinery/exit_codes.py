"""What the exit code of a command says."""

EXIT_OK, EXIT_STEP_FAILED, EXIT_USAGE, EXIT_CHECK_FAILED = range(4)
EXIT_CODES = {
    EXIT_OK: "all is well",
    EXIT_STEP_FAILED: "a step failed, or what was asked cannot be done",
    EXIT_USAGE: "wrong usage or configuration",
    EXIT_CHECK_FAILED: "everything ran and a check failed",
}
"""Of every command."""
