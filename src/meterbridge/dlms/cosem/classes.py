"""The interface classes a reader meets, by class and version (Blue Book, COSEM interface classes)."""

from __future__ import annotations

from typing import Any

from meterbridge.dlms.cosem.interface_class import Attribute, InterfaceClass, interface_class
from meterbridge.dlms.cosem.names import class_name
from meterbridge.dlms.cosem.shapes import (
    array,
    association_name,
    conformance,
    date,
    date_time,
    displayed,
    enumeration,
    flags,
    hexadecimal,
    obis,
    row_value,
    scaler_unit,
    structure,
    time,
)


def class_reference(value: Any) -> Any:
    """A class by number and name."""
    return f"{value} {class_name(value)}" if isinstance(value, int) else displayed(value)


def capture_object(value: Any) -> Any:
    """A reference to an attribute, as in capture objects, push lists and monitored values, with what it names."""
    match value:
        case (int(class_id), bytes(name), int(attribute), *rest) if len(rest) <= 1:
            known = cosem_class(class_id)
            if attribute == 0:
                resolved = "all"
            else:
                resolved = (known.attribute(attribute) if known else Attribute(f"attribute {attribute}")).name
            shown: dict[str, Any] = {
                "class_id": class_id,
                "class": class_name(class_id),
                "logical_name": obis(name),
                "attribute": attribute,
                "attribute_name": resolved,
            }
            return {**shown, "data_index": rest[0]} if rest else shown
    return displayed(value)


_SCRIPT = structure(script_logical_name=obis, script_selector=displayed)
_METHOD_ACCESS = enumeration({0: "no_access", 1: "access", 2: "authenticated_access"})
_ATTRIBUTE_ACCESS = enumeration(
    {
        0: "no_access",
        1: "read_only",
        2: "write_only",
        3: "read_and_write",
        4: "authenticated_read_only",
        5: "authenticated_write_only",
        6: "authenticated_read_and_write",
    }
)
_PROTECTION = {
    2: "authenticated_request",
    3: "encrypted_request",
    4: "digitally_signed_request",
    5: "authenticated_response",
    6: "encrypted_response",
    7: "digitally_signed_response",
}
_ATTRIBUTE_ACCESS_BITS = flags({0: "read_access", 1: "write_access", **_PROTECTION})
_METHOD_ACCESS_BITS = flags({0: "access", **_PROTECTION})


def _ln_object_list(attribute_access: Any, method_access: Any) -> Any:
    return array(
        structure(
            class_id=class_reference,
            version=displayed,
            logical_name=obis,
            access_rights=structure(
                attribute_access=array(
                    structure(attribute_id=displayed, access_mode=attribute_access, access_selectors=displayed)
                ),
                method_access=array(structure(method_id=displayed, access_mode=method_access)),
            ),
        )
    )


def _base_name(value: Any) -> Any:
    return f"0x{value & 0xFFFF:04X}" if isinstance(value, int) else displayed(value)


_CONTEXT = association_name(
    {
        1: "logical_name_referencing_no_ciphering",
        2: "short_name_referencing_no_ciphering",
        3: "logical_name_referencing_with_ciphering",
        4: "short_name_referencing_with_ciphering",
    }
)
_MECHANISM = association_name(
    {
        0: "lowest_level_security",
        1: "low_level_security",
        2: "high_level_security",
        3: "high_level_security_using_md5",
        4: "high_level_security_using_sha1",
        5: "high_level_security_using_gmac",
        6: "high_level_security_using_sha256",
        7: "high_level_security_using_ecdsa",
    }
)
_USER = structure(user_id=displayed, user_name=displayed)

