"""The outcome of the job of a transcription: its transcript, or the error for the client."""

from uuid import UUID

from app.errors import ServiceUnavailable
from app.jobs.dependencies import JobServices
from app.openai_api.errors import TranscriptionRefused, file_failure
from app.openai_api.form import TranscriptionRequest
from app.queue.job_json import JobSnapshot

# The official clients give up after 600 s, and would then not know that the job goes on.
MAX_WAIT_S = 590.0


def require_final(services: JobServices, snapshot: JobSnapshot) -> None:
    """Raises TranscriptionRefused (504) for a job that is not final, or ServiceUnavailable if the gateway stops."""
    if snapshot.final:
        return
    if services.waiters.closed:
        raise ServiceUnavailable("The gateway stops; send the request again, which joins the same job.")
    location = f"/v1/jobs/{snapshot.job.id}"
    reason = snapshot.job.waiting_reason
    because = f" ({reason.code})" if reason else ""
    raise TranscriptionRefused(
        504,
        "still_running",
        f"The recording is still being transcribed{because}. Send the same request again to wait on at no further"
        f" cost, or read the job at {location}.",
        headers={"Location": location, "Retry-After": "1"},
    )


def transcript_of(snapshot: JobSnapshot, request: TranscriptionRequest) -> tuple[UUID, int]:
    """The id of the transcript and the duration of the recording in milliseconds.

    Raises TranscriptionRefused with the error of the file.
    """
    file = snapshot.job.files[0]
    if file.transcript_id is None:
        raise file_failure(file, request.source)
    return file.transcript_id, file.audio_duration_ms or 0
