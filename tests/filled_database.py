"""Rows of the first schema that releases had, for tests of migrations. Each later revision keeps them."""

ROWS = 300

CLIENT_ID = "00000000-0000-0000-0000-00000000000c"
# A queued job without a task, which `copy_job` copies.
QUEUED_JOB_ID = "ffffffff-0000-0000-0000-000000000000"

# At revision 20261123_0800.
FILL = f"""
    INSERT INTO clients (id, name, token_sha256) VALUES ('{CLIENT_ID}', 'filled', 'filled');

    INSERT INTO tasks (id, account, region, model, parameters, file_count, state, done_at)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 'beijing/a', 'beijing', 'fun-asr', '{{}}', 1, 'done', now()
    FROM generate_series(1, {ROWS}) AS n;

    INSERT INTO jobs (id, client_id, status, model, region, region_asked, parameters, metadata, files_total,
                      files_queued, files_succeeded, finished_at)
    SELECT lpad(to_hex(n), 32, '0')::uuid, '{CLIENT_ID}', 'succeeded', 'fun-asr', 'beijing', 'auto', '{{}}',
           '{{"call": "4711"}}', 1, 0, 1, now()
    FROM generate_series(1, {ROWS}) AS n;

    INSERT INTO jobs (id, client_id, model, region, region_asked, parameters, metadata, files_total, files_queued)
    VALUES ('{QUEUED_JOB_ID}', '{CLIENT_ID}', 'fun-asr', 'beijing', 'auto', '{{}}', '{{}}', 1, 1);

    INSERT INTO files (job_id, index, client_id, region, model, lane, url, status, task_id, finished_at)
    SELECT id, 0, client_id, region, model, client_id, 'https://example.com/a.wav',
           CASE WHEN finished_at IS NULL THEN 'queued' ELSE 'succeeded' END,
           CASE WHEN finished_at IS NULL THEN NULL ELSE id END, finished_at
    FROM jobs;

    INSERT INTO transcripts (id, client_id, job_id, file_index, file_url, model, region, audio_duration_ms, created_at)
    SELECT job_id, client_id, job_id, 0, url, model, region, 1000, finished_at FROM files WHERE status = 'succeeded';

    INSERT INTO transcript_bodies (transcript_id, raw_gzip, raw_sha256, raw_bytes, document_gzip, document_sha256,
                                   document_bytes)
    SELECT id, 'raw', 'hash', 3, 'document', 'hash', 8 FROM transcripts;
"""  # noqa: S608 - our own values

# At revision 20261123_1000, which adds the table.
FILL_DELIVERIES = f"""
    INSERT INTO deliveries (id, job_id, client_id, type, url, host, body, status, finished_at)
    SELECT id, id, client_id, 'job.succeeded', 'https://example.com', 'example.com:443', '{{}}', 'succeeded', now()
    FROM jobs WHERE id <> '{QUEUED_JOB_ID}';
"""  # noqa: S608 - our own values


def copy_job(job_id: str) -> str:
    """A statement that creates a job with one file, as POST does, on the schema of any revision."""
    job, file = f'{{"id": "{job_id}"}}', f'{{"job_id": "{job_id}"}}'
    return f"""
        WITH job AS (
            INSERT INTO jobs SELECT (jsonb_populate_record(old, '{job}')).* FROM jobs AS old
            WHERE id = '{QUEUED_JOB_ID}'
        )
        INSERT INTO files SELECT (jsonb_populate_record(old, '{file}')).* FROM files AS old
        WHERE job_id = '{QUEUED_JOB_ID}'
    """  # noqa: S608 - our own values


def copy_transcript(transcript_id: str) -> str:
    """A statement that stores a transcript of a job, as a poller does, on the schema of any revision."""
    transcript = f'{{"id": "{transcript_id}"}}'
    return f"""
        INSERT INTO transcripts SELECT (jsonb_populate_record(old, '{transcript}')).* FROM transcripts AS old
        WHERE id = lpad('1', 32, '0')::uuid
    """  # noqa: S608 - our own value


READS = (
    f"SELECT * FROM jobs WHERE client_id = '{CLIENT_ID}' ORDER BY id DESC LIMIT 50",  # noqa: S608 - our own value
    f"SELECT * FROM files WHERE job_id = '{QUEUED_JOB_ID}'",  # noqa: S608 - our own value
    f"SELECT * FROM transcripts WHERE client_id = '{CLIENT_ID}' ORDER BY id DESC LIMIT 50",  # noqa: S608
    "SELECT count(*) FROM tasks WHERE state <> 'done'",
)
