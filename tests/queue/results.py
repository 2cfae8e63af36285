"""Results of files, as the poller stores them."""

from app.dashscope.failures import Failure
from app.queue.polling import TaskFile
from app.queue.results import Result
from app.transcripts.models import Transcript
from app.transcripts.normalise import empty_document
from app.transcripts.storage import prepare_transcript


def result_of(file: TaskFile, status: str, failure: Failure) -> Result:
    """An empty transcript if the status is `succeeded`, otherwise the failure."""
    if status != "succeeded":
        return Result(file, status, failure=failure)
    transcript = prepare_transcript(
        Transcript(
            client_id=file.client_id,
            job_id=file.job_id,
            file_index=file.index,
            file_url=file.url,
            model="fun-asr",
            region="beijing",
        ),
        raw=b"{}",
        document=empty_document(file.url),
    )
    return Result(file, status, transcript=transcript)
