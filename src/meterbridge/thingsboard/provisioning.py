"""What Meterbridge needs at a ThingsBoard server, made there step by step; any step may be repeated.

First what all meters share (`Foundation`), then one device per meter. Nothing here sends a reading or touches our
database: that is the command's part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from meterbridge.errors import ThingsBoardRefused
from meterbridge.meter import MeterModel
from meterbridge.thingsboard.alarm_rules import (
    AlarmLimits,
    Rule,
    alarm_rules,
    bridge_alarm,
    is_ours,
    possible_names,
    profile_alarms,
    rule_entities,
)
from meterbridge.thingsboard.bridge_alarms import SERVICE_TYPE
from meterbridge.thingsboard.dashboard import dashboard, is_made_by_us, is_untouched
from meterbridge.thingsboard.entities import Entities, covers, exists, id_of
from meterbridge.thingsboard.quantities import Shown, polled
from meterbridge.thingsboard.server import Server

_RELATION = "Created"
_MADE = "meterbridge"
"""Field of a device's additionalInfo that says that we made it: only such devices are deleted again."""
_TIMEOUT = "inactivityTimeout"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an installation wants, from its settings.

    Args:
        device_type: name of the meters' device profile.
        gateway_name: name of the gateway device.
        service_name: name of the device that shows the alarms of the installation; empty for none.
        dashboard_title: title of the dashboard.
        limits: where alarms begin.
        no_data_s: silence that is an alarm, seconds; 0 for none.
        period_s: how often meters are polled, seconds.
    """

    device_type: str
    gateway_name: str
    service_name: str
    dashboard_title: str
    limits: AlarmLimits
    no_data_s: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Foundation:
    """What all meters share, once it is there.

    Args:
        profile: device profile's id.
        gateway: gateway device's id.
        gateway_token: its access token; None in a dry run that would make it. Never shown by repr.
    """

    profile: str
    gateway: str
    gateway_token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class MeterDevice:
    """A meter's device.

    Args:
        id: its id; None in a dry run that would make it.
        token: its access token; None in a dry run that would make it. Never shown by repr.
        changed: whether anything about it was made or changed just now.
    """

    id: str | None
    token: str | None = field(repr=False)
    changed: bool


class Provisioner:
    """Makes, finds and removes.

    Every method raises ThingsBoardUnreachable and ThingsBoardRefused; what was done stays done, and doing all of it
    again goes on from there.

    Args:
        entities: a session with the server.
        server: what it is.
        wanted: settings.
    """

    def __init__(self, entities: Entities, server: Server, wanted: Wanted) -> None:
        self._entities = entities
        self._rest = entities.rest
        self._server = server
        self._wanted = wanted

    async def foundation(self, models: Iterable[MeterModel], every_model: Iterable[MeterModel]) -> Foundation:
        """See to device profiles, alarm rules, gateway device, the installation's device and dashboard.

        Args:
            models: of the meters there are.
            every_model: all that the catalogue has: rules of what is no longer measured are removed.
        """
        quantities = polled(models)
        rules = self._alarm_rules(quantities)
        profile = await self._profile(self._wanted.device_type, "Electricity meters, read by Meterbridge", rules)
        await self._rules(profile, rules, possible_names(polled(every_model)))
        gateway = await self._gateway()
        await self._service(gateway)
        token = await self._entities.token_of(gateway) if exists(gateway) else None
        await self.dashboard(quantities)
        return Foundation(id_of(profile), id_of(gateway), token)

    async def device(self, name: str, token: str | None, foundation: Foundation) -> MeterDevice:
        """See to a meter's device, its relation to the gateway and its time-out.

        Args:
            name: of the device; one that is there already is adopted.
            token: that a device made now should have, None for any.
            foundation: of all meters.

        Raises:
            ThingsBoardRefused: the name belongs to something that is no meter.
        """
        wanted = self._wanted
        for taken, whose in ((wanted.gateway_name, "the gateway device's"), (wanted.service_name, "Meterbridge's own")):
            if name == taken:
                raise ThingsBoardRefused(f"name conflict: {name!r} is {whose} name")
        device, changed = await self._device(name, wanted.device_type, foundation.profile, token)
        if not exists(device):
            return MeterDevice(None, None, True)
        changed |= await self._relate(foundation.gateway, id_of(device), name)
        changed |= await self._timeout(id_of(device), name)
        return MeterDevice(id_of(device), await self._entities.token_of(device), changed)

    async def newest(self, device: str, keys: Sequence[str]) -> int | None:
        """Return the time of the newest reading that ThingsBoard has of a device, Unix milliseconds, or None."""
        path = f"/api/plugins/telemetry/DEVICE/{device}/values/timeseries"
        return _newest(await self._rest.get(path, keys=",".join(keys)))

    async def has_reading(self, device: str, keys: Sequence[str], ts: int) -> bool:
        """Whether ThingsBoard has a device's reading of a time, Unix milliseconds."""
        path = f"/api/plugins/telemetry/DEVICE/{device}/values/timeseries"
        found = await self._rest.get(path, keys=",".join(keys), startTs=ts, endTs=ts + 1, limit=1)
        return _newest(found) == ts

    # ---- what all meters share

    async def _profile(self, name: str, description: str, rules: Sequence[Rule]) -> dict[str, Any]:
        alarms = [] if self._server.rules_apart else profile_alarms(rules)

        async def find() -> dict[str, Any] | None:
            return await self._find_profile(name)

        found = await find()
        if found is None:
            fresh = {
                "configuration": {"type": "DEFAULT"},
                "transportConfiguration": {"type": "DEFAULT"},
                "provisionConfiguration": {"type": "DISABLED", "provisionDeviceSecret": None},
                "alarms": alarms,
            }
            body = {
                "name": name,
                "description": description,
                "type": "DEFAULT",
                "transportType": "DEFAULT",
                "provisionType": "DISABLED",
                "profileData": fresh,
            }
            return await self._entities.create("device profile", name, find, "/api/deviceProfile", body)
        data = dict(found.get("profileData") or {})
        there: list[dict[str, Any]] = data.get("alarms") or []
        ours = [alarm for alarm in there if is_ours(alarm)]
        if self._server.rules_apart or covers(ours, alarms):
            self._entities.note("device profile", name, "keep")
            return found
        others = [alarm for alarm in there if not is_ours(alarm)]
        body = {**found, "profileData": {**data, "alarms": others + alarms}}
        await self._entities.update("device profile", name, "/api/deviceProfile", body)
        return body

    def _alarm_rules(self, quantities: Sequence[Shown]) -> list[Rule]:
        wanted = self._wanted
        return alarm_rules(quantities, wanted.limits, self._server.activity, wanted.no_data_s > 0)

    async def _find_profile(self, name: str) -> dict[str, Any] | None:
        found = await self._entities.all("/api/deviceProfiles", textSearch=name)
        return next((profile for profile in found if profile.get("name") == name), None)

    async def _rules(self, profile: dict[str, Any], rules: Sequence[Rule], possible: Set[str]) -> None:
        """See to rules beside the profile; those of `possible` names that are not among them go."""
        if not self._server.rules_apart:
            return
        entities = self._entities
        there = await self._rule_entities(id_of(profile)) if exists(profile) else {}
        wanted = rule_entities(rules, id_of(profile))
        for body in wanted:
            name = body["name"]
            found = there.get(name)
            if found is None:

                async def find(name: str = name) -> dict[str, Any] | None:
                    return (await self._rule_entities(id_of(profile))).get(name)

                await entities.create("alarm rule", name, find, "/api/alarm/rule", body)
            elif covers(found.get("configuration"), body["configuration"]):
                entities.note("alarm rule", name, "keep")
            else:
                await entities.update("alarm rule", name, "/api/alarm/rule", {**found, **body})
        for name in sorted((possible & set(there)) - {body["name"] for body in wanted}):
            await entities.delete(
                "alarm rule", name, f"/api/alarm/rule/{id_of(there[name])}", why="not wanted any more"
            )

    async def _rule_entities(self, profile: str) -> dict[str, dict[str, Any]]:
        found = await self._entities.all(f"/api/alarm/rules/DEVICE_PROFILE/{profile}")
        return {str(rule.get("name")): rule for rule in found}

    async def _gateway(self) -> dict[str, Any]:
        name, entities = self._wanted.gateway_name, self._entities
        found = await entities.device(name)
        if found is None:
            body = {
                "name": name,
                "type": "default",
                "additionalInfo": {"gateway": True, "description": "Meterbridge itself", _MADE: True},
            }

            async def find() -> dict[str, Any] | None:
                return await entities.device(name)

            return await entities.create("gateway", name, find, "/api/device", body)
        info = found.get("additionalInfo") or {}
        if info.get("gateway") is True:
            entities.note("gateway", name, "keep")
            return found
        if found.get("type") == self._wanted.device_type:
            raise ThingsBoardRefused(f"name conflict: device {name!r} is a meter; set thingsboard.gateway_name")
        await entities.update("gateway", name, "/api/device", {**found, "additionalInfo": {**info, "gateway": True}})
        return found

    async def _service(self, gateway: dict[str, Any]) -> None:
        """See to the device that shows the alarms of the installation, with a profile of its own: it is no meter."""
        name = self._wanted.service_name
        if not name:
            return
        if name == self._wanted.gateway_name:
            raise ThingsBoardRefused(
                f"name conflict: {name!r} is the gateway device's name; set thingsboard.service_name"
            )
        rules = [bridge_alarm()]
        profile = await self._profile(SERVICE_TYPE, "Alarms of Meterbridge that belong to no meter", rules)
        await self._rules(profile, rules, {rule.name for rule in rules})
        device, _ = await self._device(name, SERVICE_TYPE, id_of(profile), None)
        if exists(device):
            await self._relate(id_of(gateway), id_of(device), name)

    async def dashboard(self, quantities: Sequence[Shown], force: bool = False) -> None:
        """See to the dashboard; one that people changed is left as it is.

        Args:
            quantities: what is shown.
            force: replace it all the same.
        """
        wanted = self._wanted
        entities, title = self._entities, wanted.dashboard_title
        body = dashboard(title, wanted.device_type, quantities, wanted.period_s, self._server.activity)
        found = await self._find_dashboard()
        if found is None:
            await entities.create("dashboard", title, self._find_dashboard, "/api/dashboard", body)
        elif covers(found.get("configuration"), body["configuration"]):
            entities.note("dashboard", title, "keep")
        elif force or is_untouched(found.get("configuration") or {}):
            await entities.update("dashboard", title, "/api/dashboard", {**found, **body})
        else:
            entities.note("dashboard", title, "leave", "people changed it; `thingsboard dashboard --force` replaces it")

    async def _find_dashboard(self) -> dict[str, Any] | None:
        title = self._wanted.dashboard_title
        for info in await self._entities.all("/api/tenant/dashboards", textSearch=title):
            if info.get("title") == title:
                found = await self._rest.get(f"/api/dashboard/{id_of(info)}")
                if isinstance(found, dict) and is_made_by_us(found.get("configuration") or {}):
                    return found
        return None

    # ---- one device

    async def _device(self, name: str, type_: str, profile: str, token: str | None) -> tuple[dict[str, Any], bool]:
        """See to a device of a profile; return it, and whether it was made or changed."""
        entities = self._entities
        device = await entities.device(name)
        if device is None:
            return await self._new_device(name, type_, profile, token), True
        if (device.get("additionalInfo") or {}).get("gateway") is True:
            raise ThingsBoardRefused(f"name conflict: device {name!r} is a gateway; choose another device name")
        if ((device.get("deviceProfileId") or {}).get("id")) == profile:
            entities.note("device", name, "keep")
            return device, False
        body = {**device, "type": type_, "deviceProfileId": {"entityType": "DEVICE_PROFILE", "id": profile}}
        await entities.update("device", name, "/api/device", body)
        return device, True

    async def _new_device(self, name: str, type_: str, profile: str, token: str | None) -> dict[str, Any]:
        entities = self._entities
        body = {
            "name": name,
            "type": type_,
            "deviceProfileId": {"entityType": "DEVICE_PROFILE", "id": profile},
            "additionalInfo": {"description": "Read by Meterbridge", _MADE: True},
        }
        if profile and not exists({"id": {"id": profile}}):
            del body["deviceProfileId"]

        async def find() -> dict[str, Any] | None:
            return await entities.device(name)

        return await entities.create("device", name, find, "/api/device", body, {"accessToken": token})

    async def _relate(self, gateway: str, device: str, name: str) -> bool:
        entities = self._entities
        ends = {"fromId": gateway, "fromType": "DEVICE", "toId": device, "toType": "DEVICE"}
        query = {**ends, "relationType": _RELATION, "relationTypeGroup": "COMMON"}
        if exists({"id": {"id": gateway}}) and await self._rest.get("/api/relation", **query):
            return False
        if not entities.dry_run:
            body = {
                "from": {"entityType": "DEVICE", "id": gateway},
                "to": {"entityType": "DEVICE", "id": device},
                "type": _RELATION,
                "typeGroup": "COMMON",
            }
            # Saved twice it is one relation.
            await self._rest.ask("POST", "/api/relation", body)
        entities.note("relation to the gateway", name, "create")
        return True

    async def _timeout(self, device: str, name: str) -> bool:
        """Tell the server after which silence the device is inactive."""
        wanted = self._wanted.no_data_s * 1000
        if not wanted:
            return False
        path = f"/api/plugins/telemetry/DEVICE/{device}"
        found = await self._rest.get(f"{path}/values/attributes/SERVER_SCOPE", keys=_TIMEOUT)
        if any(item.get("key") == _TIMEOUT and str(item.get("value")) == str(wanted) for item in found or []):
            return False
        if not self._entities.dry_run:
            await self._rest.ask("POST", f"{path}/attributes/SERVER_SCOPE", {_TIMEOUT: wanted})
        self._entities.note("inactivity time-out", name, "update")
        return True

    # ---- taking it away again

    async def remove_device(self, name: str) -> None:
        """Delete a meter's device with its history if we made it; one that was adopted only loses its relation."""
        entities = self._entities
        device = await entities.device(name)
        if device is None:
            entities.note("device", name, "keep", "there is none")
        elif (device.get("additionalInfo") or {}).get(_MADE) is True:
            await entities.delete("device", name, f"/api/device/{id_of(device)}")
        else:
            gateway = await entities.device(self._wanted.gateway_name)
            if gateway is not None:
                ends = {"fromId": id_of(gateway), "fromType": "DEVICE", "toId": id_of(device), "toType": "DEVICE"}
                query = {**ends, "relationType": _RELATION, "relationTypeGroup": "COMMON"}
                if await self._rest.get("/api/relation", **query):
                    await entities.delete("relation to the gateway", name, "/api/relation", query)
            entities.note("device", name, "leave", "it was there before Meterbridge")

    async def remove_foundation(self, every_model: Iterable[MeterModel]) -> None:
        """Delete dashboard, alarm rules, our own devices and, where no device uses them any more, device profiles."""
        entities, wanted = self._entities, self._wanted
        board = await self._find_dashboard()
        if board is not None:
            await entities.delete("dashboard", wanted.dashboard_title, f"/api/dashboard/{id_of(board)}")
        if wanted.service_name:
            await self.remove_device(wanted.service_name)
        gateway = await entities.device(wanted.gateway_name)
        if gateway is not None and (gateway.get("additionalInfo") or {}).get(_MADE) is True:
            await entities.delete("gateway", wanted.gateway_name, f"/api/device/{id_of(gateway)}")
        elif gateway is not None:
            entities.note("gateway", wanted.gateway_name, "leave", "it was there before Meterbridge")
        await self._remove_profile(SERVICE_TYPE, {bridge_alarm().name})
        await self._remove_profile(wanted.device_type, possible_names(polled(every_model)))

    async def _remove_profile(self, type_: str, rules: Set[str]) -> None:
        entities = self._entities
        profile = await self._find_profile(type_)
        if profile is None:
            return
        if self._server.rules_apart:
            there = await self._rule_entities(id_of(profile))
            for name in sorted(rules & set(there)):
                await entities.delete("alarm rule", name, f"/api/alarm/rule/{id_of(there[name])}")
        used = await self._rest.get("/api/tenant/devices", pageSize=1, page=0, type=type_)
        if isinstance(used, dict) and used.get("data"):
            entities.note("device profile", type_, "leave", "devices still use it")
        else:
            await entities.delete("device profile", type_, f"/api/deviceProfile/{id_of(profile)}")


def _newest(found: Any) -> int | None:
    """The newest time in an answer about time series; a key without data comes as a null of this moment."""
    if not isinstance(found, dict):
        return None
    times = [
        int(point["ts"])
        for points in found.values()
        for point in points
        if point.get("value") is not None and point.get("ts")
    ]
    return max(times, default=None)
