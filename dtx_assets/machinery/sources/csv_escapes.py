r"""CSV as MySQL and MariaDB write it (`SELECT … INTO OUTFILE`, `mysqldump --tab`): special characters are escaped.

With the usual backslash, and as `LOAD DATA` reads it:

    \0 \b \n \r \t \Z             NUL, backspace, line feed, carriage return, tab, Ctrl+Z
    \ and a special character     that character: the backslash, a delimiter, a quote, a line break
    \N as the whole field         NULL, in quotes too
    NULL without quotes           NULL, in files with quotes

Before such a file is read, each special character that is escaped becomes a token that stands nowhere else, so that
what is read is RFC 4180; the tokens in its values become what they mean. Anything else after a backslash is refused.
"""

import secrets
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from dtx_assets.machinery.sources.csv_dialect import CsvDialect

MEANINGS = {b"0": b"\0", b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"Z": b"\x1a"}
NULL_LETTER, NULL_WORD = b"N", b"NULL"

MARK = secrets.token_hex(12).encode()
"""Begins each token: of characters that no dialect gives a meaning."""
LINE_BREAK = MARK + b"%02x" % ord("\n")
"""The token of a line feed that ends no line."""


class Escapes:
    """Takes the escapes from the blocks of one file, and gives its values back."""

    def __init__(self, dialect: CsvDialect) -> None:
        self.escape = (dialect.escape or "").encode()
        self.line_end = (dialect.line_end or "").encode()
        delimiter, quote = dialect.delimiter.encode(), (dialect.quote or "").encode()
        self.nulls = [self.escape + NULL_LETTER, *([NULL_WORD] if quote else [])]
        special = dict.fromkeys((self.escape, delimiter, b"\n", b"\r", b"\t", b'"', b"'", *([quote] if quote else [])))
        self.tokens = {character: MARK + b"%02x" % ord(character) for character in special}
        meanings = {**{character: character for character in special}, **MEANINGS}
        self._replaced = [
            (self.escape + after, self.tokens.get(meaning, meaning))
            for after, meaning in meanings.items()
            if after != self.escape
        ]
        self._waiting = b""

    def taken_from(self, block: bytes) -> bytes:
        """The next block of the file without escapes, but for what may go on in the one after it; b"" is the end."""
        text = self._waiting + block
        pair = self.escape * 2
        if self.escape in text:
            # From left to right, so that in a row of them each second one is escaped.
            text = text.replace(pair, self.tokens[self.escape])
        self._waiting = b""
        if block:
            whole = text.removesuffix(b"\r").removesuffix(self.escape)
            text, self._waiting = whole, text[len(whole) :]
        if self.escape in text:
            for sequence, replacement in self._replaced:
                text = text.replace(sequence, replacement)
        return self._line_ends(text) if self.line_end else text

    def _line_ends(self, text: bytes) -> bytes:
        """Only the declared line end ends a line; any other line break is part of a value."""
        other = {b"\n": b"\r", b"\r": b"\n"}
        if self.line_end in other:
            character = other[self.line_end]
            return text.replace(character, self.tokens[character])
        pieces = text.split(self.line_end)
        for character in other:
            if character in text:
                pieces = [piece.replace(character, self.tokens[character]) for piece in pieces]
        return self.line_end.join(pieces)

    def values(self, column: pa.Array, refuse: Callable[[int], Exception]) -> pa.Array:
        """A column of binary values with what the tokens mean; NULLs without quotes are NULLs already.

        `refuse` makes the error for a row whose value has an escape that means nothing.
        """
        if pc.any(escaped := pc.match_substring(column, self.escape)).as_py():
            is_null = pc.equal(column, pa.scalar(self.nulls[0], column.type))
            column = pc.if_else(is_null, pa.scalar(None, column.type), column)
            if (row := pc.index(pc.and_(escaped, pc.invert(is_null)), True).as_py()) >= 0:
                raise refuse(row)
        if pc.any(pc.match_substring(column, MARK)).as_py():
            for character, token in self.tokens.items():
                column = pc.replace_substring(column, token, character)
        return column

    def name(self, text: bytes) -> bytes:
        """One value, as a header has them."""
        for character, token in self.tokens.items():
            text = text.replace(token, character)
        return text
