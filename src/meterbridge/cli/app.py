"""The `meterbridge` command: its groups, and what happens when one fails."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from meterbridge import __version__
from meterbridge.cli.exits import INCOMPLETE, INTERRUPTED, exit_code
from meterbridge.cli.interrupts import interrupt_afterwards
from meterbridge.cli.process_list import hide_secrets
from meterbridge.errors import MeterbridgeError

_COMMANDS = {
    "read": "read:read",
    "objects": "read:objects",
    "profile": "profile:profile",
    "clock": "clock:clock",
    "get": "cosem_object:get",
    "set": "cosem_object:set_",
    "call": "cosem_object:call",
    "decode": "decode:decode",
    "listen": "listen:listen",
    "simulate": "simulate:simulate",
    "run": "run:run",
    "demo": "demo:demo",
    "gateway-config": "gateway_config:gateway_config",
    "list": "meters:list_",
    "status": "meters:status",
    "add": "meter_changes:add",
    "edit": "meter_changes:edit",
    "remove": "meter_changes:remove",
    "models": "meters:models",
    "test": "control:test",
    "pause": "control:pause",
    "resume": "control:resume",
    "restart": "control:restart",
    "logs": "log_lines:logs",
    "follow": "log_lines:follow",
    "health": "health:health",
    "watch": "watch:watch",
    "qos": "qos:qos",
    "plan": "plan:plan",
    "backfill": "backfill:backfill",
    "import": "db:import_",
    "db": "db:app",
    "secrets": "secrets:app",
    "token": "token:app",
    "outbox": "outbox:app",
    "audit": "audit:audit",
    "self-provision": "self_provision:self_provision",
    "thingsboard": "thingsboard:app",
    "service": "service_command:app",
}
"""Where each command stands, `module:name`: a group where that is a Typer."""


class _Commands(TyperGroup):
    """Loads a command when it is asked for: to start must not cost what the other commands need."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands, in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command, None where there is no such."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        with interrupt_afterwards():
            found = getattr(import_module(f"meterbridge.cli.{module}"), name)
        if isinstance(found, typer.Typer):
            command = get_command(found)
        else:
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            context = {**_CONTEXT, "ignore_unknown_options": cmd_name in _TAKE_NEGATIVE_NUMBERS}
            alone.command(cmd_name, context_settings=context)(found)
            command = get_command(alone)
        command.name = cmd_name
        return command


_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
_TAKE_NEGATIVE_NUMBERS = ("set", "call")
"""Commands whose VALUE may be -60: they are left to say themselves that an option is unknown."""
app = typer.Typer(
    name="meterbridge",
    cls=_Commands,
    help="Reads DLMS/COSEM electricity meters and delivers every reading to ThingsBoard.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"meterbridge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; never a traceback for what users, meters or networks do."""
    hide_secrets(sys.argv[1:])
    try:
        app()
    except MeterbridgeError as error:
        typer.echo(f"meterbridge: {error}", err=True)
        sys.exit(exit_code(error))
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong.
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        # What meters, networks and files do has its own types by now: this is our own output, on a full disk as a rule.
        typer.echo(f"meterbridge: {error.strerror or error}", err=True)
        sys.exit(INCOMPLETE)
