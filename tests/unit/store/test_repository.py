"""Meters in and out, what is recorded about them, and rows that are wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from time import perf_counter

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy.ext.asyncio import AsyncEngine

from meterbridge.errors import ConfigurationError, MeterExists, MeterNotFound, StoreError
from meterbridge.model import Meter, MeterId
from meterbridge.store import MeterRepository, MeterState
from meterbridge.store.schema import alarms, meter_metrics
from tests.unit.store.conftest import Sql

NEW = Meter(MeterId(0), "Main", "192.0.2.10")
ONLY_IN_SQLITE = {"'x'", "'maybe'", "7", "x'00ff'", "1.5"}
FULL = Meter(
    id=MeterId(0),
    name="Käfer 2",
    ip_address="meter-2.example.org",
    port=4059,
    client_id=16,
    server_id=17,
    password="s3cret",
    status="inactive",
    model="microstar",
    framing="wrapper",
    physical=None,
    tb_enabled=False,
    tb_host="tb.example.org",
    tb_port=1883,
    tb_token="t0ken",
    tb_device_name="device 2",
    authentication="hls-gmac",
    hls_secret="an0ther",
    system_title="4D54423030303031",
    meter_system_title="4D54423030303032",
    block_cipher_key="000102030405060708090A0B0C0D0E0F",
    authentication_key="d0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
    security_suite=1,
    security_policy="both",
    general_ciphering=True,
    dedicated_key=True,
    counter_object="0-0:43.1.0",
    referencing="sn",
)


def agreeing() -> Meter:
    private, public = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    own = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    meters = public.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return replace(
        FULL,
        name="agreeing",
        general_ciphering=False,
        dedicated_key=False,
        general_key="one-pass",
        master_key="0f" * 16,
        signed=True,
        signing_key=own,
        meter_signing_key=meters,
        agreement_key=own,
        meter_agreement_key=meters,
    )


async def test_a_meter_comes_back_as_it_went_in(repository: MeterRepository) -> None:
    whole = (NEW, FULL, replace(NEW, name="third", physical=17), agreeing())
    added = [await repository.add(meter) for meter in whole]
    assert [meter.id for meter in added] == [1, 2, 3, 4]
    assert replace(added[3], id=whole[3].id) == whole[3]
    assert replace(added[1], id=FULL.id) == FULL
    assert await repository.list_meters() == added
    assert [await repository.get(meter.id) for meter in added] == added


async def test_active_only_keeps_meters_in_error(repository: MeterRepository) -> None:
    for status in ("active", "inactive", "error"):
        await repository.add(replace(NEW, name=status, status=status))
    assert [meter.name for meter in await repository.list_meters(active_only=True)] == ["active", "error"]


async def test_get_takes_id_or_name_and_a_name_of_digits_wins(repository: MeterRepository) -> None:
    await repository.add(NEW)
    await repository.add(replace(NEW, name="1"))
    assert (await repository.get(1)).name == "Main"
    assert (await repository.get("1")).name == "1"
    assert (await repository.get("2")).name == "1"
    for unknown in (7, "7", "main", "9" * 40):
        with pytest.raises(MeterNotFound, match=f"there is no meter {unknown}"):
            await repository.get(unknown)


async def test_names_are_unique(repository: MeterRepository) -> None:
    await repository.add(NEW)
    other = await repository.add(FULL)
    with pytest.raises(MeterExists, match="a meter named 'Main' already exists"):
        await repository.add(NEW)
    with pytest.raises(MeterExists):
        await repository.update(replace(other, name="Main"))
    assert await repository.get(other.id) == other


async def test_update_keeps_what_was_recorded(repository: MeterRepository) -> None:
    meter = await repository.add(NEW)
    await repository.record_error(meter.id, "timeout")
    changed = await repository.update(replace(meter, port=4000))
    assert await repository.get(meter.id) == changed
    assert (await repository.states())[meter.id] == MeterState(None, "timeout", 1)
    with pytest.raises(MeterNotFound):
        await repository.update(replace(meter, id=MeterId(9), name="x"))


async def test_remove_takes_metrics_and_alarms_along_and_the_id_never_returns(
    engine: AsyncEngine, repository: MeterRepository
) -> None:
    meter = await repository.add(NEW)
    async with engine.begin() as connection:
        await connection.execute(sa.insert(meter_metrics).values(timestamp=1, meter_id=meter.id))
        await connection.execute(
            sa.insert(alarms).values(
                meter_id=meter.id, alarm_type="hdlc_error", severity="info", message="m", created_at=1
            )
        )
    await repository.remove(meter.id)
    async with engine.connect() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(meter_metrics)) == 0
        assert await connection.scalar(sa.select(sa.func.count()).select_from(alarms)) == 0
    with pytest.raises(MeterNotFound):
        await repository.remove(meter.id)
    assert (await repository.add(NEW)).id != meter.id


async def test_errors_and_readings_move_status_but_never_wake_an_inactive_meter(repository: MeterRepository) -> None:
    working = await repository.add(NEW)
    resting = await repository.add(FULL)
    both = [working.id, resting.id]
    await repository.record_errors(dict.fromkeys(both, "no answer"))
    await repository.record_error(working.id, "x" * 9_000)
    assert [(await repository.get(meter)).status for meter in both] == ["error", "inactive"]
    assert (await repository.states())[working.id] == MeterState(None, "x" * 500, 2)
    await repository.record_seen(both, 1_762_857_000_123)
    assert [(await repository.get(meter)).status for meter in both] == ["active", "inactive"]
    assert (await repository.states())[working.id] == MeterState(1_762_857_000_123, "x" * 500, 2)


async def test_recording_nothing_or_of_unknown_meters_is_harmless(repository: MeterRepository) -> None:
    await repository.record_seen([], 1)
    await repository.record_errors({})
    await repository.record_seen([MeterId(9)], 1)
    await repository.record_error(MeterId(9), "x")
    assert await repository.states() == {}


async def test_a_thousand_meters_are_recorded_in_one_transaction(
    engine: AsyncEngine, repository: MeterRepository
) -> None:
    async with engine.begin() as connection:
        values = ", ".join(f"('m{i}', '127.0.0.1')" for i in range(1_000))
        await connection.execute(sa.text(f"INSERT INTO meters (name, ip_address) VALUES {values}"))
    commits = 0

    def count(_: sa.Connection) -> None:
        nonlocal commits
        commits += 1

    sa.event.listen(engine.sync_engine, "commit", count)
    ids = [meter.id for meter in await repository.list_meters()]
    started = perf_counter()
    await repository.record_seen(ids, 5)
    await repository.record_errors(dict.fromkeys(ids, "gone"))
    elapsed = perf_counter() - started
    assert commits == 2
    assert set((await repository.states()).values()) == {MeterState(5, "gone", 1)}
    assert elapsed < 5, "generous: it takes some ten milliseconds"


async def test_many_rows_become_meters_piece_by_piece(
    repository: MeterRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(120):
        await repository.add(replace(NEW, name=f"m{number}"))
    turns, made_at = 0, []

    async def turning() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def made(row: sa.RowMapping, _vault: object) -> Meter:
        made_at.append(turns)
        return replace(NEW, id=MeterId(row["id"]))

    monkeypatch.setattr("meterbridge.store.repository.meter_from_row", made)
    beside = asyncio.create_task(turning())
    assert len((await repository.load_meters()).meters) == 120
    beside.cancel()
    assert max(Counter(made_at).values()) <= 50


async def test_concurrent_writers_wait_for_each_other(repository: MeterRepository) -> None:
    meter = await repository.add(NEW)
    await asyncio.gather(*(repository.record_error(meter.id, "e") for _ in range(40)))
    assert (await repository.states())[meter.id].error_count == 40


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("port", "'x'", "port must be a whole number from 1 to 65535, not 'x'"),
        ("port", "70000", "port must be a whole number from 1 to 65535, not 70000"),
        ("client_id", "200", "client_id must be a whole number from 1 to 127, not 200"),
        ("tb_enabled", "'maybe'", "tb_enabled must be 0 or 1, not 'maybe'"),
        ("tb_enabled", "7", "tb_enabled must be 0 or 1, not 7"),
        ("status", "'asleep'", "status must be one of active, inactive, error, not 'asleep'"),
        ("framing", "'x25'", "framing must be one of hdlc, wrapper, wrapper-udp, not 'x25'"),
        ("ip_address", "'a b'", "ip_address must be an address or a host name, not 'a b'"),
        ("ip_address", "'999.1.1.1'", "ip_address must be an address or a host name, not '999.1.1.1'"),
        ("name", "'a' || char(10)", "name must be printable text, not 'a\\n'"),
        ("name", "x'00ff'", "name must be text of 1 to 100 characters, not b'\\x00\\xff'"),
        ("password", "x'00ff'", "password must be text of 0 to 50 characters"),
        ("physical", "-1", "physical must be a whole number from 0 to 16383, not -1"),
        ("server_id", "1.5", "server_id must be a whole number from 0 to 16383, not 1.5"),
        (
            "authentication",
            "'gmac'",
            "authentication must be one of none, low, hls-md5, hls-sha1, hls-gmac, hls-sha256, hls-ecdsa, not 'gmac'",
        ),
        ("authentication", "'hls-gmac'", "authentication hls-gmac needs a system title"),
        ("security_suite", "3", "security_suite must be a whole number from 0 to 2, not 3"),
        ("security_policy", "'all'", "security_policy must be one of none, authenticated, encrypted, both, not 'all'"),
        ("system_title", "'4D5442'", "system_title must be 16 hex digits, not '4D5442'"),
        ("block_cipher_key", "'0123'", "block_cipher_key must be 32 or 64 hex digits"),
        ("block_cipher_key", "x'00ff'", "block_cipher_key must be 32 or 64 hex digits"),
        ("authentication_key", "'" + "xy" * 16 + "'", "authentication_key must be 32 or 64 hex digits"),
        ("hls_secret", "x'00ff'", "hls_secret must be text of 1 to 64 characters"),
        ("signing_key", "'secret'", "signing_key must be a key in PEM"),
        ("agreement_key", "'secret'", "agreement_key must be a key in PEM"),
        ("master_key", "'0123'", "master_key must be 32 or 64 hex digits"),
        ("signed", "7", "signed must be 0 or 1, not 7"),
        (
            "general_key",
            "'xx'",
            "general_key must be one of none, identified, wrapped, one-pass, static-unified, not 'xx'",
        ),
        ("general_ciphering", "7", "general_ciphering must be 0 or 1, not 7"),
        (
            "counter_object",
            "'counter'",
            "counter_object 'counter' is not a logical name such as 1-1:32.7.0 or 1.1.32.7.0.255",
        ),
        ("referencing", "'xx'", "referencing must be one of ln, sn, not 'xx'"),
    ],
)
async def test_a_bad_row_is_reported_and_the_others_load(
    url: str, repository: MeterRepository, sql: Sql, column: str, value: str, problem: str
) -> None:
    bad = await repository.add(NEW)
    good = await repository.add(FULL)
    if url.startswith("postgresql"):
        if value in ONLY_IN_SQLITE:
            pytest.skip("PostgreSQL keeps the declared types: such a row cannot come to be")
        value = value.replace("char(", "chr(")
    await sql(f"UPDATE meters SET {column} = {value} WHERE id = {bad.id}")
    loaded = await repository.load_meters()
    assert loaded.meters == (good,)
    assert [(found.meter, found.text) for found in loaded.problems] == [(bad.id, problem)]
    with pytest.raises(ConfigurationError):
        await repository.get(bad.id)


@pytest.mark.parametrize(
    "bad",
    [
        replace(NEW, name=""),
        replace(NEW, name=" "),
        replace(NEW, name="x" * 101),
        replace(NEW, ip_address=""),
        replace(NEW, ip_address="192.0.2.256"),
        replace(NEW, ip_address="192.0.2"),
        replace(NEW, port=0),
        replace(NEW, client_id=0),
        replace(NEW, tb_token=""),
        replace(NEW, password="x" * 51),
        replace(NEW, framing="wrapper", server_id=65_536),
    ],
)
async def test_bad_meters_are_not_stored(repository: MeterRepository, bad: Meter) -> None:
    with pytest.raises(ConfigurationError):
        await repository.add(bad)
    assert await repository.list_meters() == []


async def test_a_database_that_goes_away_is_a_store_error_without_secrets(
    engine: AsyncEngine, repository: MeterRepository
) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.text("ALTER TABLE meters RENAME TO gone"))
    with pytest.raises(StoreError, match=r'no such table: meters|relation "meters" does not exist') as caught:
        await repository.add(FULL)
    assert FULL.password not in str(caught.value)
    assert caught.value.__suppress_context__
