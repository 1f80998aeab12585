"""The catalogue: one TOML file per meter model, with what it measures and how it differs from the standard."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from meterbridge.dlms import LogicalName
from meterbridge.errors import ConfigurationError
from meterbridge.model import Measurement

_KNOWN_KEYS = {"description", "poll", "measurements", "load_profile"}
_LOAD_PROFILE = "1-0:99.1.0"
_MOST_HINTS = 5


@dataclass(frozen=True, slots=True)
class MeterModel:
    """What is known of a meter model.

    Args:
        name: as it stands in the `meters` table.
        description: one line for people.
        measurements: by name.
        poll: names that are read at each poll.
        load_profile: Profile Generic with what the meter keeps while it cannot be read, six dotted groups; None where
            it keeps nothing.
    """

    name: str
    description: str
    measurements: Mapping[str, Measurement]
    poll: tuple[str, ...]
    load_profile: str | None = None

    def find(self, text: str) -> Measurement:
        """Return a measurement by its name, or by where it stands: `CLASS:OBIS:ATTRIBUTE` or an OBIS code alone.

        An OBIS code alone is looked up among the model's measurements, and is a Register's value otherwise.

        Raises:
            ConfigurationError: none of these.
        """
        found = self.measurements.get(text)
        if found is not None:
            return found
        try:
            logical_name = str(LogicalName.parse(text))
        except ValueError:
            pass
        else:
            for measurement in self.measurements.values():
                if measurement.logical_name == logical_name:
                    return measurement
            return Measurement(text, 3, logical_name)
        try:
            return parse_measurement(text, text)
        except ConfigurationError:
            raise ConfigurationError(
                f"{text!r} is no measurement of model {self.name} ({self._hint(text)}), no OBIS code and no"
                " CLASS:OBIS:ATTRIBUTE"
            ) from None

    def _hint(self, text: str) -> str:
        near = difflib.get_close_matches(text, self.measurements)
        if near:
            return f"perhaps {' or '.join(near)}"
        few = list(self.measurements)[:_MOST_HINTS]
        more = len(self.measurements) - len(few)
        return f"it has {', '.join(few)}" + (f" and {more} more" if more else "")


def parse_measurement(name: str, where: str) -> Measurement:
    """Read `CLASS:OBIS:ATTRIBUTE`, e.g. `3:1-0:32.7.0:2`.

    Raises:
        ConfigurationError: not that form; the message names the measurement.
    """
    class_text, _, rest = where.partition(":")
    obis, _, attribute_text = rest.rpartition(":")
    try:
        class_id, attribute = int(class_text), int(attribute_text)
        logical_name = LogicalName.parse(obis)
    except ValueError:
        raise ConfigurationError(f"{name}: {where!r} is not CLASS:OBIS:ATTRIBUTE such as 3:1-0:32.7.0:2") from None
    if not 0 < class_id <= 0xFFFF or not -128 <= attribute <= 127:
        raise ConfigurationError(f"{name}: class {class_id} or attribute {attribute} does not exist")
    return Measurement(name, class_id, str(logical_name), attribute)


def parse_model(name: str, text: str) -> MeterModel:
    """Read a catalogue file.

    Raises:
        ConfigurationError: not TOML, an unknown key, a malformed measurement, or a poll list that names none.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"catalogue entry {name}: {error}") from None
    unknown = set(content) - _KNOWN_KEYS
    if unknown:
        raise ConfigurationError(f"catalogue entry {name}: unknown key {sorted(unknown)[0]!r}")
    measurements = {key: parse_measurement(key, where) for key, where in content.get("measurements", {}).items()}
    poll = tuple(content.get("poll", measurements))
    for key in poll:
        if key not in measurements:
            raise ConfigurationError(f"catalogue entry {name}: poll names {key!r}, which is no measurement of it")
    return MeterModel(
        name, content.get("description", ""), measurements, poll, _load_profile(name, content.get("load_profile"))
    )


def _load_profile(name: str, text: object) -> str | None:
    if text == "":
        return None
    try:
        return str(LogicalName.parse(_LOAD_PROFILE if text is None else str(text)))
    except ValueError as error:
        raise ConfigurationError(f"catalogue entry {name}: load_profile: {error}") from None


@functools.cache
def load_model(name: str) -> MeterModel:
    """Return a model of the shipped catalogue.

    Raises:
        ConfigurationError: no such model; the message lists those there are.
    """
    if name not in model_names():
        raise ConfigurationError(f"meter model {name!r} is not in the catalogue ({', '.join(model_names())})")
    return parse_model(name, (resources.files(__package__) / f"{name}.toml").read_text("utf-8"))


@functools.cache
def model_names() -> tuple[str, ...]:
    """Return the names of all models, sorted."""
    entries = resources.files(__package__).iterdir()
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml")))
