"""`/docs` works without internet access."""

import base64
import gzip
import hashlib
import re
from urllib.parse import urljoin

import httpx
import pytest

from app.api.error_reference import FILE_ERRORS, HARMLESS, PROBLEMS, WAITING


async def test_docs_page_loads_no_external_resources(stranger: httpx.AsyncClient) -> None:
    page = await stranger.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text) + re.findall(r'url: "([^"]+)"', page.text)
    assert len(loaded) == 4
    for address in loaded:
        assert not re.match(r"https?:|//", address)
        assert (await stranger.get(urljoin("/docs", address))).status_code == 200
    assert "://" not in page.text


@pytest.mark.parametrize("path", ["/docs", "/docs/errors"])
async def test_pages_restrict_what_a_browser_may_do(stranger: httpx.AsyncClient, path: str) -> None:
    page = await stranger.get(path)
    policy = dict(rule.strip().partition(" ")[::2] for rule in page.headers["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["frame-ancestors"], policy["base-uri"]) == ("'none'",) * 3
    assert "unsafe" not in policy.get("script-src", "")
    for script in re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy["script-src"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_docs_page_does_not_keep_the_token(stranger: httpx.AsyncClient) -> None:
    assert "persistAuthorization" not in (await stranger.get("/docs")).text


@pytest.mark.parametrize("path", ["/openapi.json", "/openapi-3.0.json"])
async def test_document_has_an_etag_and_is_compressed(stranger: httpx.AsyncClient, path: str) -> None:
    plain = await stranger.get(path, headers={"Accept-Encoding": "identity"})
    compressed = await stranger.get(path, headers={"Accept-Encoding": "gzip"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert int(compressed.headers["content-length"]) < int(plain.headers["content-length"]) / 4
    assert compressed.json() == plain.json()
    assert compressed.headers["etag"] != plain.headers["etag"]
    again = await stranger.get(path, headers={"If-None-Match": compressed.headers["etag"]})
    assert (again.status_code, again.content, again.headers["vary"]) == (304, b"", "Accept-Encoding")


async def test_example_of_the_docs_page_is_accepted(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    for example in document["components"]["schemas"]["JobRequest"]["examples"]:
        response = await api.post("/v1/jobs", json=example)
        assert response.status_code == 202, response.text


async def test_root_leads_to_the_docs_page(stranger: httpx.AsyncClient) -> None:
    response = await stranger.get("/")
    # A relative address also works behind a proxy that adds a path prefix.
    assert (response.status_code, response.headers["location"]) == (307, "docs")


async def test_docs_page_follows_the_colour_scheme(stranger: httpx.AsyncClient) -> None:
    page = (await stranger.get("/docs")).text
    assert '<meta name="color-scheme" content="light dark">' in page
    style = (await stranger.get("/docs/assets/swagger-ui.css")).text
    # The page sets this class of Swagger UI's style sheet.
    assert '"dark-mode"' in page
    assert "html.dark-mode .swagger-ui" in style


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"])
async def test_assets_are_compressed_and_cached(stranger: httpx.AsyncClient, name: str) -> None:
    plain = await stranger.get(f"/docs/assets/{name}", headers={"Accept-Encoding": "identity"})
    async with stranger.stream("GET", f"/docs/assets/{name}", headers={"Accept-Encoding": "gzip"}) as response:
        sent = b"".join([piece async for piece in response.aiter_raw()])
    if name != "favicon.png":
        assert len(sent) < len(plain.content) / 2
        assert response.headers["content-encoding"] == "gzip"
        assert response.headers["etag"] != plain.headers["etag"]
        assert gzip.decompress(sent) == plain.content
    assert "immutable" in response.headers["cache-control"]
    again = {"If-None-Match": response.headers["etag"], "Accept-Encoding": "gzip"}
    assert (await stranger.get(f"/docs/assets/{name}", headers=again)).status_code == 304


async def test_other_files_of_the_wheel_are_not_served(stranger: httpx.AsyncClient) -> None:
    for name in ("redoc.standalone.js", "..%2f__init__.py", "none"):
        assert (await stranger.get(f"/docs/assets/{name}")).status_code == 404


async def test_errors_page_has_a_row_for_every_code(stranger: httpx.AsyncClient) -> None:
    page = (await stranger.get("/docs/errors")).text
    rows = re.findall(r'<tr id="([^"]+)"><td><code>(\w+)</code></td>(.*)</tr>', page)
    assert len({anchor for anchor, _, _ in rows}) == len(rows)
    assert {code for anchor, code, _ in rows if anchor == code} == set(PROBLEMS)
    assert {code for anchor, code, _ in rows if anchor == f"waiting-{code}"} == set(WAITING)
    assert {code for anchor, code, _ in rows if anchor == f"file-{code}"} == set(FILE_ERRORS) | set(HARMLESS)
    assert "Wait for <code>Retry-After</code>" in page
    assert 'data-title="retryable">depends<' in page


async def test_errors_page_fits_a_phone_and_the_colour_scheme(stranger: httpx.AsyncClient) -> None:
    page = (await stranger.get("/docs/errors")).text
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "color-scheme: light dark" in page


async def test_problem_type_links_to_its_explanation(stranger: httpx.AsyncClient) -> None:
    problem = (await stranger.get("/v1/models")).json()
    path, _, anchor = problem["type"].partition("#")
    assert f'id="{anchor}"' in (await stranger.get(path)).text


async def test_assets_of_the_docs_page_allow_only_get(stranger: httpx.AsyncClient) -> None:
    response = await stranger.post("/docs/assets/swagger-ui.css")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
