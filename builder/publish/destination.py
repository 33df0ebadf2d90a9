"""Where releases go: ``azurite``, ``azure://ACCOUNT/CONTAINER``, ``file:///PATH`` or ``oci://HOST/NAMESPACE``.

A destination is only an address. ``builder.publish.storage``, ``share`` and ``registry`` do the work.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from builder.errors import HallmarkError

__all__ = [
    "DEFAULT",
    "AzureDestination",
    "AzuriteDestination",
    "Destination",
    "FileDestination",
    "RegistryDestination",
    "blob_name",
    "parse",
]

DEFAULT = "azurite"
_HINT = "azurite (default), azure://ACCOUNT/CONTAINER, file:///ABSOLUTE/PATH, or oci://HOST/NAMESPACE"
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}(\.blob\.[a-z0-9.-]+)?")
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
# Without a dot or a port, engines take the first word for a part of the name ("distribution", reference).
_HOST = re.compile(r"(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+|[a-z0-9-]+(?=:))(:[0-9]{1,5})?")
_NAMESPACE = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class AzuriteDestination:
    """The local Azurite, started for the upload and stopped after it; the blobs persist in
    ``build/azurite``.
    """

    container: str = "images"

    def __str__(self) -> str:
        return "azurite"


@dataclass(frozen=True, slots=True)
class AzureDestination:
    """A container of an Azure storage account. ``host`` is the account's blob endpoint without
    ``https://``.
    """

    account: str
    container: str
    host: str

    def __str__(self) -> str:
        public_cloud = self.host == f"{self.account}.blob.core.windows.net"
        return f"azure://{self.account if public_cloud else self.host}/{self.container}"


@dataclass(frozen=True, slots=True)
class FileDestination:
    """A directory: a mounted Hyper-V library share, for example."""

    path: Path

    def __str__(self) -> str:
        return self.path.as_uri()


@dataclass(frozen=True, slots=True)
class RegistryDestination:
    """A container registry; ``host`` has its port, if it has one. Each recipe gets a repository of its own
    below ``namespace``, so that versions of two recipes never meet.
    """

    host: str
    namespace: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (f"oci://{self.host}", self.namespace)))

    def repository(self, recipe: str) -> str:
        """``HOST/NAMESPACE/RECIPE``, as engines write it."""
        return "/".join(filter(None, (self.host, self.namespace, recipe)))

    @property
    def loopback(self) -> bool:
        """It is on this machine: the one place where plain HTTP does."""
        name = self.host.partition(":")[0]
        try:
            return name == "localhost" or ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


Destination = AzuriteDestination | AzureDestination | FileDestination | RegistryDestination


def parse(text: str) -> Destination:
    """The destination that ``text`` names.

    Azure in another cloud is named by its endpoint: ``azure://ACCOUNT.blob.core.chinacloudapi.cn/CONTAINER``.

    :raises HallmarkError: it is no destination, or a name breaks Azure's rules (account: 3 to 24 lower-case
        letters and digits; container: 3 to 63 lower-case letters, digits and single dashes).
    """
    try:
        url = urlsplit(text)
    except ValueError:
        # Neither it nor the library's word is repeated, for the same reason as below.
        raise HallmarkError(
            "the destination is no address",
            why="brackets enclose an IPv6 address, and a host's name has no odd characters",
            hint=_HINT,
        ) from None
    if text == "azurite":
        return AzuriteDestination()
    if url.query or url.fragment or url.username or url.password or "@" in url.netloc:
        # Not repeated in the message: whoever puts a query here has most likely pasted a SAS token.
        raise HallmarkError(
            "the destination holds more than an address",
            why="credentials in a destination would end up in the release record and the catalog",
            hint="put a SAS token into AZURE_STORAGE_SAS_TOKEN and give only azure://ACCOUNT/CONTAINER; "
            "for a registry, log in (skopeo login)",
        )
    if url.scheme == "file":
        path = Path(unquote(url.path))
        if url.netloc or not path.is_absolute() or path == Path("/"):
            raise _refuse(text, "it needs three slashes and an absolute directory")
        return FileDestination(path)
    if url.scheme == "azure":
        container = url.path.strip("/")
        if not _ACCOUNT.fullmatch(url.netloc):
            raise _refuse(
                text, f"{url.netloc!r} can't be a storage account: 3 to 24 lower-case letters and digits"
            )
        if not _CONTAINER.fullmatch(container):
            raise _refuse(
                text,
                f"{container!r} can't be a container: 3 to 63 lower-case letters, digits and single dashes",
            )
        account = url.netloc.partition(".")[0]
        host = url.netloc if "." in url.netloc else f"{account}.blob.core.windows.net"
        return AzureDestination(account, container, host)
    if url.scheme == "oci":
        namespace = url.path.strip("/")
        if not _HOST.fullmatch(url.netloc):
            raise _refuse(text, f"{url.netloc!r} can't be a registry: its name has a dot or a port")
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise _refuse(
                text,
                f"{namespace!r} can't be a namespace: small letters, digits, separators; no tag, no digest",
            )
        return RegistryDestination(url.netloc, namespace)
    raise _refuse(text, "no such kind of destination")


def blob_name(recipe: str, version: str, *, ending: str = ".vhd") -> str:
    """The name of a release's blob or file: ``sample-9-9-20261122-0.vhd``.

    No dots but the last: ManageIQ's display name strips two extensions, so ``rhel-9.6.vhd`` would show as
    ``rhel-9`` (azure-armrest, private images).

    :raises HallmarkError: recipe or version have characters that a blob name must not have.
    """
    name = f"{recipe}-{version}".replace(".", "-")
    if not _NAME.fullmatch(name):
        raise HallmarkError(
            f"{name!r} can't be the name of a blob",
            where=recipe,
            why="names are lower-case letters, digits and single dashes: every consumer shows them whole",
            hint="rename the recipe",
        )
    return f"{name}{ending}"


def _refuse(text: str, why: str) -> HallmarkError:
    return HallmarkError(
        f"{text!r} is not a destination",
        why=why,
        hint=_HINT,
    )
