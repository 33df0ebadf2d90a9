"""Red Hat's content and .NET's files on the small guest: certificates, subscription, update client, runtimes."""

# ruff: noqa: E501 - a table: one case a line
from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from judged_tree import judge
from small_packages import Made, install

from certification.checks import NotApplicable
from certification.parse import openpgp

TODAY = datetime(2026, 11, 22, tzinfo=UTC)
PEM = "/etc/pki/product-default/479.pem"
CRT = "/etc/pki/rhui/product/content.crt"
DOTNET = "/usr/lib64/dotnet"
CORE = f"{DOTNET}/shared/Microsoft.NETCore.App"
WEB = f"{DOTNET}/shared/Microsoft.AspNetCore.App"
PAIR = json.dumps({"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": "10.0.6"}}})
Changes = dict[str, str | bytes | None]


def certificate(*, version: str = "9", days: int = 365) -> str:
    """A certificate as Red Hat's product certificates are made: the version in an extension of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "product")])
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.2312.9.1.479.2")
    value = b"\x0c" + bytes([len(version)]) + version.encode()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(TODAY - timedelta(days=1000))
        .not_valid_after(TODAY + timedelta(days=days))
        .add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


PLUGINS: Changes = {
    "/etc/dnf/plugins/product-id.conf": "[main]\nenabled=1\n",
    "/etc/dnf/plugins/subscription-manager.conf": "[main]\nenabled=1\n",
    "/etc/rhsm/rhsm.conf": "[rhsm]\nmanage_repos=1\n[rhsmcertd]\nauto_registration=1\n",
    "/usr/lib/systemd/system/rhsmcertd.service": "[Install]\n",
    "/etc/systemd/system/multi-user.target.wants/rhsmcertd.service": "->/usr/lib/systemd/system/rhsmcertd.service",
}
RUNTIME: Changes = {
    f"{CORE}/10.0.6/libcoreclr.so": "x",
    f"{DOTNET}/host/fxr/10.0.6/libhostfxr.so": "x",
    "/etc/pki/tls/certs/ca-bundle.crt": "-----BEGIN CERTIFICATE-----\n" * 60,
}
CLIENT = [Made("redhat-cloud-client-configuration")]
RHUI = [Made("rhui-azure-rhel9")]
CA = [Made("ca-certificates")]
NET = [Made("dotnet-runtime-10.0", version="10.0.6"), *CA]
TWO: Changes = {**RUNTIME, f"{CORE}/9.0.15/libcoreclr.so": "x"}

LABELS = (
    "".join(f"/filler-{n}\t--\tsystem_u:object_r:etc_t:s0\n" for n in range(120))
    + "/usr(/.*)?\tsystem_u:object_r:usr_t:s0\n"
)

#: (requirement, files, packages): holds.
GOOD: list[tuple[str, Changes, list[Made]]] = [
    ("ccsp.product-certificate", {PEM: certificate()}, []),
    ("ccsp.subscription-plugins", PLUGINS, []),
    ("azure.rhui-package", {}, CLIENT),
    ("azure.rhui-package", {}, RHUI),
    ("azure.rhui-certificate", {CRT: certificate(days=71)}, RHUI),
    ("ccsp.insights-client", {"/usr/lib/systemd/system/insights-client.timer": "[Install]\n"}, [Made("insights-client")]),
    ("ccsp.eula-package", {"/usr/share/redhat-release/EULA": "x"}, [Made("redhat-release-eula")]),
    ("ccsp.system-reinstall-bootc", {}, [Made("system-reinstall-bootc")]),
    ("azure.cmdline-nvme-timeout", {"/usr/lib/udev/rules.d/80-azure-disk.rules": "io_timeout"}, []),
    ("dotnet.ca-trust", RUNTIME, NET),
    ("dotnet.channel-eol-warning", RUNTIME, NET),
    ("dotnet.patch-level", RUNTIME, NET),
    ("dotnet.sdk-policy", RUNTIME, NET),
    ("dotnet.dotnet-root-env", {**RUNTIME, "/etc/profile.d/dotnet.sh": f"export DOTNET_ROOT={DOTNET}\n"}, NET),
    ("dotnet.telemetry-policy", {**RUNTIME, "/etc/profile.d/dotnet.sh": "export DOTNET_CLI_TELEMETRY_OPTOUT=1\n"}, NET),
    ("dotnet.framework-pairing", {**RUNTIME, f"{WEB}/10.0.6/Microsoft.AspNetCore.App.runtimeconfig.json": PAIR}, NET),
    ("dotnet.side-by-side", TWO, [*NET, Made("dotnet-runtime-9.0", version="9.0.15")]),
    ("hyperv.supported-matrix", {}, []),
    ("ccsp.rpm-nonvendor-no-conflict", {}, [Made("stray", vendor="Somebody", files=(("/opt/stray/x", "x", 0o644),))]),
    ("support.tuned-profile", {"/etc/tuned/active_profile": "virtual-guest\n"}, [Made("tuned")]),
    ("hyperv.scvmm-agent", {"/usr/sbin/scvmmguestagent 755": "x", "/usr/lib/systemd/system/scvmmguestagent.service": "[Install]\n", "/etc/systemd/system/multi-user.target.wants/scvmmguestagent.service": "->/usr/lib/systemd/system/scvmmguestagent.service"}, []),
]  # fmt: skip
#: The same, with one thing wrong.
BAD: list[tuple[str, Changes, list[Made]]] = [
    ("ccsp.product-certificate", {}, []),
    ("ccsp.product-certificate", {PEM: certificate(version="8.6")}, []),
    ("ccsp.product-certificate", {PEM: certificate(days=-1)}, []),
    ("ccsp.product-certificate", {PEM: "no certificate"}, []),
    ("ccsp.subscription-plugins", {**PLUGINS, "/etc/dnf/plugins/product-id.conf": "[main]\nenabled=0\n"}, []),
    ("ccsp.subscription-plugins", {**PLUGINS, "/etc/rhsm/rhsm.conf": "[rhsm]\nmanage_repos=0\n[rhsmcertd]\nauto_registration=1\n"}, []),
    ("ccsp.subscription-plugins", PLUGINS, RHUI),
    ("azure.rhui-package", {}, []),
    ("azure.rhui-package", {}, [*RHUI, Made("rhui-azure-rhel9-eus")]),
    ("azure.rhui-package", {}, [*CLIENT, Made("redhat-cloud-client-configuration-cdn")]),
    ("azure.rhui-certificate", {CRT: certificate(days=60)}, RHUI),
    ("azure.rhui-certificate", {}, RHUI),
    ("ccsp.insights-client", {}, []),
    ("ccsp.eula-package", {}, [Made("redhat-release-eula")]),
    ("ccsp.system-reinstall-bootc", {}, []),
    ("azure.cmdline-nvme-timeout", {}, []),
    ("dotnet.ca-trust", {**RUNTIME, "/etc/pki/tls/certs/ca-bundle.crt": ""}, NET),
    ("dotnet.ca-trust", RUNTIME, []),
    ("dotnet.channel-eol-warning", TWO, NET),
    ("dotnet.patch-level", {f"{CORE}/10.0.1/libcoreclr.so": "x"}, NET),
    ("dotnet.patch-level", {f"{CORE}/99.0.1/libcoreclr.so": "x"}, NET),
    ("dotnet.sdk-policy", {**RUNTIME, f"{DOTNET}/sdk/10.0.202/dotnet.dll": "x"}, NET),
    ("dotnet.sdk-policy", RUNTIME, [*NET, Made("dotnet-sdk-10.0")]),
    ("dotnet.dotnet-root-env", {**RUNTIME, "/etc/environment": "DOTNET_ROOT=/opt/other\n"}, NET),
    ("dotnet.dotnet-root-env", {**RUNTIME, "/etc/profile.d/x.sh": "export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1\n"}, NET),
    ("dotnet.telemetry-policy", RUNTIME, NET),
    ("dotnet.framework-pairing", {**RUNTIME, f"{WEB}/10.0.6/Microsoft.AspNetCore.App.runtimeconfig.json": PAIR.replace("10.0.6", "10.0.5")}, NET),
    ("dotnet.framework-pairing", {**RUNTIME, f"{WEB}/10.0.6/Microsoft.AspNetCore.App.runtimeconfig.json": "{"}, NET),
    ("dotnet.side-by-side", TWO, NET),
    ("dotnet.side-by-side", {**TWO, "/etc/environment": "DOTNET_ROLL_FORWARD=Major\n"}, [*NET, Made("dotnet-runtime-9.0")]),
    ("dotnet.rhel7-scl", {}, [Made("rh-dotnet31")]),
    ("dotnet.atomic-delivery", {"/opt/dotnet/shared/Microsoft.NETCore.App/10.0.6/x.so": "x", "/opt/dotnet/host/fxr/10.0.6/x.so": "x"}, []),
    ("dotnet.selinux-clean", {**RUNTIME, "/etc/selinux/targeted/contexts/files/file_contexts": LABELS}, NET),
    ("support.efi-package", {}, [Made("efi-filesystem", files=(("/etc/os-release", "x", 0o644),))]),
]  # fmt: skip


def _ids(rows: list[tuple[str, Changes, list[Made]]]) -> list[str]:
    return [f"{name}-{n}" for n, (name, _, _) in enumerate(rows)]


@pytest.fixture
def packaged(database: Path, tmp_path: Path) -> Callable[[list[Made]], Path]:
    """The small guest's package database with some more packages."""

    def add(packages: list[Made]) -> Path:
        if not packages:
            return database
        import shutil

        copy = shutil.copytree(database, tmp_path / "database")
        install(copy, tmp_path, packages)
        return copy

    return add


