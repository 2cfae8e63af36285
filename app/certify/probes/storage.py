"""Sends a second of silence to temporary storage, and submits it."""

import io
import wave
from collections.abc import AsyncIterator

from app.certify.evidence import Unseen
from app.certify.probes.session import MODEL, ProbeSession
from app.dashscope.temporary_storage import StorageFailed, parse_policy, send_file

SILENCE_S = 1


async def probe_storage(session: ProbeSession) -> None:
    calls = session.evidence.calls
    with session.probing("upload_policy", "upload", "silence"):
        params = {"action": "getPolicy", "model": MODEL}
        calls["upload_policy"] = await session.upstream.call("GET", "/uploads", params=params)
        policy = parse_policy(calls["upload_policy"].body, base_url=session.upstream.base_url)
        content = silence()
        session.budget.reserve(MODEL, session.region, SILENCE_S)
        before = len(session.evidence.exchanges)
        try:
            url = await send_file(session.upstream.http, policy, "certify.wav", _chunks(content), len(content))
        except StorageFailed as error:
            raise Unseen(str(error)) from error
        finally:
            if len(session.evidence.exchanges) > before:
                calls["upload"] = session.evidence.exchanges[-1]
        await session.submit("silence", [url])


def silence() -> bytes:
    """A WAV file of a second of silence."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(2 * 16000 * SILENCE_S))
    return buffer.getvalue()


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content
