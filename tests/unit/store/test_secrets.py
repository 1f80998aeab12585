"""Secrets at rest: what the file and the database show, keys that change, go away or are not ours."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.errors import ConfigurationError
from meterbridge.model import Meter, MeterId
from meterbridge.store import KeySource, MeterRepository, Vault, key_source, rotate
from meterbridge.store.secrets import is_encrypted
from tests.unit.store.conftest import Sql

SECRETS = ("0f-a-meter", "0123" * 8, "4567" * 8, "0f1e" * 8)
METER = Meter(MeterId(0), "Main", "192.0.2.10", password="pa55-w0rd", tb_token="t0ken-of-it")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "secrets.key"


@pytest.fixture
def vault(keys: Path) -> Vault:
    return Vault(KeySource(keys, writable=True))


@pytest.fixture
def meters(engine: AsyncEngine, vault: Vault) -> MeterRepository:
    return MeterRepository(engine, vault)


async def stored(sql: Sql) -> tuple[str, str | None]:
    [(password, token)] = await sql("SELECT password, tb_token FROM meters")
    return password, token


def lose(keys: Path) -> None:
    keys.unlink()


def content(keys: Path) -> str:
    return keys.read_text()


@given(st.text(max_size=100))
def test_text_comes_back_and_never_looks_the_same(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    vault = Vault(KeySource(tmp_path_factory.getbasetemp() / "shared.key", writable=True))
    first, second = vault.encrypt(text, "password"), vault.encrypt(text, "password")
    assert first != second
    assert is_encrypted(first)
    assert vault.decrypt(first, "password") == vault.decrypt(second, "password") == text


def test_the_key_is_made_when_first_needed_and_is_nobody_elses(keys: Path, vault: Vault) -> None:
    assert vault.decrypt("plain", "password") == "plain"
    assert not keys.exists()
    vault.encrypt("x", "password")
    assert keys.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in keys.parent.iterdir()] == [keys.name]


def test_what_is_derived_stays_the_same_differs_by_purpose_and_gives_no_key_away(keys: Path, vault: Vault) -> None:
    with pytest.raises(ConfigurationError, match="holds no key"):
        vault.derive("one", make_key=False)
    assert not keys.exists(), "it may be another's"
    one, other = vault.derive("one", make_key=True), vault.derive("other", make_key=False)
    assert len({one, other, Vault(KeySource(keys, writable=True)).derive("one", make_key=False)}) == 2
    assert all(len(text) == 22 for text in (one, other))
    assert one not in keys.read_text()
    vault.begin_rotation()
    assert vault.derive("one", make_key=False) != one


def test_a_key_that_others_may_read_is_refused(keys: Path, vault: Vault) -> None:
    vault.encrypt("x", "password")
    keys.chmod(0o644)
    with pytest.raises(ConfigurationError, match="may be read by others"):
        Vault(KeySource(keys, writable=True)).encrypt("x", "password")


def test_two_processes_that_start_at_once_agree_on_one_key(keys: Path) -> None:
    one, other = (Vault(KeySource(keys, writable=True)) for _ in range(2))
    assert other.decrypt(one.encrypt("a", "c"), "c") == "a"
    assert one.decrypt(other.encrypt("b", "c"), "c") == "b"


def test_what_was_changed_moved_or_lost_its_key_is_an_error_without_the_secret(keys: Path, vault: Vault) -> None:
    sealed = vault.encrypt("hidden", "password")
    # Well before the end: the last character's low bits may be padding, and change nothing.
    flipped = sealed[:-8] + ("A" if sealed[-8] != "A" else "B") + sealed[-7:]
    for text, context in (
        (flipped, "password"),
        (sealed, "tb_token"),
        (sealed[:20], "password"),
        (sealed + "é", "password"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            vault.decrypt(text, context)
        assert "hidden" not in str(caught.value)
    keys.unlink()
    with pytest.raises(ConfigurationError, match="does not hold"):
        vault.decrypt(sealed, "password")


@pytest.mark.parametrize("text", ["", "# nothing\n", "AAAA\n", "no base64 at all!\n"])
def test_a_file_without_a_good_key_is_no_reason_to_make_another(keys: Path, text: str) -> None:
    keys.parent.mkdir()
    keys.write_text(text)
    keys.chmod(0o600)
    with pytest.raises(ConfigurationError, match="key"):
        Vault(KeySource(keys, writable=True)).encrypt("x", "c")
    assert keys.read_text() == text


def test_a_systemd_credential_goes_before_the_file_and_is_never_written(tmp_path: Path, keys: Path) -> None:
    assert key_source(keys, {}) == KeySource(keys, writable=True)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert key_source(keys, environment).writable
    Vault(KeySource(keys, writable=True)).encrypt("x", "c")
    credential = tmp_path / "meterbridge.key"
    credential.write_bytes(keys.read_bytes())
    source = key_source(keys, environment)
    assert source == KeySource(credential, writable=False)
    before = credential.read_bytes()
    vault = Vault(source)
    vault.begin_rotation()
    vault.end_rotation()
    assert (vault.decrypt(vault.encrypt("y", "c"), "c"), credential.read_bytes()) == ("y", before)


async def test_the_database_holds_no_secret_and_gives_it_back(
    octets: Callable[[], bytes], engine: AsyncEngine, meters: MeterRepository
) -> None:
    meter = await meters.add(METER)
    assert await meters.get(meter.id) == meter
    await meters.update(replace(meter, password="an0ther-one"))
    assert (await meters.get(meter.id)).password == "an0ther-one"
    await engine.dispose()
    everything = octets()
    for secret in (b"pa55-w0rd", b"an0ther-one", b"t0ken-of-it"):
        assert secret not in everything


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_what_was_typed_in_by_hand_is_nowhere_once_it_is_encrypted(
    engine: AsyncEngine, meters: MeterRepository, file: Path, octets: Callable[[], bytes]
) -> None:
    await meters.add(METER)
    # As sqlite3 writes it where it is built without secure_delete.
    with closing(sqlite3.connect(file, isolation_level=None)) as typed:
        typed.execute("PRAGMA secure_delete = OFF")
        typed.execute("UPDATE meters SET password = 'typed-by-hand'")
        assert b"typed-by-hand" in octets()
        assert await meters.seal() == 1
        # While it is in use: the log is not removed, as it is with the last connection.
        assert file.with_name(f"{file.name}-wal").exists()
        assert b"typed-by-hand" not in octets()
    assert [meter.password for meter in await meters.list_meters()] == ["typed-by-hand"]


async def test_keys_of_meters_are_secrets_too(
    engine: AsyncEngine, meters: MeterRepository, vault: Vault, sql: Sql, octets: Callable[[], bytes]
) -> None:
    secured = replace(METER, authentication="hls-gmac", system_title="4D54423030303031", hls_secret=SECRETS[0])
    secured = replace(secured, block_cipher_key=SECRETS[1], authentication_key=SECRETS[2], master_key=SECRETS[3])
    meter = await meters.add(secured)
    assert await meters.get(meter.id) == meter
    # Typed in by hand by an old hand: sealed at the next start, and turned with the rest.
    await sql(f"UPDATE meters SET authentication_key = '{'89AB' * 8}'")
    assert await meters.seal() == 1
    assert (await meters.get(meter.id)).authentication_key == "89AB" * 8
    assert await rotate(vault, meters) == 6
    assert (await meters.get(meter.id)).block_cipher_key == SECRETS[1]
    await engine.dispose()
    everything = octets()
    assert not any(secret.encode() in everything for secret in SECRETS)


async def test_without_a_key_a_meter_is_a_problem_and_the_others_go_on(
    engine: AsyncEngine, meters: MeterRepository, keys: Path
) -> None:
    await meters.add(METER)
    await MeterRepository(engine).add(replace(METER, name="typed in by hand"))
    lose(keys)
    loaded = await meters.load_meters()
    assert [meter.name for meter in loaded.meters] == ["typed in by hand"]
    assert [problem.name for problem in loaded.problems] == ["Main"]


async def test_what_was_typed_in_by_hand_is_encrypted_once(
    sql: Sql, engine: AsyncEngine, meters: MeterRepository
) -> None:
    await MeterRepository(engine).add(METER)
    assert await stored(sql) == ("pa55-w0rd", "t0ken-of-it")
    assert await meters.seal() == 2
    assert await meters.seal() == 0
    assert all(text is not None and is_encrypted(text) for text in await stored(sql))
    [meter] = await meters.list_meters()
    assert (meter.password, meter.tb_token) == (METER.password, METER.tb_token)


async def test_no_password_and_no_token_stay_none(sql: Sql, meters: MeterRepository) -> None:
    await meters.add(replace(METER, password="", tb_token=None))
    assert await stored(sql) == ("", None)
    assert await meters.seal() == 0


async def test_rotation_leaves_one_new_key_and_a_running_service_goes_on(
    sql: Sql, meters: MeterRepository, vault: Vault, keys: Path
) -> None:
    meter = await meters.add(METER)
    before, old_key = await stored(sql), content(keys)
    elsewhere = Vault(KeySource(keys, writable=True))
    assert await rotate(elsewhere, MeterRepository(meters._engine, elsewhere)) == 2
    assert set(before) & set(await stored(sql)) == set()
    assert (content(keys).count("="), content(keys) == old_key) == (1, False)
    assert await meters.get(meter.id) == meter
    with pytest.raises(ConfigurationError, match="does not hold"):
        vault.decrypt(before[0], "password")


async def test_a_rotation_cut_short_loses_nothing(meters: MeterRepository, vault: Vault, keys: Path) -> None:
    meter = await meters.add(METER)
    vault.begin_rotation()
    assert await meters.get(meter.id) == meter
    await rotate(vault, meters)
    assert await meters.get(meter.id) == meter
    assert content(keys).count("=") == 1


async def test_rotation_while_meters_are_written(meters: MeterRepository, vault: Vault) -> None:
    meter = await meters.add(METER)

    async def write() -> None:
        for number in range(20):
            await meters.update(replace(meter, password=f"pw{number}"))

    await asyncio.gather(write(), rotate(vault, meters))
    assert (await meters.get(meter.id)).password == "pw19"


def test_nothing_shows_in_a_repr(vault: Vault, keys: Path) -> None:
    vault.encrypt("x", "c")
    assert repr(vault) == f"Vault({keys})"
