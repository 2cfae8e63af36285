"""The official SDK in 64 threads: submit, wait, fetch the result. `python -m bench.sdk --help`.

Used as in its samples, with one file per task. There the first 429 loses the job: `async_call` returns no task, and
`wait` fails. With `--persistent` each call is repeated after about a second until it succeeds.
"""

import argparse
import json
import queue
import random
import threading
import time
import urllib.request
from http import HTTPStatus
from typing import Any

import dashscope
from dashscope.audio.asr import Transcription

from bench.upstream import KEY, file_url

THREADS = 64
MODEL = "fun-asr"


class Lost(Exception):
    """A call of the SDK failed."""


class Peer:
    def __init__(self, files: int, run_s: float, *, persistent: bool) -> None:
        self.finished: dict[str, float] = {}
        self._persistent = persistent
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for number in range(files):
            self._waiting.put(file_url(number, run_s))

    def run(self, cap_s: float) -> None:
        """Run until all jobs are finished or lost. Jobs that take longer than `cap_s` count as lost."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(THREADS)]
        deadline = time.monotonic() + cap_s
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _work(self) -> None:
        while True:
            try:
                url = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._transcribe(url)
            except Exception:  # noqa: BLE001, S112 - the job is lost, which the count of results shows
                continue
            self.finished[url] = time.time()

    def _transcribe(self, url: str) -> None:
        output = self._repeated(Transcription.async_call, model=MODEL, file_urls=[url])
        output = self._repeated(Transcription.wait, task=output["task_id"])
        if output["task_status"] != "SUCCEEDED":
            raise Lost
        for result in output["results"]:
            with urllib.request.urlopen(result["transcription_url"]) as response:  # noqa: S310 - a URL of the sandbox
                json.load(response)

    def _repeated(self, call: Any, **arguments: Any) -> Any:
        while True:
            response = call(**arguments)
            if response.status_code == HTTPStatus.OK:
                return response.output
            if not self._persistent:
                raise Lost
            time.sleep(random.uniform(0.5, 1.5))  # noqa: S311 - jitter


def main() -> None:
    parser = argparse.ArgumentParser(description="Transcribe files with the official SDK and print the results.")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--run-s", type=float, required=True)
    parser.add_argument("--cap-s", type=float, required=True)
    parser.add_argument("--persistent", action="store_true", help="repeat failed calls")
    arguments = parser.parse_args()
    dashscope.base_http_api_url = arguments.base_url
    dashscope.api_key = KEY
    peer = Peer(arguments.files, arguments.run_s, persistent=arguments.persistent)
    since = time.time()
    peer.run(arguments.cap_s)
    result = {"since": since, "until": time.time(), "cpu_s": time.process_time(), "finished": dict(peer.finished)}
    print(f"peer: {json.dumps(result)}", flush=True)


if __name__ == "__main__":
    main()
