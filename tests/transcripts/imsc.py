"""Reads TTML with ttconv, which knows the rules of IMSC."""

import logging
import xml.etree.ElementTree as ET
from fractions import Fraction

import pytest
from ttconv.imsc import reader
from ttconv.model import Br, P, Text

from tests.transcripts.ffmpeg import ReadCue

PROFILE = "http://www.w3.org/ns/ttml/profile/imsc1.1/text"


class _Complaints(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            pytest.fail(f"ttconv: {record.getMessage()}")


def read_by_ttconv(captions: str) -> list[ReadCue]:
    """Begin and end in milliseconds, and the text, of each paragraph. A warning of the reader is a failure."""
    complaints = _Complaints()
    logging.getLogger("ttconv").addHandler(complaints)
    try:
        document = reader.to_model(ET.ElementTree(ET.fromstring(captions.encode())))  # noqa: S314 - our own output
    finally:
        logging.getLogger("ttconv").removeHandler(complaints)
    assert document is not None
    assert document.get_content_profiles() == {PROFILE}
    body = document.get_body()
    assert body is not None
    return [_read(each) for each in body.dfs_iterator() if isinstance(each, P)]


def _read(paragraph: P) -> ReadCue:
    begin, end = paragraph.get_begin() or Fraction(0), paragraph.get_end()
    assert end is not None
    return int(begin * 1000), int(end * 1000), _text(paragraph)


def _text(paragraph: P) -> str:
    parts = paragraph.dfs_iterator()
    return "".join("\n" if isinstance(each, Br) else each.get_text() for each in parts if isinstance(each, Br | Text))
