from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterbridge.errors import CommandRefused
from meterbridge.thingsboard import self_provisioning


def test_the_request() -> None:
    asked = {"deviceName": "Main 'é'", "provisionDeviceKey": "K", "provisionDeviceSecret": "S"}
    assert json.loads(self_provisioning.request("Main 'é'", "K", "S", None)) == asked
    ours = {"credentialsType": "ACCESS_TOKEN", "token": "T"}
    assert json.loads(self_provisioning.request("Main 'é'", "K", "S", "T")) == asked | ours


def test_a_token() -> None:
    answer = {"status": "SUCCESS", "credentialsType": "ACCESS_TOKEN", "credentialsValue": "sLzc0gDAZPkGMzFVTyUY"}
    assert self_provisioning.token(json.dumps(answer).encode()) == "sLzc0gDAZPkGMzFVTyUY"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": "NOT_FOUND"}, "no device profile with this provision key"),
        ({"status": "FAILURE", "errorMsg": "x"}, "exists already"),
        ({"status": "MAYBE" * 100}, "has the status 'MAYBE"),
        ({}, "status 'None'"),
        ([], "no JSON object"),
        (
            {"status": "SUCCESS", "credentialsType": "X509_CERTIFICATE", "credentialsValue": "SECRET"},
            "not ACCESS_TOKEN",
        ),
        ({"status": "SUCCESS", "credentialsType": "ACCESS_TOKEN"}, "token that is none"),
        ({"status": "SUCCESS", "credentialsType": "ACCESS_TOKEN", "credentialsValue": "SECRET" * 20}, "that is none"),
        ({"status": "SUCCESS", "credentialsType": "ACCESS_TOKEN", "credentialsValue": "SECRET\n"}, "that is none"),
    ],
)
def test_what_is_no_token(answer: object, reason: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        self_provisioning.token(json.dumps(answer).encode())
    assert reason in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.binary(max_size=100))
def test_whatever_is_answered_is_refused_in_one_line(payload: bytes) -> None:
    with pytest.raises(CommandRefused) as caught:
        self_provisioning.token(payload)
    assert "\n" not in str(caught.value)
