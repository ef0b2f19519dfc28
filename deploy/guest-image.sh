#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a small but real Linux guest out of Debian's own packages: partition table, GRUB, kernel, busybox, an ext4 root
# with some hundred MB of files and a manifest of their digests. It boots on virtio disks, checks its own files against
# the manifest, prints one line on the serial console and powers off. Needs no loop devices, mounts or root.
#
#   guest-image.sh OUT.vmdk      a streamOptimized VMDK, as an OVA export has it; taken from the cache when made before
set -euo pipefail
out=${1:-}
case $out in
  *.vmdk) ;;
  -h | --help) sed -n '3,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
  *) echo "usage: guest-image.sh OUT.vmdk" >&2; exit 2 ;;
esac
die() { echo "guest-image.sh: $*" >&2; exit 1; }

self=$(readlink -f "${BASH_SOURCE[0]}")
cache=${DROVER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/drover}
image=$cache/guest-$(sha256sum "$self" | cut -c1-12).vmdk
size_mib=1024
# Files to carry: what a server has (a Java runtime and the locale data make up most of it).
payload=(busybox-static openjdk-17-jre-headless libicu72 ca-certificates tzdata)

if [ ! -s "$image" ]; then
  for tool in apt-get dpkg-deb depmod cpio sfdisk mkfs.ext4 qemu-img; do
    PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null || die "$tool is missing: ./deploy/install-dependencies.sh run"
  done
  export PATH=$PATH:/usr/sbin:/sbin
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/guest.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  root=$work/root
  mkdir -p "$root" "$work/debs" "$work/grub"

  kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
  [ -n "$kernel" ] || die "apt knows no package linux-image-cloud-amd64: run apt-get update"
  (cd "$work/debs" && apt-get -q -o APT::Sandbox::User=root download "$kernel" grub-pc-bin "${payload[@]}") >"$work/apt.log" 2>&1 ||
    { tail -n 5 "$work/apt.log" >&2; die "the guest's packages cannot be downloaded"; }
  for deb in "$work"/debs/*.deb; do
    case $deb in
      */grub-pc-bin_*) dpkg-deb -x "$deb" "$work/grub" ;;
      *) dpkg-deb -x "$deb" "$root" ;;
    esac
  done
  release=$(basename "$root"/lib/modules/*)
  depmod -b "$root" "$release"

  # ---- the root file system
  mkdir -p "$root"/{bin,sbin,proc,sys,dev,run,tmp,root,var/log,boot/grub}
  for tool in sh mount cat echo sha256sum poweroff sync wc ls; do ln -sf /bin/busybox "$root/bin/$tool"; done
  mv "$root/boot/vmlinuz-$release" "$root/boot/vmlinuz"
  (cd "$root" && find usr etc lib -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) >"$root/root/manifest"
  cat >"$root/sbin/init" <<'INIT'
#!/bin/sh
/bin/mount -t proc proc /proc
/bin/mount -t devtmpfs dev /dev 2>/dev/null
cd /
if /bin/sha256sum -c -s /root/manifest; then verdict=intact; else verdict=DAMAGED; fi
/bin/echo "drover guest: booted, $(/bin/wc -l </root/manifest) files $verdict" >/dev/ttyS0
/bin/sync
/bin/poweroff -f
INIT
  chmod 755 "$root/sbin/init"
  cat >"$root/boot/grub/grub.cfg" <<'GRUB'
serial --unit=0 --speed=115200
terminal_output serial
set timeout=0
linux /boot/vmlinuz console=ttyS0 quiet panic=5
initrd /boot/initrd
boot
GRUB

  # ---- the initramfs: busybox, and the modules between a virtio disk and ext4
  ram=$work/ram
  mkdir -p "$ram"/{bin,dev,proc,new,modules}
  cp "$root/bin/busybox" "$ram/bin/busybox"
  modules=()
  add_module() { # NAME: its dependencies first
    local line path
    line=$(grep -E "/$1\.ko(\.xz)?:" "$root/lib/modules/$release/modules.dep") || return 0 # built in
    for path in $(printf '%s\n' "${line#*:}" | tr ' ' '\n' | tac) "${line%%:*}"; do
      [ -n "$path" ] || continue
      case " ${modules[*]:-} " in *" $(basename "$path") "*) continue ;; esac
      cp "$root/lib/modules/$release/$path" "$ram/modules/"
      modules+=("$(basename "$path")")
    done
  }
  for name in virtio_pci virtio_blk virtio_scsi sd_mod crc32c_generic ext4; do add_module $name; done
  { echo '#!/bin/busybox sh'
    echo '/bin/busybox mount -t proc proc /proc; /bin/busybox mount -t devtmpfs dev /dev'
    for name in "${modules[@]}"; do echo "/bin/busybox insmod /modules/$name"; done
    cat <<'RAM'
for i in 1 2 3 4 5 6 7 8 9 10; do
  for disk in /dev/vda1 /dev/sda1; do [ -b $disk ] && root=$disk; done
  [ -n "$root" ] && break
  /bin/busybox sleep 1
done
/bin/busybox mount -t ext4 "$root" /new || { /bin/busybox echo "drover guest: no root file system on ${root:-any disk}" >/dev/ttyS0; /bin/busybox poweroff -f; }
exec /bin/busybox switch_root /new /sbin/init
RAM
  } >"$ram/init"
  chmod 755 "$ram/init"
  (cd "$ram" && find . | LC_ALL=C sort | cpio --quiet -o -H newc | gzip -9) >"$root/boot/initrd"

  # ---- the disk: GRUB's boot.img in the first sector, core.img behind it, one ext4 partition from 1 MiB on
  disk=$work/disk.raw
  truncate -s ${size_mib}M "$disk"
  printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$disk"
  mkfs.ext4 -q -F -L drover-guest -m 0 -d "$root" -E offset=1048576,root_owner=0:0 "$disk" $(((size_mib - 1) * 1024))k \
    2>"$work/mkfs.log" || { cat "$work/mkfs.log" >&2; die "mkfs.ext4 failed"; }
  platform=$work/grub/usr/lib/grub/i386-pc
  grub-mkimage -d "$platform" -O i386-pc -o "$work/core.img" -p '(hd0,msdos1)/boot/grub' \
    biosdisk part_msdos ext2 linux normal configfile serial terminal boot
  dd if="$platform/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
  dd if="$work/core.img" of="$disk" bs=512 seek=1 conv=notrunc status=none
  qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$disk" "$work/guest.vmdk"
  mv "$work/guest.vmdk" "$image"
  rm -f $(ls "$cache"/guest-*.vmdk | grep -v -F "$image" || true)
fi
cp --reflink=auto "$image" "$out"
