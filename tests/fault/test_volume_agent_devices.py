# SPDX-License-Identifier: Apache-2.0
"""The agent's code for devices on a real kernel: a Debian guest in QEMU, udevd, LVM and md, disks plugged in and out. One guest is set
up as an appliance is (deploy/appliance/protect.sh), the other one is not: what the first must not do with a disk, the second does."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet import ROOT
from lib_guest import Guest
from lib_guest_image import add_libraries, guest_parts, make_root_disk

MIB = 1 << 20
ROOT_VOLUME = "fedcba98-7654-3210-0123-456789abcdef"
# Neither device mapper nor md has a disk or partition.
NO_HOLDERS = "[ -z \"$(ls /sys/block/*/holders/ /sys/block/*/*/holders/ | grep -v :)\" ]"
# Which names lead where; the times of the links are of no interest.
NAMES = "find /dev/disk/by-label /dev/disk/by-uuid /dev/disk/by-id -type l 2>/dev/null | sort | while read -r name; do echo \"$name $(readlink \"$name\")\"; done"
FOUND, NONE, REFUSED, RETRY = 0, 3, 4, 5  # exit codes of device-probe


def serial(volume):
    return volume.replace("-", "")[:20]


def volume(n):
    return f"{n:08x}-aaaa-4bbb-8ccc-{n:012x}"


@pytest.fixture(scope="module")
def parts():
    cache = os.environ.get("DROVER_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "drover"
    return guest_parts(Path(cache))


@pytest.fixture(scope="module")
def guests(parts, tmp_path_factory):
    """(protected, plain): booted side by side."""
    scratch = tmp_path_factory.mktemp("guests")
    probe = Path(os.environ.get("DROVER_BIN", ROOT / "build/release/bin")) / "device-probe"

    def add_probe(tree):
        shutil.copy(probe, tree / "usr/bin/device-probe")
        add_libraries(tree, probe)
        shutil.copytree(ROOT / "deploy/appliance", tree / "root/appliance")

    def protect(tree):
        add_probe(tree)
        subprocess.run([ROOT / "deploy/appliance/protect.sh", "--root", tree, "--own-serial", serial(ROOT_VOLUME)], check=True,
                       stdout=subprocess.DEVNULL)

    made = []
    try:
        for name, change in [("protected", protect), ("plain", add_probe)]:
            disk = scratch / f"{name}.raw"
            make_root_disk(parts, disk, scratch / f"{name}-tree", change)
            made.append(Guest(scratch / name, parts, disk, serial(ROOT_VOLUME)))
            made[-1].start()
        for guest in made:
            guest.wait_until_up()
        yield made
    finally:
        for guest in made:
            guest.stop()


@pytest.fixture
def guest(request, guests):
    """The protected one, without any disk but its own, before and after."""
    protected = guests[0]
    assert protected.must("device-probe count") == "1"
    yield protected
    show_console(request, protected)
    leave_clean(protected)


@pytest.fixture
def plain(request, guests):
    yield guests[1]
    show_console(request, guests[1])
    release(guests[1])
    leave_clean(guests[1])


def show_console(request, guest):
    report = getattr(request.node, "report_call", None)
    if report and report.failed:
        print(f"console of the guest:\n{guest.tail()}")


def release(guest):
    """Ends what udevd, LVM and md have made of its disks; they may be at it still, or begin anew when one is released."""
    guest.until("udevadm settle --timeout=60; dmsetup remove_all; mdadm --stop --scan; udevadm settle --timeout=60; "
                "! ls -d /sys/block/dm-* /sys/block/md* 2>/dev/null")


def leave_clean(guest):
    for name in list(guest.plugged):
        guest.unplug(name)
    guest.until("[ \"$(ls /sys/block)\" = sda ]")


def disk(path, mib=16, text=b""):
    with path.open("wb") as file:
        file.truncate(mib * MIB)
        file.write(text)
    return path


@contextmanager
def in_background(guest, command, out):
    guest.must(f"({command}; echo \"code $?\") >{out} 2>&1 &")
    yield
    guest.must(f"rm -f {out}")


def finished(guest, out, seconds=120):
    lines = guest.until(f"grep -q '^code ' {out} && cat {out}", seconds).splitlines()
    return int(lines[-1].split()[1]), lines[:-1]


def find(guest, ident):
    return guest.run(f"device-probe find {ident}")


# ---- found by serial -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bus,letter", [("virtio", "vda"), ("scsi", "sdb")])
def test_hot_plug_is_waited_for_and_found_by_serial(guest, tmp_path, bus, letter):
    ident = volume(1)
    guest.plug("other", disk(tmp_path / "other.raw"), serial(volume(2)), bus="scsi" if bus == "virtio" else "virtio")
    with in_background(guest, f"device-probe wait {ident} {16 * MIB} 90000", "/tmp/wait"):
        assert find(guest, ident).code == NONE
        guest.plug("wanted", disk(tmp_path / "wanted.raw"), serial(ident), bus=bus)
        code, lines = finished(guest, "/tmp/wait")
    assert (code, lines) == (FOUND, [f"/dev/{letter} {serial(ident)} {16 * MIB}"])
    assert guest.must("device-probe count") == "3"


def test_letters_do_not_count(guest, tmp_path):
    """Two disks that come back in the other order have each other's letters; each is still what it was."""
    images = {n: disk(tmp_path / f"{n}.raw", text=b"this is disk %d" % n) for n in (1, 2)}

    def look():
        paths = {}
        for n in images:
            done = guest.until(f"device-probe wait {volume(n)} 1 60000")
            paths[n] = done.split()[0]
            assert guest.must(f"head -c 14 {paths[n]}") == f"this is disk {n}"
        return paths

    for n in (1, 2):
        guest.plug(f"d{n}", images[n], serial(volume(n)))
        guest.until(f"device-probe find {volume(n)}")
    before = look()
    for n in (1, 2):
        guest.unplug(f"d{n}")
        guest.until(f"! device-probe find {volume(n)}")
    for n in (2, 1):
        guest.plug(f"d{n}", images[n], serial(volume(n)))
        guest.until(f"device-probe find {volume(n)}")
    after = look()
    assert after == {1: before[2], 2: before[1]}
    # Who kept the name from before is told when he opens it.
    for n in images:
        done = guest.run(f"device-probe open {volume(n)} {before[n]}")
        assert (done.code, done.output) == (REFUSED, "not opened: No such device or address"), done
        assert guest.run(f"device-probe open {volume(n)} {after[n]}").code == 0


