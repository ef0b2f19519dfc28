# SPDX-License-Identifier: Apache-2.0
"""The disk of a small Debian guest, made of Debian's own packages: its kernel, udevd, LVM and mdadm around busybox. Nothing is
installed on this machine, no loop device is needed, and root neither. What the packages hold is kept in the cache."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

# The libraries are what the programs need beyond the essential packages, which any Debian has.
PACKAGES = ["busybox-static", "udev", "lvm2", "mdadm", "dmsetup", "libdevmapper1.02.1", "libdevmapper-event1.02.1", "libaio1", "libkmod2",
            "libedit2", "libbsd0"]
PROGRAMS = ["usr/bin/udevadm", "usr/sbin/lvm", "usr/sbin/mdadm", "usr/sbin/dmsetup", "usr/lib/udev/scsi_id"]
ESSENTIAL = ["bash", "lsblk", "findmnt", "swapon", "install"]  # any Debian has them: taken from this machine
ROOT_MODULES = ["virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "crc32c_generic", "ext4"]  # up to the root file system
MODULES = [*ROOT_MODULES, "dm-mod", "md-mod", "raid1"]
RECIPE = 2  # counts changes of what is made from the packages
SIZE_MIB = 96

RAM_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done
tries=0
while [ $tries -lt 300 ] && ! /bin/busybox mount -t ext4 /dev/$guestroot /new 2>/dev/null; do
  tries=$((tries + 1)); /bin/busybox sleep 0.1
done
exec /bin/busybox switch_root /new /sbin/init
"""

# Commands come over the second serial line, each a line of base64, and are answered by "RC BASE64" (lib_guest.py).
INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ln -sf /proc/self/fd /dev/fd
mkdir -p /run/lock /run/lvm /run/mount /mnt
for module in dm-mod md-mod raid1; do modprobe $module; done
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --type=subsystems --action=add
udevadm trigger --type=devices --action=add
udevadm settle --timeout=120
exec <>/dev/ttyS1 >&0
stty raw -echo
echo "guest is up"
while read -r line; do
  echo "$line" | base64 -d >/tmp/command
  sh /tmp/command >/tmp/output 2>&1 </dev/null
  code=$?
  echo "$code $(base64 -w 0 /tmp/output)"
done
"""


def _run(*argv, **options):
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stdout[-2000:]}")
    return done.stdout


def _environment():
    return {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}


def _download(directory):
    """Debian's packages for the guest; returns the kernel's."""
    kernel = re.search(r"Depends: (linux-image-\d\S*)", _run("apt-cache", "depends", "linux-image-cloud-amd64"))
    if not kernel:
        raise RuntimeError("apt knows no package linux-image-cloud-amd64: run apt-get update")
    directory.mkdir()
    _run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", kernel.group(1), *PACKAGES, cwd=directory, timeout=300)
    return next(directory.glob(f"{kernel.group(1)}_*.deb"))


def _unpack(package, tree):
    """As tar does it into a system whose /bin, /sbin and /lib are links into /usr."""
    reader = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
    with reader:
        _run_from(reader.stdout, "tar", "-x", "-C", tree, "--keep-directory-symlink", "--no-same-owner",
                  "--exclude=./usr/share/doc", "--exclude=./usr/share/man", "--exclude=./usr/share/locale", "--exclude=./usr/lib/udev/hwdb.d",
                  "--exclude=./lib/udev/hwdb.d")
    if reader.returncode:
        raise RuntimeError(f"{package} cannot be unpacked")


def _run_from(stream, *argv):
    subprocess.run([str(a) for a in argv], stdin=stream, check=True)


def _dependencies(path):
    """NAME.ko and what it needs, in order of loading."""
    table = {}
    for line in (path / "modules.dep").read_text().splitlines():
        module, needs = line.split(":")
        table[Path(module).name.split(".")[0].replace("-", "_")] = [*reversed(needs.split()), module]
    return table


def _keep_modules(unpacked, tree):
    """Puts the wanted modules into TREE; returns the files that the root file system needs, in order."""
    source = next((unpacked / "usr/lib/modules").iterdir())
    _run("depmod", "-b", unpacked, source.name, env=_environment())
    table = _dependencies(source)
    target = tree / "usr/lib/modules" / source.name
    target.mkdir(parents=True)
    order = []
    for name in MODULES:
        for module in table.get(name.replace("-", "_"), []):  # none: built in
            (target / module).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / module, target / module)
            if name in ROOT_MODULES and module not in order:
                order.append(module)
    for name in ["modules.builtin", "modules.order"]:
        shutil.copy(source / name, target / name)
    _run("depmod", "-b", tree, source.name, env=_environment())
    return [target / module for module in order]


def add_libraries(tree, program):
    """Copies what PROGRAM is linked with to where the guest's loader finds it."""
    directories = [tree / "usr/lib/x86_64-linux-gnu"]
    said = _run("ldd", program, env={**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, directories))})
    missing = re.findall(r"(\S+) => not found", said)
    if missing:
        raise RuntimeError(f"{program} needs {', '.join(missing)}, which this machine does not have")
    for source in re.findall(r"(/\S+) \(0x", said):
        if source.startswith(str(tree)):
            continue
        target = tree / "usr/lib64" / Path(source).name if "ld-linux" in source else directories[0] / Path(source).name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(source), target)


