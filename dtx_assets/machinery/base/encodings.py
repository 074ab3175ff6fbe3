"""Text that went through the wrong encoding: what it was as bytes."""


def latin1_bytes(text: str) -> bytes | None:
    """The text in what MySQL calls latin1: that of Windows, with a character for every byte; None where it has none."""
    encoded = bytearray()
    for character in text:
        try:
            encoded += character.encode("cp1252")
        except UnicodeEncodeError:
            if ord(character) > 0xFF:
                return None
            encoded.append(ord(character))
    return bytes(encoded)


def latin1_text(encoded: bytes) -> str:
    """What `latin1_bytes` gives these bytes for."""
    return "".join(_CHARACTERS[byte] for byte in encoded)


_CHARACTERS = [bytes([byte]).decode("cp1252", "replace").replace("\ufffd", chr(byte)) for byte in range(256)]


def is_doubly_encoded(text: str) -> bool:
    """Whether its bytes in latin1 are UTF-8 of something beyond ASCII."""
    encoded = None if text.isascii() else latin1_bytes(text)
    try:
        return encoded is not None and bool(encoded.decode())
    except UnicodeDecodeError:
        return False
