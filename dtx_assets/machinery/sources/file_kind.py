r"""What a file is that is called CSV and is none, told by how it begins: its name, and what to do.

What is wrong within a file that is one is the business of `csv_strict` and `csv_escaped`.
"""

import codecs
import re

LOOKED_AT = 1 << 16
"""Bytes of the beginning that are enough to tell."""

MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Byte-order marks; the longer ones come first."""

UNPACK, EXPORT = "unpack it", "export the table as CSV"
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x1f\x9d": "compress",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x5d\x00\x00": "lzma",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xff\x06\x00\x00sNaPpY": "snappy",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"LZIP": "lzip",
    b"\x89LZO": "lzo",
    b"\x02\x21\x4c\x18": "lz4",
    b"MSCF": "cab",
}
BINARY = {
    **{beginning: (f"is compressed ({name})", UNPACK) for beginning, name in COMPRESSED.items()},
    **dict.fromkeys(
        (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"),
        ("is a workbook or another zip archive", "export it as CSV, or unpack it"),
    ),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("is a workbook (.xls) or another Office document", "export it as CSV"),
    **dict.fromkeys((b"PAR1", b"PARE"), ("is Parquet", EXPORT)),
    **dict.fromkeys((b"ARROW1", b"FEA1"), ("is Arrow (Feather)", EXPORT)),
    b"ORC": ("is ORC", EXPORT),
    b"Obj\x01": ("is Avro", EXPORT),
    b"SQLite format 3\x00": (
        "is a SQLite database",
        "export its tables as CSV, or give the file itself: sqlite:////path/of/the/file",
    ),
    b"PGDMP": ("is a dump of PostgreSQL (pg_dump)", "restore it, and read that database: postgresql://…"),
    b"\x00\x01\x00\x00Standard ": ("is a database of Microsoft Access", EXPORT),
    b"\x89HDF": ("is HDF5", EXPORT),
    b"\x93NUMPY": ("is a NumPy array", EXPORT),
    **dict.fromkeys(
        (b"Salted__", b"age-encryption.org/", b"-----BEGIN "),
        ("is encrypted, or a key or certificate", "decrypt it, and see that it is the export"),
    ),
    **dict.fromkeys((b"$FL2@(#)", b"$FL3@(#)"), ("is a file of SPSS", EXPORT)),
    b"<stata_dta>": ("is a file of Stata", EXPORT),
    **dict.fromkeys((b"RDX2\n", b"RDX3\n"), ("is a file of R", EXPORT)),
    **dict.fromkeys(
        (b"\x00\x05\x16\x07", b"\x00\x05\x16\x00"),
        ("is what macOS keeps beside a file (AppleDouble)", "copy the export itself, whose name has no ._ before it"),
    ),
    b"%PDF": ("is a PDF", EXPORT),
    b"%!PS": ("is PostScript", EXPORT),
    **dict.fromkeys((b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), ("is a picture", EXPORT)),
    b"\x7fELF": ("is a program", EXPORT),
}
"""How files begin that are no text, what they are, and what to do."""

TEXT = {
    rb"<(!doctype|!--|\?xml|(html|head|body|table|meta|script|title|error|\w+ xmlns)\b)"
    rb"|<\w[-\w.:]*(\s[^<>\n]*)?>\s*<[\w/!]": (
        "is a page of HTML or XML",
        "download the export itself: this may be a page that asks to log in",
    ),
    rb"\{\s*([\"}]|\Z)|\[\s*([\[{\"\]]|-?\d|\Z)": ("is JSON", EXPORT),
    rb"---[ \t]*(\r|\n|\Z)|%yaml ": ("is YAML", EXPORT),
    rb"\{\\rtf": ("is a document (RTF)", EXPORT),
    rb"(psql|pg_\w+|mysql(dump)?|mariadb(-dump)?|sqlite3|mongo\w*|aws|curl|ssh|-?\w{0,3}sh): \S|an error occurred \("
    rb"|traceback \(most recent call last\)": (
        "begins with a message of the program that was to write it",
        "export it again, and see that messages go elsewhere (2> a file)",
    ),
    rb"version https://git-lfs": ("is a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull"),
    rb"(--[ \r\n]|/\*|insert\s+into\s|create\s+(table|database|schema)\s|drop\s+(table|database)\s|lock\s+tables\s"
    rb"|replace\s+into\s|start\s+transaction|pragma\s+\w+\s*=|set\s+[@\w]+\s*=|use\s+[`\w]+\s*;)": (
        "is a script of SQL (mysqldump writes such ones)",
        "restore it, and read that database: mysql://… or postgresql://…",
    ),
    rb"\+-[-+]*\+[ \r\n]|[^\n]*\n-+(\+-+)+[ \r\n]": (
        "is a table drawn in text, as a database's command line prints it",
        EXPORT,
    ),
}
"""How files of text begin that are no CSV, without regard to case."""

SEPARATOR_LINE = re.compile(rb'"?sep=(.|\\t)"?[;,\t]*(\r|\n|\Z)', re.IGNORECASE)
LOG = re.compile(
    rb"[\"'\[]?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d"
    rb"|\d{1,3}(\.\d{1,3}){3} \S+ \S+ \["
    rb"|(\[\d\d/\w{3}/\d{4}:|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )"
    rb"|\[?(TRACE|DEBUG|INFO|NOTICE|WARN(ING)?|ERROR|FATAL|CRITICAL)\]?[ :]"
)
MARKED_WITHIN = {
    (257, b"ustar"): ("is an archive (tar)", UNPACK),
    # With a version of eight bytes: a row of a CSV may begin with that word.
    (8, rb"(?s)DUCK..\x00{6}"): ("is a database of DuckDB", EXPORT),
}
"""The same of marks that stand at an offset, as patterns."""


def other_kind(start: bytes, *, has_header: bool) -> tuple[str, str] | None:
    """What the file is and what to do, said of "the file", where it begins as no CSV does; else None."""
    for mark, name in MARKS.items():
        if start.startswith(mark):
            return f"is {name}", "export it as UTF-8"
    if found := no_text(start):
        return found
    text = start.removeprefix(codecs.BOM_UTF8)
    if text.startswith(codecs.BOM_UTF8):
        return "begins with two byte-order marks", "take them away, and export it as UTF-8"
    if encoding := wide_encoding(text, all_of_it=not has_header):
        return f"is {encoding} without a byte-order mark", "export it as UTF-8"
    first_line = text.splitlines()[0] if text.strip() else b""
    if b"\0" in (first_line if has_header else b""):
        return "has a NUL in its header line: it may be no text at all", "export the table as CSV in UTF-8"
    if separator := SEPARATOR_LINE.match(text):
        sep = separator[1].decode("latin-1")
        return (
            f"begins with Excel's line sep={sep}",
            f"take that line away, and say `delimiter: {sep!r}` in its dialect where it is no comma",
        )
    for pattern, told in TEXT.items():
        if re.match(pattern, text.lstrip(), re.IGNORECASE):
            return told
    if has_header and LOG.match(text):
        return "begins with a time or a level: it is a log, or has no header line", "export it with the column names"
    return None


def no_text(start: bytes) -> tuple[str, str] | None:
    """The same of files that are no text in any encoding."""
    for (place, mark), told in MARKED_WITHIN.items():
        if re.match(mark, start[place:]):
            return told
    return next((told for beginning, told in BINARY.items() if start.startswith(beginning)), None)


def wide_encoding(start: bytes, *, all_of_it: bool) -> str | None:
    """UTF-16 or UTF-32, little or big end first, where a text is that; it may be cut anywhere.

    Texts with delimiters and line ends have a NUL at the side of each. Where `all_of_it`, NULs may be content, and so a
    quarter of the characters has to be ASCII, and none of them a NUL.
    """
    end = start.find(b"\n")
    header = start if all_of_it or end == -1 else start[:end]
    if b"\0" not in header:
        return None
    for width, encoding in ((4, "utf-32-le"), (4, "utf-32-be"), (2, "utf-16-le"), (2, "utf-16-be")):
        sample = start[:4096]
        sample = sample[: len(sample) // width * width]
        text = sample.decode(encoding, "replace").removesuffix("\ufffd")
        plain = sum(character.isascii() for character in text)
        has_lines = "\n" in text or b"\n" not in sample
        if not text or "\ufffd" in text or "\0" in text or not has_lines:
            continue
        if plain * (4 if all_of_it else 8) >= len(text):
            return encoding.upper()
    return None
