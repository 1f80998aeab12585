"""`meterbridge decode`: what goes in, what comes out, with which exit code, and no key ever shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meterbridge.cli import main
from meterbridge.cli.app import app
from meterbridge.cli.octets import octets_from
from meterbridge.dlms import Frame
from meterbridge.errors import ConfigurationError, MeterbridgeError
from tests.unit.dlms import pushes
from tests.unit.dlms.pushes import KEYS, TITLE, ciphered, in_hdlc, in_mbus, notification

EK, AK = (KEYS.encryption or b"").hex(), (KEYS.authentication or b"").hex()
PLAIN = notification(pushes.AIDON, pushes.TIME)
FRAME = b"".join(in_hdlc(PLAIN))
CIPHERED = b"".join(in_hdlc(ciphered(PLAIN, 9)))


@pytest.fixture(autouse=True)
def no_keys_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METER_KEY", raising=False)
    monkeypatch.delenv("METER_AUTH_KEY", raising=False)


def decode(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> tuple[int, list[str], str]:
    result = CliRunner().invoke(app, ["decode", *arguments], input=stdin, env=env)
    if isinstance(result.exception, MeterbridgeError):
        return 2, [], str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout.splitlines(), result.stderr


def objects(
    *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None
) -> tuple[int, list[dict[str, object]]]:
    code, lines, _ = decode(*arguments, "--json", stdin=stdin, env=env)
    return code, [json.loads(line) for line in lines]


def test_one_object_for_each_apdu() -> None:
    code, [push] = objects(stdin=FRAME)
    assert code == 0
    data = push.pop("data")
    assert push == {
        "framing": "hdlc",
        "offset": 0,
        "apdu": "data-notification",
        "time": "2025-11-24T10:30:00+01:00",
        "system_title": None,
        "invocation_counter": None,
        "values": {
            "1-1:0.2.129": {"value": "AIDON_V0001", "unit": None},
            "1-0:1.7.0": {"value": 1362, "unit": "W"},
            "1-0:31.7.0": {"value": -9.3, "unit": "A"},
            "1-0:32.7.0": {"value": 250.0, "unit": "V"},
        },
    }
    assert isinstance(data, dict)
    assert data["long_invoke_id"] == 0x40000000
    first, second, *_ = data["body"]["array"]
    assert first == {"structure": [{"octet-string": "0101000281FF"}, {"visible-string": "AIDON_V0001"}]}
    assert second["structure"][1] == {"double-long-unsigned": 1362}


@pytest.mark.parametrize(
    "spelt",
    [
        FRAME.hex(),
        FRAME.hex(" ").upper(),
        FRAME.hex(":"),
        FRAME.hex("-", 2),
        ", ".join(f"0x{octet:02x}" for octet in FRAME),
        "".join(f"\\x{octet:02x}" for octet in FRAME),
        f"# a comment: 12 34\n{FRAME.hex(' ')}  // and another: üß\r\n\n",
        "\ufeff" + FRAME.hex("\n"),
        f"'{FRAME.hex()}',",
    ],
    ids=["bare", "spaced", "colons", "dashes", "prefixed", "escaped", "commented", "with a mark", "quoted"],
)
def test_hex_in_any_spelling(spelt: str) -> None:
    assert octets_from(spelt.encode()) == FRAME


def test_octets_as_they_are_and_utf16() -> None:
    assert octets_from(FRAME) == FRAME
    assert octets_from(FRAME.hex(" ").encode("utf-16")) == FRAME
    assert octets_from(b"") == b""
    assert octets_from(b"\x00\x01\xff") == b"\x00\x01\xff"


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"7E A0\n7E zz", "line 2 is not hex: it holds 'z'"), (b"7E A", "3 hex digits are no whole octets")],
)
def test_a_text_that_is_no_hex_is_refused_with_its_line(content: bytes, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        octets_from(content)


def test_a_damaged_frame_is_reported_and_decoding_goes_on(tmp_path: Path) -> None:
    damaged = bytearray(FRAME)
    damaged[50] ^= 4
    file = tmp_path / "dump.bin"
    file.write_bytes(FRAME + bytes(damaged) + FRAME)
    code, events = objects(str(file))
    assert code == 1
    assert [event.get("offset") for event in events] == [0, len(FRAME), 2 * len(FRAME)]
    assert [event.get("error") for event in events] == [None, "frame check sequence wrong", None]
    assert "apdu" not in events[1]


def test_keys_from_option_environment_and_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(EK + "\n")
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["--key", EK, "--auth-key", AK], {}),
        ([], {"METER_KEY": EK, "METER_AUTH_KEY": AK}),
        (["--key", f"@{file}", "--auth-key", AK.upper()], {}),
    ]
    for arguments, env in ways:
        code, [push] = objects(*arguments, stdin=CIPHERED, env=env)
        assert (code, push["system_title"], push["invocation_counter"]) == (0, TITLE.hex().upper(), 9)
        assert push["values"]


def test_without_a_key_the_exit_code_says_incomplete() -> None:
    code, [push] = objects(stdin=CIPHERED)
    assert (code, push["apdu"], push["values"]) == (1, "general-glo-ciphering", {})
    assert "is ciphered, and the key of" in str(push["error"])


@pytest.mark.parametrize("key", ["00112233", "g" * 32, "@/nonexistent/file", EK + "00"])
def test_a_wrong_key_is_named_and_not_shown(key: str) -> None:
    code, lines, error = decode("--key", key, stdin=CIPHERED)
    assert (code, lines) == (2, [])
    assert "--key" in error or "/nonexistent/file" in error
    assert key.removeprefix("@") not in error or key.startswith("@")


def test_no_key_is_ever_printed() -> None:
    for arguments in (["--json"], []):
        _, lines, error = decode("--key", EK, "--auth-key", "00" * 16, *arguments, stdin=CIPHERED)
        text = "".join(lines).lower().replace(" ", "") + error
        assert EK not in text
        assert "authenticationtag" in text


@pytest.mark.parametrize("framing", ["auto", "mbus"])
def test_the_framing_told_or_found(framing: str) -> None:
    code, [push] = objects("--framing", framing, stdin=b"".join(in_mbus(PLAIN, 40)))
    assert (code, push["framing"]) == (0, "mbus")


def test_other_apdus_are_taken_apart() -> None:
    code, [request] = objects(stdin=b"C0 01 C1 0003 0100010800FF 02 00")
    assert code == 0
    assert (request["apdu"], request["framing"]) == ("get-request", "raw")
    assert request["data"] == {"type": "normal", "invoke_id": 1, "attributes": ["3:1-0:1.8.0:2"]}


def test_a_captured_session_with_its_link_frames_is_complete() -> None:
    client, server = pushes.CLIENT, pushes.SERVER
    get = bytes.fromhex("E6E600C001C100030100010800FF0200")
    answer = bytes.fromhex("E6E700C401C1000600001234")
    trace = [
        Frame(server, client, 0x93),
        Frame(client, server, 0x73),
        Frame(server, client, 0x10, get),
        Frame(client, server, 0x30, answer),
    ]
    code, events = objects(stdin=b"".join(frame.encode() for frame in trace))
    assert code == 0
    assert [event.get("apdu", event.get("note")) for event in events] == [
        "HDLC SNRM frame: it carries no APDU",
        "HDLC UA frame: it carries no APDU",
        "get-request",
        "get-response",
    ]


def test_what_cannot_be_taken_apart_is_shown_as_hex_with_the_reason() -> None:
    code, [event] = objects("--framing", "raw", stdin=b"7F0102")
    assert code == 1
    assert (event["apdu"], event["data"], event["error"]) == ("apdu 0x7F", "7F0102", "apdu 0x7F is not taken apart")


@pytest.mark.parametrize("stdin", [b"", b"# nothing but a comment\n"])
def test_nothing_is_said_to_be_nothing(stdin: bytes) -> None:
    assert decode(stdin=stdin) == (1, [], "meterbridge: there is nothing to decode\n")


def test_noise_alone_is_one_refusal() -> None:
    code, [event] = objects(stdin=bytes(range(0x80, 0xC0)))
    assert code == 1
    assert event == {"framing": None, "offset": 0, "octets": 64, "error": "no frame of any framing, and no APDU"}


def test_a_file_that_is_not_there() -> None:
    code, _, error = decode("/nonexistent/dump")
    assert (code, error) == (2, "/nonexistent/dump cannot be read: No such file or directory")


def test_no_file_name_is_told_from_a_folder() -> None:
    code, _, error = decode("")
    assert (code, error) == (2, "'' names no file")


def test_standard_input_that_was_closed_holds_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["meterbridge", "decode"])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "meterbridge: there is nothing to decode\n"


def test_for_people_values_stand_in_lines_and_no_markup_is_read() -> None:
    named = pushes.array(pushes.structure(pushes.name("0-0:96.1.0"), pushes.text("[bold red]x[/]")))
    code, lines, _ = decode(stdin=FRAME + b"".join(in_hdlc(notification(named))))
    assert code == 0
    assert lines[0] == "data-notification  hdlc at 0  2025-11-24T10:30:00+01:00"
    assert any(line.split() == ["1-0:31.7.0", "-9.3", "A"] for line in lines)
    assert any("[bold red]x[/]" in line for line in lines)
