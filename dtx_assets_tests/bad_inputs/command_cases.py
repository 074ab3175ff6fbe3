"""Wrong commands: systems, options, selections, SQL, ports, places."""

import socket

from dtx_assets_tests.bad_inputs.case import Case, Refused
from dtx_assets_tests.bad_inputs.place import Place

TITLE = "Commands"
QUERY = ("archive", "query", "keyword")


def nothing(_place: Place) -> None:
    """The command is wrong by itself."""


def option(name: str, command: tuple[str, ...], what: str, where: str, remedy: str) -> Refused:
    return Refused(name, command, nothing, 2, what, where, remedy)


def taken_port(place: Place) -> None:
    place.end_with(listener := socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    place.names["port"] = str(listener.getsockname()[1])


def directory_with_an_export(place: Place) -> None:
    (place.directory / "mine").mkdir()
    (place.directory / "mine" / "letter.csv").write_text("a\n")


def a_file(place: Place) -> None:
    (place.directory / "mine").write_text("taken")


def nothing_archived(place: Place) -> None:
    place.set(ARCHIVE_URL=place.directory / "other")


CASES: tuple[Case, ...] = (
    option("an unknown system", ("run", "dxt"), "there is no system 'dxt'", "SYSTEM", "did you mean 'dtx'?"),
    option("an unknown option", ("run", "--frobnicate"), "No such option", "--frobnicate", "run --help"),
    option("an unknown command", ("rum",), "No such command", "rum", "--help"),
    option(
        "an unknown asset",
        ("run", "--select", "target/AccountMetta"),
        "no asset is called",
        "--select",
        "did you mean target/AccountMeta",
    ),
    option(
        "a selection that is none",
        ("run", "--select", "and or"),
        "this is not a selection of assets",
        "--select",
        "name an asset (target/EmailTemplate)",
    ),
    option(
        "a selection of another area's table",
        ("run", "--select", "target/Account"),
        "nothing to do",
        "--select",
        "choose assets that this migration makes",
    ),
    option(
        "an unknown mode as an option",
        ("run", "--mode", "dress"),
        "DTX_MODE is 'dress'; allowed: rehearsal or cutover",
        "environment variable DTX_MODE",
        "set it to one of these",
    ),
    option(
        "SQL with a mistake", (*QUERY, "SELEKT 1"), "this cannot be run: Parser Error", "SQL", "the table is called"
    ),
    option(
        "SQL with an unknown column",
        (*QUERY, "SELECT nosuch FROM keyword"),
        "this cannot be run: Binder Error",
        "SQL",
        "the table is called",
    ),
    option(
        "SQL that writes",
        (*QUERY, "DELETE FROM keyword"),
        "an archive is read with one SELECT, and nothing else",
        "SQL",
        "what is archived cannot be changed",
    ),
    option(
        "two statements",
        (*QUERY, "SELECT 1; SELECT 2"),
        "an archive is read with one SELECT, and nothing else",
        "SQL",
        "ask one question at a time",
    ),
    option(
        "SQL that reads another file",
        (*QUERY, "FROM read_csv('/etc/passwd')"),
        "this cannot be run: Permission Error",
        "SQL",
        "the table is called",
    ),
    option(
        "an archive of an unknown table",
        ("archive", "query", "keywords", "SELECT 1"),
        "there is no table 'keywords'",
        "{home}/archive",
        "did you mean 'keyword'? Else use one of: keyword",
    ),
    option(
        "two forms of output",
        (*QUERY, "FROM keyword", "--csv", "--json"),
        "--csv and --json exclude each other",
        "--csv, --json",
        "give one of them",
    ),
    Refused(
        "an archive that is not made yet",
        (*QUERY, "SELECT 1"),
        nothing_archived,
        2,
        "'keyword' is not archived",
        "{directory}/other",
        "`dtx run` archives all tables",
    ),
    Refused(
        "a port in use",
        ("ui", "--read-only", "--port", "{port}"),
        taken_port,
        2,
        "something else listens on port {port}",
        "--port",
        "name another one, or leave --port out",
    ),
    option(
        "a port that is none",
        ("ui", "--port", "99999"),
        "Input should be less than or equal to 65535",
        "--port",
        "ui --help",
    ),
    Refused(
        "a sample over an export",
        ("sample", "mine"),
        directory_with_an_export,
        2,
        "the directory already has letter.csv",
        "mine",
        "name an empty directory; a sample never takes the place of an export",
    ),
    Refused(
        "a sample into a file",
        ("sample", "mine"),
        a_file,
        2,
        "a sample cannot be written there: ",
        "mine",
        "name a directory that this account may write",
    ),
    option(
        "a sample of no rows",
        ("sample", "--rows", "0", "mine"),
        "Input should be greater than or equal to 1",
        "--rows",
        "sample --help",
    ),
    option("an undo of a run that is not known", ("rollback", "nosuch"), "nosuch", "migration.run", "run"),
)
