"""Settings: precedence, and one clear line for every way to get them wrong."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest
from pydantic import ValidationError

from meterbridge.errors import ConfigurationError
from meterbridge.settings import Settings, load_settings

DOCUMENTS = runpy.run_path(str(Path(__file__).with_name("settings_reference.py")))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("METERBRIDGE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(text: str) -> Path:
    file = Path("meterbridge.toml")
    file.write_text(text, encoding="utf-8")
    return file


def failure(path: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_need_neither_file_nor_variable() -> None:
    settings = load_settings()
    assert settings.database.url == "sqlite+aiosqlite:///data/admin.db"
    assert (settings.api.host, settings.api.port) == ("127.0.0.1", 5001)
    assert settings.polling.period_s == 1.0


def test_variable_wins_over_file_and_file_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[polling]\nperiod_s = 5\nsilence_s = 300")
    monkeypatch.setenv("METERBRIDGE_POLLING__PERIOD_S", "2.5")
    polling = load_settings().polling
    assert (polling.period_s, polling.silence_s, polling.hdlc_errors) == (2.5, 300.0, 15)


def test_named_file_wins_over_the_one_in_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write("[api]\nport = 1")
    other = tmp_path / "other.toml"
    other.write_text("[api]\nport = 2", encoding="utf-8")
    monkeypatch.setenv("METERBRIDGE_CONFIG", str(other))
    assert load_settings().api.port == 2
    assert load_settings(Path("meterbridge.toml")).api.port == 1


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERBRIDGE_API__PORT", "")
    assert load_settings().api.port == 5001


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.api.port = 1
    with pytest.raises(ValidationError):
        settings.api = settings.api


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[polling]\nperiod_s = "fast"', "polling.period_s = 'fast': must be a number, 0.05 to 86400"),
        ("[polling]\nperiod_s = nan", "polling.period_s = nan: must be a number, 0.05 to 86400"),
        ("[polling]\nperiod = 1", "unknown key polling.period; keys of [polling] are period_s, "),
        ("[poling]\nperiod_s = 1", "unknown section [poling]; sections are database, "),
        ("polling = 1", "polling must be a section, [polling] on a line of its own"),
        ("[polling", "not valid TOML: "),
        ("[api]\nport = 65536", "api.port = 65536: must be a whole number, 1 to 65535"),
        ("[mqtt]\nprotocol = 4", "mqtt.protocol = 4: must be one of 3.1.1, 5"),
        ('[mqtt]\ntls_cert = "c.pem"', "[mqtt] tls_cert and tls_key must be set together"),
        ("[polling]\nbackoff_max_s = 0.5", "[polling] backoff_max_s must not be below backoff_initial_s"),
        ('[log]\nlevel = "loud"', "log.level = 'loud': must be one of debug, info, warning, error"),
    ],
)
def test_bad_file_is_one_line_naming_file_key_value_and_what_is_allowed(text: str, expected: str) -> None:
    file = write(text)
    assert failure().startswith(f"{file}: {expected}")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("METERBRIDGE_API__PORT", "http", "METERBRIDGE_API__PORT = 'http': must be a whole number, 1 to 65535"),
        ("METERBRIDGE_API_PORT", "1", "METERBRIDGE_API_PORT is not a setting"),
        ("METERBRIDGE_API__PROT", "1", "METERBRIDGE_API__PROT is not a setting; "),
        ("METERBRIDGE_API", "{}", "METERBRIDGE_API is not a setting"),
    ],
)
def test_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    monkeypatch.setenv(name, value)
    assert failure().startswith(f"environment: {expected}")


def test_missing_named_file_is_an_error() -> None:
    assert failure(Path("nowhere.toml")) == "nowhere.toml: cannot be read: No such file or directory"


def test_file_that_is_not_text_is_an_error() -> None:
    Path("meterbridge.toml").write_bytes(b"\xff\xfe")
    assert failure() == "meterbridge.toml: not UTF-8 text"


@pytest.mark.parametrize(
    "text",
    [
        '[mqtt]\npassword = "hunter2"',
        '[mqtt]\nusername = "u"\npassword = ["hunter2"]',
        '[database]\nurl = "mysql://root:hunter2@db/x"',
        '[database]\nurl = ["hunter2"]',
    ],
)
def test_secrets_are_never_in_a_message(text: str) -> None:
    write(text)
    assert "hunter2" not in failure()


def test_secrets_are_never_in_a_repr() -> None:
    write('[mqtt]\nusername = "u"\npassword = "hunter2"\n[database]\nurl = "postgresql+asyncpg://m:hunter2@db/m"')
    settings = load_settings()
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings)


def test_every_setting_has_a_description() -> None:
    for section, model in DOCUMENTS["sections"]():
        assert model.__doc__, section
        for key, field in model.model_fields.items():
            assert field.description, f"{section}.{key}"


def test_reference_is_what_the_model_says() -> None:
    assert DOCUMENTS["REFERENCE"].read_text(encoding="utf-8") == DOCUMENTS["reference"]()


def test_example_is_what_the_model_says_and_loads_to_the_defaults() -> None:
    assert DOCUMENTS["EXAMPLE"].read_text(encoding="utf-8") == DOCUMENTS["example"]()
    assert load_settings(DOCUMENTS["EXAMPLE"]) == Settings()
