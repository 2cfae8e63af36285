"""Locks, image, compose file, make targets and documents agree with the code."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from app import __version__
from app.catalogue import REGIONS
from app.sandbox import SandboxConfig
from app.sandbox.config import API_PORT
from app.setting_warnings import MIN_SAFE_TOKEN_CHARS
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SETTINGS = {name.upper() for name in Settings.model_fields}
SET_BY_THE_IMAGE = {"DATA_DIR", "HOST", "PORT"}


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["version"] == __version__
    assert f"ARG VERSION={__version__}\n" in (ROOT / "Dockerfile").read_text()
    assert f"## [{__version__}] - " in (ROOT / "CHANGELOG.md").read_text()


def test_the_image_builds_with_older_docker_and_podman() -> None:
    """Docker before 25 and podman before 5 refuse a Dockerfile with --start-interval."""
    health_check = re.search(r"^HEALTHCHECK (.*)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert health_check
    assert "--start-interval" not in health_check[1]


def test_every_dependency_is_locked_and_development_uses_the_same_versions() -> None:
    runtime, development = _locked("requirements.lock"), _locked("requirements-dev.lock")
    assert _names(PROJECT["project"]["dependencies"]) <= runtime.keys()
    assert _names(PROJECT["dependency-groups"]["dev"]) <= development.keys()
    assert runtime.items() <= development.items()
    assert _names(PROJECT["dependency-groups"]["check"]) <= _locked("requirements-check.lock").keys()


def test_every_locked_package_has_hashes() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock", "requirements-check.lock"):
        entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text())
        assert all("--hash=sha256:" in entry for entry in entries if entry), lock


def test_compose_passes_every_setting() -> None:
    for role in ("migrate", "api", "poller"):
        assert COMPOSE["services"][role]["environment"].keys() == SETTINGS - SET_BY_THE_IMAGE


def test_every_permanent_service_of_compose_has_a_health_check() -> None:
    image = (ROOT / "Dockerfile").read_text()
    assert "HEALTHCHECK" in image
    for name, service in COMPOSE["services"].items():
        assert name == "migrate" or "healthcheck" in service or "build" in service, name


def test_the_sandbox_of_compose_gets_sandbox_keys_and_no_settings() -> None:
    lines = (ROOT / "sandbox.env").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert values["COMPOSE_PROFILES"] in COMPOSE["services"]["sandbox"]["profiles"]
    assert COMPOSE["services"]["sandbox"]["environment"] == {}
    for region in REGIONS:
        assert values[f"DASHSCOPE_{region.upper()}_API_KEY"] in SandboxConfig().keys[region]
        assert values[f"DASHSCOPE_{region.upper()}_BASE_URL"] == f"http://sandbox:{API_PORT}/{region}/api/v1"
    assert values.keys() <= SETTINGS | {"COMPOSE_PROFILES", "POSTGRES_PASSWORD"}
    assert min(len(values[name]) for name in ("API_TOKEN", "POSTGRES_PASSWORD")) >= MIN_SAFE_TOKEN_CHARS
    (probe,) = [part for part in COMPOSE["services"]["sandbox"]["healthcheck"]["test"] if "/control/" in part]
    assert f"http://127.0.0.1:{API_PORT}/control/stats" in probe


def test_every_service_of_compose_is_hardened() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "pids_limit", "tmpfs"} <= service.keys(), name
        options = service["logging"]["options"]
        assert (options["mode"], options["max-size"], options["max-file"]) == ("non-blocking", "20m", "5"), name


def test_compose_has_no_default_password_and_its_variables_are_documented() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"\$\{POSTGRES_PASSWORD(..)", compose)) == {":?"}
    example = (ROOT / ".env.example").read_text()
    for variable in set(re.findall(r"\$\{([A-Z_]+)", compose)):
        assert re.search(rf"^(?:# )?{variable}=", example, re.MULTILINE), variable


def test_the_image_copies_existing_paths_of_the_build_context() -> None:
    seen = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(copied) == seen
    assert all((ROOT / path).exists() for path in copied)


def test_make_lists_every_target() -> None:
    command = ["/usr/bin/env", "make", "-C", str(ROOT), "--no-print-directory"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    assert {line.split()[0] for line in listed.splitlines()} == set(targets[1].split())


def test_the_ci_script_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_links_between_documents_exist() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!https?://|#|/)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def _locked(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in requirements}
