"""The firewall, approached from outside: a network namespace of the guest plays the other machine."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from certification.checks import requirement

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.views.guest import Guest

#: The guest's address and the other machine's, from ranges that nobody routes (RFC 5737, RFC 4193).
_V4 = ("192.0.2.1", "192.0.2.2")
_V6 = ("fd00:4a11:3a4c::1", "fd00:4a11:3a4c::2")
_PORT = 18080
# Who gets its process number knows that it listens, and that it answers on the machine itself.
_LISTEN = f"""
import os, socket, time
sockets = []
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, {_PORT})); s.listen(5); sockets.append(s)
for address in {(_V4[0], _V6[0])}: socket.create_connection((address, {_PORT}), 4).close()
child = os.fork()
if child: print(child)
else: os.close(1); time.sleep(60)
"""
_KNOCK = f"""
import socket
for name, address in (("v4", "{_V4[0]}"), ("v6", "{_V6[0]}")):
    for port in (22, {_PORT}):
        try: socket.create_connection((address, port), 4).close(); seen = "open"
        except OSError: seen = "closed"
        print(name, port, seen, flush=True)
"""
# -IS: what site-packages do to every start of Python takes an emulated guest longer than the test.
_SCRIPT = f"""
p=/usr/libexec/platform-python; [ -x $p ] || p=python3
trap 'test -z "$l" || kill "$l"; ip link del hmprobe0; ip netns del hmprobe' EXIT
ip netns add hmprobe
ip link add hmprobe0 type veth peer name hmprobe1 netns hmprobe
nmcli device set hmprobe0 managed no
ip address add {_V4[0]}/30 dev hmprobe0
ip -6 address add {_V6[0]}/64 dev hmprobe0 nodad
ip link set hmprobe0 up
ip -n hmprobe address add {_V4[1]}/30 dev hmprobe1
ip -n hmprobe -6 address add {_V6[1]}/64 dev hmprobe1 nodad
ip -n hmprobe link set hmprobe1 up
l=$($p -IS -c {shlex.quote(_LISTEN)}) && echo inside open
ip netns exec hmprobe $p -IS -c {shlex.quote(_KNOCK)}
"""


@requirement("security.ipv6-firewall")
def test_from_outside(guest: Guest, check: Checks) -> None:
    result = guest.host.run(f"sh -c {shlex.quote(_SCRIPT)}")
    lines = result.stdout.splitlines()
    check.record("setting it up", expected="recorded", observed=result.stderr[-300:], ok=True)
    # The listener answers on the machine itself: what is closed from outside is closed by the firewall.
    check.contains("the listener", expected="inside open", observed=lines)
    for name in ("v4", "v6"):
        check.contains(f"ssh over IP{name}", expected=f"{name} 22 open", observed=lines)
        check.contains(f"another port over IP{name}", expected=f"{name} {_PORT} closed", observed=lines)
