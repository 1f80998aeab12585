"""One validated, frozen object with every setting, from `meterbridge.toml` and METERBRIDGE_* variables.

A variable is the section, two underscores and the key: `METERBRIDGE_POLLING__PERIOD_S=5` is `period_s` of
`[polling]`. Variables win over the file, the file over the defaults. Relative paths count from the working directory.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from meterbridge.errors import ConfigurationError

PREFIX = "METERBRIDGE_"
CONFIG_VARIABLE = "METERBRIDGE_CONFIG"
DEFAULT_FILE = Path("meterbridge.toml")

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Octets = Annotated[int, Field(ge=65_536, le=1_099_511_627_776)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Bound = Annotated[float, Field(ge=0, le=1_000_000_000, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Limit = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(_Section):
    """Where meters, metrics and alarms are kept."""

    url: str = Field(
        default="sqlite+aiosqlite:///data/admin.db",
        repr=False,
        description="SQLAlchemy URL: sqlite+aiosqlite:///PATH or postgresql+asyncpg://USER:PASSWORD@HOST/NAME.",
    )

    key_file: Path = Field(
        default=Path("data/secrets.key"),
        description="Keys that encrypt passwords and tokens, made when missing; "
        "the systemd credential meterbridge.key goes before it.",
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if url.partition("://")[0] not in {"sqlite", "sqlite+aiosqlite", "postgresql", "postgresql+asyncpg"}:
            raise ValueError("must begin with sqlite+aiosqlite:/// or postgresql+asyncpg://")
        return url


class OutboxSettings(_Section):
    """The durable queue between meters and MQTT. What exceeds a bound is dropped oldest first, counted and alarmed."""

    path: Path = Field(default=Path("data/outbox.db"), description="SQLite file of the queue.")
    max_rows: Count = Field(default=5_000_000, description="Messages kept at most.")
    max_octets: Octets = Field(default=2_147_483_648, description="Size of the queue at most, in octets.")
    max_age_days: Days = Field(default=30.0, description="Age of a message at most, in days.")
    commit_interval_ms: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100, description="Readings are committed to disk together this often, in milliseconds."
    )


class PollingSettings(_Section):
    """How meters are polled and when a link is given up, paused or forced."""

    period_s: Annotated[float, Field(ge=0.05, le=86_400, allow_inf_nan=False)] = Field(
        default=1.0, description="One poll of each meter this often, in seconds."
    )
    response_timeout_floor_s: Seconds = Field(
        default=6.0, description="Shortest wait for an answer, in seconds; slow meters pause 4.5 s in bursts."
    )
    response_timeout_ceiling_s: Seconds = Field(default=30.0, description="Longest wait for an answer, in seconds.")
    connect_timeout_s: Seconds = Field(default=5.0, description="Longest wait for a TCP connection, in seconds.")
    backoff_initial_s: Seconds = Field(default=1.0, description="Delay before the first reconnection, in seconds.")
    backoff_max_s: Seconds = Field(default=60.0, description="Longest delay between reconnections, in seconds.")
    breaker_reconnections: Count = Field(
        default=10, description="More reconnections than this within the window open the circuit breaker."
    )
    breaker_window_s: Seconds = Field(default=3_600.0, description="Window of the circuit breaker, in seconds.")
    breaker_pause_s: Seconds = Field(default=300.0, description="Pause when the circuit breaker opens, in seconds.")
    silence_s: Seconds = Field(
        default=600.0, description="Time without a reading after which a reconnection is forced, in seconds."
    )
    hdlc_errors: Count = Field(
        default=15, description="Consecutive HDLC errors after which the stream is cleaned and resynchronised."
    )
    connections_per_s: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = Field(
        default=100.0, description="TCP connections started at most, all meters together, per second."
    )
    max_connections: Count = Field(default=5_000, description="TCP connections open at most, all meters together.")
    inactivity_timeout_s: Seconds = Field(
        default=120.0, description="Idle time after which the meter is taken to have closed its link, in seconds."
    )

    hang_s: Seconds = Field(
        default=300.0, description="Time after which a poll that does not end is broken off and restarted, in seconds."
    )
    object_retry_max_s: Seconds = Field(
        default=3_600.0, description="Longest time between two requests for an object that keeps failing, in seconds."
    )
    authentication_retry_s: Seconds = Field(
        default=300.0,
        description="Wait after a meter refused password or keys, in seconds; doubles each time: attempts lock meters.",
    )
    authentication_retry_max_s: Seconds = Field(
        default=21_600.0, description="Longest wait between two attempts with a refused password, in seconds."
    )
    alarm_after: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=3, description="Failures in a row that raise the alarm connection_loss."
    )
    meters: Mapping[str, Mapping[str, float]] = Field(
        default={}, description='Settings of this section for one meter, by its name: [polling.meters."NAME"].'
    )

    def for_meter(self, name: str) -> PollingSettings:
        """Return what holds for one meter: this section with its own settings laid over."""
        own = self.meters.get(name)
        return self if own is None else PollingSettings.model_validate(_laid_over(self, own))

    @model_validator(mode="after")
    def _own_settings(self) -> PollingSettings:
        for name, own in self.meters.items():
            shared = sorted(set(own) & _SHARED_BY_METERS)
            if shared:
                raise ValueError(f"{shared[0]} is for all meters together, not for {name!r}")
            try:
                PollingSettings.model_validate(_laid_over(self, own))
            except ValidationError as error:
                first = error.errors()[0]
                what = ".".join(str(part) for part in first["loc"])
                raise ValueError(f"meters.{name}: {what}: {first['msg'].removeprefix('Value error, ')}") from None
        return self

    @model_validator(mode="after")
    def _in_order(self) -> PollingSettings:
        if self.response_timeout_ceiling_s < self.response_timeout_floor_s:
            raise ValueError("response_timeout_ceiling_s must not be below response_timeout_floor_s")
        if self.backoff_max_s < self.backoff_initial_s:
            raise ValueError("backoff_max_s must not be below backoff_initial_s")
        if self.authentication_retry_max_s < self.authentication_retry_s:
            raise ValueError("authentication_retry_max_s must not be below authentication_retry_s")
        return self


_SHARED_BY_METERS = {"connections_per_s", "max_connections", "meters"}


def _laid_over(section: PollingSettings, own: Mapping[str, float]) -> dict[str, Any]:
    return {**section.model_dump(exclude={"meters"}), **own}


class MqttSettings(_Section):
    """The MQTT side. Host, port and token belong to each meter, in the database."""

    client_id_prefix: Annotated[str, Field(min_length=1, max_length=40)] = Field(
        default="meterbridge", description="Client identifiers are this, a dash and what tells clients apart."
    )
    protocol: Annotated[Literal["3.1.1", "5"], BeforeValidator(lambda v: "5" if v == 5 else v)] = Field(
        default="3.1.1", description="MQTT version."
    )
    username: str | None = Field(default=None, description="User name at a broker that asks for one.")
    password: SecretStr | None = Field(default=None, description="Password at a broker that asks for one.")
    tls_ca: Path | None = Field(default=None, description="PEM file of trusted authorities; setting it turns TLS on.")
    tls_cert: Path | None = Field(default=None, description="PEM file of the client certificate.")
    tls_key: Path | None = Field(default=None, description="PEM file of the client certificate's key.")
    keepalive_s: Annotated[int, Field(ge=5, le=65_535)] = Field(
        default=60, description="MQTT keep-alive interval, in seconds."
    )
    max_inflight: Annotated[int, Field(ge=1, le=65_535)] = Field(
        default=100, description="Messages waiting for their PUBACK at most, per connection."
    )
    backoff_initial_s: Seconds = Field(default=1.0, description="Delay before the first reconnection, in seconds.")
    backoff_max_s: Seconds = Field(default=60.0, description="Longest delay between reconnections, in seconds.")

    @model_validator(mode="after")
    def _consistent(self) -> MqttSettings:
        if self.backoff_max_s < self.backoff_initial_s:
            raise ValueError("backoff_max_s must not be below backoff_initial_s")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key must be set together")
        if self.tls_cert is not None and self.tls_ca is None:
            raise ValueError("tls_cert needs tls_ca")
        if self.password is not None and self.username is None:
            raise ValueError("password needs username")
        return self


class DeliverySettings(_Section):
    """How readings reach ThingsBoard. A meter with a tb_token of its own always has its own connection."""

    route: Literal["broker", "gateway"] | None = Field(
        default=None,
        description="Route of meters without tb_token: through a broker, or ThingsBoard's gateway API; "
        "unless given, the gateway API for those that `thingsboard provision` sends there, a broker for the others.",
    )
    gateway_token: SecretStr | None = Field(
        default=None,
        description="Access token of the gateway device, for the route gateway; "
        "unless given the one that `thingsboard provision` fetched.",
    )
    device_type: Annotated[str, Field(min_length=1, max_length=255)] = Field(
        default="dlms-meter", description="Device profile that the route gateway announces."
    )
    backlog_rows_per_s: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = Field(
        default=2_000.0, description="Rows of a backlog sent at most, per route and second; live readings go first."
    )
    ack_timeout_s: Seconds = Field(
        default=30.0, description="Longest wait for a PUBACK, in seconds; then the connection is made anew."
    )
    refusals: Annotated[int, Field(ge=2, le=1_000)] = Field(
        default=5, description="Refusals, or closed connections (5 at least), that put a message into quarantine."
    )
    route_down_after_s: Seconds = Field(
        default=60.0, description="Time without connection that raises the alarm route_down, in seconds."
    )
    backlog_alarm_s: Seconds = Field(
        default=900.0, description="Age of the oldest undelivered reading that raises an alarm, in seconds."
    )


class HistorySettings(_Section):
    """What meters kept while they could not be read: their load profiles are read back after an outage."""

    enabled: bool = Field(default=True, description="Whether holes are read back by themselves.")
    gap_s: Seconds = Field(default=300.0, description="Time without a reading that makes a hole, in seconds.")
    max_age_days: Days = Field(default=30.0, description="Age of a hole that is still read back, in days.")
    chunk_s: Seconds = Field(
        default=14_400.0, description="Time that one piece spans at most, in seconds; one piece between two polls."
    )
    settle_s: Seconds = Field(
        default=60.0, description="Time a hole rests before it is read, in seconds: meters close their rows late."
    )
    pieces_per_s: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = Field(
        default=50.0, description="Pieces read at most, all meters together, per second."
    )
    time_zone: str | None = Field(
        default=None,
        description="Zone of meters whose times tell no deviation, such as Europe/Berlin; this machine's unless given.",
    )
    clock_check_s: Seconds = Field(
        default=3_600.0, description="Time between two looks at a meter's clock, in seconds; also after each connect."
    )
    clock_drift_s: Seconds = Field(
        default=60.0, description="Distance from our clock that raises the alarm clock_drift, in seconds."
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                ZoneInfo(name)
            except (ValueError, OSError, ZoneInfoNotFoundError):
                raise ValueError("must be a zone of the IANA database, such as Europe/Berlin") from None
        return name

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone, None for this machine's."""
        return None if self.time_zone is None else ZoneInfo(self.time_zone)


