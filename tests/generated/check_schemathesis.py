"""schemathesis over the whole document: every operation, all checks, requests that are right and requests that are not.

With fixed examples, so that the same code has the same result. What is left out says why: schemathesis.toml.
"""

from pathlib import Path

import httpx

from tests.generated.commands import run
from tests.generated.conftest import Gateway, need

CONFIG = Path(__file__).parent / "schemathesis.toml"
SAMPLE = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"
MAX_EXAMPLES = "50"


async def test_the_gateway_does_what_its_document_says(gateway: Gateway, tmp_path: Path) -> None:
    schemathesis = need("schemathesis")
    headers = {"Authorization": f"Bearer {gateway.token}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=70) as http:
        answer = await http.post("/v1/jobs", params={"wait": 60}, json={"file_urls": [SAMPLE]})
    await run(
        *(schemathesis, "--config-file", CONFIG, "run", f"{gateway.url}/openapi.json"),
        *("--max-examples", MAX_EXAMPLES, "--continue-on-failure", "--no-color"),
        cwd=tmp_path,
        API_TOKEN=gateway.token,
        ADMIN_TOKEN=gateway.admin_token,
        TRANSCRIPT_ID=answer.json()["files"][0]["transcript_id"],
    )