_ASSOCIATION_LN = (
    ("associated_partners_id", structure(client_SAP=displayed, server_SAP=displayed)),
    ("application_context_name", _CONTEXT),
    (
        "xDLMS_context_info",
        structure(
            conformance=conformance,
            max_receive_pdu_size=displayed,
            max_send_pdu_size=displayed,
            dlms_version_number=displayed,
            quality_of_service=displayed,
            cyphering_info=hexadecimal,
        ),
    ),
    ("authentication_mechanism_name", _MECHANISM),
    ("secret", hexadecimal),
    ("association_status", enumeration({0: "non_associated", 1: "association_pending", 2: "associated"})),
    ("security_setup_reference", obis),
    ("user_list", array(_USER)),
    ("current_user", _USER),
)
_ASSOCIATION_LN_METHODS = ("reply_to_HLS_authentication", "change_HLS_secret", "add_object", "remove_object")
_USER_METHODS = ("add_user", "remove_user")

_ASSOCIATION_SN = (
    (
        "object_list",
        array(structure(base_name=_base_name, class_id=class_reference, version=displayed, logical_name=obis)),
    ),
    (
        "access_rights_list",
        array(
            structure(
                base_name=_base_name,
                attribute_access=array(
                    structure(attribute_id=displayed, access_mode=_ATTRIBUTE_ACCESS, access_selectors=displayed)
                ),
                method_access=array(structure(method_id=displayed, access_mode=_METHOD_ACCESS)),
            )
        ),
    ),
    ("security_setup_reference", obis),
    ("user_list", array(_USER)),
    ("current_user", _USER),
)
_ASSOCIATION_SN_METHODS = (
    "reserved_1",
    "reserved_2",
    "read_by_logicalname",
    "reserved_4",
    "change_secret",
    "reserved_6",
    "reserved_7",
    "reply_to_HLS_authentication",
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

_PUSH = (
    ("push_object_list", array(capture_object)),
    (
        "send_destination_and_method",
        structure(
            transport_service=enumeration(
                {
                    0: "TCP",
                    1: "UDP",
                    2: "FTP",
                    3: "SMTP",
                    4: "SMS",
                    5: "HDLC",
                    6: "M-Bus",
                    7: "ZigBee",
                    8: "DLMS gateway",
                }
            ),
            destination=displayed,
            message=enumeration({0: "A-XDR encoded xDLMS APDU", 1: "XML encoded xDLMS APDU"}),
        ),
    ),
    ("communication_window", array(structure(start_time=date_time, end_time=date_time))),
    "randomisation_start_interval",
    "number_of_retries",
)
_REPETITION_DELAY = structure(
    repetition_delay_min=displayed, repetition_delay_exponent=displayed, repetition_delay_max=displayed
)
_PUSH_1 = (("port_reference", obis), "push_client_SAP", "push_protection_parameters")

# Version 0 counts the ways, later ones set a bit for each: no number means both.
_POLICY_NAMES = {0: "nothing", 1: "authenticated", 2: "encrypted", 3: "authenticated_and_encrypted"}


def _security_policy(value: Any) -> Any:
    if isinstance(value, int) and value not in _POLICY_NAMES:
        return flags(_PROTECTION)(value)
    return enumeration(_POLICY_NAMES)(value)


_SECURITY = (
    ("security_policy", _security_policy),
    (
        "security_suite",
        enumeration({0: "AES-GCM-128", 1: "AES-GCM-128, ECDSA P-256, SHA-256", 2: "AES-GCM-256, ECDSA P-384, SHA-384"}),
    ),
    ("client_system_title", hexadecimal),
    ("server_system_title", hexadecimal),
)

# The first entry of a class is what a reader gets who does not know the version.
_TABLE = (
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
    interface_class(12, 0, _ASSOCIATION_SN, _ASSOCIATION_SN_METHODS, 0x20),
    interface_class(12, 3, _ASSOCIATION_SN, (*_ASSOCIATION_SN_METHODS, *_USER_METHODS), 0x20),
    interface_class(
        15,
        0,
        [("object_list", _ln_object_list(_ATTRIBUTE_ACCESS, _METHOD_ACCESS)), *_ASSOCIATION_LN],
        (*_ASSOCIATION_LN_METHODS, *_USER_METHODS),
    ),
    interface_class(
        15,
        3,
        [("object_list", _ln_object_list(_ATTRIBUTE_ACCESS_BITS, _METHOD_ACCESS_BITS)), *_ASSOCIATION_LN],
        (*_ASSOCIATION_LN_METHODS, *_USER_METHODS),
    ),
    interface_class(
        17,
        0,
        [("SAP_assignment_list", array(structure(SAP=displayed, logical_device_name=displayed)))],
        ["connect_logical_device"],
        0x20,
    ),
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
        21,
        0,
        [
            "thresholds",
            ("monitored_value", capture_object),
            ("actions", array(structure(action_up=_SCRIPT, action_down=_SCRIPT))),
        ],
    ),
    interface_class(
        22,
        0,
        [
            ("executed_script", _SCRIPT),
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
    interface_class(
        23,
        1,
        [
            (
                "comm_speed",
                enumeration(
                    dict(enumerate(("300", "600", "1200", "2400", "4800", "9600", "19200", "38400", "57600", "115200")))
                ),
            ),
            "window_size_transmit",
            "window_size_receive",
            "max_info_field_length_transmit",
            "max_info_field_length_receive",
            "inter_octet_time_out",
            "inactivity_time_out",
            "device_address",
        ],
    ),
    interface_class(40, 0, [*_PUSH, "repetition_delay"], ["push"], 0x38),
    interface_class(40, 1, [*_PUSH, "repetition_delay", *_PUSH_1], ["push"]),
    interface_class(
        40,
        2,
        [
            *_PUSH,
            ("repetition_delay", _REPETITION_DELAY),
            *_PUSH_1,
            (
                "push_operation_method",
                enumeration(
                    {
                        0: "unconfirmed",
                        1: "confirmed, retried when the supporting layer failed",
                        2: "confirmed, retried without confirmation",
                    }
                ),
            ),
            (
                "confirmation_parameters",
                structure(confirmation_start_date=date_time, confirmation_interval=displayed),
            ),
            ("last_confirmation_date_time", date_time),
        ],
        ["push", "reset"],
    ),
    interface_class(
        41,
        0,
        ["TCP-UDP_port", ("IP_reference", obis), "MSS", "nb_of_sim_conn", "inactivity_time_out"],
    ),
    interface_class(64, 0, _SECURITY, ["security_activate", "global_key_transfer"], 0x28),
    interface_class(
        64,
        1,
        [
            *_SECURITY,
            (
                "certificates",
                array(
                    structure(
                        certificate_entity=enumeration(
                            {0: "server", 1: "client", 2: "certification_authority", 3: "other"}
                        ),
                        certificate_type=enumeration(
                            {0: "digital_signature", 1: "key_agreement", 2: "TLS", 3: "other"}
                        ),
                        serial_number=hexadecimal,
                        issuer=displayed,
                        subject=displayed,
                        subject_alt_name=displayed,
                    )
                ),
            ),
        ],
        [
            "security_activate",
            "key_transfer",
            "key_agreement",
            "generate_key_pair",
            "generate_certificate_request",
            "import_certificate",
            "export_certificate",
            "remove_certificate",
        ],
        0x30,
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
            ("actions", structure(action_over_threshold=_SCRIPT, action_under_threshold=_SCRIPT)),
        ],
    ),
)

_BY_ID: dict[int, list[InterfaceClass]] = {}
for _entry in _TABLE:
    _BY_ID.setdefault(_entry.class_id, []).append(_entry)


def cosem_class(class_id: int, version: int | None = None) -> InterfaceClass | None:
    """Return what is known of a class, None for one that is not described here.

    Args:
        class_id: its number.
        version: its version; the nearest described one below it is taken. None where it is not known: the version
            most meters have.
    """
    described = _BY_ID.get(class_id)
    if described is None:
        return None
    if version is None:
        return described[0]
    fitting = [entry for entry in described if entry.version <= version]
    return max(fitting or described, key=lambda entry: entry.version if fitting else -entry.version)
