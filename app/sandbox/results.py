"""The result origin: an object store that serves signed URLs, byte for byte, until they expire."""

from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.sandbox.documents import result_document
from app.sandbox.responses import JSONResponse, html_page
from app.sandbox.signing import StoredResult, sign_results
from app.sandbox.state import SandboxState
from app.sandbox.tasks import Task
from app.sandbox.times import utc_instant


def sign_links(state: SandboxState, task: Task) -> None:
    """Give each file with a result a new link. Earlier links stay valid."""
    signed = sign_results(task, state.config.result_ttl_s)
    task.result_targets = {index: f"{path}?{stored.query}" for index, (path, stored) in signed.items()}
    state.results.update(signed.values())


def results_app(state: SandboxState) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _respond(state, Request(scope))(scope, receive, send)

    return app


def _respond(state: SandboxState, request: Request) -> Response:
    path, query = request.scope["raw_path"].decode("latin-1"), request.scope["query_string"].decode("latin-1")
    if "authorization" in request.headers:
        state.authorization_leaks += 1
        return _refusal(400, "InvalidArgument", "Only one auth mechanism allowed; only the query string.")
    if state.faults.results_down:
        return _refusal(503, "ServiceUnavailable", "Please reduce your request rate.")
    stored = state.results.get(path)
    if stored is None or stored.query != query:
        message = "The request signature we calculated does not match the signature you provided."
        return _refusal(400 if state.quirk("bad_link_400") else 403, "SignatureDoesNotMatch", message)
    if state.now() >= stored.expires_at:
        return _expired(state, stored)
    if request.method not in {"GET", "HEAD"}:
        return _refusal(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    return _serve_object(state, stored)


def _serve_object(state: SandboxState, stored: StoredResult) -> Response:
    state.downloads[stored.file.url] += 1
    faults = state.faults
    if state.chance("html_result", faults.html_result_rate):
        return html_page(200)
    document = result_document(stored.task, stored.file)
    if faults.extra_fields:
        document["sandbox_extra"] = {"new": True}
    if state.quirk("result_of_another_file"):
        document["file_url"] = "https://example.com/another.wav"
    if state.quirk("unknown_tag"):
        for transcript in document["transcripts"]:
            transcript["text"] += "<|Whisper|>"
    response = JSONResponse(document)
    if state.quirk("result_encoding"):
        response.headers["Content-Encoding"] = "br"
    if state.chance("truncate_result", faults.truncate_result_rate):
        return Response(response.body[: len(response.body) // 2], media_type=response.media_type)
    return response


def _expired(state: SandboxState, stored: StoredResult) -> Response:
    times = {"Expires": utc_instant(stored.expires_at), "ServerTime": utc_instant(state.now())}
    return _refusal(403, "AccessDenied", "Request has expired.", **times)


def _refusal(status: int, code: str, message: str, **details: str) -> Response:
    fields = {"Code": code, "Message": message, "RequestId": "65A0000000000000000000"} | details
    lines = [f"  <{name}>{escape(value)}</{name}>" for name, value in fields.items()]
    body = "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', "<Error>", *lines, "</Error>", ""])
    return Response(body, status, media_type="application/xml")
