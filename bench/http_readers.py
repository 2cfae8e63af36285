"""HTTP clients in threads that cost little CPU, and the growth of a server's memory."""

import http.client
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

_BUFFER_BYTES = 1024 * 1024
_SLOW_BYTES = 128 * 1024
_SLOW_S = 0.02
MB = 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    size_bytes: int
    first_byte_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    pid: int
    headers: Mapping[str, str]

    def read(self, path: str, *, coding: str = "gzip", times: int = 1, slowly: bool = False) -> list[Answer]:
        """Request the path `times` times, one after the other on one connection."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=120)
        responses = []
        for _ in range(times):
            began = time.perf_counter()
            connection.request("GET", path, headers={**self.headers, "Accept-Encoding": coding})
            responses.append(_drain(connection.getresponse(), began, slowly=slowly))
        connection.close()
        return responses

    def cpu_s(self) -> float:
        return sum(psutil.Process(self.pid).cpu_times()[:2])

    def read_at_once(
        self, path: str, readers: int, *, coding: str = "gzip", times: int = 1, slowly: bool = False
    ) -> float:
        """Responses per second of `readers` concurrent readers."""
        with ThreadPoolExecutor(readers) as pool:
            began = time.perf_counter()
            reading = [pool.submit(self.read, path, coding=coding, times=times, slowly=slowly) for _ in range(readers)]
            for each in reading:
                each.result()
            return readers * times / (time.perf_counter() - began)


def _drain(response: http.client.HTTPResponse, began: float, *, slowly: bool) -> Answer:
    if response.status != 200:
        raise RuntimeError(f"HTTP {response.status}: {response.read(500)!r}")
    buffer = memoryview(bytearray(_SLOW_BYTES if slowly else _BUFFER_BYTES))
    size_bytes = response.readinto(buffer[:1])
    first_byte_s = time.perf_counter() - began
    while read := response.readinto(buffer):
        size_bytes += read
        if slowly:
            time.sleep(_SLOW_S)
    return Answer(size_bytes, first_byte_s, time.perf_counter() - began)


@contextmanager
def growth_of(pid: int) -> Iterator[list[float]]:
    """Peak growth of a process in MB during the block, appended to the list at its end."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    grown: list[float] = []
    peak, over = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        over.set()
        watcher.join()
        grown.append((peak - before) / MB)
