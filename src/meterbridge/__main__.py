"""`python -m meterbridge` is `meterbridge`."""

from meterbridge.cli import main

main()
