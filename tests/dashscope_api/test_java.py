"""The Java programs of the founding document, by the requests that the Java SDK sends for them.

The SDK itself does not run here. Source of the requests: dashscope-sdk-java 2.22.29, which always sends `channel_id`.
"""

import json
import re
from typing import Any

import httpx
import pytest

from tests.dashscope_api.conftest import finished
from tests.dashscope_api.programs import DOCUMENT
from tests.transcripts.documents import sample
from tests.uploads.conftest import StartPoller

HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "Accept": "application/json",
    "X-DashScope-Async": "enable",
    "user-agent": "dashscope/2.22.29; java/17.0.9; platform/linux; processor/amd64",
}
# Java's HttpURLConnection, with which the programs fetch results.
FETCH = {"Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "User-Agent": "Java/17.0.9"}
PROGRAMS = {path.stem.removesuffix(".java"): path.read_text("utf-8") for path in DOCUMENT.glob("*.java.txt")}


def body_of(program: str) -> dict[str, Any]:
    """The body that the SDK sends for the builder of the program."""
    [model] = re.findall(r'\.model\("(.+?)"\)', program)
    urls = re.findall(r'"(https://[^"]+\.wav)"', program)
    [hints] = re.findall(r'\.parameter\("language_hints", new String\[\] ?\{(.+?)\}\)', program)
    parameters = {"channel_id": [0], "language_hints": json.loads(f"[{hints}]")}
    return {"model": model, "input": {"file_urls": urls}, "parameters": parameters}


@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("fun_asr", ["funasr_female2_seed", "funasr_male2_seed"]),
        ("paraformer", ["paraformer_female2_seed", "paraformer_male2_seed"]),
        ("sensevoice", ["sensevoice_seed"]),
    ],
)
async def test_java_program_gets_the_results_of_the_document(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, start_poller: StartPoller, name: str, results: list[str]
) -> None:
    body = json.dumps(body_of(PROGRAMS[name]))
    submitted = await api.post("/api/v1/services/audio/asr/transcription", content=body, headers=HEADERS)
    assert set(submitted.json()) == {"output", "request_id"}
    async with start_poller():
        task = await finished(api, submitted.json()["output"]["task_id"])
    links = [result["transcription_url"] for result in task["output"]["results"]]
    documents = [(await stranger.get(link, headers=FETCH)).json() for link in links]
    assert documents == [json.loads(sample(result)) for result in results]
