"""The official SDK as the peer, in 64 threads: submit, wait, fetch the result. `python -m bench.sdk --help`.

As its samples do it, the first 429 loses the job: `async_call` answers without a task, and `wait` gives up. With
`--persistent` every call is repeated until it succeeds, after about a second. One file a task, as the samples submit.
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
    """The SDK gave the job up."""


class Peer:
    def __init__(self, files: int, run_s: float, *, persistent: bool) -> None:
        self.finished: dict[str, float] = {}
        self._persistent = persistent
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for number in range(files):
            self._waiting.put(file_url(number, run_s))

    def run(self, cap_s: float) -> None:
        """Until all jobs are finished or lost, or for `cap_s`: what is under way then counts as lost."""
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
            except Exception:  # noqa: BLE001, S112 - whatever it is, the job is lost, and the count says so
                continue
            self.finished[url] = time.time()

    def _transcribe(self, url: str) -> None:
        output = self._repeated(Transcription.async_call, model=MODEL, file_urls=[url])
        output = self._repeated(Transcription.wait, task=output["task_id"])
        if output["task_status"] != "SUCCEEDED":
            raise Lost
        for result in output["results"]:
            with urllib.request.urlopen(result["transcription_url"]) as answer:  # noqa: S310 - the sandbox's own
                json.load(answer)

    def _repeated(self, call: Any, **arguments: Any) -> Any:
        while True:
            answer = call(**arguments)
            if answer.status_code == HTTPStatus.OK:
                return answer.output
            if not self._persistent:
                raise Lost
            time.sleep(random.uniform(0.5, 1.5))  # noqa: S311 - jitter


def main() -> None:
    parser = argparse.ArgumentParser(description="Transcribe files with the official SDK; print what came of it.")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--run-s", type=float, required=True)
    parser.add_argument("--cap-s", type=float, required=True)
    parser.add_argument("--persistent", action="store_true", help="repeat what fails")
    asked = parser.parse_args()
    dashscope.base_http_api_url = asked.base_url
    dashscope.api_key = KEY
    peer = Peer(asked.files, asked.run_s, persistent=asked.persistent)
    since = time.time()
    peer.run(asked.cap_s)
    told = {"since": since, "until": time.time(), "cpu_s": time.process_time(), "finished": dict(peer.finished)}
    print(f"peer: {json.dumps(told)}", flush=True)


if __name__ == "__main__":
    main()
