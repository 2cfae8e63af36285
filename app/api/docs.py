"""`/` and `/docs`: Swagger UI from the `fastapi-offline` wheel, and the page of errors.

No page loads external resources.
"""

import asyncio
import base64
import hashlib
import re
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.api.conditional import ConstantBody
from app.api.error_page import render_error_page
from app.errors import NotFound

# The addresses are relative to /docs, so that the page works behind a proxy that adds a path prefix.
# `validatorUrl`: by default Swagger UI sends the document to a validator on the internet.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="docs/assets/swagger-ui.css?v={version}">
<link rel="icon" href="docs/assets/favicon.png?v={version}">
<title>asr-gateway</title>
<script>
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
</script>
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js?v={version}"></script>
<script>
SwaggerUIBundle({{
  url: "openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  deepLinking: true,
  showExtensions: true,
  showCommonExtensions: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis]
}});
</script>
</body>
</html>
"""
_INLINE_SCRIPT = re.compile("<script>(.*?)</script>", re.DOTALL)
# No page loads anything from elsewhere, or may be shown in a frame. Swagger UI sets styles in its elements.
_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon.png": "image/png",
}
# The page names the version of the wheel, so an upgrade changes the address.
_CACHE_CONTROL = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def redirect_to_docs() -> RedirectResponse:
    return RedirectResponse("docs")


@router.get("/docs")
async def show_docs() -> HTMLResponse:
    page = _PAGE.format(version=version("fastapi-offline"))
    return HTMLResponse(page, headers=_headers(page, "connect-src 'self'; img-src 'self' data:"))


@router.get("/docs/errors")
async def show_errors() -> HTMLResponse:
    page = render_error_page()
    return HTMLResponse(page, headers=_headers(page))


def _headers(page: str, *more: str) -> dict[str, str]:
    """Allows the inline scripts of the page by their hashes, and no others."""
    scripts = " ".join(f"'sha256-{_sha256(script)}'" for script in _INLINE_SCRIPT.findall(page))
    return {
        "Content-Security-Policy": "; ".join((_POLICY, f"script-src 'self' {scripts}".rstrip(), *more)),
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@router.get("/docs/assets/{name}")
async def get_asset(request: Request, name: str) -> Response:
    """A file of Swagger UI. Compressing the script takes tenths of a second, once for each process, in a thread."""
    if name not in _MEDIA_TYPES:
        raise NotFound("There is no such file.")
    asset = await asyncio.to_thread(_asset, name)
    return asset.response(request)


@cache
def _asset(name: str) -> ConstantBody:
    contents = (files("fastapi_offline") / "static" / name).read_bytes()
    return ConstantBody(contents, media_type=_MEDIA_TYPES[name], cache_control=_CACHE_CONTROL)
