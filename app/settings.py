"""The gateway's settings: one frozen model, built by the commands and passed down, never read at import."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.catalogue import REGIONS, RegionName

_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEY = re.compile(r"[\x21-\x7e]{1,512}")
_URL_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}(?=://)", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9.-]{1,253})(?::[0-9]{1,5})?", re.IGNORECASE)
# One host of DATABASE_URL: a name, an address or a percent-encoded folder of a socket, and an optional port.
_DATABASE_HOST = re.compile(r"(?:\[[0-9A-Za-z:.%_-]+\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
MIN_TOKEN_CHARS = 8
_SECRETS = {
    "API_TOKEN",
    "ADMIN_TOKEN",
    "DATABASE_URL",
    "DASHSCOPE_API_KEY",
    "DASHSCOPE_BEIJING_API_KEY",
    "DASHSCOPE_SINGAPORE_API_KEY",
}


class SettingsError(Exception):
    """An invalid setting. The message is one line with the variable, its value and the values it accepts."""


@dataclass(frozen=True, slots=True)
class Account:
    """An API key of one Alibaba main account in one region. Each account has its own rate budgets."""

    region: RegionName
    name: str
    key: SecretStr

    @property
    def id(self) -> str:
        """The account's name in the database, logs and metrics: `beijing/default`."""
        return f"{self.region}/{self.name}"


@dataclass(frozen=True, slots=True)
class Region:
    """A deployment of DashScope that the gateway uses. Rates are calls per second and account."""

    name: RegionName
    base_url: str
    accounts: tuple[Account, ...]
    query_rps: float
    submit_rps: float | None
    max_files_per_task: int | None