def test_too_small_is_refused(guest, tmp_path):
    guest.plug("small", disk(tmp_path / "small.raw"), serial(volume(1)))
    done = guest.run(f"device-probe wait {volume(1)} {16 * MIB + 1} 90000")
    assert done.code == REFUSED and done.output.startswith("DRV-TARGET-TOO-SMALL: /dev/vda "), done


def test_two_disks_with_one_serial_are_refused(guest, tmp_path):
    for n in (1, 2):
        guest.plug(f"twin{n}", disk(tmp_path / f"{n}.raw"), serial(volume(1)), bus=["virtio", "scsi"][n - 1])
    guest.until("[ -e /sys/block/vda/serial ] && [ -e /sys/block/sdb/device/vpd_pg80 ]")
    done = find(guest, volume(1))
    assert done.code == REFUSED and "both have serial" in done.output, done


def test_deadline_when_no_device_comes(guest):
    done = guest.run(f"device-probe wait {volume(1)} 1 2000")
    assert done.code == RETRY and done.output.startswith("DRV-DEVICE-MISSING: "), done


def test_wait_is_for_udevd_too(guest, tmp_path):
    """The kernel has the disk; as long as udevd has not finished with it, it is not taken."""
    guest.must("udevadm control --stop-exec-queue")
    try:
        guest.plug("d", disk(tmp_path / "d.raw"), serial(volume(1)))
        guest.until(f"device-probe find {volume(1)}")
        done = guest.run(f"device-probe wait {volume(1)} 1 2000")
        assert done.code == RETRY and "udevd has not finished with it" in done.output, done
        with in_background(guest, f"device-probe wait {volume(1)} 1 90000", "/tmp/wait"):
            guest.must("udevadm control --start-exec-queue")
            assert finished(guest, "/tmp/wait")[0] == FOUND
    finally:
        guest.must("udevadm control --start-exec-queue")


def test_removal_is_noticed(guest, tmp_path):
    image = disk(tmp_path / "d.raw", 64)
    guest.plug("d", image, serial(volume(1)))
    guest.until(f"device-probe wait {volume(1)} 1 60000")
    with in_background(guest, f"device-probe hold {volume(1)}", "/tmp/hold"):
        guest.until("grep -q '^held /dev/vda 1 ' /tmp/hold")
        guest.unplug("d")
        code, lines = finished(guest, "/tmp/hold")
        # What the kernel says is misleading (ENOSPC); that the disk is gone shows all the same, and nothing is flushed well.
        assert code == 0 and lines[-1].startswith("gone: read: ") and lines[-1].endswith("flush: Input/output error"), lines
    assert find(guest, volume(1)).code == NONE
    guest.plug("d", image, serial(volume(1)))
    assert guest.until(f"device-probe wait {volume(1)} 1 60000").startswith("/dev/vda ")


