"""Files of keys: both forms, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterbridge.cli.key_options import read_key_ring
from meterbridge.errors import ConfigurationError

EK, AK, OTHER = "00" * 15 + "01", "00" * 15 + "02", "00" * 15 + "03"
TITLE = "4B414D4501349083"


def test_lines(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# title EK AK\n{TITLE} {EK} {AK}\n4C475A67-7370B177 = {EK}  # no AK\n\ndefault, {OTHER}, {AK}\n")
    ring = read_key_ring(file)
    known = ring.keys_of(bytes.fromhex(TITLE))
    assert known is not None
    assert (known.encryption, known.authentication) == (bytes.fromhex(EK), bytes.fromhex(AK))
    half = ring.keys_of(bytes.fromhex("4C475A677370B177"))
    assert half is not None
    assert half.authentication is None
    anybody = ring.keys_of(b"ANYBODY1")
    assert anybody is not None
    assert anybody.encryption == bytes.fromhex(OTHER)


def test_toml(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[{TITLE}]\nencryption = "{EK}"\nauthentication = "{AK}"\nbroadcast = "{OTHER}"\n')
    ring = read_key_ring(file)
    known = ring.keys_of(bytes.fromhex(TITLE))
    assert known is not None
    assert known.broadcast == bytes.fromhex(OTHER)
    assert ring.keys_of(b"ANYBODY1") is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f"{TITLE}\n", "line 1: system title, EK and perhaps AK are wanted"),
        (f"\n{TITLE} {EK[:-2]}\n", "line 2: encryption has 30 hex digits, 32 or 64 are wanted"),
        (f"{TITLE} {EK}\n{TITLE} {AK}\n", "line 2: the system title stands there twice"),
        (f"12 {EK}\n", "line 1: the system title has 2 hex digits, 16 are wanted"),
        (f'[{TITLE}]\nkek = "{EK}"\n', rf"\[{TITLE}\]: unknown key 'kek'"),
        (f"[{TITLE}]\nencryption = 12\n", "wants keys as text"),
        ("[broken\n", "keys: "),
    ],
)
def test_what_is_wrong_is_named_and_no_key_shown(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=error) as caught:
        read_key_ring(file)
    assert EK not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_key_ring(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigurationError, match="is not a text file"):
        read_key_ring(tmp_path / "binary")