class Settings(BaseSettings):
    """Environment variables, or a `.env` file in the working directory. An empty value counts as unset."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = None
    # All connections of one process. `serve` needs at least one each for the API and the poller.
    database_pool_size: int = Field(10, ge=2, le=1000)
    data_dir: Path = Path("./data")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_token: SecretStr | None = None
    admin_token: SecretStr | None = None
    # The name in DashScope's samples: the key of Beijing if `dashscope_beijing_api_key` is unset.
    dashscope_api_key: SecretStr | None = None
    dashscope_beijing_api_key: SecretStr | None = None
    dashscope_singapore_api_key: SecretStr | None = None
    dashscope_beijing_base_url: str = "https://dashscope.aliyuncs.com/api/v1"
    dashscope_singapore_base_url: str = "https://dashscope-intl.aliyuncs.com/api/v1"
    dashscope_beijing_query_rps: float = Field(20, gt=0, le=1000, allow_inf_nan=False)
    dashscope_singapore_query_rps: float = Field(20, gt=0, le=1000, allow_inf_nan=False)
    dashscope_beijing_submit_rps: float | None = Field(None, gt=0, le=1000, allow_inf_nan=False)
    dashscope_singapore_submit_rps: float | None = Field(None, gt=0, le=1000, allow_inf_nan=False)
    dashscope_beijing_max_files_per_task: int | None = Field(None, ge=1, le=100)
    dashscope_singapore_max_files_per_task: int | None = Field(None, ge=1, le=100)
    default_region: RegionName | None = None
    webhook_allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    cors_allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    client_requests_per_s: int | None = Field(None, ge=1, le=100_000)
    client_waiting_files: int | None = Field(None, ge=1, le=10_000_000)
    # The speech in a file of a client with a budget, while no file of the client with this model has ended.
    budget_assumed_seconds: int = Field(300, ge=1, le=86_400)
    # Where uploads are kept: s3://bucket/prefix or file:///folder. Unset: in DashScope's temporary storage.
    upload_store: str | None = None
    upload_retention_days: int = Field(7, ge=1, le=36500)
    # The address under which clients and DashScope reach the gateway. Needed for an upload store in a folder. Links to
    # results in DashScope's protocol begin with it.
    public_url: str | None = None
    # The gateway that `transcribe` talks to, with `api_token`.
    gateway_url: str | None = None
    retention_days: int | None = Field(None, ge=1, le=36500)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("webhook_allowed_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            raise ValueError("needs networks such as 10.20.0.0/16,fd00::/8 with no host bits set") from None

    @field_validator("cors_allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        origins = tuple(part.strip().rstrip("/") for part in value.split(",") if part.strip())
        if origins != ("*",) and not all(_ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError("needs origins such as https://app.example.com,https://other.example:8443, or * alone")
        return origins

    @field_validator("api_token", "admin_token")
    @classmethod
    def _check_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MIN_TOKEN_CHARS:
            raise ValueError(f"needs at least {MIN_TOKEN_CHARS} characters, better 16 or more random ones")
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        """Names the part of the URL that is wrong. The rest may be a password."""
        if value is None:
            return value
        url = value.get_secret_value()
        scheme = _URL_SCHEME.match(url)
        if scheme is None:
            raise ValueError("needs a URL that starts with postgresql://")
        if scheme[0].lower() not in {"postgresql", "postgres"}:
            raise ValueError(f"got a URL that starts with {scheme[0]}://, needs one that starts with postgresql://")
        # An unescaped character of the password may end the part with the hosts early.
        hosts = re.split("[/?#]", url[scheme.end() + len("://") :], maxsplit=1)[0].rpartition("@")[2].split(",")
        found = [_DATABASE_HOST.fullmatch(host) for host in hosts]
        if any(match is None or int(match[1] or 0) > 65535 for match in found):
            raise ValueError(
                "needs postgresql://user:password@host:port/name, with special characters of the password"
                " percent-encoded"
            )
        modes = parse_qs(urlsplit(url).query).get("sslmode", [])
        if unknown := [mode for mode in modes if mode not in _SSL_MODES]:
            raise ValueError(f"got sslmode={unknown[0][:32]}, needs one of {', '.join(_SSL_MODES)}")
        return value

    @field_validator("dashscope_beijing_base_url", "dashscope_singapore_base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        return _check_http_url(value, "https://dashscope.aliyuncs.com/api/v1")

    @field_validator("upload_store")
    @classmethod
    def _check_upload_store(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
        except ValueError:
            raise ValueError("needs s3://bucket/prefix or file:///folder") from None
        is_bucket = parts.scheme == "s3" and parts.netloc
        is_folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
        if not (is_bucket or is_folder) or parts.query or parts.fragment:
            raise ValueError("needs s3://bucket/prefix or file:///folder")
        return value.rstrip("/")

    @field_validator("public_url", "gateway_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        url = value if value is None else _check_http_url(value, "https://asr.example.com")
        if url is not None and url.endswith("/v1"):  # the base URL of OpenAI's and DashScope's clients
            raise ValueError("needs the URL without /v1 at its end, such as https://asr.example.com")
        return url

    @model_validator(mode="after")
    def _check_upload_settings(self) -> "Settings":
        if self.upload_store is not None and self.upload_store.startswith("file:") and self.public_url is None:
            raise ValueError(
                "PUBLIC_URL is not set, needs the URL under which DashScope reaches this gateway, because UPLOAD_STORE"
                " is a folder"
            )
        return self

    @model_validator(mode="after")
    def _check_tokens_differ(self) -> "Settings":
        if self.admin_token is not None and self.admin_token == self.api_token:
            raise ValueError("ADMIN_TOKEN got the value of API_TOKEN, needs another one")
        return self

    @model_validator(mode="after")
    def _check_keys(self) -> "Settings":
        for region in REGIONS:
            self._accounts(region)
        served = self.served_regions
        if self.default_region is not None and served and self.default_region not in served:
            raise ValueError(
                f"DEFAULT_REGION got {self.default_region!r}, needs a region with a key: {', '.join(served)}"
            )
        return self

    @cached_property
    def served_regions(self) -> dict[RegionName, Region]:
        """The regions that have a key, the default region first."""
        names = sorted(REGIONS, key=lambda name: name != self.default_region)
        return {name: self._region(name) for name in names if self._accounts(name)}

    def _region(self, name: RegionName) -> Region:
        return Region(
            name=name,
            base_url=self.base_url(name),
            accounts=self._accounts(name),
            query_rps=getattr(self, f"dashscope_{name}_query_rps"),
            submit_rps=getattr(self, f"dashscope_{name}_submit_rps"),
            max_files_per_task=getattr(self, f"dashscope_{name}_max_files_per_task"),
        )

    def base_url(self, region: RegionName) -> str:
        """The address of DashScope's API in a region, also in one that has no key."""
        url: str = getattr(self, f"dashscope_{region}_base_url")
        return url

    @property
    def account_ids(self) -> list[str]:
        """The accounts that have a key: `beijing/default`."""
        return [account.id for region in self.served_regions.values() for account in region.accounts]

    def key_variable(self, region: RegionName) -> str:
        """The name of the variable with the region's keys."""
        if region == "beijing" and self.dashscope_beijing_api_key is None and self.dashscope_api_key is not None:
            return "DASHSCOPE_API_KEY"
        return f"DASHSCOPE_{region.upper()}_API_KEY"

    def _accounts(self, region: RegionName) -> tuple[Account, ...]:
        variable = self.key_variable(region)
        secret: SecretStr | None = getattr(self, variable.lower())
        if secret is None:
            return ()
        return tuple(_parse_accounts(region, secret.get_secret_value(), variable))


