"""Submit, wait, transcript, 422 with the generated Python client."""
# ruff: noqa: INP001 - a script that runs beside the generated package

import sys

from asr_client import AuthenticatedClient
from asr_client.api.jobs import create_job, get_job
from asr_client.api.transcripts import get_transcript, get_transcript_srt
from asr_client.models import Job, JobRequest, JobRequestParameters, JobStatus, Problem, ProblemPlace, Transcript
from asr_client.types import File

SAMPLE = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"

with AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2], timeout=70) as client:
    job = create_job.sync(client=client, body=JobRequest(file_urls=[SAMPLE]), idempotency_key="python-1")
    assert isinstance(job, Job), job
    job = get_job.sync(job.id, client=client, wait=60)
    assert isinstance(job, Job), job
    assert job.status is JobStatus.SUCCEEDED, job
    assert job.files[0].transcript_id, job

    transcript = get_transcript.sync(job.files[0].transcript_id, client=client)
    assert isinstance(transcript, Transcript), transcript
    assert "world" in transcript.text.lower(), transcript
    assert transcript.transcripts[0].sentences[0].end_time > 0, transcript
    captions = get_transcript_srt.sync(transcript.id, client=client, max_chars_per_line=20)
    assert isinstance(captions, File), captions
    assert b" --> " in captions.payload.read(), captions

    wrong = JobRequest(file_urls=[SAMPLE], parameters=JobRequestParameters.from_dict({"speaker_count": 1}))
    problem = create_job.sync(client=client, body=wrong)
    assert isinstance(problem, Problem), problem
    assert (problem.status, problem.code) == (422, "validation_failed"), problem
    assert isinstance(problem.errors[0], ProblemPlace), problem
    assert problem.errors[0].pointer == "/parameters/speaker_count", problem

sys.stdout.write("submitted, waited, read, refused\n")
