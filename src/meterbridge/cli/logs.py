"""Logging set up: JSON lines to standard output and to a rotated file."""

from __future__ import annotations

import logging
import sys

import structlog

from meterbridge.cli.log_file import RotatedFile
from meterbridge.errors import ConfigurationError
from meterbridge.settings import LogSettings


def configure_logging(settings: LogSettings, *, to_stdout: bool = True) -> None:
    """Send every structlog event, as one line of JSON, to the file and where wanted to standard output.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    handlers: list[logging.Handler] = []
    try:
        settings.file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(
            RotatedFile(settings.file, settings.rotate_octets, settings.rotate_age_days * 86_400, settings.rotate_files)
        )
    except OSError as error:
        raise ConfigurationError(f"log file {settings.file} cannot be written: {error.strerror}") from None
    if to_stdout:
        handlers.append(logging.StreamHandler(sys.stdout))
    stamped: list[structlog.typing.Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
    ]
    # What libraries log is made a line of JSON too, with the library's name.
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        foreign_pre_chain=[*stamped, structlog.stdlib.add_logger_name],
    )
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=settings.level.upper(), handlers=handlers, force=True)
    logging.getLogger("alembic.runtime.migration").addFilter(_is_migration)
    # Its comings and goings are the service's.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *stamped,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _is_migration(record: logging.LogRecord) -> bool:
    """Whether Alembic tells of a step, and not of how it goes about it at every start."""
    return record.levelno > logging.INFO or str(record.msg).startswith("Running")
