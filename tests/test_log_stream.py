"""Log lines while nothing reads standard error."""

import json
import os
from collections.abc import Iterator

import pytest

from app.log_stream import LogStream, standard_error


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_all(end: int) -> str:
    os.set_blocking(end, False)
    parts = []
    while True:
        try:
            parts.append(os.read(end, 1 << 20))
        except BlockingIOError:
            return b"".join(parts).decode()


def test_lines_arrive_whole_and_in_order(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1])
    lines = [f"{number} {'ä' * 3000}\n" for number in range(5)]
    for line in lines:
        assert stream.write(line) == len(line)
    assert read_all(pipe[0]) == "".join(lines)
    assert not stream.isatty()


def test_lines_for_a_full_pipe_are_dropped_and_counted(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1], patience_ms=1)
    while not stream.dropped:  # would wait for ever in a write that waits
        stream.write("x" * 5000 + "\n")
    for _ in range(99):
        stream.write("lost\n")
    assert stream.dropped == 100
    read_all(pipe[0])
    stream.write("back\n")
    notice, line = read_all(pipe[0]).split("\n")[1:3]
    assert json.loads(notice) == {"event": "log lines dropped", "level": "warning", "lines": 100}
    assert (line, stream.dropped) == ("back", 0)


def test_a_reader_that_has_ended_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = LogStream(writer)
    stream.write("lost\n")
    assert stream.dropped == 1
    os.close(writer)


def test_standard_error_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():
        assert isinstance(standard_error(), LogStream)
    LogStream(2).write("a line\n")
    assert capfd.readouterr().err == "a line\n"
