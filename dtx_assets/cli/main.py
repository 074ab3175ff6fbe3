"""The command line, `dtx`. It starts things and shows what came of them; what they do is elsewhere.

Nothing heavy is imported before a command needs it: `dtx --help` answers at once. Its help lists the commands in the
order in which their modules are imported here.
"""

import sys

from dtx_assets import interrupts
from dtx_assets.cli import init, migrating, results, searching, serving, working  # noqa: F401
from dtx_assets.cli.shared import app, errors
from dtx_assets.machinery.base.errors import ConfigurationError, MigrationError
from dtx_assets.machinery.base.exit_codes import (
    EXIT_INTERRUPTED,
    EXIT_STEP_FAILED,
    EXIT_USAGE,
)
from dtx_assets.machinery.base.private import write_privately


def main() -> None:
    """The `dtx` command: exits with 0, 1, 2, 3 or 130, and tells errors without a traceback."""
    write_privately()
    with interrupts.handled():
        try:
            app()
        except MigrationError as error:
            if interrupts.was_interrupted():
                interrupts.end()
            from rich.console import Console

            from dtx_assets.cli.console import print_error

            print_error(Console(stderr=True), error)
            sys.exit(EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_STEP_FAILED)
        except SystemExit as ended:
            if ended.code == EXIT_INTERRUPTED:
                interrupts.end()
            raise
        except BaseException as error:
            if interrupts.is_interrupt(type(error)) or interrupts.was_interrupted():
                interrupts.end()
            from dtx_assets.machinery.base.no_place import no_place

            if (refused := no_place(error)) is None:
                raise
            from dtx_assets.cli.console import print_error

            print_error(errors(), refused)
            sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
