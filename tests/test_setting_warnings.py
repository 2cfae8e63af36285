"""Warnings about settings that are valid but probably wrong, or dangerous."""

from pathlib import Path

import pytest

from app.setting_warnings import setting_warnings
from app.settings import load_settings

SAFE = {"api_token": "a" * 16, "admin_token": "b" * 16, "database_url": "postgresql://db/asr"}
KEY = {"dashscope_beijing_api_key": "sk-1"}


def warnings(settings: dict[str, str], **environ: str) -> list[str]:
    return list(setting_warnings(load_settings(settings), environ))


def test_safe_settings_have_no_warning() -> None:
    assert warnings(SAFE | KEY, PATH="/usr/bin", DASHSCOPE_BEIJING_API_KEY="sk-1") == []


def test_short_tokens_are_warned_about_without_their_value() -> None:
    found = warnings(SAFE | KEY | {"api_token": "test-token-0001", "admin_token": "12345678"})
    assert [line.split()[0] for line in found] == ["API_TOKEN", "ADMIN_TOKEN"]
    assert "12345678" not in "".join(found)


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("http://dashscope.aliyuncs.com/api/v1", False),
        ("http://8.8.8.8/api/v1", False),
        ("https://dashscope.aliyuncs.com/api/v1", True),
        ("http://127.0.0.1:9100/beijing/api/v1", True),
        ("http://[::1]:9100/api/v1", True),
        ("http://10.1.2.3/api/v1", True),
        ("http://sandbox:9100/beijing/api/v1", True),
        ("http://localhost:9100/api/v1", True),
        ("http://sandbox.asr.svc/api/v1", True),
    ],
)
def test_key_in_clear_is_warned_about(url: str, is_safe: bool) -> None:
    found = warnings(SAFE | KEY | {"dashscope_beijing_base_url": url, "dashscope_singapore_base_url": url})
    assert [line.split()[0] for line in found] == ([] if is_safe else ["DASHSCOPE_BEIJING_BASE_URL"])


def test_misspelt_variables_are_named_with_the_nearest_setting() -> None:
    found = warnings(SAFE | KEY, DASHSCOPE_BEIJNG_API_KEY="sk-2", DASHSCOPE_ZZZZZZZZZZZZ="1", POSTGRES_USER="asr")
    no_effect = "is not a setting of the gateway and has no effect"
    assert found == [
        f"DASHSCOPE_BEIJNG_API_KEY {no_effect}: did you mean DASHSCOPE_BEIJING_API_KEY?",
        f"DASHSCOPE_ZZZZZZZZZZZZ {no_effect}",
    ]


def test_misspelt_names_in_the_env_file_are_named(tmp_path: Path) -> None:
    lines = ("RETENTION_DAY=30", "POSTGRES_PASSWORD=x", "COMPOSE_PROFILES=sandbox", "log_level=info", "OTHER=1")
    path = tmp_path / ".env"  # in the working folder
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    assert [line.partition(" is not")[0] for line in warnings(SAFE | KEY)] == ["OTHER", "RETENTION_DAY"]
    assert warnings(SAFE | KEY)[1].endswith("did you mean RETENTION_DAYS?")
