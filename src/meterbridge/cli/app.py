"""The `meterbridge` command: its groups, and what happens when one fails."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from meterbridge import __version__
from meterbridge.cli import (
    clock,
    control,
    cosem_object,
    db,
    decode,
    demo,
    gateway_config,
    health,
    listen,
    log_lines,
    meters,
    outbox,
    profile,
    read,
    run,
    secrets,
    simulate,
    token,
)
from meterbridge.cli.exits import INCOMPLETE, INTERRUPTED, exit_code
from meterbridge.errors import MeterbridgeError

app = typer.Typer(
    name="meterbridge",
    help="Reads DLMS/COSEM electricity meters and delivers every reading to ThingsBoard.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(read.read)
app.command()(read.objects)
app.command()(profile.profile)
app.command()(clock.clock)
app.command()(cosem_object.get)
app.command("set")(cosem_object.set_)
app.command()(cosem_object.call)
app.command()(decode.decode)
app.command()(listen.listen)
app.command()(simulate.simulate)
app.command()(run.run)
app.command()(demo.demo)
app.command()(gateway_config.gateway_config)
app.command("list")(meters.list_)
app.command()(meters.status)
app.command()(meters.add)
app.command()(meters.edit)
app.command()(meters.remove)
app.command()(meters.models)
app.command()(control.test)
app.command()(control.pause)
app.command()(control.resume)
app.command()(control.restart)
app.command()(log_lines.logs)
app.command()(log_lines.follow)
app.command()(health.health)
app.command("import")(db.import_)
app.add_typer(db.app)
app.add_typer(secrets.app)
app.add_typer(token.app)
app.add_typer(outbox.app)


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
