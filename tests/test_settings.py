"""Settings: accepted values, error messages, and the documentation of every setting."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.settings import Settings, SettingsError, load_settings

ROOT = Path(__file__).resolve().parent.parent
NAMES = {name.upper() for name in Settings.model_fields}
SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PORT", "eighty", "got 'eighty', needs a whole number from 0 to 65535"),
        ("PORT", "65536", "got '65536', needs a whole number from 0 to 65535"),
        ("DATABASE_URL", f"mysql://asr:{SECRET}@db/asr", "got a URL that starts with mysql://, needs one that starts"),
        ("DATABASE_URL", f"{SECRET}:5432", "got a value that is not shown, needs a URL that starts with postgresql://"),
        ("DATABASE_URL", f"postgresql://asr:{SECRET}@db/asr?sslmode=bogus", "got sslmode=bogus, needs one of disable,"),
        (
            "DATABASE_URL",
            f"postgresql://asr:{SECRET}@[::1/asr",
            "got a value that is not shown, needs postgresql://user:",
        ),
        (
            "DATABASE_URL",
            f"postgresql://asr:{SECRET}@db:port/asr",
            "got a value that is not shown, needs postgresql://user:",
        ),
        (
            "DATABASE_URL",
            f"postgresql://asr:{SECRET}@one,two:65536/asr",
            "got a value that is not shown, needs postgresql://user:",
        ),
        (
            "DATABASE_URL",
            f"postgresql://asr:{SECRET}/a?b#c@db/asr",
            "got a value that is not shown, needs postgresql://user:",
        ),
        ("UPLOAD_STORE", "s3://[bucket", "got 's3://[bucket', needs s3://bucket/prefix or file:///folder"),
        ("CORS_ALLOWED_ORIGINS", "http://[::1", "got 'http://[::1', needs origins such as https://"),
        ("CORS_ALLOWED_ORIGINS", "http://a:b", "got 'http://a:b', needs origins such as https://"),
        ("GATEWAY_URL", "http://a.example/v1/", "got 'http://a.example/v1/', needs the URL without /v1 at its end,"),
        (
            "PUBLIC_URL",
            "http://a.example/api/v1",
            "got 'http://a.example/api/v1', needs the URL without /v1 at its end",
        ),
        ("RETENTION_DAYS", "30d", "got '30d', needs a whole number from 1 to 36500"),
        ("API_TOKEN", "seven77", "got a value that is not shown, needs at least 8 characters"),
        ("ADMIN_TOKEN", "a", "got a value that is not shown, needs at least 8 characters"),
        ("CORS_ALLOWED_ORIGINS", "app.example.com", "got 'app.example.com', needs origins such as https://"),
        ("CORS_ALLOWED_ORIGINS", "https://a.example/x", "got 'https://a.example/x', needs origins such as https://"),
        ("CORS_ALLOWED_ORIGINS", "*,https://a.example", "got '*,https://a.example', needs origins such as"),
        (
            "DASHSCOPE_BEIJING_API_KEY",
            f"a={SECRET},a={SECRET}",
            "got the account name 'a' twice",
        ),
        (
            "DASHSCOPE_BEIJING_API_KEY",
            f"{SECRET},b={SECRET}",
            "got a value that is not shown",
        ),
        ("DASHSCOPE_SINGAPORE_BASE_URL", "dashscope", "got 'dashscope', needs"),
        ("DASHSCOPE_BEIJING_QUERY_RPS", "0", "got '0', needs a number above 0, up to 1000"),
        (
            "DASHSCOPE_BEIJING_SUBMIT_RPS",
            "nan",
            "got 'nan', needs a number above 0, up to 1000",
        ),
        (
            "DASHSCOPE_SINGAPORE_MAX_FILES_PER_TASK",
            "101",
            "got '101', needs a whole number from 1 to 100",
        ),
        ("DEFAULT_REGION", "paris", "got 'paris', needs one of beijing, singapore"),
        ("WEBHOOK_ALLOWED_NETWORKS", "10.0.0.0/8,home", "got '10.0.0.0/8,home', needs networks such as"),
        ("WEBHOOK_ALLOWED_NETWORKS", "intranet", "got 'intranet', needs networks such as"),
        ("WEBHOOK_ALLOWED_NETWORKS", "10.0.0.1/8", "got '10.0.0.1/8', needs networks such as"),
        ("CLIENT_REQUESTS_PER_S", "0.5", "got '0.5', needs a whole number from 1 to 100000"),
        ("CLIENT_WAITING_FILES", "0", "got '0', needs"),
        ("DATABASE_POOL_SIZE", "1", "got '1', needs a whole number from 2 to 1000"),
        ("RETENTION_DAYS", "0", "got '0', needs"),
        ("LOG_LEVEL", "loud", "got 'loud', needs one of debug, info, warning, error"),
    ],
)
def test_an_invalid_value_is_reported_in_one_line(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert str(raised.value).startswith(f"{variable} {message}")
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)


def test_every_number_is_explained_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [
        name
        for name, field in Settings.model_fields.items()
        if field.annotation in {int, float, int | None, float | None}
    ]
    assert len(numbers) > 8
    for name in numbers:
        with monkeypatch.context() as patch:
            patch.setenv(name.upper(), "30d")
            with pytest.raises(SettingsError) as raised:
                load_settings()
        assert re.fullmatch(rf"{name.upper()} got '30d', needs a (whole )?number [a-z0-9, ]+", str(raised.value))


def test_equal_tokens_are_refused() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"api_token": SECRET, "admin_token": SECRET})
    assert str(raised.value) == "ADMIN_TOKEN got the value of API_TOKEN, needs another one"


def test_a_default_region_without_a_key_is_refused_when_the_other_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHSCOPE_BEIJING_API_KEY", SECRET)
    monkeypatch.setenv("DEFAULT_REGION", "singapore")
    with pytest.raises(SettingsError, match="DEFAULT_REGION got 'singapore', needs a region with a key: beijing"):
        load_settings()


def test_no_region_is_served_without_a_key() -> None:
    assert load_settings().served_regions == {}


def test_the_default_region_is_the_first_served_one() -> None:
    settings = load_settings(
        {"dashscope_beijing_api_key": "a", "dashscope_singapore_api_key": "b", "default_region": "singapore"}
    )
    assert list(settings.served_regions) == ["singapore", "beijing"]


def test_several_accounts_keep_their_names_and_order() -> None:
    settings = load_settings({"dashscope_beijing_api_key": "main=sk-1, spare=sk-2"})
    accounts = settings.served_regions["beijing"].accounts
    assert [(account.id, account.key.get_secret_value()) for account in accounts] == [
        ("beijing/main", "sk-1"),
        ("beijing/spare", "sk-2"),
    ]


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")
    assert load_settings() == Settings()


def test_an_env_file_that_is_not_utf_8_is_explained(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=9001\n", encoding="utf-16")
    with pytest.raises(SettingsError, match=r"^\.env is not UTF-8 text; save it as UTF-8$"):
        load_settings()


def test_an_env_file_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to("/proc/self/mem")  # fails for root too, unlike a file of mode 0
    with pytest.raises(SettingsError, match=r"^\.env cannot be read: Input/output error$"):
        load_settings()


@pytest.mark.parametrize("text", ["PORT=9001\r\nHOST=::1\r\n", "\ufeffPORT=9001\n", "export PORT='9001' # comment\n"])
def test_env_files_of_other_editors_and_shells_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_bytes(text.encode())
    assert load_settings().port == 9001


def test_the_environment_overrides_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=9001\nHOST=127.0.0.9\nUNKNOWN=1\n")
    monkeypatch.setenv("PORT", "9002")
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.9", 9002)


def test_settings_do_not_show_secrets() -> None:
    settings = load_settings(
        {
            "database_url": f"postgresql://asr:{SECRET}@db/asr",
            "api_token": SECRET,
            "admin_token": f"{SECRET}2",
            "dashscope_beijing_api_key": f"main={SECRET}",
        }
    )
    assert SECRET not in f"{settings!r} {settings} {settings.served_regions!r}"


def test_the_example_file_has_every_setting_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    written = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert sorted(written) == sorted(NAMES)
    example: Any = Settings(_env_file=ROOT / ".env.example")
    assert example == Settings()


def test_the_readme_has_every_setting_with_its_default() -> None:
    table = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \| .+ \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(name for name, _ in table) == sorted(NAMES)
    for name, described in table:
        default = Settings.model_fields[name.lower()].default
        if default not in {None, ()}:
            assert described.strip("`") == (f"./{default}" if isinstance(default, Path) else str(default)), name


def test_key_of_the_samples_is_the_one_of_beijing_if_that_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHSCOPE_API_KEY", SECRET)
    settings = load_settings()
    assert list(settings.served_regions) == ["beijing"]
    assert settings.served_regions["beijing"].accounts[0].key.get_secret_value() == SECRET
    assert (settings.key_variable("beijing"), settings.key_variable("singapore")) == (
        "DASHSCOPE_API_KEY",
        "DASHSCOPE_SINGAPORE_API_KEY",
    )
    monkeypatch.setenv("DASHSCOPE_BEIJING_API_KEY", "sk-own")
    settings = load_settings()
    assert settings.served_regions["beijing"].accounts[0].key.get_secret_value() == "sk-own"
    assert settings.key_variable("beijing") == "DASHSCOPE_BEIJING_API_KEY"


def test_error_of_a_wrong_key_names_the_variable_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHSCOPE_API_KEY", f"{SECRET},b={SECRET}")
    with pytest.raises(SettingsError, match=r"^DASHSCOPE_API_KEY got a value that is not shown, needs KEY") as raised:
        load_settings()
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///asr?host=/run/postgresql",
        "postgresql://%2Frun%2Fpostgresql/asr",
        f"postgresql://asr:{SECRET}%40%2F@one:5432,two,[::1]:5433/asr?target_session_attrs=read-write",
        f"postgres://asr:{SECRET}@[fe80::1%25eth0]/asr",
    ],
)
def test_all_forms_of_hosts_are_accepted(url: str) -> None:
    assert load_settings({"database_url": url}).database_url == SecretStr(url)
