"""The two documents written from the settings model: run this file to write them again, a test compares them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from meterbridge.settings import PREFIX, Settings, allowed, section_model

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / "meterbridge.example.toml"

INTRODUCTION = f"""# Configuration

Settings come from `meterbridge.toml` in the working directory, or from the file that `METERBRIDGE_CONFIG` names,
and from environment variables, which win: `{PREFIX}POLLING__PERIOD_S=5` is `period_s` of `[polling]`. An empty
variable counts as unset. Relative paths count from the working directory. An unknown key or a bad value stops the
program with one line that names it. All defaults are in [meterbridge.example.toml](../meterbridge.example.toml).

This page is written from the code by `python tests/unit/settings_reference.py`; a test keeps the two equal.
"""


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each section's name and model, in order."""
    for name in Settings.model_fields:
        model = section_model(name)
        assert model is not None
        yield name, model


def default_text(field: FieldInfo) -> str:
    """Return a default as TOML, empty where there is none."""
    if field.default is None:
        return ""
    value = str(field.default) if isinstance(field.default, Path) else field.default
    return json.dumps(value)


def reference() -> str:
    """Return docs/configuration.md."""
    parts = [INTRODUCTION]
    for name, model in sections():
        rows = "\n".join(
            f"| `{key}` | {f'`{default_text(field)}`' if default_text(field) else 'none'} | {allowed(field)} "
            f"| {field.description} |"
            for key, field in model.model_fields.items()
        )
        parts.append(
            f"## [{name}]\n\n{model.__doc__}\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def example() -> str:
    """Return meterbridge.example.toml: every key with its default; those without one are commented out."""
    parts = ["# Every setting with its default; see docs/configuration.md. Copy it, keep what differs.\n"]
    for name, model in sections():
        lines = [f"# {model.__doc__}", f"[{name}]"]
        for key, field in model.model_fields.items():
            lines.append(f"# {field.description} ({allowed(field)})")
            lines.append(f"{key} = {default_text(field)}" if default_text(field) else f'# {key} = ""')
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    REFERENCE.parent.mkdir(exist_ok=True)
    REFERENCE.write_text(reference(), encoding="utf-8")
    EXAMPLE.write_text(example(), encoding="utf-8")
