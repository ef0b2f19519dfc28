# SPDX-License-Identifier: Apache-2.0
"""TLS by the kernel: in a guest with Debian's own, because the machine that runs the tests may have one without it."""

import json
import os
import shutil
from pathlib import Path

import pytest

from fleet import ROOT
from lib_guest import Guest
from lib_guest_image import TLS_MODULES, add_libraries, guest_parts, make_root_disk
from lib_tls import Authority

DROVER_COPY = Path(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin") / "drover-copy"
PLUGINS = Path("/usr/lib/x86_64-linux-gnu/nbdkit/plugins")
SERIAL = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    cache = os.environ.get("DROVER_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "drover"
    scratch = tmp_path_factory.mktemp("kernel-tls")
    authority = Authority(scratch / "ca")
    authority.issue("server", "DNS:localhost,IP:127.0.0.1")
    authority.client()

    def change(tree):
        for program in (DROVER_COPY, Path(shutil.which("nbdkit"))):
            shutil.copy(program, tree / "usr/bin" / program.name)
            add_libraries(tree, program)
        (tree / str(PLUGINS)[1:]).mkdir(parents=True)
        for plugin in ("memory", "pattern"):
            shutil.copy(PLUGINS / f"nbdkit-{plugin}-plugin.so", tree / str(PLUGINS)[1:])
            add_libraries(tree, PLUGINS / f"nbdkit-{plugin}-plugin.so")
        pki = tree / "root/pki"
        pki.mkdir()
        for ours, theirs in (("ca.crt", "ca-cert.pem"), ("server.crt", "server-cert.pem"), ("server.key", "server-key.pem"),
                             ("client.crt", "client-cert.pem"), ("client.key", "client-key.pem")):
            shutil.copy(authority.dir / ours, pki / theirs)

    parts = guest_parts(Path(cache))
    make_root_disk(parts, scratch / "root.raw", scratch / "tree", change)
    guest = Guest(scratch / "guest", parts, scratch / "root.raw", SERIAL)
    try:
        guest.start().wait_until_up()
        guest.must("ip link set lo up")
        guest.must("nbdkit -U /tmp/source.sock pattern 24M")
        guest.must("nbdkit -i 127.0.0.1 -p 10809 --tls=require --tls-certificates=/root/pki --tls-verify-peer memory 24M")
        yield guest
    finally:
        guest.stop()


def copy(guest, *options):
    """Its report."""
    guest.must("drover-copy --tls-ca=/root/pki/ca-cert.pem --tls-cert=/root/pki/client-cert.pem --tls-key=/root/pki/client-key.pem "
               f"--report=/tmp/report {' '.join(options)} nbd+unix:///?socket=/tmp/source.sock nbds://127.0.0.1:10809/", 300)
    return json.loads(guest.must("cat /tmp/report"))


def test_the_kernel_does_what_it_can(guest):
    """Without its module OpenSSL does all; with it the kernel encrypts what is sent, and decrypts where OpenSSL is 3.2 or newer.
    Every byte is read back through the same TLS."""
    without = copy(guest, "--verify")
    assert without["tls"]["target"]["by"] == "openssl" and without["complete"], without
    for module in TLS_MODULES:
        guest.run(f"modprobe {module}")
    guest.must("grep -q tls /proc/sys/net/ipv4/tcp_available_ulp")
    by_kernel = copy(guest, "--verify")
    assert by_kernel["tls"]["target"]["by"] in ("ktls", "ktls-send") and by_kernel["complete"], by_kernel
    assert by_kernel["digest"] == without["digest"]
    counted = guest.must("grep -E 'TlsTx(Sw|Device)' /proc/net/tls_stat")  # of sessions since the module came
    assert sum(int(line.split()[1]) for line in counted.splitlines()) > 0, counted
