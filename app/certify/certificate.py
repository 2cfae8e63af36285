"""The results of the last run, in a file of DATA_DIR. `doctor` shows them. They change nothing in the gateway."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

FILE_NAME = "certified.json"
NEVER = "never certified"


class CertifiedCheck(msgspec.Struct, frozen=True):
    """The result of one check of the run."""

    name: str
    severity: str
    verdict: str
    seen: str


class Certificate(msgspec.Struct, frozen=True):
    """The run of one region. `base_url` tells a run against the sandbox from one against DashScope."""

    account: str
    base_url: str
    at: datetime
    version: str
    checks: list[CertifiedCheck]

    @property
    def differing(self) -> list[str]:
        return [check.name for check in self.checks if check.verdict == "differs"]

    @property
    def costs_correctness(self) -> bool:
        return any(check.verdict == "differs" and check.severity == "correctness" for check in self.checks)


def read_certificates(data_dir: Path) -> dict[str, Certificate]:
    """The last certificate of each region. Empty if there is none, or the file cannot be read."""
    try:
        return msgspec.json.decode((data_dir / FILE_NAME).read_bytes(), type=dict[str, Certificate])
    except (OSError, msgspec.DecodeError):
        return {}


def write_certificate(
    data_dir: Path, region: str, *, account: str, base_url: str, version: str, checks: Sequence[CertifiedCheck]
) -> None:
    """Replace the region's certificate, and keep those of other regions. Raises OSError."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate = Certificate(account, base_url, datetime.now(UTC), version, list(checks))
    certificates = read_certificates(data_dir) | {region: certificate}
    temporary = data_dir / f".{FILE_NAME}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(certificates)))
    temporary.replace(data_dir / FILE_NAME)


def summary(certificate: Certificate | None, base_url: str) -> str:
    """One line: `certified 2026-11-28: 2 differ (list_lag, retry_after)`."""
    if certificate is None or certificate.base_url != base_url:
        return NEVER
    differing = certificate.differing
    names = f" ({', '.join(differing)})" if differing else ""
    return f"certified {certificate.at:%F}: {len(differing) or 'none'} differ{names}"
