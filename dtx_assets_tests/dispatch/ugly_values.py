"""Values of every bad kind for every kind of column of Dispatch. What should become of them is not here.

Left out is what no sentence of the contract decides: exponents and bare points of numbers, braces round a uid.
"""

from collections.abc import Mapping

from dtx_assets_tests.dispatch.second_reading_values import Value

TEXTS: tuple[Value, ...] = (
    *("", " ", "\u00a0\u2003\t", None, "NULL", r"\N", "null", "a\0b", b"caf\xe9", "\0", "Ünïcode", "fits 🦷 well"),
    *(' lead and "trail" ', "two\nlines, \r\n and three", "\n\\N,", "\x1c", "\u200b", "=1+1", "0", "\ufeffmark"),
    *("Notes of a " + "very " * 12_000 + "long treatment", " \u3000padded\u2028", "O'Neill; DROP TABLE", "t"),
)
INTEGERS: tuple[Value, ...] = (
    *("0", "1", "2", "3", "5", "9", "12", "05", "7.0", "-1", " 7", "7 ", "x", "", " ", None, "NULL", "7.5", "1e3"),
    *("+7", "7\0", b"7\xff", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "７", "--7"),
    *("-2147483649", "1,000", "true", "0x7", "007", "-0.0", "7.00"),
)
BOOLEANS: tuple[Value, ...] = (
    *(
        "t",
        "T",
        "true",
        "TRUE",
        "True",
        "1",
        "f",
        "F",
        "false",
        "FALSE",
        "0",
        "",
        None,
        "NULL",
        "yes",
        "2",
        " t",
        "1.0",
    ),
    *("on", "t\0", b"t\xff", "y", "-1", "tru"),
)
NUMBERS: tuple[Value, ...] = (
    *("0", "0.00", "12.5", "12.50", "12.500", "12.505", "12.5000001", "-5", "-0.01", "99999999.99", "99999999.990"),
    *("100000000", "99999999.999", "1" + "0" * 40, "0.000000000000000000000000000000000001", "abc", "", " ", None),
    *("NULL", "NaN", "Infinity", "1,000", "£5", "5\0", b"5\xff", "007.50", " 5", "--5", "1.2.3"),
)
DATES: tuple[Value, ...] = (
    *("1985-02-28", "1985-02-29", "2000-02-29", "1900-02-29", "1899-12-31", "1900-01-01", "2999-01-01", "9999-12-31"),
    *("0001-01-01", "0044-03-15 BC", "10000-01-01", "1985-02-28 00:00:00", "1985-02-28 10:00:00", "28/02/1985", ""),
    *(" 1985-02-28", None, "NULL", "0000-00-00", "1985-2-8", "19850228", "1985-02-28\0", b"1985-02-28\xff", "soon"),
    *("1985-02-28T00:00:00", "1985-13-01", "0999-06-01"),
)
TIMES: tuple[Value, ...] = (
    *("2024-05-13 09:30:00", "2024-05-13T09:30:00", "2024-05-13 09:30:00.1234567", "2024-05-13T09:30:00.5Z"),
    *("2024-05-13 09:30:00+00", "2024-05-13 09:30:00.25+05:45", "2024-05-13T09:30:00-2359", "2024-05-13 09:30:00+14"),
    *("2023-02-29 09:30:00", "2024-05-13 9:30:00", "2024-05-13 09:30", "2024-05-13", "0000-00-00 00:00:00", "soon"),
    *("2024-05-13 24:00:00", "2024-05-13 09:30:60", "2024-13-01 00:00:00", "13/05/2024 09:30:00", "", " ", None),
    *("NULL", " 2024-05-13 09:30:00", "2024-05-13 09:30:00 ", "2024-05-13 09:30:00.", "2024-05-13 09:30:00,5"),
    *("2024-05-13 09:30:00+25", "1899-12-31 23:59:59", "2999-01-01 00:00:00", "2024-05-13 09:30:00\0"),
    *(b"2024-05-13 09:30:00\xff", "10000-01-01 00:00:00", "0044-03-15 10:00:00 BC", "infinity", "-infinity"),
    # Twice and never on the clocks of London and of New York.
    *("2024-10-27 01:30:00", "2024-03-31 01:30:00", "2024-11-03 01:30:00", "2024-03-10 02:30:00"),
    *("1900-01-01 00:00:00.999999", "1969-12-31 23:59:59.75"),
)
UIDS: tuple[Value, ...] = (
    *(
        "",
        None,
        "NULL",
        "not-a-uuid",
        " ",
        "123e4567-e89b-12d3-a456-42661417400",
        "123e4567-e89b-12d3-a456-4266141740000",
    ),
    *("123E4567-E89B-12D3-A456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
    *(
        " 123e4567-e89b-12d3-a456-426614174000",
        "123e4567e89b12d3a456426614174000",
        "123e4567-e89b-12d3-a456-42661417400g",
    ),
    *(b"123e4567-e89b-12d3-a456-42661417400\xff", "123e4567-e89b-12d3-a456-426614174000\0"),
    "00000000-0000-0000-0000-000000000000",
)
KINDS: Mapping[str, tuple[Value, ...]] = {
    "text": TEXTS,
    "integer": INTEGERS,
    "boolean": BOOLEANS,
    "number": NUMBERS,
    "date": DATES,
    "time": TIMES,
    "uuid": UIDS,
}
BAD_IDS: tuple[Value, ...] = (
    "x",
    "",
    None,
    " ",
    "NULL",
    "1.5",
    "1\0",
    b"1\xff",
    "9223372036854775808",
    "2147483648",
    "1e1",
)

EMAILS: tuple[Value, ...] = (
    *("ann@example.org", " Bob@Example.org ", "ann@example.org", "a@b", "a@b.", "a@.b", "a@.b.c", "@b.c", "a@@b.c"),
    *("a b@c.de", "a@b@c.de", "", " ", None, None, None, "none", "é@ü.org", "x\0@y.org", b"x\xff@y.org", "a@b.c\n"),
    *("a@b..c", "a\u00a0@b.co", "a@b.co."),
)
GROUP_NAMES: tuple[Value, ...] = (
    *("Doctor", " doctor ", "DOCTOR", "master", "Admin", "Technician", "Sales Person", " sales person", "sales_person"),
    *("agent", "Patient", "client", "Interns", "", " ", None, "Ünïcode", "doctors", "Agent "),
)
COURSE_NAMES: tuple[Value, ...] = (
    *(
        "Main",
        " retainer ",
        "MAIN",
        "Refinement",
        "refinement\u00a0",
        "Aligner",
        " aligner",
        "ALIGNER ",
        "Clear  Aligner",
    ),
    *("Clear-Aligner", "clear aligner", "Ünïcode", "Unicode", "UNÏCODE", "!!!", "???", "日本", "course 5", "Main!"),
    *("Emergency", "-Main-", "", " ", None, "Naïve ½ ﬁt", "Retainer 2", "\u2003"),
)
PROJECT_NAMES: tuple[Value, ...] = (
    *("upper scan.stl", " padded.stl ", "", " ", None, "../../etc/passwd", r"C:\scans\lower.stl", "Untitled Project"),
    *(
        "é" * 100 + ".stl",
        "x" * 300,
        "x" * 10 + "." + "y" * 200,
        "tab\there.stl",
        "folder/",
        ".hidden",
        "..",
        "a\0.stl",
    ),
    *("Ünïcode 🦷.stl", "no extension", "\x1b[31mred", "a\x85b.stl"),
)
BODIES: tuple[Value, ...] = (
    *("The aligner does not fit", "", " ", "\u2003\n", None, "Fits 🦷 now", " padded \n", "The aligner does not fit"),
    *("NULL", "a\0b", b"caf\xe9", "x" * 60_000, "first\n\nsecond", "\u200b"),
)
