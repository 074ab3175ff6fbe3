"""The errors a user meets. Each says what is wrong, where, and what to do about it; none holds a secret."""


class MigrationError(Exception):
    """Base of all errors that are told to the user without a traceback.

    `what` is one sentence; `where` names the file, line, table, column or row key; `remedy` says what to do.
    """

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        parts = (what, where and f"  at: {where}", remedy and f"  do: {remedy}")
        super().__init__("\n".join(part for part in parts if part))


class ConfigurationError(MigrationError):
    """Wrong usage or configuration: a bad URL, an unknown option, an invalid mapping file. Exit code 2."""


class SourceError(MigrationError):
    """A legacy table cannot be read, or does not have the structure its flows need."""


class StructureError(MigrationError):
    """Nothing can be prepared or loaded: the accounting is off, a column is missing, a crosswalk contradicts itself."""


class LoadError(MigrationError):
    """The load was refused or failed; what was committed before stays whole."""
