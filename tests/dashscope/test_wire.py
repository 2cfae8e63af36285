"""The sample responses of the protocol are parsed, and submits equal the sample requests."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from app.catalogue import MODELS, TaskUsage, validate_parameters
from app.dashscope.wire import (
    FileOutcome,
    ListedTask,
    MalformedResponse,
    TaskPage,
    TaskSnapshot,
    TaskStatus,
    parse_canceled,
    parse_error,
    parse_page,
    parse_submitted,
    parse_task,
    submit_body,
)
from tests.dashscope.samples import FOLDER, parsed, sample

WAV = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio"
RESULT = "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/prod/paraformer-v2"
SIGNED = "?Expires=1739525481&OSSAccessKeyId=LTAI****&Signature=****"
UNREACHABLE = FileOutcome(
    f"{WAV}/sensevoice/rich_text_exaple_1.wav",
    code="InvalidFile.DownloadFailed",
    message="The audio file cannot be downloaded.",
)

QUERIES = {
    "query_pending": TaskSnapshot(TaskStatus.PENDING, file_count=2),
    "query_running": TaskSnapshot(TaskStatus.RUNNING, file_count=2),
    "query_canceled_inferred": TaskSnapshot(TaskStatus.CANCELED, file_count=2, ran_s=0.527),
    "query_unknown": TaskSnapshot(TaskStatus.UNKNOWN),
    "query_succeeded": TaskSnapshot(
        TaskStatus.SUCCEEDED,
        (
            FileOutcome(
                f"{WAV}/paraformer/hello_world_male2.wav",
                f"{RESULT}/20250213/17%3A31/20ee4e4f-0404-4806-b617-c7d4c62eed19-1.json{SIGNED}",
            ),
            FileOutcome(
                f"{WAV}/paraformer/hello_world_female2.wav",
                f"{RESULT}/20250213/17%3A31/4c3a0f5b-5b9c-4f4e-9f7b-0f6a4c1d2e3f-1.json{SIGNED}",
            ),
        ),
        usage=TaskUsage(seconds=9),
        file_count=2,
        ran_s=1.186,
    ),
    "query_mixed_success_and_failure": TaskSnapshot(
        TaskStatus.SUCCEEDED,
        (FileOutcome(f"{WAV}/sensevoice/long_audio_demo_cn.mp3", f"{RESULT}/20241216/xxxx"), UNREACHABLE),
        file_count=2,
        ran_s=3.205,
    ),
    "query_all_failed_docs_says_succeeded": TaskSnapshot(
        TaskStatus.SUCCEEDED, (UNREACHABLE,), file_count=1, ran_s=3.205
    ),
    "query_failed_observed_2026": TaskSnapshot(
        TaskStatus.FAILED,
        (FileOutcome("https://example.com/audio.mp3?sign=xxxx", code="DECODE_ERROR", message="DECODE_ERROR"),),
        "DECODE_ERROR",
        "DECODE_ERROR",
        file_count=1,
        ran_s=0.547,
    ),
    "query_failed_no_speech_inferred": TaskSnapshot(
        TaskStatus.FAILED,
        (
            FileOutcome(
                "https://example.com/silence.wav",
                code="SUCCESS_WITH_NO_VALID_FRAGMENT",
                message="SUCCESS_WITH_NO_VALID_FRAGMENT",
            ),
        ),
        "SUCCESS_WITH_NO_VALID_FRAGMENT",
        "SUCCESS_WITH_NO_VALID_FRAGMENT",
        file_count=1,
        ran_s=1.547,
    ),
    "query_qwen3_running": TaskSnapshot(TaskStatus.RUNNING, file_count=1),
    "query_qwen3_succeeded": TaskSnapshot(
        TaskStatus.SUCCEEDED,
        (
            FileOutcome(
                None,
                "http://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/pre/pre-funasr-mlt-v1/20251027/13%3A57/"
                "7a3a8236-ffd1-4099-a280-0299686ac7da.json?Expires=1761631066&OSSAccessKeyId=LTAI****&Signature=****"
                "&response-content-disposition=attachment%3Bfilename%3D7a3a8236-ffd1-4099-a280-0299686ac7da.json",
            ),
        ),
        usage=TaskUsage(seconds=3),
        ran_s=1.131,
    ),
    "query_qwen3_failed": TaskSnapshot(
        TaskStatus.FAILED, code="FILE_403_FORBIDDEN", message="FILE_403_FORBIDDEN", ran_s=0.669
    ),
    "query_qwen3_failed_wrong_input_field": TaskSnapshot(
        TaskStatus.FAILED,
        code="InvalidParameter.MalformedURL",
        message="A valid file URL is required",
        ran_s=0.4,
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_sample_query_is_parsed(name: str) -> None:
    assert parse_task(sample(name)) == QUERIES[name]


def test_table_has_every_sample_query() -> None:
    assert {path.stem for path in FOLDER.glob("query_*.json")} == set(QUERIES)


def test_sample_list_is_parsed() -> None:
    task = ListedTask("6351feef-9694-45d2-9d32-63454f2ffb8d", TaskStatus.SUCCEEDED, "paraformer-v2", 1745810478000)

    assert parse_page(sample("list_response")) == TaskPage((task,), total_pages=1, total=1)


def test_sample_submit_is_parsed() -> None:
    assert parse_submitted(sample("submit_response")) == "c2e5d63b-96e1-4607-bb91-000000000001"


def test_refused_cancel_is_malformed() -> None:
    parse_canceled(sample("cancel_ok"))
    with pytest.raises(MalformedResponse):
        parse_canceled(sample("cancel_error_http400"))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*error_*.json")), ids=lambda path: path.stem)
def test_sample_error_is_parsed(path: Path) -> None:
    expected = orjson.loads(path.read_bytes())

    assert parse_error(path.read_bytes()) == (expected["code"], expected["message"])
    for parse in (parse_submitted, parse_task, parse_page, parse_canceled):
        with pytest.raises(MalformedResponse):
            parse(path.read_bytes())


REQUESTS = [
    "submit_request_funasr",
    "submit_request_funasr_all_parameters",
    "submit_request_funasr_two_files_seed_equivalent",
    "submit_request_oss_url",
    "submit_request_paraformer_v2_all_parameters",
    "submit_request_sensevoice",
]


@pytest.mark.parametrize("name", REQUESTS)
def test_submit_equals_the_sample(name: str) -> None:
    expected = parsed(name)

    body = submit_body(
        model=expected["model"],
        input_style="file_urls",
        file_urls=expected["input"]["file_urls"],
        parameters=expected["parameters"],
    )

    assert body == expected


def test_submit_of_qwen3_has_its_file_as_a_string() -> None:
    expected = parsed("submit_request_qwen3_filetrans")

    body = submit_body(
        model=expected["model"],
        input_style="file_url",
        file_urls=[expected["input"]["file_url"]],
        parameters=expected["parameters"],
    )

    assert body == expected


def test_context_of_qwen_audio_belongs_to_the_input() -> None:
    expected = parsed("submit_request_qwen_audio3_filetrans")

    body = submit_body(
        model=expected["model"],
        input_style="file_urls",
        file_urls=expected["input"]["file_urls"],
        parameters=validate_parameters(
            MODELS[expected["model"]], {**expected["parameters"], "context": expected["input"]["context"]}
        ),
    )

    assert body == expected


def test_phrase_id_becomes_a_resource() -> None:
    expected = parsed("submit_request_paraformer_v1_phrase")

    body = submit_body(
        model=expected["model"],
        input_style="file_urls",
        file_urls=expected["input"]["file_urls"],
        parameters={"phrase_id": "<phrase_id>", "channel_id": [0]},
    )

    assert body == expected


def test_empty_parameters_are_sent() -> None:
    body = submit_body(model="fun-asr", input_style="file_urls", file_urls=["https://a/b.wav"], parameters={})

    assert body == {"model": "fun-asr", "input": {"file_urls": ["https://a/b.wav"]}, "parameters": {}}


def unknown(status: str = "DONE_IN_PART", /, **output: Any) -> TaskSnapshot:
    return parse_task(orjson.dumps({"output": {"task_id": "t", "task_status": status, **output}}))


LINKED = {"file_url": "https://e/a.wav", "transcription_url": "https://r/a", "subtask_status": "SUCCEEDED"}
FAILED = {"file_url": "https://e/b.wav", "code": "DECODE_ERROR", "subtask_status": "FAILED"}


@pytest.mark.parametrize(
    "output",
    [
        {"end_time": "2026-11-20 10:00:03.000"},
        {"results": [LINKED, FAILED]},
        {"result": {"transcription_url": "https://r/a"}},
        {"task_metrics": {"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 1}},
    ],
)
def test_task_with_an_unknown_status_has_ended_if_the_response_shows_its_end(output: dict[str, Any]) -> None:
    snapshot = unknown(**output)
    assert (snapshot.status, snapshot.code, snapshot.unknown_status) == (TaskStatus.FAILED, *["DONE_IN_PART"] * 2)
    assert unknown(code="InternalError.Timeout", **output).code == "InternalError.Timeout"


@pytest.mark.parametrize(
    "output",
    [
        {},
        {"end_time": ""},
        {"end_time": None, "code": "DECODE_ERROR"},
        {"results": []},
        {"results": [LINKED, {**FAILED, "code": None}, {"file_url": "https://e/c.wav"}]},
        {"results": [LINKED, {"file_url": "https://e/c.wav", "subtask_status": "SUSPENDED"}]},
        {"task_metrics": {"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 0}},
        {"task_metrics": {"TOTAL": 0, "SUCCEEDED": 0, "FAILED": 0}},
    ],
)
def test_task_with_an_unknown_status_is_running_otherwise(output: dict[str, Any]) -> None:
    snapshot = unknown("SUSPENDED", **output)
    assert (snapshot.status, snapshot.unknown_status) == (TaskStatus.RUNNING, "SUSPENDED")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"transcription_url": "https://r/a"}, FileOutcome(None, "https://r/a")),
        ({"code": "DECODE_ERROR"}, FileOutcome(None, code="DECODE_ERROR")),
        ({}, FileOutcome(None, code="DONE_IN_PART", is_unknown_status=True)),
    ],
)
def test_link_and_code_of_an_item_with_an_unknown_status_count(row: dict[str, str], expected: FileOutcome) -> None:
    rows = [{"subtask_status": "DONE_IN_PART", **row}]
    assert unknown("SUCCEEDED", results=rows).items == (expected,)


DOCUMENT = b'{ "file_url": "https://e/a.wav",  "transcripts": [ {"text": "\\u4f60"} ] }'


@pytest.mark.parametrize("place", [b'"result": %b', b'"results": [%b]', b'"results": [{"code": "X"}, %b, null]'])
def test_result_document_in_the_response_is_kept_byte_for_byte(place: bytes) -> None:
    body = b'{"output": {"task_status": "SUCCEEDED", "result": null, %b}, "usage": {"seconds": 7}}' % (place % DOCUMENT)
    snapshot = parse_task(body)
    assert FileOutcome("https://e/a.wav", document=DOCUMENT) in snapshot.items
    assert snapshot.items[-1].document == DOCUMENT


def test_link_takes_precedence_over_a_document() -> None:
    row = {"transcription_url": "https://r/a", "transcripts": []}
    assert unknown("SUCCEEDED", result=row).items == unknown("SUCCEEDED", results=[row]).items
    assert unknown("SUCCEEDED", result=row).items == (FileOutcome(None, "https://r/a"),)


def test_response_with_values_that_json_does_not_have_is_read() -> None:
    body = b'{"output": {"task_status": "SUCCEEDED", "results": [{"file_url": "\\ud83d", "code": "A"}], "x": NaN}}'
    assert parse_task(body).items == (FileOutcome("\ufffd", code="A"),)
