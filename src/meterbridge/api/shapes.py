"""What the API takes; what it gives is built as plain dictionaries, a thousand meters at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from meterbridge.errors import ConfigurationError
from meterbridge.fleet import MeterTest, WorkerStatus
from meterbridge.model import Meter, MeterId, Reading
from meterbridge.store import Alarm, MeterState
from meterbridge.store.rows import check_meter

MeterPath = Annotated[int, Path(alias="id", ge=1, le=2**31 - 1, description="the meter's id", examples=[1])]


class MeterChange(BaseModel):
    """What can be set of a meter; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "Main", "ip_address": "192.0.2.10", "model": "microstar"}]},
    )

    name: str | None = Field(default=None, min_length=1, max_length=100)
    ip_address: str | None = Field(default=None, min_length=1, max_length=255)
    port: int | None = Field(default=None, ge=1, le=65_535)
    client_id: int | None = Field(default=None, ge=1, le=65_535, description="client SAP")
    server_id: int | None = Field(default=None, ge=0, le=65_535)
    password: SecretStr | None = Field(default=None, max_length=50)
    status: str | None = Field(default=None, description="active or inactive")
    model: str | None = Field(default=None, min_length=1, max_length=50)
    framing: str | None = Field(default=None, description="hdlc or wrapper")
    physical: int | None = Field(default=None, ge=0, le=16_383)
    tb_enabled: bool | None = None
    tb_host: str | None = Field(default=None, min_length=1, max_length=100)
    tb_port: int | None = Field(default=None, ge=1, le=65_535)
    tb_token: SecretStr | None = Field(default=None, max_length=100)
    tb_device_name: str | None = Field(default=None, min_length=1, max_length=100)
    relay_allowed: bool | None = Field(default=None, description="whether ThingsBoard may switch its relay")
    authentication: str | None = Field(
        default=None, description="none, low, hls-md5, hls-sha1, hls-gmac, hls-sha256 or hls-ecdsa"
    )
    hls_secret: SecretStr | None = Field(default=None, max_length=64)
    system_title: str | None = Field(default=None, description="our own, 16 hex digits")
    meter_system_title: str | None = Field(default=None, description="the meter's, 16 hex digits")
    block_cipher_key: SecretStr | None = Field(default=None, max_length=64, description="EK, hex digits")
    authentication_key: SecretStr | None = Field(default=None, max_length=64, description="AK, hex digits")
    security_suite: int | None = Field(default=None, ge=0, le=2)
    security_policy: str | None = Field(default=None, description="none, authenticated, encrypted or both")
    general_ciphering: bool | None = None
    dedicated_key: bool | None = Field(default=None, description="whether each association has a key of its own")
    general_key: str | None = Field(
        default=None, description="of general-ciphering: none, identified, wrapped, one-pass or static-unified"
    )
    master_key: SecretStr | None = Field(default=None, max_length=64, description="KEK, hex digits")
    signed: bool | None = Field(default=None, description="whether every APDU is signed")
    signing_key: SecretStr | None = Field(default=None, max_length=10_000, description="our private key, PEM")
    meter_signing_key: str | None = Field(
        default=None, max_length=10_000, description="the meter's public key or certificate, PEM"
    )
    agreement_key: SecretStr | None = Field(default=None, max_length=10_000, description="our private key, PEM")
    meter_agreement_key: str | None = Field(
        default=None, max_length=10_000, description="the meter's public key or certificate, PEM"
    )
    counter_object: str | None = Field(default=None, max_length=32, description="OBIS code of the invocation counter")
    referencing: str | None = Field(default=None, description="ln or sn")

    def given(self) -> dict[str, Any]:
        """Return the values that were given, secrets in the clear."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values.items()
        }

    def applied_to(self, meter: Meter) -> Meter:
        """Return the meter with these values.

        Raises:
            ConfigurationError: a value is not allowed.
        """
        changed = replace(meter, **self.given())
        check_meter(changed)
        return changed

    def made(self) -> Meter:
        """Return a new meter with these values.

        Raises:
            ConfigurationError: name or address is missing, or a value is not allowed.
        """
        given = self.given()
        for column in ("name", "ip_address"):
            if given.get(column) is None:
                raise ConfigurationError(f"{column} is needed")
        meter = Meter(id=MeterId(0), **given)
        check_meter(meter)
        return meter


def meter_shape(meter: Meter, state: MeterState | None, status: WorkerStatus | None) -> dict[str, Any]:
    """A meter for the API: no secrets, only whether there are any."""
    return {
        "id": meter.id,
        "name": meter.name,
        "ip_address": meter.ip_address,
        "port": meter.port,
        "client_id": meter.client_id,
        "server_id": meter.server_id,
        "physical": meter.physical,
        "framing": meter.framing,
        "model": meter.model,
        "status": meter.status,
        "has_password": bool(meter.password),
        "tb_enabled": meter.tb_enabled,
        "tb_host": meter.tb_host,
        "tb_port": meter.tb_port,
        "has_tb_token": meter.tb_token is not None,
        "tb_device_name": meter.tb_device_name,
        "relay_allowed": meter.relay_allowed,
        "authentication": meter.authentication,
        "has_hls_secret": meter.hls_secret is not None,
        "system_title": meter.system_title,
        "meter_system_title": meter.meter_system_title,
        "has_block_cipher_key": meter.block_cipher_key is not None,
        "has_authentication_key": meter.authentication_key is not None,
        "security_suite": meter.security_suite,
        "security_policy": meter.security_policy,
        "general_ciphering": meter.general_ciphering,
        "dedicated_key": meter.dedicated_key,
        "general_key": meter.general_key,
        "has_master_key": meter.master_key is not None,
        "signed": meter.signed,
        "has_signing_key": meter.signing_key is not None,
        "has_meter_signing_key": meter.meter_signing_key is not None,
        "has_agreement_key": meter.agreement_key is not None,
        "has_meter_agreement_key": meter.meter_agreement_key is not None,
        "counter_object": meter.counter_object,
        "referencing": meter.referencing,
        "last_seen": state.last_seen if state else None,
        "last_error": state.last_error if state else None,
        "error_count": state.error_count if state else 0,
        "run_state": str(status.state) if status else None,
        "link": status.link if status else None,
        "troubles": list(status.troubles) if status else [],
    }


def counters_shape(status: WorkerStatus) -> dict[str, Any]:
    """What was done for a meter since the service started."""
    counters = status.counters
    return {
        "due": counters.due,
        "polls": counters.polls,
        "successes": counters.successes,
        "failures": counters.failures,
        "skipped": counters.skipped,
        "reconnections": counters.reconnections,
        "hdlc_errors": counters.link_errors,
        "last_latency_ms": round(counters.last_latency * 1000, 1),
        "last_error": counters.last_error or None,
        "crashes": status.crashes,
    }


def reading_shape(reading: Reading) -> dict[str, Any]:
    """A reading: values with units, and why the rest is missing."""
    return {
        "meter": reading.meter,
        "ts": reading.ts,
        "values": {name: {"value": plain(q.value), "unit": q.unit} for name, q in reading.values.items()},
        "errors": dict(reading.errors),
    }


def test_shape(result: MeterTest) -> dict[str, Any]:
    """Outcome of a test."""
    return {
        "meter": result.meter,
        "ok": result.ok,
        "connected": result.connected,
        "latency_ms": None if result.latency is None else round(result.latency * 1000, 1),
        "firmware_version": result.firmware_version,
        "values": {name: {"value": plain(q.value), "unit": q.unit} for name, q in result.values.items()},
        "errors": result.errors,
        "error": result.error,
    }


def alarm_shape(alarm: Alarm) -> dict[str, Any]:
    """An alarm."""
    return {
        "id": alarm.id,
        "meter": alarm.meter,
        "type": alarm.type,
        "severity": alarm.severity,
        "message": alarm.message,
        "created_at": alarm.created_at,
        "resolved_at": alarm.resolved_at,
        "acknowledged_at": alarm.acknowledged_at,
        "acknowledged_by": alarm.acknowledged_by,
    }


def plain(value: object) -> object:
    """A value as JSON can hold it; what it cannot is written as text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