@pytest.mark.parametrize(("identifier", "files", "packages"), GOOD, ids=_ids(GOOD))
def test_good(
    identifier: str,
    files: Changes,
    packages: list[Made],
    tree: Path,
    packaged: Callable[[list[Made]], Path],
    change: Callable[[Changes], None],
) -> None:
    change(files)
    check = judge(identifier, tree, packaged(packages))
    assert check.made and not check.failed, [(i.what, i.expected, i.observed) for i in check.failed]


@pytest.mark.parametrize(("identifier", "files", "packages"), BAD, ids=_ids(BAD))
def test_bad(
    identifier: str,
    files: Changes,
    packages: list[Made],
    tree: Path,
    packaged: Callable[[list[Made]], Path],
    change: Callable[[Changes], None],
) -> None:
    change(files)
    assert judge(identifier, tree, packaged(packages)).failed


def test_a_subscription_of_ones_own_has_no_update_certificate(tree: Path, database: Path) -> None:
    with pytest.raises(NotApplicable, match="no rhui-azure package"):
        judge("azure.rhui-certificate", tree, database)


def test_a_file_from_the_future_is_seen(tree: Path, database: Path) -> None:
    path = tree / "etc/hosts"
    before = path.stat()
    assert not judge("hygiene.mtime-sane", tree, database).failed
    os.utime(path, (4102444800, 4102444800))
    assert judge("hygiene.mtime-sane", tree, database).failed
    os.utime(path, (before.st_atime, before.st_mtime))


def test_fingerprints_of_keys() -> None:
    key = Path(__file__).parents[2] / "images/sample-distribution/keys/RPM-GPG-KEY-hallmark-sample"
    assert openpgp.fingerprints(key.read_bytes()) == ["4289A0585D393B761423296BAA81A34A9A583DEE"]
    assert openpgp.fingerprints(key.read_bytes().replace(b"A", b"B", 40)) != openpgp.fingerprints(
        key.read_bytes()
    )
    for broken in (
        b"",
        b"no key",
        b"\x99",
        b"\xc6\xff\xff",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n%%\n-----END PGP PUBLIC KEY BLOCK-----\n",
    ):
        assert openpgp.fingerprints(broken) == []
