"""`make` on machines that lack something: one clear line, exit code not 0."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

NEVER_READS = "127.0.0.1:1"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `make` needs of the project, without a .venv."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("tools", "requirements"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "PIP_"))}
    return subprocess.run(
        ["make", *words],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What it said on stderr, without make's own closing line."""
    return [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]


def fake(folder: Path, name: str, script: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_a_python_too_old_is_named(clone: Path, tmp_path: Path) -> None:
    old = fake(tmp_path, "python-old", 'case "$2" in *sys.exit*) exit 1;; *) echo 3.9;; esac')

    done = make(clone, "demo", PYTHON=str(old))

    assert done.returncode != 0
    assert complaints(done) == [
        f"meterbridge: Python 3.11 or newer is needed and {old} is 3.9; name a newer one with PYTHON=..."
    ]
    assert not (clone / ".venv").exists()


def test_a_missing_python_is_named(clone: Path) -> None:
    done = make(clone, "demo", PYTHON="python-nowhere")

    assert done.returncode != 0
    assert len(complaints(done)) == 1
    assert "python-nowhere was not found" in done.stderr


@pytest.mark.parametrize("retries", ["0", "1"])
def test_without_network_pip_is_not_heard(clone: Path, retries: str) -> None:
    done = make(
        clone,
        "demo",
        PIP_INDEX_URL=f"http://{NEVER_READS}/simple",
        PIP_RETRIES=retries,
        PIP_NO_CACHE_DIR="1",
        PIP_CONFIG_FILE=os.devnull,
    )

    assert done.returncode != 0
    assert complaints(done) == [
        "meterbridge: no network: pip cannot reach a Python package registry that has requirements/demo.txt."
    ]
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(clone: Path) -> None:
    clone.chmod(0o555)
    try:
        done = make(clone, "demo")
    finally:
        clone.chmod(0o755)

    assert done.returncode != 0
    assert len(complaints(done)) == 1
    assert f"{clone} is read-only" in done.stderr


def test_requirements_contain_each_other_with_hashes_and_without_addresses() -> None:
    smaller: dict[str, str] = {}
    for level in ("base", "demo", "test", "dev"):
        text = (ROOT / "requirements" / f"{level}.txt").read_text()
        assert "://" not in text
        assert "--find-links" not in text
        entries = [entry.split() for entry in text.replace("\\\n", " ").splitlines() if "==" in entry]
        assert all(any(word.startswith("--hash=sha256:") for word in entry) for entry in entries)
        pins = {name: version for name, _, version in (entry[0].partition("==") for entry in entries)}
        assert smaller.items() <= pins.items(), f"{level}.txt does not contain the one before it"
        smaller = pins
    assert smaller