class RpcSettings(_Section):
    """What ThingsBoard may ask of meters: server-side RPC and shared attributes."""

    enabled: bool = Field(default=True, description="Whether servers are asked for RPCs and shared attributes.")
    timeout_s: Annotated[float, Field(ge=0.5, le=600, allow_inf_nan=False)] = Field(
        default=8.0, description="Time within which each RPC is answered, in seconds; less than ThingsBoard's own 10."
    )
    waiting: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=8, description="RPCs that may wait for one meter; more are refused."
    )
    allow_relay: bool = Field(
        default=False, description="Whether setRelay is done at all, for meters that have relay_allowed."
    )
    poll_interval_min_s: Annotated[float, Field(ge=0.05, le=86_400, allow_inf_nan=False)] = Field(
        default=1.0, description="Shortest pollInterval that is taken from ThingsBoard, in seconds."
    )


class ThingsBoardSettings(_Section):
    """What `meterbridge thingsboard` makes of a ThingsBoard server; a limit of 0 leaves its alarm rule out."""

    gateway_name: Name = Field(
        default="Meterbridge", description="Name of the gateway device, to which all meters are related."
    )
    service_name: Annotated[str, Field(max_length=100)] = Field(
        default="Meterbridge service",
        description="Name of the device that shows the alarms of the installation; empty for none.",
    )
    dashboard_title: Name = Field(default="Electricity meters", description="Title of the dashboard.")
    under_voltage_v: Limit = Field(default=207.0, description="Voltage below which an alarm opens, in volts.")
    over_voltage_v: Limit = Field(default=253.0, description="Voltage above which an alarm opens, in volts.")
    under_frequency_hz: Limit = Field(default=49.0, description="Frequency below which an alarm opens, in hertz.")
    over_frequency_hz: Limit = Field(default=51.0, description="Frequency above which an alarm opens, in hertz.")
    no_data_minutes: Annotated[int, Field(ge=0, le=525_600)] = Field(
        default=10, description="Time without anything from a meter after which an alarm opens, in minutes."
    )
    energy_settle_s: Seconds = Field(
        default=3_600.0,
        description="Time after which the alarm energy_backwards takes a counter's new value as right, in seconds.",
    )
    request_timeout_s: Seconds = Field(
        default=30.0, description="Longest wait for an answer of ThingsBoard, in seconds."
    )
    request_retry_s: Seconds = Field(
        default=0.5, description="Wait before a request is made again, in seconds; it doubles from one to the next."
    )
    seen_timeout_s: Seconds = Field(
        default=60.0, description="Longest wait for a reading that was sent to appear in ThingsBoard, in seconds."
    )
    tls_ca: Path | None = Field(
        default=None, description="PEM file of authorities that vouch for the server's https certificate."
    )

    @model_validator(mode="after")
    def _in_order(self) -> ThingsBoardSettings:
        for low, high in (("under_voltage_v", "over_voltage_v"), ("under_frequency_hz", "over_frequency_hz")):
            if 0 < getattr(self, high) <= getattr(self, low):
                raise ValueError(f"{high} must be above {low}")
        return self