def test_as_many_disks_as_the_agent_announces(guest, tmp_path):
    """24 is the default of device-slots: virtio disks take a PCI slot each, of which a BIOS machine has 32."""
    for n in range(24):
        guest.plug(f"many{n}", disk(tmp_path / f"many{n}.raw", 1 + n), serial(volume(0x300 + n)))
    for n in range(24):
        found = guest.until(f"device-probe wait {volume(0x300 + n)} 1 60000")
        assert found.endswith(f" {serial(volume(0x300 + n))} {(1 + n) * MIB}"), found
    assert guest.must("device-probe count") == "25"


# ---- in use on the appliance ---------------------------------------------------------------------------------


def refused(guest, ident, *why):
    done = find(guest, ident)
    assert done.code == REFUSED and done.output.startswith("DRV-DEVICE-BUSY: "), done
    for text in why:
        assert text in done.output, done
    # Who opens without looking is kept out by the kernel.
    path = "/dev/" + done.output.split()[1]
    return path


def cannot_open(guest, path, ident=volume(1)):
    done = guest.run(f"device-probe open {ident} {path}")
    assert (done.code, done.output) == (REFUSED, "not opened: Device or resource busy"), done


def test_root_disk_is_refused(guest):
    """Its serial is that of a volume, as any volume's: the agent could be asked for it by mistake."""
    path = refused(guest, ROOT_VOLUME, "sda (serial", "is mounted on / ", "through its partition sda1")
    cannot_open(guest, path, ROOT_VOLUME)
    done = guest.run(f"device-probe wait {ROOT_VOLUME} 1 5000")
    assert done.code == REFUSED, done


def plug_blank(guest, tmp_path, n=1, mib=32):
    guest.plug(f"blank{n}", disk(tmp_path / f"blank{n}.raw", mib), serial(volume(n)))
    return guest.until(f"device-probe wait {volume(n)} 1 60000").split()[0]


def test_mounted_disk_is_refused(guest, tmp_path):
    path = plug_blank(guest, tmp_path)
    guest.must(f"mke2fs -F {path} && modprobe ext4; mkdir -p '/mnt/a place' && mount -t ext4 {path} '/mnt/a place'")
    try:
        assert refused(guest, volume(1), "is mounted on /mnt/a place ") == path
        cannot_open(guest, path)
    finally:
        guest.must(f"umount {path}")
    assert find(guest, volume(1)).code == FOUND


def test_swap_is_refused(guest, tmp_path):
    path = plug_blank(guest, tmp_path)
    guest.must(f"mkswap {path} && swapon {path}")
    try:
        refused(guest, volume(1), "is used as swap space")
        cannot_open(guest, path)
    finally:
        guest.must(f"swapoff {path}")
    assert find(guest, volume(1)).code == FOUND


def test_lvm_is_refused(guest, tmp_path):
    path = plug_blank(guest, tmp_path)
    guest.must(f"export D='--devicesfile='; pvcreate $D {path} && vgcreate $D held {path} && lvcreate $D -n root -L 8M held")
    try:
        refused(guest, volume(1), "is held by dm-0 (held-root)")
        cannot_open(guest, path)
    finally:
        guest.must("dmsetup remove held-root")
    assert find(guest, volume(1)).code == FOUND


def test_md_is_refused(guest, tmp_path):
    paths = [plug_blank(guest, tmp_path, n) for n in (1, 2)]
    guest.must(f"mdadm --create /dev/md7 --level=1 --raid-devices=2 --metadata=1.2 --run {' '.join(paths)}")
    try:
        for n, path in enumerate(paths, 1):
            refused(guest, volume(n), "is held by md7")
            cannot_open(guest, path, volume(n))
    finally:
        guest.must("mdadm --stop /dev/md7")
    assert find(guest, volume(2)).code == FOUND


def test_nobody_takes_what_the_server_has_open(guest, tmp_path):
    """The other way round: as long as an export is open, neither a mount nor LVM nor md gets the disk."""
    path = plug_blank(guest, tmp_path)
    guest.must(f"mke2fs -F {path}; modprobe ext4; mkdir -p /mnt/x")
    with in_background(guest, f"device-probe hold {volume(1)}", "/tmp/hold"):
        guest.until("grep -q '^held ' /tmp/hold")
        for command in [f"mount -t ext4 {path} /mnt/x", f"pvcreate --devicesfile= -ff -y {path}",
                        f"mdadm --create /dev/md7 --level=1 --raid-devices=2 --run {path} missing",
                        f"dmsetup create taken --table '0 8 linear {path} 0'", f"mkswap {path}; swapon {path}"]:
            done = guest.run(command)
            assert done.code != 0, (command, done)
        assert find(guest, volume(1)).code == FOUND
        guest.unplug("blank1")
        finished(guest, "/tmp/hold")


