"""Red Hat's content: product certificate, subscription, Azure's update client; and the checker itself."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509

from certification import catalogue
from certification.checks import not_applicable, requirement
from certification.parse import text
from certification.views import rpmdb
from certification.views.updates import update_clients

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.views.guest import Guest

#: Red Hat's extension for a product's version is 1.3.6.1.4.1.2312.9.1.<product>.2 (python-rhsm).
_PRODUCT = "1.3.6.1.4.1.2312.9.1."


@requirement("ccsp.selfcheck-suite-intact")
def test_the_checker(guest: Guest, hallmark: Any, suites_at_start: str, check: Checks) -> None:
    check.equal("catalogue", expected=hallmark.catalogue.digest, observed=catalogue.load().digest)
    check.equal("suites", expected=suites_at_start, observed=catalogue.suites_digest(catalogue.SUITES))
    names = {name for name in guest.package_names if name.startswith("redhat-certification")}
    changed = [str(item) for item in rpmdb.verify(guest.access) if item.package in names and not item.config]
    check.empty("changed files of Red Hat's own suite in the guest", observed=changed)


@requirement("ccsp.product-certificate")
def test_product(guest: Guest, today: date, check: Checks) -> None:
    paths = guest.glob("/etc/pki/product-default/*.pem") or guest.glob("/etc/pki/product/*.pem")
    check.true("product certificates", observed=bool(paths), expected="at least one", otherwise="none")
    release = guest.os_release.get("VERSION_ID", "")
    for path in paths:
        found = _certificate(guest, path, check)
        if found is None:
            continue
        check.at_least(f"last day of {path}", expected=today, observed=found.not_valid_after_utc.date())
        # The value is a DER string of fewer than 128 letters: tag, length, text.
        versions = [
            extension.value.value[2:].decode(errors="replace")
            for extension in found.extensions
            if isinstance(extension.value, x509.UnrecognizedExtension)
            and extension.oid.dotted_string.startswith(_PRODUCT)
            and extension.oid.dotted_string.endswith(".2")
        ]
        fits = bool({release, release.split(".")[0]} & set(versions))
        check.record(f"product version in {path}", expected=release, observed=versions, ok=fits)


def _certificate(guest: Guest, path: str, check: Checks) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(guest.access.read_bytes(path) or b"")
    except ValueError as error:
        check.record(path, expected="an X.509 certificate", observed=str(error), ok=False)
        return None


@requirement("ccsp.subscription-plugins")
def test_subscription(guest: Guest, check: Checks) -> None:
    for name in ("product-id", "subscription-manager"):
        places = (f"/etc/dnf/plugins/{name}.conf", f"/etc/yum/pluginconf.d/{name}.conf")
        content = next((found for path in places if (found := guest.read(path)) is not None), "")
        check.equal(
            f"plugin {name}",
            expected="1",
            observed=text.ini(content).get("main", {}).get("enabled", "absent"),
        )
    values = text.ini(guest.content("/etc/rhsm/rhsm.conf"))
    client = update_clients(guest)
    check.equal(
        "auto_registration",
        expected="1",
        observed=values.get("rhsmcertd", {}).get("auto_registration", "not set"),
    )
    wanted = "0" if client else "1"
    check.equal("manage_repos", expected=wanted, observed=values.get("rhsm", {}).get("manage_repos", "1"))
    check.true("rhsmcertd starts with the system", observed=guest.unit("rhsmcertd.service").starts)


@requirement("azure.rhui-package")
def test_update_client(guest: Guest, check: Checks) -> None:
    found = update_clients(guest)
    check.at_most("update clients", expected=1, observed=len(found))
    if not found:
        check.true(
            "Red Hat's client configuration",
            observed="redhat-cloud-client-configuration" in guest.package_names,
        )
        check.true(
            "not for Red Hat's content network",
            observed="redhat-cloud-client-configuration-cdn" not in guest.package_names,
        )


@requirement("azure.rhui-certificate")
def test_update_certificate(guest: Guest, today: date, check: Checks) -> None:
    if not update_clients(guest):
        not_applicable("no rhui-azure package is installed: the image brings its own subscription")
    paths = guest.glob("/etc/pki/rhui/product/*.crt")
    check.true("client certificates", observed=bool(paths), expected="at least one", otherwise="none")
    for path in paths:
        found = _certificate(guest, path, check)
        if found is not None:
            soonest = datetime.combine(today, datetime.min.time(), UTC) + timedelta(weeks=10)
            check.at_least(
                f"last day of {path}", expected=soonest.date(), observed=found.not_valid_after_utc.date()
            )


@requirement("azure.marketplace-plan-neutral")
def test_no_other_offer(guest: Guest, check: Checks) -> None:
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
    paths = [e.path for e in guest.inventory.below("/etc/pki/rhui") if e.type != "d"]
    paths += guest.glob("/etc/yum.repos.d/*rhui*") + guest.glob("/etc/yum.repos.d/*rh-cloud*")
    check.empty(
        "files of update clients that no package owns", observed=[p for p in paths if p not in guest.owners]
    )
