"""Interface classes that hold what is measured (Blue Book, data storage)."""

from __future__ import annotations

from meterbridge.dlms.cosem.interface_class import interface_class
from meterbridge.dlms.cosem.references import capture_object, class_reference
from meterbridge.dlms.cosem.shapes import (
    array,
    date_time,
    displayed,
    enumeration,
    obis,
    row_value,
    scaler_unit,
    structure,
)

_PROFILE = (
    ("buffer", row_value),
    ("capture_objects", array(capture_object)),
    "capture_period",
    (
        "sort_method",
        enumeration({1: "fifo", 2: "lifo", 3: "largest", 4: "smallest", 5: "nearest_to_zero", 6: "farthest_from_zero"}),
    ),
    ("sort_object", capture_object),
    "entries_in_use",
    "profile_entries",
)

MEASURED = (
    interface_class(1, 0, ["value"]),
    interface_class(3, 0, ["value", ("scaler_unit", scaler_unit)], ["reset"], 0x28),
    interface_class(
        4,
        0,
        ["value", ("scaler_unit", scaler_unit), "status", ("capture_time", date_time)],
        ["reset"],
        0x38,
    ),
    interface_class(
        5,
        0,
        [
            "current_average_value",
            "last_average_value",
            ("scaler_unit", scaler_unit),
            "status",
            ("capture_time", date_time),
            ("start_time_current", date_time),
            "period",
            "number_of_periods",
        ],
        ["reset", "next_period"],
        0x48,
    ),
    interface_class(
        6,
        0,
        [
            ("register_assignment", array(structure(class_id=class_reference, logical_name=obis))),
            ("mask_list", array(structure(mask_name=displayed, index_list=displayed))),
            "active_mask",
        ],
        ["add_register", "add_mask", "delete_mask"],
        0x30,
    ),
    interface_class(7, 1, _PROFILE, ["reset", "capture"], 0x58),
    interface_class(7, 0, _PROFILE, ["reset", "capture", "get_buffer_by_range", "get_buffer_by_index"], 0x58),
)
