"""What a compressed strip or tile of a TIFF file fills once it is decoded, by its own header."""

from __future__ import annotations

BOUNDED = {1, 5, 8, 32773, 32946, 34925, 34926, 50000, 50013}
"""Compressions that are decoded into as many bytes as the page has room for: none, LZW, Deflate,
PackBits, LZMA and Zstandard."""

_JPEG = {7, 33007}
_JPEG2000 = {33003, 33004, 33005, 34712}
_PNG = {34933}

HEADED = _JPEG | _JPEG2000 | _PNG
"""Compressions whose strips and tiles have a header of their own, which the decoder believes."""

# Frames (SOF) of JPEG and JPEG-LS; C4, C8 and CC mark other things (ITU-T T.81, table B.1).
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def declared_size(compression: int, data: bytes) -> int:
    """Bytes that a strip or tile fills once it is decoded, by its own header.

    Parameters
    ----------
    compression : int
        One of `HEADED`.
    data : bytes
        The whole strip or tile.

    Returns
    -------
    int
        0 where it has no header: a decoder then refuses it.
    """
    if compression in _JPEG:
        return _jpeg_size(data)
    if compression in _JPEG2000:
        return _jpeg2000_size(data)
    width, height = _number(data, 16, 4), _number(data, 20, 4)
    return width * height * 4 * (2 if data[24:25] == b"\x10" else 1)


def _jpeg_size(data: bytes) -> int:
    at = 0
    while at + 10 <= len(data):
        if data[at] != 0xFF:
            # libjpeg looks for the next marker too.
            at += 1
            continue
        marker = data[at + 1]
        if marker in _FRAMES:
            wide = 2 if data[at + 4] > 8 else 1
            return _number(data, at + 5, 2) * _number(data, at + 7, 2) * data[at + 9] * wide
        if marker == 0xFF:
            at += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:
            at += 2
        else:
            at += 2 + _number(data, at + 2, 2)
    return 0


def _jpeg2000_size(data: bytes) -> int:
    """The largest of all codestreams: a decoder takes one of them (ITU-T T.800, A.5.1)."""
    largest, at = 0, data.find(_SIZ)
    while at >= 0:
        width, height, left, top = (_number(data, at + 8 + 4 * i, 4) for i in range(4))
        # OpenJPEG decodes to 4 bytes per sample.
        largest = max(largest, max(width - left, 0) * max(height - top, 0)
                      * _number(data, at + 40, 2) * 4)
        at = data.find(_SIZ, at + 1)
    return largest


_SIZ = b"\xff\x4f\xff\x51"


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at:at + width], "big")
