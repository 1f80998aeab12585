"""The wheel: it brings what `meterbridge service install` puts in place."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import ROOT


def test_it_holds_the_unit_and_the_example_settings(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        for name, source in (
            ("meterbridge.service", ROOT / "deploy" / "meterbridge.service"),
            ("meterbridge.example.toml", ROOT / "meterbridge.example.toml"),
        ):
            assert packed.read(f"meterbridge/deploy/{name}") == source.read_bytes()
        metadata = packed.read(next(name for name in packed.namelist() if name.endswith("METADATA"))).decode()
    # PostgreSQL's driver only for who asks for it.
    assert "Requires-Dist: asyncpg>=0.29; extra == 'postgres'" in metadata.replace('"', "'")
