"""Interface classes that keep the time or act on it (Blue Book, time and event bound control)."""

from __future__ import annotations

from meterbridge.dlms.cosem.interface_class import interface_class
from meterbridge.dlms.cosem.references import SCRIPT, class_reference
from meterbridge.dlms.cosem.shapes import (
    array,
    date,
    date_time,
    displayed,
    enumeration,
    flags,
    obis,
    structure,
    time,
)

_CLOCK_STATUS = flags(
    {
        0: "invalid_value",
        1: "doubtful_value",
        2: "different_clock_base",
        3: "invalid_clock_status",
        7: "daylight_saving_active",
    }
)

_SEASONS = array(structure(season_profile_name=displayed, season_start=date_time, week_name=displayed))
_WEEKS = array(
    structure(
        week_profile_name=displayed,
        monday=displayed,
        tuesday=displayed,
        wednesday=displayed,
        thursday=displayed,
        friday=displayed,
        saturday=displayed,
        sunday=displayed,
    )
)
_DAYS = array(
    structure(
        day_id=displayed,
        day_schedule=array(structure(start_time=time, script_logical_name=obis, script_selector=displayed)),
    )
)

_SERVICES = enumeration({1: "write_attribute", 2: "execute_method"})

TIMED = (
    interface_class(
        8,
        0,
        [
            ("time", date_time),
            "time_zone",
            ("status", _CLOCK_STATUS),
            ("daylight_savings_begin", date_time),
            ("daylight_savings_end", date_time),
            "daylight_savings_deviation",
            "daylight_savings_enabled",
            (
                "clock_base",
                enumeration(
                    {
                        0: "not_defined",
                        1: "internal_crystal",
                        2: "mains_frequency_50_Hz",
                        3: "mains_frequency_60_Hz",
                        4: "GPS",
                        5: "radio_controlled",
                    }
                ),
            ),
        ],
        [
            "adjust_to_quarter",
            "adjust_to_measuring_period",
            "adjust_to_minute",
            "adjust_to_preset_time",
            "preset_adjusting_time",
            "shift_time",
        ],
        0x60,
    ),
    interface_class(
        9,
        0,
        [
            (
                "scripts",
                array(
                    structure(
                        script_identifier=displayed,
                        actions=array(
                            structure(
                                service_id=_SERVICES,
                                class_id=class_reference,
                                logical_name=obis,
                                index=displayed,
                                parameter=displayed,
                            )
                        ),
                    )
                ),
            )
        ],
        ["execute"],
        0x20,
    ),
    interface_class(
        10,
        0,
        [
            (
                "entries",
                array(
                    structure(
                        index=displayed,
                        enable=displayed,
                        script_logical_name=obis,
                        script_selector=displayed,
                        switch_time=time,
                        validity_window=displayed,
                        exec_weekdays=displayed,
                        exec_specdays=displayed,
                        begin_date=date,
                        end_date=date,
                    )
                ),
            )
        ],
        ["enable_disable", "insert", "delete"],
        0x20,
    ),
    interface_class(
        11,
        0,
        [("entries", array(structure(index=displayed, specialday_date=date, day_id=displayed)))],
        ["insert", "delete"],
        0x10,
    ),
    interface_class(
        20,
        0,
        [
            "calendar_name_active",
            ("season_profile_active", _SEASONS),
            ("week_profile_table_active", _WEEKS),
            ("day_profile_table_active", _DAYS),
            "calendar_name_passive",
            ("season_profile_passive", _SEASONS),
            ("week_profile_table_passive", _WEEKS),
            ("day_profile_table_passive", _DAYS),
            ("activate_passive_calendar_time", date_time),
        ],
        ["activate_passive_calendar"],
        0x50,
    ),
    interface_class(
        22,
        0,
        [
            ("executed_script", SCRIPT),
            (
                "type",
                enumeration(
                    {
                        1: "one time, date with wildcards",
                        2: "several equal times, fixed dates",
                        3: "several equal times, dates with wildcards",
                        4: "several times, fixed dates",
                        5: "several times, dates with wildcards",
                    }
                ),
            ),
            ("execution_time", array(structure(time=time, date=date))),
        ],
    ),
)
