"""Clients from three generators and both documents submit, wait, read a transcript and get a 422, without edits."""

import shutil
from pathlib import Path

import httpx
import pytest

from tests.generated.commands import run
from tests.generated.conftest import TOOLS, Gateway, need, need_file

HERE = Path(__file__).parent
# For short programs: without optimisation the generator and the compiler take 5 s of processor time instead of 11.
BRIEF_JAVA = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
# Generated Java clients need it for forms; Maven would bring it.
HTTPMIME = Path("/usr/share/java/httpmime.jar")
DONE = "submitted, waited, read, refused"

DOCUMENTS = ["openapi.json", "openapi-3.0.json"]
documents = pytest.mark.parametrize("document", DOCUMENTS)


@documents
async def test_the_document_is_valid(gateway: Gateway, tmp_path: Path, document: str) -> None:
    validate = need("openapi-spec-validator")
    async with httpx.AsyncClient() as http:
        response = await http.get(f"{gateway.url}/{document}")
    (tmp_path / document).write_bytes(response.content)
    await run(validate, document, cwd=tmp_path)


@documents
async def test_a_python_client(gateway: Gateway, tmp_path: Path, document: str) -> None:
    generate = need("openapi-python-client")
    await run(
        *(generate, "generate", "--url", f"{gateway.url}/{document}", "--meta", "none", "--fail-on-warning"),
        *("--config", HERE / "python" / "config.yml", "--output-path", tmp_path / "asr_client"),
        cwd=tmp_path,
        PATH=str(TOOLS),  # the generator formats its output with ruff
    )
    output = await run(
        *(TOOLS / "python", HERE / "python" / "run.py", gateway.url, gateway.token), cwd=tmp_path, PYTHONPATH="."
    )
    assert DONE in output


async def test_a_typescript_client(gateway: Gateway, tmp_path: Path) -> None:
    node, npm = need("node"), need("npm")
    project = tmp_path / "client"
    shutil.copytree(HERE / "typescript", project, ignore=shutil.ignore_patterns("node_modules"))
    await run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", cwd=project)
    tools = project / "node_modules" / ".bin"
    for document in DOCUMENTS:  # in one test, because the installation takes longer than the rest
        await run(tools / "openapi-typescript", f"{gateway.url}/{document}", "-o", "api.d.ts", cwd=project)
        await run(tools / "tsc", "--strict", "--project", ".", cwd=project)
        assert DONE in await run(node, "run.js", gateway.url, gateway.token, cwd=project)


async def test_openais_node_client(gateway: Gateway, tmp_path: Path) -> None:
    node, npm = need("node"), need("npm")
    project = tmp_path / "client"
    shutil.copytree(HERE / "openai", project, ignore=shutil.ignore_patterns("node_modules"))
    await run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", cwd=project)
    (tmp_path / "call.wav").write_bytes(bytes(range(256)) * 1000)
    output = await run(node, "run.mjs", f"{gateway.url}/v1", gateway.token, tmp_path / "call.wav", cwd=project)
    assert "transcribed, streamed, refused" in output


@documents
async def test_a_java_client(gateway: Gateway, tmp_path: Path, document: str) -> None:
    java, javac, generate = need("java"), need("javac"), need("openapi-generator-cli")
    packages = "invokerPackage=asr,apiPackage=asr.api,modelPackage=asr.model"
    await run(
        *(generate, "generate", "-g", "java", "--library", "native", "-i", f"{gateway.url}/{document}", "-o", tmp_path),
        *("--additional-properties", f"{packages},openApiNullable=false"),
        cwd=tmp_path,
        **BRIEF_JAVA,
    )
    # The generator's jar includes Jackson, which its clients need.
    jar = next(TOOLS.parent.glob("lib/*/site-packages/openapi_generator_cli/openapi-generator.jar"))
    libraries = f"{jar}:{need_file(HTTPMIME, 'libhttpmime-java')}"
    sources = [*(tmp_path / "src" / "main").rglob("*.java"), *(HERE / "java").rglob("*.java")]
    await run(
        javac, "-nowarn", "-encoding", "UTF-8", "-cp", libraries, "-d", "classes", *sources, cwd=tmp_path, **BRIEF_JAVA
    )
    assert DONE in await run(java, "-cp", f"classes:{libraries}", "Run", gateway.url, gateway.token, cwd=tmp_path)
