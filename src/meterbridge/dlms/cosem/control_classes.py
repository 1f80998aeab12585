"""Interface classes that watch, switch and update the meter (Blue Book)."""

from __future__ import annotations

from meterbridge.dlms.cosem.interface_class import interface_class
from meterbridge.dlms.cosem.references import SCRIPT, capture_object
from meterbridge.dlms.cosem.shapes import (
    array,
    date_time,
    displayed,
    enumeration,
    hexadecimal,
    structure,
)

CONTROLLING = (
    interface_class(
        18,
        0,
        [
            "image_block_size",
            "image_transferred_blocks_status",
            "image_first_not_transferred_block_number",
            "image_transfer_enabled",
            (
                "image_transfer_status",
                enumeration(
                    {
                        0: "image_transfer_not_initiated",
                        1: "image_transfer_initiated",
                        2: "image_verification_initiated",
                        3: "image_verification_successful",
                        4: "image_verification_failed",
                        5: "image_activation_initiated",
                        6: "image_activation_successful",
                        7: "image_activation_failed",
                    }
                ),
            ),
            (
                "image_to_activate_info",
                array(
                    structure(
                        image_to_activate_size=displayed,
                        image_to_activate_identification=displayed,
                        image_to_activate_signature=hexadecimal,
                    )
                ),
            ),
        ],
        ["image_transfer_initiate", "image_block_transfer", "image_verify", "image_activate"],
        0x40,
    ),
    interface_class(
        21,
        0,
        [
            "thresholds",
            ("monitored_value", capture_object),
            ("actions", array(structure(action_up=SCRIPT, action_down=SCRIPT))),
        ],
    ),
    interface_class(
        70,
        0,
        [
            "output_state",
            ("control_state", enumeration({0: "disconnected", 1: "connected", 2: "ready_for_reconnection"})),
            "control_mode",
        ],
        ["remote_disconnect", "remote_reconnect"],
        0x20,
    ),
    interface_class(
        71,
        0,
        [
            ("monitored_value", capture_object),
            "threshold_active",
            "threshold_normal",
            "threshold_emergency",
            "min_over_threshold_duration",
            "min_under_threshold_duration",
            (
                "emergency_profile",
                structure(
                    emergency_profile_id=displayed, emergency_activation_time=date_time, emergency_duration=displayed
                ),
            ),
            "emergency_profile_group_id_list",
            "emergency_profile_active",
            ("actions", structure(action_over_threshold=SCRIPT, action_under_threshold=SCRIPT)),
        ],
    ),
)
