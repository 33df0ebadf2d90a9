"""What only RHEL has, on the small guest: no repositories before registration, Microsoft's update client, the
loaders of another processor.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from judged_tree import judge
from small_packages import Made, erase, install

from builder.run import run
from certification.expectations import FACTS, Facts

RHEL = "rhel:9.8"
MICROSOFT = "BC528686B50D79E339D3721CEB3E94ADBE1229CF"
SAMPLE = "4289A0585D393B761423296BAA81A34A9A583DEE"
REPO, MANAGED = "/etc/yum.repos.d/small.repo", "/etc/yum.repos.d/redhat.repo"
SECTION = "[{0}]\nname={0}\nbaseurl=https://cdn.example/{0}\nenabled=1\ngpgcheck=1\n"
WRITTEN = SECTION.format("baseos") + SECTION.format("appstream")
RHSM = "/etc/rhsm/rhsm.conf"
NO_FILE = {REPO: None}
KEPT = {REPO: None, MANAGED: WRITTEN}
SUBSCRIBED = [Made("subscription-manager")]
CLIENT = [Made("rhui-azure-rhel9", vendor="(none)")]
REPOSITORIES = ["ccsp.repos-configured", "ccsp.repos-gpgcheck", "ccsp.no-release-lock", "hygiene.build-repos"]
KEY_FILE = "/etc/pki/rhui/private/key.pem"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
HOLDER = Made("rhui-azure-rhel9", files=((KEY_FILE, KEY, 0o600),))

Changes = dict[str, str | bytes | None]
Packaged = Callable[..., Path]
Change = Callable[[Changes], None]


@pytest.fixture(scope="module")
def packaged(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """The small guest's package database with some more packages, and without others; each is made once."""

    @cache
    def made(added: tuple[Made, ...], removed: tuple[str, ...]) -> Path:
        work = tmp_path_factory.mktemp("packaged")
        copy = shutil.copytree(database, work / "database")
        for name in removed:
            erase(copy, name)
        if added:
            install(copy, work, added)
        return copy

    return lambda added, removed=(): made(tuple(added), removed)


@pytest.mark.parametrize("identifier", REPOSITORIES)
@pytest.mark.parametrize(
    "files", [NO_FILE, {**NO_FILE, MANAGED: "# Managed by subscription-manager\n"}, KEPT]
)
def test_an_image_that_its_owner_registers_passes(
    identifier: str, files: Changes, tree: Path, packaged: Packaged, change: Change
) -> None:
    change(files)
    check = judge(identifier, tree, packaged(SUBSCRIBED), claim=RHEL)
    assert check.made and not check.failed, [(i.what, i.expected, i.observed) for i in check.failed]


#: An image with no repository and nobody who will write them.
NOWHERE: list[tuple[Changes, list[Made], str]] = [
    (NO_FILE, [], RHEL),  # nothing will write the repositories
    ({**NO_FILE, RHSM: "[rhsm]\nmanage_repos = 0\n"}, SUBSCRIBED, RHEL),
    (NO_FILE, [*SUBSCRIBED, *CLIENT], RHEL),  # an update client brings its own
    (NO_FILE, SUBSCRIBED, "centos:9"),  # not a matter of subscriptions
]


@pytest.mark.parametrize(
    ("identifier", "files", "packages", "claim"),
    [
        *((identifier, *row) for identifier in REPOSITORIES for row in NOWHERE),
        # A strange repository, on an image that its owner registers, too.
        ("ccsp.repos-gpgcheck", {**NO_FILE, "/etc/dnf/dnf.conf": "[main]\ngpgcheck=0\n"}, SUBSCRIBED, RHEL),
        ("ccsp.repos-configured", {**KEPT, MANAGED: SECTION.format("baseos")}, SUBSCRIBED, RHEL),
        ("ccsp.repos-configured", KEPT, [], RHEL),  # nobody here writes such a file
        ("ccsp.repos-configured", KEPT, SUBSCRIBED, "centos:9"),
        ("hygiene.build-repos", KEPT, [], RHEL),
        ("hygiene.build-repos", {**KEPT, "/etc/yum.repos.d/extra.repo": WRITTEN}, SUBSCRIBED, RHEL),
    ],
)
def test_updates_from_nowhere_and_from_strangers_fail(
    identifier: str,
    files: Changes,
    packages: list[Made],
    claim: str,
    tree: Path,
    packaged: Packaged,
    change: Change,
) -> None:
    change(files)
    assert judge(identifier, tree, packaged(packages), claim=claim).failed