# ---- guests' LVM, md and file systems ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guest_disks(guests, tmp_path_factory):
    """Disks as source VMs have them, made in the guest that is not protected: {name: [files]}."""
    plain = guests[1]
    directory = tmp_path_factory.mktemp("guest-disks")
    made = {"lvm": [disk(directory / "lvm.raw", 32)], "md": [disk(directory / f"md{n}.raw", 32) for n in (1, 2)],
            "lvm-part": [disk(directory / "part.raw", 32)]}
    for n, file in enumerate(file for files in made.values() for file in files):
        plain.plug(f"make{n}", file, serial(volume(0x100 + n)))
        plain.until(f"device-probe find {volume(0x100 + n)}")
    lvm, md1, md2, part = (plain.must(f"device-probe find {volume(0x100 + n)}").split()[0] for n in range(4))
    plain.must(f"pvcreate {lvm} && vgcreate guestvg {lvm} && lvcreate -n root -L 8M guestvg && vgchange -an guestvg")
    plain.must(f"mdadm --create /dev/md5 --level=1 --raid-devices=2 --metadata=1.2 --run {md1} {md2} && mdadm --wait /dev/md5; "
               "mdadm --stop /dev/md5")
    plain.must(f"printf 'n\\np\\n1\\n\\n\\nt\\n8e\\nw\\n' | fdisk {part} && udevadm settle --timeout=60")
    plain.until(f"[ -b {part}1 ]")
    plain.must(f"pvcreate {part}1 && vgcreate partvg {part}1 && lvcreate -n root -L 8M partvg && vgchange -an partvg; sync")
    release(plain)
    leave_clean(plain)
    return made


def plug_all(guest, files, bus="virtio"):
    idents = [volume(0x200 + n) for n in range(len(files))]
    for n, (file, ident) in enumerate(zip(files, idents)):
        guest.plug(f"image{n}", file, serial(ident), bus=bus)
    return idents


ACTIVE = {"lvm": "grep -l guestvg-root /sys/block/vd?/holders/dm-*/dm/name",
          "lvm-part": "grep -l partvg-root /sys/block/vd?/vd?1/holders/dm-*/dm/name",
          "md": "ls -d /sys/block/vd?/holders/md*"}


@pytest.mark.parametrize("kind", ["lvm", "md", "lvm-part"])
def test_an_unprotected_guest_activates_what_it_is_given(plain, guest_disks, kind):
    """The positive control: the same disks, a machine that is not set up as an appliance. And there the agent refuses them."""
    idents = plug_all(plain, guest_disks[kind])
    plain.until(ACTIVE[kind])
    for ident in idents:
        refused(plain, ident, "is held by ")


@pytest.mark.parametrize("bus", ["virtio", "scsi"])
def test_the_appliance_leaves_them_alone(guest, guest_disks, bus):
    files = [file for files in guest_disks.values() for file in files]
    before = [file.read_bytes() for file in files]
    idents = plug_all(guest, files, bus)
    paths = [guest.until(f"device-probe wait {ident} 1 60000").split()[0] for ident in idents]
    guest.settle()
    # Neither by itself nor when a boot script or an administrator asks for all there is.
    for command in ["true", "pvscan --cache -aay", "vgchange -aay", "vgchange -ay", "mdadm --assemble --scan",
                    "udevadm trigger --subsystem-match=block --action=add", *[f"mdadm --incremental {path}" for path in paths]]:
        guest.run(command)
        guest.settle()
        assert guest.run(NO_HOLDERS).code == 0, command
        assert guest.must("dmsetup ls") == "No devices found", command
    assert guest.must("vgs --noheadings") == ""
    for ident in idents:
        assert find(guest, ident).code == FOUND
    for ident, path in zip(idents, paths):
        done = guest.run(f"device-probe open {ident} {path}")
        assert done.code == 0 and done.output.startswith(f"held {path} 1 "), done
    leave_clean(guest)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("layer,files", [("udev", "/etc/lvm/lvmlocal.conf /etc/mdadm/mdadm.conf"),
                                         ("tools", "/etc/udev/rules.d/60-drover-volumes.rules")])
