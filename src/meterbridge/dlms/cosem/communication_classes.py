"""Interface classes that set up communication and pushing (Blue Book)."""

from __future__ import annotations

from meterbridge.dlms.cosem.interface_class import interface_class
from meterbridge.dlms.cosem.references import capture_object
from meterbridge.dlms.cosem.shapes import (
    array,
    date_time,
    displayed,
    enumeration,
    obis,
    structure,
)

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

COMMUNICATION = (
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
)