@pytest.mark.parametrize(
    ("version", "package", "key", "declared"),
    [
        ("8.10", "rhui-azure-rhel8", "eb3e94adbe1229cf", True),
        ("9.8", "rhui-azure-rhel9-arm64", "eb3e94adbe1229cf", True),
        ("10.2", "rhui-azure-rhel10", "ee4d7792f748182b", True),
        ("10.2", "rhui-azure-rhel10", "eb3e94adbe1229cf", False),  # the key before
        ("9.8", "rhui-azure-rhel9", "aa81a34a9a583dee", False),  # the sample's
        ("9.8", "rhui-azure-rhel9", None, False),
        ("9.8", "azure-cli", "eb3e94adbe1229cf", False),  # Microsoft's, and nobody asked for it
    ],
)
def test_of_microsoft_there_is_the_update_client_alone(
    version: str, package: str, key: str | None, declared: bool
) -> None:
    assert bool(Facts(os_id="rhel", version=version).declared(package, key=key)) is declared
    assert Facts(os_id="centos", version=version).declared(package, key=key) is None


@pytest.fixture
def declared(tmp_path: Path) -> Facts:
    """The facts with the sample's public test key in the place of Microsoft's, with which nothing is signed
    here.
    """
    copy = shutil.copytree(FACTS, tmp_path / "facts")
    path = copy / "distributions.yaml"
    facts = path.read_text()
    assert MICROSOFT in facts
    path.write_text(facts.replace(MICROSOFT, SAMPLE))
    return Facts(os_id="rhel", version="9.8", directory=copy)


def test_the_update_client_is_told_by_its_signature(tree: Path, declared: Facts, tmp_path: Path) -> None:
    unsigned = Made("rhui-azure-rhel9-sap", signed=False, vendor="(none)")
    database = tmp_path / "database"
    database.mkdir()
    install(database, tmp_path, [*CLIENT, unsigned, Made("azure-cli", vendor="(none)")])
    for identifier in ("ccsp.rpm-provenance", "ccsp.rpm-nonvendor-declared"):
        refused = judge(identifier, tree, database, claim=RHEL).failed[0].observed
        assert "rhui-azure-rhel9-1-1" in refused, "signed by somebody else than Microsoft"
        refused = judge(identifier, tree, database, measure=declared).failed[0].observed
        assert "rhui-azure-rhel9-1-1" not in refused
        assert "rhui-azure-rhel9-sap-1-1" in refused and "azure-cli-1-1" in refused


@pytest.mark.parametrize(("packages", "passes"), [(CLIENT, True), (SUBSCRIBED, False)])
def test_the_update_clients_key_is_trusted_with_the_client_alone(
    packages: list[Made], passes: bool, tree: Path, declared: Facts, tmp_path: Path
) -> None:
    database = tmp_path / "database"
    database.mkdir()
    install(database, tmp_path, packages)
    key = "images/sample-distribution/keys/RPM-GPG-KEY-hallmark-sample"
    run(["rpmkeys", "--dbpath", database, "--import", Path(__file__).parents[2] / key])
    check = judge("ccsp.rpm-signing-keys", tree, database, measure=declared)
    assert bool(check.failed) is not passes
    assert judge("ccsp.rpm-signing-keys", tree, database, claim=RHEL).failed


@pytest.mark.parametrize(
    ("content", "packages", "passes"),
    [
        (KEY, [HOLDER], True),
        (KEY, [], False),
        (KEY.replace("MIIE", "MIIF"), [HOLDER], False),  # another key in the place of the packaged one
    ],
)
def test_a_packaged_key_is_no_machines_key(
    content: str, packages: list[Made], passes: bool, tree: Path, packaged: Packaged, change: Change
) -> None:
    change({f"{KEY_FILE} 600": content})
    check = judge("hygiene.tls-private-keys", tree, packaged(packages))
    assert bool(check.failed) is not passes


@pytest.mark.parametrize(
    ("machine", "added", "missing"),
    [
        ("aarch64", [Made("grub2-efi-aa64"), Made("shim-aa64")], []),
        ("aarch64", [], ["grub2-efi-aa64", "shim-aa64"]),
        ("x86_64", [Made("grub2-efi-aa64"), Made("shim-aa64")], ["grub2-efi-x64", "shim-x64", "grub2-pc"]),
    ],
)
def test_each_processor_has_its_loaders(
    machine: str, added: list[Made], missing: list[str], tree: Path, packaged: Packaged
) -> None:
    database = packaged(added, ("grub2-efi-x64", "shim-x64", "grub2-pc"))
    measure = Facts(os_id="rhel", version="9.8", machine=machine)
    check = judge("ccsp.required-cloud-packages", tree, database, measure=measure)
    observed = "".join(item.observed for item in check.failed)
    assert observed == (f"missing: {', '.join(missing)}" if missing else "")