def test_each_layer_suffices_for_what_starts_by_itself(guest, guest_disks, layer, files):
    """Without the other one, whose FILES are put aside."""
    guest.must(f"for file in {files}; do mv $file $file.aside; done; udevadm control --reload")
    try:
        plug_all(guest, [file for files in guest_disks.values() for file in files])
        guest.until("[ $(device-probe count) = 5 ]")
        guest.settle()
        looked_into = guest.run("grep -l ID_FS_TYPE=LVM2_member /run/udev/data/b25*").code == 0
        assert looked_into == (layer == "tools")
        guest.must(NO_HOLDERS)
    finally:
        guest.must(f"for file in {files}; do mv $file.aside $file; done; udevadm control --reload")


def test_a_boot_with_volumes_attached(guest, guests, guest_disks, tmp_path):
    links = "for link in /dev/disk/by-*/*; do echo $link $(readlink -f $link); done | grep -v by-diskseq | sort"
    before = guest.must(links)
    clone = tmp_path / "clone.raw"
    shutil.copy(guest.root_disk, clone)
    idents = plug_all(guest, [clone, *(file for files in guest_disks.values() for file in files)])
    guest.until("[ $(device-probe count) = 6 ]")
    guest.reset()
    assert guest.must("device-probe count") == "6"
    guest.must(NO_HOLDERS)
    assert guest.must(links) == before
    for ident in idents:
        path = guest.must(f"device-probe wait {ident} 1 60000").split()[0]
        assert guest.run(f"device-probe open {ident} {path}").code == 0
    refused(guest, ROOT_VOLUME, "is mounted on / ")


def test_the_initramfs_gets_the_same_rules(guest):
    guest.must("rm -rf /tmp/initramfs && mkdir /tmp/initramfs && DESTDIR=/tmp/initramfs /etc/initramfs-tools/hooks/drover-appliance")
    names = ["etc/udev/rules.d/59-drover-own-disks.rules", "etc/udev/rules.d/60-drover-volumes.rules", "etc/lvm/lvmlocal.conf",
             "etc/lvm/devices/drover.devices", "etc/mdadm/mdadm.conf", "lib/udev/scsi_id"]
    for name in names:
        guest.must(f"cmp /{name} /tmp/initramfs/{name}")


def test_a_clone_of_the_appliance_takes_none_of_its_names(guest, guests, tmp_path):
    """A disk with the appliance's own labels and UUIDs: links to file systems keep pointing to the appliance's."""
    links = "for link in /dev/disk/by-*/*; do echo $link $(readlink -f $link); done | sort"
    before = guest.must(links)
    assert "/dev/disk/by-label/appliance /dev/sda1" in before
    clone = tmp_path / "clone.raw"
    shutil.copy(guests[0].root_disk, clone)
    for bus in ["virtio", "scsi"]:
        guest.plug(f"clone-{bus}", clone, serial(volume(1)), bus=bus)
        path = guest.until(f"device-probe wait {volume(1)} 1 60000").split()[0]
        guest.until(f"[ -b {path}1 ]")  # the kernel has read its partition table
        guest.settle()
        guest.must("udevadm trigger --subsystem-match=block --action=change")
        guest.settle()
        assert guest.must(links) == before
        leave_clean(guest)


def test_an_unprotected_guest_gives_its_names_to_a_clone(plain, guests, tmp_path):
    clone = tmp_path / "clone.raw"
    shutil.copy(guests[1].root_disk, clone)
    plain.plug("clone", clone, serial(volume(1)))
    plain.until("for link in /dev/disk/by-[lu]*/*; do readlink -f $link; done | grep -q '^/dev/vda1$'")


# ---- a machine that runs already -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lvm", "md", "lvm-part"])
def test_a_running_machine_is_protected_at_once(plain, guest_disks, kind):
    """Last of all: from here on the plain guest is an appliance, too."""
    if kind == "lvm":
        said = plain.run("/root/appliance/protect.sh --check")
        assert said.code == 1 and "NOT PROTECTED: /etc/lvm/devices/drover.devices is missing" in said.output, said
    assert plain.must("/root/appliance/protect.sh") == f"protected; own disks: {serial(ROOT_VOLUME)}"
    assert plain.must("/root/appliance/protect.sh --check") == f"protected; own disks: {serial(ROOT_VOLUME)}"
    names = plain.must(NAMES)
    idents = plug_all(plain, guest_disks[kind])
    for ident in idents:
        path = plain.until(f"device-probe wait {ident} 1 60000").split()[0]
        plain.settle()
        assert plain.run(f"device-probe open {ident} {path}").code == 0
    plain.must(NO_HOLDERS)
    plain.must("udevadm trigger --subsystem-match=block --action=add")
    plain.settle()
    assert plain.must(NAMES) == names
