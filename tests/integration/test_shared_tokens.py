"""Two meters with one token are shown wherever meters are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.thingsboard_site import invoke

ELSEWHERE = {"METERBRIDGE_API__PORT": "1"}


def test_the_second_is_named_with_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, token in (("First", "t0ken"), ("Second", "t0ken"), ("Third", "another")):
        done = invoke(["add", name, "192.0.2.1"], {**ELSEWHERE, "METER_TB_TOKEN": token})
        assert done.code == 0, done
    text = "it has the same tb_token as meter 1 (First): it is not polled"
    checked = invoke(["db", "check"], ELSEWHERE)
    assert (checked.code, checked.out) == (1, f"meter 2 (Second): {text}\n")
    listed = invoke(["list"], ELSEWHERE)
    assert f"meterbridge: meter 2 (Second) cannot be used: {text}\n" in listed.err
    assert "t0ken" not in listed.out + listed.err + checked.out
    # Who delivers nothing disturbs nobody.
    assert invoke(["edit", "First", "--status", "inactive"], ELSEWHERE).code == 0
    assert invoke(["db", "check"], ELSEWHERE).code == 0