def _make_tree(tree, packages):
    for name in ["usr/bin", "usr/sbin", "usr/lib/x86_64-linux-gnu", "usr/lib64", "proc", "sys", "dev", "run", "tmp", "mnt", "root", "etc"]:
        (tree / name).mkdir(parents=True)
    for name in ["bin", "sbin", "lib", "lib64"]:
        (tree / name).symlink_to(f"usr/{name}")
    for package in packages:
        _unpack(package, tree)
    for name in PROGRAMS:
        add_libraries(tree, tree / name)
    for name in ESSENTIAL:
        program = shutil.which(name, path=_environment()["PATH"])
        if not program:
            raise RuntimeError(f"this machine has no {name}")
        shutil.copy(os.path.realpath(program), tree / "usr/bin" / name)
        add_libraries(tree, program)
    for applet in _run(tree / "bin/busybox", "--list").split():
        for directory in ["usr/bin", "usr/sbin"]:
            if (tree / directory / applet).exists():
                break
        else:
            (tree / "usr/bin" / applet).symlink_to("/bin/busybox")
    (tree / "usr/sbin/init").unlink(missing_ok=True)
    (tree / "usr/sbin/init").write_text(INIT)
    (tree / "usr/sbin/init").chmod(0o755)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")


def _make_ram_disk(directory, tree, modules, out):
    """Busybox and the modules between a disk and ext4; which disk is the root is the kernel command line's to say."""
    for name in ["bin", "dev", "new", "modules"]:
        (directory / name).mkdir(parents=True)
    shutil.copy(tree / "bin/busybox", directory / "bin/busybox")
    for module in modules:
        shutil.copy(module, directory / "modules" / module.name)
    (directory / "modules/order").write_text("".join(f"{m.name}\n" for m in modules))
    (directory / "init").write_text(RAM_INIT)
    (directory / "init").chmod(0o755)
    names = "\n".join(str(p.relative_to(directory)) for p in sorted(directory.rglob("*"))) + "\n"
    with out.open("wb") as file:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], input=names.encode(), stdout=file, cwd=directory, check=True)


def guest_parts(cache):
    """A directory with vmlinuz, initrd and tree/, the guest's root without anything of ours; made once per list of packages."""
    name = hashlib.sha256(repr((PACKAGES, ESSENTIAL, MODULES, INIT, RAM_INIT, RECIPE)).encode()).hexdigest()[:12]
    parts = Path(cache) / f"device-guest-{name}"
    Path(cache).mkdir(parents=True, exist_ok=True)
    with (Path(cache) / "device-guest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if parts.exists():
            return parts
        for old in Path(cache).glob("device-guest-*"):
            shutil.rmtree(old)
        scratch = Path(cache) / "device-guest-new"
        kernel = _download_into(scratch)
        tree, unpacked = scratch / "tree", scratch / "kernel"
        (unpacked / "usr/lib").mkdir(parents=True)
        (unpacked / "lib").symlink_to("usr/lib")
        _unpack(kernel, unpacked)
        _make_tree(tree, [p for p in sorted((scratch / "packages").glob("*.deb")) if p != kernel])
        modules = _keep_modules(unpacked, tree)
        _make_ram_disk(scratch / "ram", tree, modules, scratch / "initrd")
        shutil.copy(next((unpacked / "boot").glob("vmlinuz-*")), scratch / "vmlinuz")
        for rest in ["packages", "kernel", "ram"]:
            shutil.rmtree(scratch / rest)
        scratch.rename(parts)
    return parts


def _download_into(scratch):
    scratch.mkdir()
    return _download(scratch / "packages")


def make_root_disk(parts, out, scratch, change):
    """A disk with one partition, the root file system; change(tree) adds to it what the test is about."""
    tree = Path(scratch)
    shutil.copytree(parts / "tree", tree, symlinks=True)
    change(tree)
    with Path(out).open("wb") as disk:
        disk.truncate(SIZE_MIB << 20)
    subprocess.run(["sfdisk", "-q", str(out)], input="label: dos\nstart=2048, type=83\n", text=True, check=True, env=_environment())
    _run("mkfs.ext4", "-q", "-F", "-L", "appliance", "-O", "^has_journal", "-m", "0", "-d", tree, "-E", "offset=1048576,root_owner=0:0", out,
         f"{(SIZE_MIB - 1) * 1024}k", env=_environment())
    shutil.rmtree(tree)
