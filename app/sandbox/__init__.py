"""A simulator of DashScope's recorded-file speech recognition, for demos, tests and benchmarks.

`python -m app sandbox` serves it. `create_sandbox()` returns two ASGI apps, and `running_sandbox()` serves two ports.
The API has both regions, `/beijing/api/v1` (key `sk-sandbox-beijing`) and `/singapore/api/v1` (`sk-sandbox-singapore`).
Result files have an origin of their own. Files are not fetched. The result is invented speech, always the same for the
same URL, except for the vendor's sample recordings, which give the documented results.

The query of a file's URL controls its outcome, with directives separated by commas:
`https://example.com/a.wav?sandbox=run:5,silent`

| directive | effect |
| --- | --- |
| `fail:CODE` | the file fails with this code |
| `fail_once:CODE` | the file fails at its first submit and succeeds afterwards |
| `silent` | the file fails with SUCCESS_WITH_NO_VALID_FRAGMENT, like audio without speech |
| `refuse` | the whole submit is refused with 400 InvalidParameter |
| `deny` | the whole submit is refused with 403 AccessDenied, as for an account without a grant |
| `queue:S`, `run:S` | the task stays PENDING, then RUNNING, for S seconds |
| `seconds:S` | the audio lasts S seconds |
| `words:N` | the result has N words |

`/control` on the API's origin serves tests of real processes: `GET` and `PUT /control/faults` (`app.sandbox.faults`),
`POST /control/clock` with `{"advance_s": 90000}`, `GET /control/stats` (calls, 429s, duplicate transcriptions, leaked
Authorization headers) and `GET /control/submits`.

Temporary tokens, hot-word lists and temporary uploads work. An `oss://` URL from elsewhere is accepted.
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
