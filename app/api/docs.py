"""`/docs`: Swagger UI from the `fastapi-offline` wheel, and the page of errors. Neither loads external resources."""

from collections.abc import Iterator
from html import escape

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from app.api.problems import problem_type
from app.errors import GatewayError

# Relative to /docs, so that the page works behind a proxy that adds a path prefix.
_ASSETS = "docs/assets"
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>asr-gateway errors</title>
<style>body{{font:16px/1.5 system-ui;max-width:48rem;margin:2rem auto;padding:0 1rem}}:target{{background:#ffc}}</style>
<h1>Errors</h1>
<p>Every error is <code>application/problem+json</code> (RFC 9457). Programs use <code>code</code>.</p>
{entries}
"""
_ENTRY = '<h2 id="{code}"><code>{code}</code></h2><p><b>{status}</b> {title}.</p>'

router = APIRouter(include_in_schema=False)


def add_assets(app: FastAPI) -> None:
    app.mount(f"/{_ASSETS}", StaticFiles(packages=[("fastapi_offline", "static")]))


@router.get("/docs")
async def show_docs() -> HTMLResponse:
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="asr-gateway",
        swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS}/favicon.png",
        # By default Swagger UI sends the document to a validator on the internet.
        swagger_ui_parameters={"validatorUrl": None, "persistAuthorization": True},
    )


@router.get("/docs/errors")
async def show_errors() -> HTMLResponse:
    classes: dict[str, type[GatewayError]] = {cls.code: cls for cls in _family(GatewayError)}
    entries = [
        _ENTRY.format(code=escape(code), status=problem_type(cls).status, title=escape(problem_type(cls).title))
        for code, cls in sorted(classes.items())
    ]
    return HTMLResponse(_PAGE.format(entries="\n".join(entries)))


def _family(cls: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)