class MonitorSettings(_Section):
    """The status report and the metrics it stores."""

    interval_s: Seconds = Field(default=60.0, description="A report and a row per meter this often, in seconds.")
    retention_days: Days = Field(
        default=90.0, description="Age at which stored metrics and resolved alarms are deleted, in days."
    )


class ApiSettings(_Section):
    """The REST API."""

    host: Annotated[str, Field(min_length=1, max_length=255)] = Field(
        default="127.0.0.1", description="Address to listen on."
    )
    port: Port = Field(default=5001, description="TCP port to listen on.")
    tls_cert: Path | None = Field(default=None, description="PEM file of the server's certificate chain.")
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key.")
    behind_proxy: bool = Field(
        default=False, description="A proxy ends TLS in front of it: lets it listen beyond this machine without."
    )
    max_body_octets: Annotated[int, Field(ge=1_024, le=16_777_216)] = Field(
        default=65_536, description="Size of a request's body at most, in octets."
    )
    requests_per_s: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = Field(
        default=50.0, description="Requests of one client answered at most, per second; twice as many in a burst."
    )

    @model_validator(mode="after")
    def _tls_whole(self) -> ApiSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key must be set together")
        return self


class LogSettings(_Section):
    """The log: JSON lines on standard output and in a rotated file."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severity logged.")
    file: Path = Field(default=Path("logs/meterbridge.log"), description="Log file.")
    rotate_octets: Octets = Field(default=10_485_760, description="Size at which the file is rotated, in octets.")
    rotate_age_days: Days = Field(default=7.0, description="Age of its first line at which it is rotated, in days.")
    rotate_files: Annotated[int, Field(ge=1, le=1_000)] = Field(default=10, description="Rotated files kept.")


class NetworkSettings(_Section):
    """The network monitor."""

    ping_interval_s: Seconds = Field(default=10.0, description="One ping of each meter this often, in seconds.")
    ping_timeout_s: Seconds = Field(default=2.0, description="Longest wait for an answer to a ping, in seconds.")
    outage_after: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=3, description="Pings unanswered in a row that make an outage."
    )


class TargetsSettings(_Section):
    """What `meterbridge qos` and `meterbridge plan` hold the installation against."""

    window_minutes: Annotated[int, Field(ge=1, le=10_080)] = Field(
        default=15, description="Time over which metrics are judged, in minutes."
    )
    success_rate_warning: Percent = Field(default=99.0, description="Least rate of polls that give a reading, percent.")
    success_rate_critical: Percent = Field(default=90.0, description="The same, below which it is critical, percent.")
    mqtt_rate_warning: Percent = Field(default=99.0, description="Least rate of readings acknowledged, percent.")
    mqtt_rate_critical: Percent = Field(default=90.0, description="The same, below which it is critical, percent.")
    reachable_warning: Percent = Field(default=100.0, description="Least share of meters that can be reached, percent.")
    reachable_critical: Percent = Field(default=90.0, description="The same, below which it is critical, percent.")
    latency_warning_ms: Bound = Field(default=2_000.0, description="Longest mean time of an answer, in milliseconds.")
    latency_critical_ms: Bound = Field(default=6_000.0, description="The same, above which it is critical.")
    loss_warning: Percent = Field(default=5.0, description="Most pings lost, percent of those sent to a meter.")
    loss_critical: Percent = Field(default=50.0, description="The same, above which it is critical, percent.")
    reconnections_warning: Bound = Field(default=5.0, description="Most reconnections of a meter per hour.")
    reconnections_critical: Bound = Field(default=20.0, description="The same, above which it is critical.")
    hdlc_errors_warning: Bound = Field(default=20.0, description="Most damaged frames of a meter per hour.")
    hdlc_errors_critical: Bound = Field(default=200.0, description="The same, above which it is critical.")
    backlog_warning_s: Bound = Field(default=300.0, description="Age of the oldest undelivered reading, in seconds.")
    backlog_critical_s: Bound = Field(default=3_600.0, description="The same, above which it is critical, in seconds.")
    disk_free_warning: Percent = Field(default=10.0, description="Least free space where data and log lie, percent.")
    disk_free_critical: Percent = Field(default=3.0, description="The same, below which it is critical, percent.")

    @model_validator(mode="after")
    def _in_order(self) -> TargetsSettings:
        for name in ("success_rate", "mqtt_rate", "reachable", "disk_free"):
            if getattr(self, f"{name}_critical") > getattr(self, f"{name}_warning"):
                raise ValueError(f"{name}_critical must not be above {name}_warning")
        for name, unit in (
            ("latency", "_ms"),
            ("loss", ""),
            ("reconnections", ""),
            ("hdlc_errors", ""),
            ("backlog", "_s"),
        ):
            if getattr(self, f"{name}_critical{unit}") < getattr(self, f"{name}_warning{unit}"):
                raise ValueError(f"{name}_critical{unit} must not be below {name}_warning{unit}")
        return self


class Settings(BaseSettings):
    """Every setting, validated; made by `load_settings` and passed on in parts, never whole."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    outbox: OutboxSettings = Field(default_factory=OutboxSettings)
    polling: PollingSettings = Field(default_factory=PollingSettings)
    mqtt: MqttSettings = Field(default_factory=MqttSettings)
    delivery: DeliverySettings = Field(default_factory=DeliverySettings)
    history: HistorySettings = Field(default_factory=HistorySettings)
    rpc: RpcSettings = Field(default_factory=RpcSettings)
    thingsboard: ThingsBoardSettings = Field(default_factory=ThingsBoardSettings)
    monitor: MonitorSettings = Field(default_factory=MonitorSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    targets: TargetsSettings = Field(default_factory=TargetsSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let variables win over what the file gave."""
        return env_settings, init_settings


def load_settings(path: Path | None = None) -> Settings:
    """Read and validate the settings.

    Args:
        path: configuration file; None takes METERBRIDGE_CONFIG, else `./meterbridge.toml` where there is one.

    Returns:
        The settings; defaults for whatever neither file nor environment sets.

    Raises:
        ConfigurationError: a file that cannot be read, an unknown key or a bad value, in one line that names where,
            what was given (never of a secret) and what is allowed.
    """
    file = _find_file(path)
    given = _read_file(file) if file is not None else {}
    _check_variables(os.environ)
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(_explain(error.errors()[0], file, given)) from None


def section_model(name: str) -> type[BaseModel] | None:
    """Return the model of a section, None for an unknown one."""
    field = Settings.model_fields.get(name)
    annotation = field.annotation if field is not None else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def allowed(field: FieldInfo) -> str:
    """Say in a few words which values a setting takes, e.g. `a whole number, 1 to 65535`."""
    annotation, constraints = _unwrap(field.annotation, list(field.metadata))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    kinds: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}
    words = "tables" if get_origin(annotation) is Mapping else kinds.get(annotation, "text")
    low = next((str(c.ge) for c in constraints if isinstance(c, Ge)), None)
    above = next((str(c.gt) for c in constraints if isinstance(c, Gt)), None)
    high = next((str(c.le) for c in constraints if isinstance(c, Le)), None)
    if above is not None:
        words += f" above {above}"
    if low is not None and high is not None:
        words += f", {low} to {high}"
    elif high is not None:
        words += f", at most {high}"
    shortest = next((c.min_length for c in constraints if isinstance(c, MinLen)), None)
    longest = next((c.max_length for c in constraints if isinstance(c, MaxLen)), None)
    if longest is not None:
        words += f", {shortest or 0} to {longest} characters"
    return words


def _unwrap(annotation: Any, constraints: list[Any]) -> tuple[Any, list[Any]]:
    """Take `Annotated[X, ...]` and `X | None` apart into X and its constraints."""
    options = [option for option in get_args(annotation) if option is not type(None)]
    if type(None) in get_args(annotation):
        return _unwrap(options[0], constraints)
    if get_origin(annotation) is Annotated:
        return _unwrap(options[0], constraints + options[1:])
    return annotation, constraints


def _find_file(path: Path | None) -> Path | None:
    if path is not None:
        return path
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: not valid TOML: {error}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None


def _check_variables(environment: Mapping[str, str]) -> None:
    """Refuse METERBRIDGE_* variables that set nothing: a misspelt one must not be silently ignored."""
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX) or name.upper() == CONFIG_VARIABLE:
            continue
        section, separator, key = name.upper().removeprefix(PREFIX).lower().partition("__")
        model = section_model(section)
        if model is None or not separator or key not in model.model_fields:
            raise ConfigurationError(
                f"environment: {name} is not a setting; a setting's variable is {PREFIX}<SECTION>__<KEY>, "
                + (_keys(section, model) if model is not None else _sections())
            )


def _explain(error: ErrorDetails, file: Path | None, given: Mapping[str, Any]) -> str:
    """One line: where, key, value (unless secret), what is allowed."""
    location = [str(part) for part in error["loc"]]
    section = location[0] if location else ""
    key = location[1] if len(location) > 1 else None
    model = section_model(section)
    origin = str(file) if file is not None else "settings"
    if model is None:
        return f"{origin}: unknown section [{section}]; " + _sections()
    if key is None:
        # Either the section is no table, or its keys contradict each other.
        if not isinstance(given.get(section, {}), dict):
            return f"{origin}: {section} must be a section, [{section}] on a line of its own"
        variables = sorted(name for name in os.environ if name.upper().startswith(f"{PREFIX}{section}__".upper()))
        origins = ([origin] if file is not None and section in given else []) + variables
        return f"{', '.join(origins) or origin}: [{section}] {error['msg'].removeprefix('Value error, ')}"
    field = model.model_fields.get(key)
    if field is None:
        return f"{origin}: unknown key {section}.{key}; " + _keys(section, model)
    variable = next((name for name in os.environ if name.upper() == f"{PREFIX}{section}__{key}".upper()), None)
    if variable is not None and os.environ[variable]:
        where, value = f"environment: {variable}", repr(os.environ[variable])
    else:
        where, value = f"{origin}: {section}.{key}", repr(given[section][key])
    secret = not field.repr or SecretStr in (field.annotation, *get_args(field.annotation))
    shown = "" if secret else f" = {value if len(value) <= 80 else value[:77] + '...'}"
    own = error["msg"].removeprefix("Value error, ") if error["type"] == "value_error" else f"must be {allowed(field)}"
    return f"{where}{shown}: {own}"


def _sections() -> str:
    return "sections are " + ", ".join(Settings.model_fields)


def _keys(section: str, model: type[BaseModel]) -> str:
    return f"keys of [{section}] are " + ", ".join(model.model_fields)
