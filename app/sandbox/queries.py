"""`GET …/tasks/{id}` and `POST …/tasks/{id}/cancel`, in the exact format of the documented samples."""

import math
from typing import Any

from starlette.responses import Response

from app.sandbox import errors
from app.sandbox.errors import Refused
from app.sandbox.middleware import Call
from app.sandbox.responses import JSONResponse, new_request_id
from app.sandbox.results import sign_links
from app.sandbox.state import SandboxState
from app.sandbox.tasks import SCHEDULING_S, TERMINAL, Failure, Task, TaskStatus
from app.sandbox.times import field_time

JSONObject = dict[str, Any]

_INPUT_TOKENS_PER_S = 25
_OUTPUT_TOKENS_PER_S = 4


async def query(call: Call) -> Response:
    task_id = call.request.path_params["task_id"]
    task = call.state.find(task_id, call.caller)
    if task is None and call.state.quirk("unknown_task_404"):
        raise Refused(errors.NO_TASK)
    if task is not None and any(file.behaviour.unqueryable for file in task.files):
        raise Refused(errors.INTERNAL_ERROR)
    if task is None or call.state.now() < task.submitted_at + call.state.faults.unknown_s:
        body: JSONObject = {"output": {"task_id": task_id, "task_status": "UNKNOWN"}}
    else:
        body = _task_body(call.state, task, _results_origin(call))
    if call.state.faults.extra_fields:
        body["output"]["sandbox_extra"] = {"new": True}
        body["sandbox_extra"] = 1
    return JSONResponse({"request_id": new_request_id()} | body)


async def cancel(call: Call) -> Response:
    task = call.state.find(call.request.path_params["task_id"], call.caller)
    is_pending = task is not None and call.state.status_of(task) == TaskStatus.PENDING
    if task is None or not is_pending or call.state.quirk("cancel_refused"):
        raise Refused(errors.CANCEL_REFUSED)
    task.canceled_at = call.state.now()
    return JSONResponse({"request_id": new_request_id()})


def _results_origin(call: Call) -> str:
    config = call.state.config
    return config.results_origin or f"http://{call.request.url.hostname}:{config.results_port}"


def _task_body(state: SandboxState, task: Task, results_origin: str) -> JSONObject:
    status = state.status_of(task)
    shift_s = 8 * 3600 if state.quirk("utc_times") else 0
    output: JSONObject = {
        "task_id": task.id,
        "task_status": status,
        "submit_time": field_time(task.submitted_at - shift_s),
        "scheduled_time": field_time(min(task.submitted_at + SCHEDULING_S, task.ends_at) - shift_s),
    }
    metrics = {} if state.quirk("no_task_metrics") else _metrics(task, status)
    if status not in TERMINAL:
        if state.quirk("unknown_state"):
            output["task_status"] = "WAITING"
        if state.quirk("early_results"):
            output["results"] = [{"file_url": file.echo_url, "subtask_status": "RUNNING"} for file in task.files]
        return {"output": output | metrics}
    output["end_time"] = field_time((task.ends_at if task.canceled_at is None else task.canceled_at) - shift_s)
    if status == TaskStatus.CANCELED:
        return {"output": output | metrics}
    if state.quirk("new_links"):
        sign_links(state, task)
    if task.model.input_style == "file_url" or task.rejection is not None:
        return _single_body(task, output, results_origin)
    return _with_quirks(state, task, _batch_body(task, output, results_origin))


def _batch_body(task: Task, output: JSONObject, results_origin: str) -> JSONObject:
    status = output["task_status"]
    if status == TaskStatus.FAILED and (first := task.files[task.order[0]].failure):
        output |= _failed(first)
    output["results"] = [_result(task, index, results_origin) for index in task.order]
    output |= _metrics(task, status)
    return {"output": output} | ({"usage": _usage(task)} if task.succeeded else {})


def _with_quirks(state: SandboxState, task: Task, body: JSONObject) -> JSONObject:
    if state.quirk("first_results_only"):
        del body["output"]["results"][10:]
    for item in body["output"]["results"]:
        if state.quirk("results_without_urls"):
            del item["file_url"]
        if state.quirk("failed_item_without_code"):
            item.pop("code", None)
            item.pop("message", None)
    if state.faults.repeat_results:
        body["output"]["results"] *= 2
    if usage := body.get("usage"):
        if state.quirk("usage_in_ms"):
            usage["duration"] *= 1000
        if state.quirk("failed_files_billed"):
            usage["duration"] += len(task.files) - len(task.succeeded)
    return body


def _single_body(task: Task, output: JSONObject, results_origin: str) -> JSONObject:
    """The format of qwen3, and of a task whose request was rejected later: no list and no metrics."""
    failure = task.rejection or task.files[0].failure
    if failure is not None:
        return {"output": output | _failed(failure)}
    url = f"{results_origin}{task.result_targets[0]}"
    return {"output": output | {"result": {"transcription_url": url}}, "usage": {"seconds": _billed_s(task)}}


def _result(task: Task, index: int, results_origin: str) -> JSONObject:
    file = task.files[index]
    if file.failure is not None:
        return {"file_url": file.echo_url} | _failed(file.failure) | {"subtask_status": "FAILED"}
    return {
        "file_url": file.echo_url,
        "transcription_url": f"{results_origin}{task.result_targets[index]}",
        "subtask_status": "SUCCEEDED",
    }


def _failed(failure: Failure) -> JSONObject:
    return {"code": failure.code, "message": failure.message}


def _metrics(task: Task, status: TaskStatus) -> JSONObject:
    is_done = status in {TaskStatus.SUCCEEDED, TaskStatus.FAILED}
    succeeded = len(task.succeeded) if is_done else 0
    failed = len(task.files) - succeeded if is_done else 0
    return {"task_metrics": {"TOTAL": len(task.files), "SUCCEEDED": succeeded, "FAILED": failed}}


def _usage(task: Task) -> JSONObject:
    """Seconds, or tokens for a model that is billed by token. The number of tokens for a second is invented."""
    billed_s = _billed_s(task)
    if all("seconds" in price.units for price in task.model.regions.values()):
        return {"duration": billed_s}
    return {"input_tokens": _INPUT_TOKENS_PER_S * billed_s, "output_tokens": _OUTPUT_TOKENS_PER_S * billed_s}


def _billed_s(task: Task) -> int:
    """The sum over files and channels, rounded up once: the documented 4.726 s and 3.834 s make 9 s."""
    billed_ms = (
        file.duration_ms if (own := file.behaviour.billed_s) is None else own * 1000 for file in task.succeeded
    )
    return math.ceil(sum(billed_ms) * len(task.channels) / 1000)
