"""Interface classes that say who may do what: associations, SAPs, security (Blue Book, access control)."""

from __future__ import annotations

from typing import Any

from meterbridge.dlms.cosem.interface_class import interface_class
from meterbridge.dlms.cosem.references import class_reference
from meterbridge.dlms.cosem.shapes import (
    array,
    association_name,
    conformance,
    displayed,
    enumeration,
    flags,
    hexadecimal,
    obis,
    structure,
)

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

ACCESS = (
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
)
