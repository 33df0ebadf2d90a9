"""Azure as the guest sees it: provisioning disc, instance metadata service and wire server.

An image whose cloud-init asks only Azure cannot be provisioned by any other data source, and changing the
image for its test would test another image. So the guest meets what it meets on Azure:

* the chassis asset tag by which cloud-init and others know the platform,
* a disc with ``ovf-env.xml``: user, key, custom data,
* on its network, the metadata service and the wire server, which takes the report that provisioning is
  complete.

The two servers have fixed addresses, 168.63.129.16 and 169.254.169.254. QEMU's user network forwards a
connection from the guest to a program only for addresses inside that network; 168.0.0.0/7 holds both.
Sources: cloud-init's DataSourceAzure and helpers/azure.py, the Azure documentation of IMDS and of IP
address 168.63.129.16.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from builder.vm import iso

__all__ = [
    "CHASSIS_ASSET_TAG",
    "IMDS",
    "NETWORK",
    "USER_NETWORK",
    "WIRE_SERVER",
    "Instance",
    "forwards",
    "metadata",
    "ovf_environment",
    "write",
]

CHASSIS_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"
WIRE_SERVER = "168.63.129.16"
IMDS = "169.254.169.254"
NETWORK = "168.0.0.0/7"
# The first address that QEMU's DHCP server hands out; the host end and the (mute) resolver of the network.
_GUEST_ADDRESS = "168.0.0.15"
USER_NETWORK = f"net={NETWORK},host=168.0.0.2,dns=168.0.0.3,dhcpstart={_GUEST_ADDRESS}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One virtual machine as Azure would describe it."""

    vm_id: uuid.UUID
    name: str
    user: str
    public_key: str
    user_data: str
    mac: str


def ovf_environment(instance: Instance) -> str:
    """The text of ``ovf-env.xml`` on the provisioning disc."""
    custom = base64.b64encode(instance.user_data.encode()).decode()
    home = f"/home/{instance.user}/.ssh/authorized_keys"
    return f"""<?xml version="1.0" encoding="utf-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"
 xmlns:wa="http://schemas.microsoft.com/windowsazure" xmlns:i="http://www.w3.org/2001/XMLSchema-instance">
 <wa:ProvisioningSection>
  <wa:Version>1.0</wa:Version>
  <wa:LinuxProvisioningConfigurationSet>
   <wa:ConfigurationSetType>LinuxProvisioningConfiguration</wa:ConfigurationSetType>
   <wa:HostName>{escape(instance.name)}</wa:HostName>
   <wa:UserName>{escape(instance.user)}</wa:UserName>
   <wa:DisableSshPasswordAuthentication>true</wa:DisableSshPasswordAuthentication>
   <wa:SSH><wa:PublicKeys><wa:PublicKey>
    <wa:Path>{escape(home)}</wa:Path>
    <wa:Value>{escape(instance.public_key)}</wa:Value>
   </wa:PublicKey></wa:PublicKeys></wa:SSH>
   <wa:CustomData>{custom}</wa:CustomData>
  </wa:LinuxProvisioningConfigurationSet>
 </wa:ProvisioningSection>
 <wa:PlatformSettingsSection>
  <wa:Version>1.0</wa:Version>
  <wa:PlatformSettings>
   <wa:KmsServerHostname i:nil="true"/>
   <wa:ProvisionGuestAgent>true</wa:ProvisionGuestAgent>
   <wa:GuestAgentPackageName i:nil="true"/>
   <wa:PreprovisionedVm>false</wa:PreprovisionedVm>
  </wa:PlatformSettings>
 </wa:PlatformSettingsSection>
</Environment>
"""


def metadata(instance: Instance) -> dict[str, object]:
    """What the instance metadata service answers for ``/metadata/instance``."""
    return {
        "compute": {
            "azEnvironment": "AzurePublicCloud",
            "location": "westeurope",
            "name": instance.name,
            "osProfile": {
                "adminUsername": instance.user,
                "computerName": instance.name,
                "disablePasswordAuthentication": "true",
            },
            "osType": "Linux",
            "placementGroupId": "",
            "platformFaultDomain": "0",
            "platformUpdateDomain": "0",
            "provider": "Microsoft.Compute",
            "publicKeys": [
                {"keyData": instance.public_key, "path": f"/home/{instance.user}/.ssh/authorized_keys"}
            ],
            "resourceGroupName": "hallmark",
            "userData": "",
            "vmId": str(instance.vm_id),
            "vmSize": "Standard_D2s_v5",
        },
        "network": {
            "interface": [
                {
                    "ipv4": {
                        "ipAddress": [{"privateIpAddress": _GUEST_ADDRESS, "publicIpAddress": ""}],
                        "subnet": [{"address": NETWORK.split("/")[0], "prefix": NETWORK.split("/")[1]}],
                    },
                    "ipv6": {"ipAddress": []},
                    "macAddress": instance.mac.replace(":", "").upper(),
                }
            ]
        },
    }


def write(instance: Instance, *, disc: Path, description: Path) -> None:
    """Write the provisioning disc, and the ``description`` that the metadata service answers from."""
    disc.write_bytes(iso.build({"ovf-env.xml": ovf_environment(instance).encode()}, label="HALLMARK"))
    description.write_text(json.dumps(metadata(instance)))


def forwards(*, description: Path, requests: Path) -> tuple[str, ...]:
    """Values of QEMU's ``guestfwd=``: each connection to one of the servers runs ``fabric.py``."""
    program = Path(__file__).with_name("fabric.py")
    commands = []
    for address, service in ((WIRE_SERVER, "wire"), (IMDS, "imds")):
        words = [sys.executable, "-I", os.fspath(program), service]
        words += [os.fspath(description.resolve()), os.fspath(requests.resolve())]
        command = shlex.join(words).replace(",", ",,")
        commands.append(f"tcp:{address}:80-cmd:{command}")
    return tuple(commands)