def _check_http_url(value: str, example: str) -> str:
    """The URL without a slash at its end. Raises ValueError."""
    try:
        parts = urlsplit(value)
        port_fits = parts.port != 0
    except ValueError:
        port_fits = False
    if not port_fits or parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError(f"needs an http or https URL such as {example}")
    if parts.query or parts.fragment:
        raise ValueError(f"needs a URL without ? and #, such as {example}")
    return value.rstrip("/")


def load_settings(env: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings; `env` overrides single fields by their lower-case name. Raises SettingsError."""
    try:
        return Settings(**(env or {}))
    except ValidationError as error:
        raise SettingsError(_message(error)) from None
    except UnicodeDecodeError:  # PowerShell writes UTF-16
        raise SettingsError(".env is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f".env cannot be read: {error.strerror}") from error


def _parse_accounts(region: RegionName, value: str, variable: str) -> list[Account]:
    accounts: dict[str, Account] = {}
    for part in value.split(","):
        name, has_name, key = part.strip().rpartition("=") if "=" in value else ("default", "", part.strip())
        if not _ACCOUNT_NAME.fullmatch(name) or not _KEY.fullmatch(key) or ("," in value and not has_name):
            raise ValueError(f"{variable} got a value that is not shown, needs KEY or name=KEY,name2=KEY2")
        if name in accounts:
            raise ValueError(f"{variable} got the account name {name!r} twice, needs a different name for each account")
        accounts[name] = Account(region, name, SecretStr(key))
    return list(accounts.values())


def _message(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    field = str(first["loc"][0])
    value = "a value that is not shown" if field.upper() in _SECRETS else repr(first["input"])
    if message.startswith("got "):
        return f"{field.upper()} {message}"
    need = message if first["type"] == "value_error" else f"needs {_expected(field) or message}"
    return f"{field.upper()} got {value}, {need}"


def _expected(field: str) -> str | None:
    """The range or the choices of a field, from its JSON schema. None for fields that have neither."""
    schema = Settings.model_json_schema()["properties"][field]
    schema = schema.get("anyOf", [schema])[0]
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if "maximum" not in schema:
        return None
    if schema["type"] == "integer":
        return f"a whole number from {schema['minimum']} to {schema['maximum']}"
    return f"a number above {schema['exclusiveMinimum']:g}, up to {schema['maximum']:g}"
