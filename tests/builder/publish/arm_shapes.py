"""The shapes of the bodies that Azure Resource Manager takes, checked strictly: what is unknown is refused.

From the published definitions of Microsoft.Compute (Azure/azure-rest-api-specs, GalleryRP and Image).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["DISK", "IMAGE", "IMAGE_VERSION", "MANAGED_IMAGE", "VERSION_PATCH", "Refused", "check"]


class Refused(Exception):
    """The service's refusal."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Need:
    """A property that must be there."""

    shape: Any


DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
TAGS = {"*": str}
REGION = {
    "name": Need(str),
    "regionalReplicaCount": range(1, 101),
    "storageAccountType": {"Standard_LRS", "Standard_ZRS", "Premium_LRS", "PremiumV2_LRS"},
    "excludeFromLatest": bool,
}
PROFILE = {
    "targetRegions": Need([REGION]),
    "replicaCount": range(1, 101),
    "excludeFromLatest": bool,
    "endOfLifeDate": DATE,
    "storageAccountType": {"Standard_LRS", "Standard_ZRS", "Premium_LRS"},
    "replicationMode": {"Full", "Shallow"},
}
FEATURES = {
    "IsAcceleratedNetworkSupported": {"True", "False"},
    "IsHibernateSupported": {"True", "False"},
    "DiskControllerTypes": {"SCSI", "NVMe", "SCSI, NVMe"},
    "SecurityType": {
        "TrustedLaunch",
        "TrustedLaunchSupported",
        "ConfidentialVM",
        "ConfidentialVmSupported",
        "TrustedLaunchAndConfidentialVmSupported",
        "Standard",
    },
}
IMAGE = {
    "location": Need(str),
    "tags": TAGS,
    "id": str,
    "name": str,
    "type": str,
    "properties": Need(
        {
            "description": str,
            "osType": Need({"Linux", "Windows"}),
            "osState": Need({"Generalized", "Specialized"}),
            "hyperVGeneration": {"V1", "V2"},
            "architecture": {"x64", "Arm64"},
            "endOfLifeDate": DATE,
            "identifier": Need({"publisher": Need(str), "offer": Need(str), "sku": Need(str)}),
            "features": [{"name": Need(set(FEATURES)), "value": Need(str), "startsAtVersion": str}],
            "allowUpdateImage": bool,
            "provisioningState": str,
        }
    ),
}
IMAGE_VERSION = {
    "location": Need(str),
    "tags": TAGS,
    "properties": Need(
        {
            "publishingProfile": Need(PROFILE),
            "storageProfile": Need(
                {
                    "osDiskImage": Need(
                        {
                            "hostCaching": {"None", "ReadOnly", "ReadWrite"},
                            "source": Need({"uri": Need(str), "storageAccountId": Need(str)}),
                        }
                    )
                }
            ),
            "safetyProfile": {
                "allowDeletionOfReplicatedLocations": bool,
                "blockDeletionBeforeEndOfLife": bool,
            },
        }
    ),
}
VERSION_PATCH = {"tags": TAGS, "properties": {"publishingProfile": PROFILE}}
MANAGED_IMAGE = {
    "location": Need(str),
    "tags": TAGS,
    "properties": Need(
        {
            "hyperVGeneration": Need({"V1", "V2"}),
            "storageProfile": Need(
                {
                    "osDisk": Need(
                        {
                            "osType": Need({"Linux"}),
                            "osState": Need({"Generalized"}),
                            "blobUri": str,
                            "managedDisk": {"id": Need(str)},
                            "caching": {"None", "ReadOnly", "ReadWrite"},
                        }
                    )
                }
            ),
        }
    ),
}
DISK = {
    "location": Need(str),
    "tags": TAGS,
    "sku": {"name": Need({"Standard_LRS", "StandardSSD_LRS", "Premium_LRS"})},
    "properties": Need(
        {
            "osType": {"Linux"},
            "hyperVGeneration": {"V1", "V2"},
            "creationData": Need(
                {"createOption": Need({"FromImage"}), "galleryImageReference": Need({"id": Need(str)})}
            ),
        }
    ),
}


def check(value: Any, shape: Any, where: str = "body") -> None:
    """Compare a JSON value with a shape.

    :raises Refused: with status 400, and where and why.
    """
    if isinstance(shape, dict):
        _object(value, shape, where)
    elif isinstance(shape, list):
        _must(isinstance(value, list), where, "is no list")
        for index, item in enumerate(value):
            check(item, shape[0], f"{where}[{index}]")
    elif isinstance(shape, set):
        _must(value in shape, where, f"is {value!r}, not one of {sorted(shape)}")
    elif isinstance(shape, range):
        fits = isinstance(value, int) and not isinstance(value, bool) and value in shape
        _must(fits, where, f"is {value!r}, no integer of that range")
    elif isinstance(shape, re.Pattern):
        _must(isinstance(value, str) and shape.fullmatch(value) is not None, where, f"is {value!r}")
    else:
        _must(type(value) is shape, where, f"is {value!r}, not a {shape.__name__}")


def _object(value: Any, shape: dict[str, Any], where: str) -> None:
    _must(isinstance(value, dict), where, "is no object")
    if "*" in shape:
        for name, item in value.items():
            check(item, shape["*"], f"{where}.{name}")
        return
    for name, item in value.items():
        _must(name in shape, where, f"has the unknown property {name!r}")
        inner = shape[name]
        check(item, inner.shape if isinstance(inner, Need) else inner, f"{where}.{name}")
    for name, inner in shape.items():
        _must(name in value or not isinstance(inner, Need), where, f"lacks {name!r}")
    if shape.keys() >= {"name", "value", "startsAtVersion"}:
        _must(
            value["value"] in FEATURES[value["name"]], where, f"{value['name']} can't be {value['value']!r}"
        )


def _must(condition: bool, where: str, said: str) -> None:
    if not condition:
        raise Refused(400, "InvalidRequestContent", f"{where} {said}")
