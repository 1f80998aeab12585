"""The command line: one file per group of commands."""

from meterbridge.cli.app import main

__all__ = ["main"]
