"""The texts of `/docs/errors`, which are also the tables of `docs/errors.md`; a test compares the two.

Texts are Markdown with code spans only.
"""

# Code of a problem: its cause, and what the caller can do.
PROBLEMS: dict[str, str] = {
    "malformed_request": (
        "The request is not HTTP/1.1, its URL is not ASCII, it does not have exactly one valid `Host` header, or "
        "it has a `Transfer-Encoding` other than `chunked`. The connection is closed."
    ),
    "malformed_body": (
        "The body does not match its Content-Type: it is not the multipart message or form that the header declares."
    ),
    "invalid_json": "The body is not JSON in UTF-8. `detail` names the position.",
    "unauthorized": "The token is missing, unknown or revoked. Send `Authorization: Bearer <token>`.",
    "forbidden": "The call needs `ADMIN_TOKEN`, and the token is one of a client.",
    "admin_disabled": "`ADMIN_TOKEN` is not set, so clients cannot be managed over HTTP. Use `python -m app clients`.",
    "not_found": "The resource does not exist, is deleted or belongs to another client, or the path is wrong.",
    "method_not_allowed": "The path does not have this method. `Allow` lists its methods.",
    "not_acceptable": "The call returns JSON, and the request's `Accept` excludes JSON. The call had no effect.",
    "request_timeout": (
        "The body was too slow. In each span of 60 s it must end or bring 1,000 bytes a second. The connection is"
        " closed; send the request again."
    ),
    "conflict": "The state of the resource does not allow the call. The next codes are more exact.",
    "client_exists": "An active client has that name. Revoke it first, or choose another name.",
    "job_final": "The job is final, so there is nothing to cancel.",
    "job_not_final": "Only a final job can be deleted. Cancel the job first, or wait.",
    "transcript_unreadable": (
        "What DashScope returned as the result is no result document, so its file failed with `result_unreadable`. Only"
        " `GET /v1/transcripts/{id}/raw` has the bytes."
    ),
    "nothing_to_retry": "No file of the job failed or was canceled.",
    "vocabulary_limit": (
        "The accounts have as many hot-word lists as DashScope allows, ten each over all clients and models. "
        "Delete a list, or put more words into one."
    ),
    "body_too_large": "The body is larger than 16 MiB (new job) or 1 MiB (any other call).",
    "unsupported_media_type": "The body must be JSON in UTF-8. Send `Content-Type: application/json`.",
    "validation_failed": "The request is not valid. `errors` lists each wrong place and the allowed values.",
    "unknown_model": "The catalogue does not have the model. `GET /v1/models` lists the models.",
    "model_not_in_region": "The region does not have the model. Use another region, or `auto`.",
    "unsupported_format": (
        "The model does not take files with the extension of the upload. The detail has the extensions that it takes."
    ),
    "upload_not_found": ("A job names an upload that does not exist, was deleted, or belongs to another client."),
    "upload_expired": "A job names an upload that has expired. Upload the file again.",
    "upload_not_for_model": (
        "The upload is in DashScope's temporary storage, which keeps a file for one model. Upload it with the"
        " model of the job."
    ),
    "vocabulary_not_found": "A job names a hot-word list of another client.",
    "vocabulary_model_mismatch": (
        "The hot-word list was made for another model, and DashScope would silently ignore it. Create a list whose "
        "`target_model` is the model of the job."
    ),
    "budget_currency_mismatch": (
        "The model is priced in another currency than the budget of this client, so the budget cannot limit it. Use "
        "another model, or have the budget changed."
    ),
    "region_not_served": "The gateway has no key for the region. Use another region, or `auto`.",
    "idempotency_key_reused": (
        "The `Idempotency-Key` was used before with another body. Use a new key for a new request."
    ),
    "invalid_cursor": "The cursor does not belong to this list. Pass `next_cursor` unchanged.",
    "rate_limited": (
        "The client made more requests than `CLIENT_REQUESTS_PER_S` allows. Wait for `Retry-After`; `RateLimit` "
        "reports what is left."
    ),
    "too_many_waiting_files": (
        "These files would put the client above `CLIENT_WAITING_FILES`. The job was not stored: send the request "
        "again after `Retry-After`."
    ),
    "budget_exceeded": (
        "These files may cost more than is left of the client's budget. Nothing was stored. `spent`, `reserved`, "
        "`requested` and `resets_at` say why and until when: send the request again after `Retry-After`."
    ),
    "too_many_test_pings": (
        "The client sent more than 60 test pings at once, or later more than one per second. The ping was not "
        "sent: wait for `Retry-After`."
    ),
    "too_many_wrong_tokens": (
        "Ten wrong admin tokens came from this address, each within a minute of the one before. All admin calls from"
        " the address are refused for a minute. `python -m app clients` still works."
    ),
    "too_many_waits": (
        "The client has 2,500 long polls and event streams open at this process, or the jobs of its event streams have"
        " more than 64 MiB together. End some of them, or try again after `Retry-After`. A `POST` with `wait` does not"
        " get this error: it responds without the wait."
    ),
    "too_many_uploads": (
        "The client has 50 uploads in progress at this process. Nothing was stored: send the file again after"
        " `Retry-After`."
    ),
    "vocabulary_updated_recently": (
        "DashScope takes one update of a hot-word list in five minutes. `Retry-After` has the seconds until the "
        "next one."
    ),
    "head_too_large": (
        "The path, the headers and the trailers are together larger than 64 KB. The connection is closed."
    ),
    "internal_error": "The gateway has a defect. Its log has the details under `request_id`.",
    "upload_too_large": "The file is larger than its store or the model allows.",
    "upload_unavailable": (
        "The file cannot be stored: the store does not respond, or no account may use it. The detail has the"
        " reason. Try again after `Retry-After`."
    ),
    "upstream_unavailable": (
        "DashScope does not respond, limits the rate of calls, or refuses the accounts that could serve the call; "
        "`detail` has the reason. Send the same request again after `Retry-After`."
    ),
    "service_unavailable": "A service that the gateway needs is not available. Try again after `Retry-After`.",
    "too_many_connections": (
        "The process has reached its limit of open connections. The connection is closed; try again after "
        "`Retry-After`."
    ),
    "database_unavailable": (
        "The database is not available; `detail` names the reason in one word. Try again after `Retry-After`; a "
        "POST is safe to repeat with an `Idempotency-Key`."
    ),
}

