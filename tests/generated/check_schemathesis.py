"""schemathesis over the whole document: every operation, all checks, valid and invalid requests.

The examples are fixed, so that the same code has the same result. schemathesis.toml gives the reason of each exception.
"""

import re
from pathlib import Path
from typing import Any

import httpx

from tests.generated.commands import run
from tests.generated.conftest import Gateway, need
from tests.webhooks.receiver import receiver

HERE = Path(__file__).parent
SAMPLE = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"
MAX_EXAMPLES = "50"
_SUCCESSES = re.compile(r'asr_gateway_http_requests_total\{method="(\w+)",route="([^"]+)",status="2\d\d"\}')


async def test_each_call_conforms_to_the_document(gateway: Gateway, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text("".join((HERE / name).read_text() for name in ("schemathesis.toml", "schemathesis-ids.toml")))
    headers = {"Authorization": f"Bearer {gateway.token}"}
    async with receiver() as hook, httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=70) as http:
        ids = await resources(http, gateway, hook.url())
        before = await successes(http)
        await schemathesis(gateway, config, phases="examples,coverage,fuzzing", **ids)
        paths = (await http.get("/openapi.json")).json()["paths"].items()
        reached = {call for call, count in (await successes(http)).items() if count > before.get(call, 0)}
    # An operation that responds only with 401 or 404 is not checked.
    assert {(method.upper(), path) for path, methods in paths for method in methods} - reached == set()


async def test_sequences_of_calls_conform_to_the_document(gateway: Gateway) -> None:
    await schemathesis(gateway, HERE / "schemathesis.toml", phases="stateful")


async def schemathesis(gateway: Gateway, config: Path, *, phases: str, **ids: str) -> None:
    await run(
        *(need("schemathesis"), "--config-file", config, "run", f"{gateway.url}/openapi.json", "--phases", phases),
        *("--max-examples", MAX_EXAMPLES, "--continue-on-failure", "--no-color"),
        cwd=Path.cwd(),
        API_TOKEN=gateway.token,
        ADMIN_TOKEN=gateway.admin_token,
        **ids,
    )


async def resources(http: httpx.AsyncClient, gateway: Gateway, hook: str) -> dict[str, str]:
    """The ids that schemathesis-ids.toml names, of new resources."""
    done, dropped, deleted = [await job(http, hook) for _ in range(3)]
    deliveries = (await http.get(f"/v1/jobs/{done['id']}/deliveries")).json()["items"]
    admin = {"Authorization": f"Bearer {gateway.admin_token}"}
    client = (await http.post("/v1/clients", json={"name": "dropped"}, headers=admin)).json()
    return {
        "JOB_ID": done["id"],
        "TRANSCRIPT_ID": done["files"][0]["transcript_id"],
        "DELIVERY_ID": deliveries[0]["id"],
        "DROPPED_TRANSCRIPT_ID": dropped["files"][0]["transcript_id"],
        "DROPPED_JOB_ID": deleted["id"],
        "FAILED_JOB_ID": (await job(http, hook, "?sandbox=fail:DECODE_ERROR"))["id"],
        "RUNNING_JOB_ID": (await job(http, hook, "?sandbox=run:600", wait_s=0))["id"],
        "DROPPED_CLIENT_ID": client["id"],
        "UPLOAD_ID": await upload(http),
        "DROPPED_UPLOAD_ID": await upload(http),
        "VOCABULARY_ID": await vocabulary(http),
        "DROPPED_VOCABULARY_ID": await vocabulary(http),
    }


async def upload(http: httpx.AsyncClient) -> str:
    return str((await http.post("/v1/uploads", files={"file": ("check.wav", b"RIFF")})).json()["id"])


async def vocabulary(http: httpx.AsyncClient) -> str:
    words = {"target_model": "fun-asr", "prefix": "check", "vocabulary": [{"text": "word", "weight": 4}]}
    return str((await http.post("/v1/vocabularies", json=words)).json()["id"])


async def job(http: httpx.AsyncClient, hook: str, directive: str = "", *, wait_s: int = 60) -> dict[str, Any]:
    body = {"file_urls": [SAMPLE + directive], "webhook_url": hook}
    created: dict[str, Any] = (await http.post("/v1/jobs", params={"wait": wait_s}, json=body)).json()
    return created


async def successes(http: httpx.AsyncClient) -> dict[tuple[str, str], float]:
    """The number of 2xx responses by method and path."""
    lines = (await http.get("/metrics")).text.splitlines()
    found = ((_SUCCESSES.match(line), line.rpartition(" ")[2]) for line in lines)
    return {(match[1], match[2]): float(count) for match, count in found if match}
