"""Options that say what the database holds of one meter: the same for `add` and `edit`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from meterbridge.api.shapes import MeterChange

_EMPTY_MEANS_NONE = ("tb_token", "tb_device_name")


@dataclass(frozen=True, slots=True)
class MeterColumns:
    """What was given, by column; None where it was not. Secrets are shown by no repr."""

    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="TCP port, 3333 unless given.")] = None
    client_id: Annotated[int | None, typer.Option("--client", help="Client SAP: 1 management, 16 public.")] = None
    server_id: Annotated[int | None, typer.Option("--server", help="Server (logical device) address.")] = None
    physical: Annotated[int | None, typer.Option(help="HDLC physical address.")] = None
    framing: Annotated[str | None, typer.Option(help="hdlc, wrapper or wrapper-udp.")] = None
    model: Annotated[str | None, typer.Option(help="Catalogue entry; `meterbridge models` lists them.")] = None
    status: Annotated[str | None, typer.Option(help="active or inactive.")] = None
    password: Annotated[
        str | None, typer.Option(envvar="METER_PASSWORD", show_envvar=True, help="LLS password; best in the variable.")
    ] = field(default=None, repr=False)
    tb_enabled: Annotated[
        bool | None, typer.Option("--tb-enabled/--no-tb-enabled", help="Whether its readings are delivered.")
    ] = None
    tb_token: Annotated[
        str | None,
        typer.Option(
            envvar="METER_TB_TOKEN", show_envvar=True, help="ThingsBoard token; best in the variable. '' removes it."
        ),
    ] = field(default=None, repr=False)
    tb_host: Annotated[str | None, typer.Option(help="MQTT host for its readings.")] = None
    tb_port: Annotated[int | None, typer.Option(min=1, max=65_535, help="MQTT port.")] = None
    tb_device_name: Annotated[
        str | None, typer.Option(help="Device name at ThingsBoard, the meter's unless given. '' removes it.")
    ] = None

    relay_allowed: Annotated[
        bool | None,
        typer.Option(
            "--relay-allowed/--no-relay-allowed",
            help="Whether ThingsBoard may switch its relay; also needs [rpc] allow_relay.",
        ),
    ] = None

    def given(self, **more: object) -> dict[str, object]:
        """Return what was given, by column, with `more` of the command's own; secrets in the clear."""
        values = {**more, **{each.name: getattr(self, each.name) for each in fields(self)}}
        return {
            name: None if value == "" and name in _EMPTY_MEANS_NONE else value
            for name, value in values.items()
            if value is not None
        }


NO_COLUMNS = MeterColumns()
"""None of the options given."""


def change_of(given: dict[str, object]) -> MeterChange:
    """Make of what `MeterColumns.given` returned what the API makes of a request; checked where it is applied."""
    from meterbridge.api.shapes import MeterChange

    # Types are what the options gave.
    return MeterChange.model_construct(set(given), **given)
