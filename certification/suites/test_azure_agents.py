"""The agents that provision a machine: Azure's and cloud-init."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from certification.checks import requirement
from certification.parse import cloudinit
from certification.parse.boot import has_argument

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.views.guest import Guest

_STAGES = ("cloud-init-local.service", "cloud-config.service", "cloud-final.service")
AGENT_FLOOR = "2.2.53.1"


@requirement("azure.waagent-version", views=("disk",))
def test_agent_version(guest: Guest, check: Checks) -> None:
    found = guest.installed("WALinuxAgent")
    if check.equal("packages WALinuxAgent", expected=1, observed=len(found)):
        _check_version(found[0].version, check)


@requirement("azure.waagent-version", views=("booted",))
def test_agent_answers(guest: Guest, check: Checks) -> None:
    output = guest.command("waagent --version", once=True)
    match = re.search(r"WALinuxAgent-([0-9.]+)", output)
    check.contains("goal state agent", expected="Goal state agent", observed=output)
    _check_version(match[1] if match else "", check)


def _check_version(observed: str, check: Checks) -> None:
    try:
        ok = Version(observed) >= Version(AGENT_FLOOR)
    except InvalidVersion:
        ok = False
    check.record(
        "version of the agent", expected=f"at least {AGENT_FLOOR}", observed=observed or "none", ok=ok
    )


@requirement("azure.waagent-enabled")
def test_agent_enabled(guest: Guest, check: Checks) -> None:
    unit = guest.unit("waagent.service")
    check.true("waagent starts with the system", observed=unit.starts, otherwise=unit.state)


@requirement("azure.waagent-provisioning")
def test_one_provisioning_agent(guest: Guest, check: Checks) -> None:
    agent = guest.waagent.get("Provisioning.Agent", "auto").lower()
    check.one_of("Provisioning.Agent", expected=("cloud-init", "auto"), observed=agent)
    check.true("cloud-init is there to do it", observed="cloud-init" in guest.package_names)
    check.true(
        "waagent.conf", observed=bool(guest.waagent), expected="has settings", otherwise="missing or empty"
    )


@requirement("azure.waagent-resource-disk")
def test_resource_disk(guest: Guest, check: Checks) -> None:
    for key in ("ResourceDisk.Format", "ResourceDisk.EnableSwap"):
        check.equal(key, expected="n", observed=guest.waagent.get(key))


@requirement("azure.waagent-root-timeout")
def test_root_timeout(guest: Guest, check: Checks) -> None:
    check.equal(
        "OS.RootDeviceScsiTimeout", expected="300", observed=guest.waagent.get("OS.RootDeviceScsiTimeout")
    )


@requirement("azure.waagent-security-keys")
def test_agent_safety(guest: Guest, check: Checks) -> None:
    # Missing keys have the agent's defaults (config/waagent.conf, azurelinuxagent/common/conf.py).
    defaults = {
        "Provisioning.AllowResetSysUser": "n",
        "Provisioning.ExecuteCustomData": "n",
        "OS.AllowHTTP": "n",
    }
    wanted = {
        "Provisioning.DeleteRootPassword": "y",
        "OS.EnableFirewall": "y",
        "OS.SshDir": "/etc/ssh",
        **defaults,
    }
    check.true(
        "waagent.conf", observed=bool(guest.waagent), expected="has settings", otherwise="missing or empty"
    )
    for key, value in wanted.items():
        check.equal(key, expected=value, observed=guest.waagent.get(key, defaults.get(key)))
    fresh = guest.waagent.get("Provisioning.RegenerateSshHostKeyPair", "n") == "y"
    check.true(
        "each machine makes its own host keys",
        observed=fresh or guest.cloud_config.get("ssh_deletekeys") is not False,
        otherwise="RegenerateSshHostKeyPair is n and cloud-init's ssh_deletekeys is false",
    )


@requirement("azure.cloud-init-installed", views=("disk",))
def test_cloud_init_enabled(guest: Guest, check: Checks) -> None:
    check.contains("packages", expected="cloud-init", observed=guest.package_names & {"cloud-init"})
    for name in _STAGES:
        check.true(
            f"{name} starts with the system",
            observed=guest.unit(name).starts,
            otherwise=guest.unit(name).state,
        )
    main = [guest.unit(name) for name in ("cloud-init.service", "cloud-init-network.service")]
    check.true("cloud-init.service starts with the system", observed=any(unit.starts for unit in main))
    check.empty("switched off by", observed=guest.glob("/etc/cloud/cloud-init.disabled"))
    for origin, arguments in guest.command_lines:
        off = has_argument(arguments, "cloud-init=disabled")
        check.true(f"switched on in {origin}", observed=not off, otherwise="cloud-init=disabled")


@requirement("azure.cloud-init-installed", views=("booted",))
def test_cloud_init_ran(guest: Guest, check: Checks) -> None:
    result = guest.host.run("cat /run/cloud-init/enabled /run/cloud-init/disabled 2>&1; rpm -q cloud-init")
    check.true("enabled at this boot", observed=guest.host.run("test -e /run/cloud-init/enabled").rc == 0)
    check.matches("package", pattern=r".*cloud-init-\d.*", observed=result.stdout)


@requirement("azure.cloud-init-datasource")
def test_datasource(guest: Guest, check: Checks) -> None:
    sources = guest.cloud_config.get("datasource_list")
    named = [name for name in sources if name != "None"] if isinstance(sources, list) else sources
    check.equal("datasource_list after merging", expected=["Azure"], observed=named)
    network = guest.cloud_config.get("datasource", "Azure", "apply_network_config")
    check.equal("datasource.Azure.apply_network_config", expected=False, observed=network)
    pinned = guest.content("/etc/cloud/ds-identify.cfg")
    check.true(
        "ds-identify.cfg doesn't name another", observed="datasource:" not in pinned or "Azure" in pinned
    )


@requirement("azure.cloud-init-modules")
def test_modules(guest: Guest, check: Checks) -> None:
    names = cloudinit.module_names(guest.cloud_config.get("cloud_init_modules"))
    later = cloudinit.module_names(guest.cloud_config.get("cloud_config_modules"))
    check.contains_all(
        "cloud_init_modules", expected=["growpart", "resizefs", "disk_setup", "mounts"], observed=names
    )
    check.contains_all("modules for users and keys", expected=["ssh", "users_groups"], observed=names + later)


@requirement("azure.cloud-init-config-valid", views=("disk",))
def test_configuration_parses(guest: Guest, check: Checks) -> None:
    check.empty("files that cloud-init would ignore", observed=guest.cloud_config.problems)
    check.true("settings", observed=bool(guest.cloud_config.values), expected="some", otherwise="none")


@requirement("azure.cloud-init-config-valid", views=("booted",))
def test_configuration_was_accepted(guest: Guest, check: Checks) -> None:
    log = guest.content("/var/log/cloud-init.log")
    check.true("cloud-init.log", observed=bool(log), expected="there", otherwise="missing or empty")
    pattern = re.compile(r"Failed loading yaml|Invalid cloud-config|Failed at merging", re.I)
    check.empty(
        "complaints about the configuration",
        observed=[line for line in log.splitlines() if pattern.search(line)],
    )


@requirement("azure.cloud-init-kvp")
def test_reporting(guest: Guest, check: Checks) -> None:
    reporting = guest.cloud_config.get("reporting")
    handlers: Any = reporting.values() if isinstance(reporting, dict) else []
    types = [str(handler.get("type")) for handler in handlers if isinstance(handler, dict)]
    check.contains("types of reporting handlers", expected="hyperv", observed=types)


@requirement("azure.cloud-init-first-boot")
def test_first_boot(guest: Guest, check: Checks) -> None:
    # `cloud-init status --wait` starts a Python program that asks again and again, while the boot needs the
    # processor; "done" is what it reads from these files: all that began has ended, and the result is there.
    until = "until [ -e /run/cloud-init/result.json ]; do sleep 1; done"
    guest.host.run(f"test -e /run/cloud-init/enabled && timeout 85 sh -c '{until}'")
    results, status = (guest.content(f"/run/cloud-init/{name}.json") for name in ("result", "status"))
    stages = json.loads(status).get("v1", {}) if status else {}
    begun = {name: at for name, at in stages.items() if isinstance(at, dict) and at.get("start")}
    check.contains("stages that began", expected="modules-final", observed=sorted(begun))
    check.empty(
        "stages that did not end", observed=[name for name in begun if not begun[name].get("finished")]
    )
    errors = [f"{name}: {error}" for name in begun for error in begun[name].get("errors", [])]
    errors += (
        json.loads(results).get("v1", {}).get("errors", []) if results else ["it did not come to an end"]
    )
    check.empty("errors", observed=errors)
    keys = guest.host.run("cat /home/*/.ssh/authorized_keys").stdout
    check.true("the requested key is in place", observed=bool(re.search(r"^(ssh|ecdsa)-\S+ ", keys, re.M)))
