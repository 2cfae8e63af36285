"""A stand-in for DashScope's recorded-file speech recognition: demo, tests, benchmarks, users' own integration tests.

`python -m app sandbox` serves it; `create_sandbox()` gives two ASGI apps, `running_sandbox()` two ports.
Both regions are served, `/beijing/api/v1` (key `sk-sandbox-beijing`) and `/singapore/api/v1` (`sk-sandbox-singapore`),
with results on an origin of their own. Any file URL is "transcribed" without being fetched: invented speech, the same
for the same URL; the vendor's own sample recordings give exactly the documented results.

A file's URL says what becomes of it, several wishes joined by commas: `https://example.com/a.wav?sandbox=run:5,silent`

| wish | effect |
| --- | --- |
| `fail:CODE` | the file fails with this code |
| `fail_once:CODE` | it fails the first time it is submitted and succeeds afterwards |
| `silent` | it fails with SUCCESS_WITH_NO_VALID_FRAGMENT, as audio without speech does |
| `refuse` | the whole submit is refused with 400 InvalidParameter |
| `queue:S`, `run:S` | its task stays PENDING, then RUNNING, for S seconds |
| `seconds:S` | the audio lasts S seconds |
| `words:N` | the result has N words |

`/control` on the API's origin, for tests of real processes: `GET` and `PUT /control/faults` (`app.sandbox.faults`),
`POST /control/clock` `{"advance_s": 90000}`, `GET /control/stats` (calls, 429s, duplicate transcriptions, leaked
Authorization headers), `GET /control/submits`.

Temporary tokens and hot-word lists work too; temporary uploads do not, but any `oss://` URL is accepted.
"""

from app.sandbox.app import Sandbox, SandboxTransport, create_sandbox
from app.sandbox.config import SandboxConfig
from app.sandbox.faults import Faults
from app.sandbox.server import RunningSandbox, running_sandbox, serve_sandbox

__all__ = [
    "Faults",
    "RunningSandbox",
    "Sandbox",
    "SandboxConfig",
    "SandboxTransport",
    "create_sandbox",
    "running_sandbox",
    "serve_sandbox",
]