# Code of a file's error: whether the same file may succeed later, and the cause.
FILE_ERRORS: dict[str, tuple[str, str]] = {
    "audio_too_long": (
        "no",
        ("The recording is longer than the model allows. Cut the recording, or choose another model."),
    ),
    "audio_unreadable": (
        "no",
        ("The model cannot decode the file: the format is wrong, the file is damaged, or the file has no audio track."),
    ),
    "canceled_upstream": ("yes", "The task was canceled at DashScope by another program."),
    "content_rejected": ("no", "DashScope's content inspection refused the file."),
    "file_too_large": ("no", "The file is larger than the model allows. Compress or cut the file."),
    "file_unreachable": (
        "depends",
        (
            "DashScope could not download the file. Retryable after a timeout or a broken download, which the gateway"
            " tries a second time; not retryable if the server refused the download (403, 404). Check the URL and the"
            " end of its signature."
        ),
    ),
    "file_url_refused": ("no", "DashScope does not accept the string as a URL."),
    "model_unavailable": (
        "yes",
        (
            "DashScope does not know the model, in any region and for any account that the file may go to. The model "
            "is retired, or its name is wrong. Choose another model."
        ),
    ),
    "restored_from_backup": (
        "yes",
        (
            "The gateway was restored from a backup in which the file was waiting. It may have been submitted after the"
            " backup, and billed; a retry is billed again."
        ),
    ),
    "result_expired": (
        "yes",
        (
            "The file was transcribed, but the result could not be stored before DashScope deleted it. A retry is "
            "billed again."
        ),
    ),
    "result_host_refused": ("no", "DashScope gave a link to a host that is not a host of results."),
    "result_missing": (
        "yes",
        (
            "The task ended without a result that certainly belongs to this file: there was no result, two different "
            "results, or a result that names another file. The file may have been billed; a retry is billed again."
        ),
    ),
    "result_too_large": ("no", "The result is larger than the gateway stores."),
    "result_unreadable": (
        "depends",
        (
            "What DashScope returned as the result is no result document. The bytes are kept: `transcript_id` names a"
            " transcript that has `/raw` and no other form. Retryable if the bytes may be damaged or temporary, such as"
            " half a document or a page of HTML, which the gateway fetches several times; not retryable if they are"
            " complete JSON of another form. A retry is billed again."
        ),
    ),
    "upload_expired": (
        "no",
        (
            "The upload had expired or was deleted before the file was submitted. Upload the file again, and"
            " create a new job."
        ),
    ),
    "upstream_error": ("yes", "DashScope's engine failed, also in the gateway's second attempt."),
    "upstream_refused": ("no", "DashScope refused the request; `message` has the reason."),
    "vocabulary_not_found": (
        "no",
        (
            "DashScope does not have the hot-word list of the job, or it belongs to another account. It was deleted "
            "after the job was created, or the id is wrong. Create a new job with another list."
        ),
    ),
}

# Codes of logs and metrics that never fail a file.
HARMLESS: dict[str, str] = {
    "no_speech": "The file has no speech. It succeeds with an empty transcript.",
    "throttled": "DashScope's rate limit was reached. The gateway goes slower, and files wait.",
}

# Code of a job's `waiting_reason`: its cause, and what the operator can do.
WAITING: dict[str, str] = {
    "account_key_refused": (
        "DashScope refuses the key of the account: the key is wrong, expired, deleted, or belongs to the other "
        "region. Set the right key and restart the gateway."
    ),
    "account_not_configured": (
        "An upload or a hot-word list of the job belongs to an account that is not configured any more. Set its key"
        " again and restart the gateway, or cancel the job."
    ),
    "account_quota": (
        "The account has used up its free quota of the model, and paid use is off. Turn paid use on in the "
        "console of Model Studio."
    ),
    "account_unpaid": "The account has an unpaid bill. Pay the bill.",
    "budget_exceeded": (
        "What is left of the client's budget has no room for another file. `account` is null. The files are submitted"
        " when running files have cost less than was reserved for them, when the next day or month of the budget"
        " begins, or when the budget is raised or removed."
    ),
    "model_not_granted": (
        "The account, or its workspace, may not use the model. Activate or grant it in the console of Model Studio."
    ),
    "model_unavailable": (
        "DashScope does not know the model for the named account. Another account may use the model, but is "
        "blocked for another reason."
    ),
    "region_not_served": (
        "The region has no key any more. `account` is null. Set a key for the region and restart the gateway, or "
        "cancel the job."
    ),
    "upstream_unavailable": (
        "DashScope gave the account no usable response to at least three calls over at least ten seconds."
    ),
}
