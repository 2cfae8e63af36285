"""`python -m app transcribe` as a process: with a sandbox, with a running `serve`, failures, and Ctrl-C."""

import json
import signal
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.processes import run, running, running_cold

TOKEN = "token-of-the-transcribe-tests"


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "call.wav"
    with wave.open(str(path), "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(16000)
        audio.writeframes(bytes(range(250)) * 128)  # zeros would be a recording without speech
    return str(path)


@pytest.fixture
async def serving(data_dir: Path, database_url: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """The URL of a `serve`, and the settings of other commands on its DATA_DIR."""
    own = {"DATA_DIR": str(data_dir)}
    options = ("--sandbox", "--sandbox-port", "0")
    async with running("serve", *options, PORT="0", DATABASE_URL=database_url, **own) as gateway:
        yield await gateway.url(), own
        assert await gateway.stop() == 0
    assert not (data_dir / "address").exists()


async def test_sandbox_transcribes_a_local_file_without_a_key(recording: str) -> None:
    code, out, err = await run("transcribe", "--sandbox", recording)
    assert (code, out.count("\n")) == (0, 1), err
    lines = err.splitlines()
    assert lines[:2] == ["call.wav: uploading", "call.wav: queued"]
    assert lines[-1].startswith("call.wav: transcribed ")
    assert not _exists("data")


async def test_recordings_go_to_the_gateway_that_runs_on_the_folder(
    serving: tuple[str, dict[str, str]], recording: str, tmp_path: Path
) -> None:
    url, own = serving
    out = tmp_path / "out"
    bad = "https://example.com/bad.wav?sandbox=fail:DECODE_ERROR"
    arguments = (recording, bad, "missing.wav", "http://[::1", "--format", "text,srt,vtt,json,md", "--output", str(out))
    code, printed, err = await run("transcribe", *arguments, "--speakers", "--language", "zh,en", **own)
    assert (code, printed) == (1, "")
    assert "missing.wav: does not exist" in err
    assert "[::1: failed: /file_urls/0 has an invalid" in err
    assert "bad.wav: failed: " in err
    assert "(audio_unreadable)" in err
    assert sorted(path.name for path in out.iterdir()) == [f"call.{x}" for x in ("json", "md", "srt", "txt", "vtt")]
    document = json.loads((out / "call.json").read_text())

    async with _api(url, own) as api:
        job = (await api.get(f"/v1/jobs/{document['job_id']}")).json()
        assert job["parameters"] == {"language_hints": ["zh", "en"], "diarization_enabled": True}
    code, _, err = await run("transcribe", recording, "--output", str(out), **own)
    assert (code, err) == (
        1,
        f"{out / 'call.txt'} exists and is not overwritten; move it, or choose another --output\n",
    )
    code, _, err = await run("transcribe", recording, GATEWAY_URL=url, API_TOKEN=TOKEN)
    assert (code, err.splitlines()[-1]) == (
        1,
        "call.wav: failed: the gateway refuses the token; set API_TOKEN to a token of this gateway",
    )
    code, _, err = await run("transcribe", _renamed(recording, "notes.docx"), **own)
    assert (code, err.count("notes.docx: failed: /file has the extension .docx")) == (1, 1)


async def test_ctrl_c_cancels_the_job_and_says_so(serving: tuple[str, dict[str, str]]) -> None:
    url, own = serving
    async with running_cold("transcribe", "https://example.com/long.wav?sandbox=run:600", **own) as command:
        await command.line_with("long.wav: recognizing")
        assert await command.stop(signal.SIGINT) == 130
    assert "long.wav: canceled" in command.stderr
    assert "Traceback" not in command.stderr
    async with _api(url, own) as api:
        (job,) = (await api.get("/v1/jobs")).json()["items"]
    assert job["status"] == "canceled"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "No gateway runs on DATA_DIR data, and no key is set."),
        (
            {"GATEWAY_URL": "http://127.0.0.1:9", "API_TOKEN": TOKEN},
            "the gateway at http://127.0.0.1:9 cannot be reached",
        ),
        ({"GATEWAY_URL": "http://127.0.0.1:9"}, "GATEWAY_URL is set, but API_TOKEN is not"),
    ],
)
async def test_missing_gateway_is_one_line(settings: dict[str, str], reason: str, recording: str) -> None:
    code, out, err = await run("transcribe", recording, **settings)
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith(reason)


def _exists(path: str) -> bool:
    return Path(path).exists()


def _renamed(path: str, name: str) -> str:
    return str(Path(path).rename(Path(path).with_name(name)))


def _api(url: str, own: dict[str, str]) -> httpx.AsyncClient:
    token = (Path(own["DATA_DIR"]) / "api_token").read_text().strip()
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"})
