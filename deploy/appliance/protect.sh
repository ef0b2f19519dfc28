#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Keeps an appliance (Debian 12, the VM a volume agent runs on) off the disks of guests: udevd, LVM, md, multipath, automounters
# and update-grub leave every disk alone but the appliance's own. Run it as root before the first volume is attached, and again
# when the appliance gets or loses a disk of its own. docs/appliance.md says what it changes and how to see that it works.
#
#   protect.sh                                  this machine: its own disks are those its mounts and swap lie on
#   protect.sh --root DIR [--own-serial TEXT]   a tree to make an image of, with the serials its own disks will have; repeatable
#   protect.sh --check                          says whether this machine is protected; changes nothing
#
# Files that it replaces are kept beside the new ones as NAME.before-drover.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
root='' check=0 serials=()
die() { echo "protect.sh: $*" >&2; exit 1; }
usage() { sed -n '3,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
while [ $# -gt 0 ]; do
  case $1 in
    --root) [ $# -ge 2 ] && [ -d "$2" ] || die "--root needs a directory"; root=$(readlink -f "$2"); shift 2 ;;
    --own-serial) [ $# -ge 2 ] && [ -n "$2" ] || die "--own-serial needs a serial"; serials+=("$2"); shift 2 ;;
    --check) check=1; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown option '$1'" ;;
  esac
done
[ "$root" != / ] || root=''
[ -n "$root" ] || [ ${#serials[@]} = 0 ] || die "--own-serial is for --root; this machine's own disks are found"
[ "$check" = 0 ] || [ -z "$root" ] || die "--check looks at this machine only"

own_rules=/etc/udev/rules.d/59-drover-own-disks.rules
# What is where: our name, its place.
files=(
  "60-drover-volumes.rules /etc/udev/rules.d/60-drover-volumes.rules"
  "lvmlocal.conf /etc/lvm/lvmlocal.conf"
  "multipath.conf /etc/multipath/conf.d/drover.conf"
  "grub.cfg /etc/default/grub.d/drover.cfg"
)

# ---- the appliance's own disks
below_mounts() { # NAME TYPE of every device below a mount or swap
  { findmnt -rnvo SOURCE --real; swapon --noheadings --raw --show=NAME 2>/dev/null || true; } | sed 's/\[.*//' | grep '^/dev/' | sort -u |
    while read -r device; do lsblk -srno NAME,TYPE "$device" 2>/dev/null || true; done | sort -u
}
own_disks() { below_mounts | awk '$2 == "disk" { print $1 }'; }
serial_of() { # DISK: as the volume agent reads it
  if [ -e "/sys/block/$1/serial" ]; then
    tr -d '[:space:]' <"/sys/block/$1/serial"
  elif [ -e "/sys/block/$1/device/vpd_pg80" ]; then # its size shows as 0
    tail -c +5 "/sys/block/$1/device/vpd_pg80" | tr -d '\0[:space:]'
  fi
}
if [ -z "$root" ]; then
  own=$(own_disks)
  # An own disk that is taken for a volume loses its links in /dev/disk.
  [ -n "$own" ] || die "the disk of this machine's root file system cannot be found (findmnt -rnvo SOURCE --real; lsblk -s)"
  for disk in $own; do
    serial=$(serial_of "$disk")
    [ -z "$serial" ] || serials+=("$serial")
  done
fi

own_disk_rules() {
  echo "# Made by Drover's protect.sh: the appliance's own disks, by serial."
  local serial
  for serial in ${serials[@]+"${serials[@]}"}; do
    [[ $serial =~ ^[A-Za-z0-9_.:-]+$ ]] || die "'$serial' is no serial that can stand in a udev rule"
    echo "SUBSYSTEM==\"block\", ENV{DEVTYPE}==\"disk\", KERNEL==\"vd*\", ATTR{serial}==\"$serial\", ENV{DROVER_OWN_DISK}=\"1\""
    echo "SUBSYSTEM==\"block\", ENV{DEVTYPE}==\"disk\", KERNEL==\"sd*\", ACTION!=\"remove\", PROGRAM==\"scsi_id --whitelisted --page=0x80 --device=\$devnode\", RESULT==\"*$serial\", ENV{DROVER_OWN_DISK}=\"1\""
  done
}
own_arrays() { # the arrays below this machine's mounts, or what the tree's mdadm.conf lists already
  local conf=$root/etc/mdadm/mdadm.conf array
  if [ -n "$root" ]; then
    [ ! -e "$conf" ] || grep '^ARRAY ' "$conf" || true
  elif command -v mdadm >/dev/null; then
    below_mounts | awk '$2 ~ /^raid|^md/ { print $1 }' | while read -r array; do mdadm --detail --brief "/dev/$array"; done
  fi
}

# ---- checking
if [ "$check" = 1 ]; then
  bad=0
  wrong() { echo "NOT PROTECTED: $*"; bad=1; }
  for file in "${files[@]}"; do
    cmp -s "$here/${file%% *}" "${file#* }" || wrong "${file#* } is not as shipped"
  done
  [ -e "$own_rules" ] || wrong "$own_rules is missing"
  [ -e /etc/lvm/devices/drover.devices ] || wrong "/etc/lvm/devices/drover.devices is missing"
  grep -qx 'AUTO -all' /etc/mdadm/mdadm.conf 2>/dev/null || wrong "/etc/mdadm/mdadm.conf does not say AUTO -all"
  for serial in ${serials[@]+"${serials[@]}"}; do
    grep -q -F "\"$serial\"" "$own_rules" 2>/dev/null || wrong "$own_rules does not have the appliance's own disk $serial"
  done
  [ "$bad" != 0 ] || echo "protected; own disks: ${serials[*]:-none with a serial}"
  exit "$bad"
fi

# ---- installing
[ -n "$root" ] || [ "$(id -u)" = 0 ] || die "must run as root"
changed=0
install_file() { # SOURCE PLACE MODE
  local place=$root$2
  if cmp -s "$1" "$place"; then return; fi
  mkdir -p "$(dirname "$place")"
  [ ! -e "$place" ] || [ -e "$place.before-drover" ] || cp -p "$place" "$place.before-drover"
  install -m "$3" "$1" "$place.new"
  mv "$place.new" "$place"
  changed=1
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for file in "${files[@]}"; do
  install_file "$here/${file%% *}" "${file#* }" 644
done
install_file "$here/initramfs-hook" /etc/initramfs-tools/hooks/drover-appliance 755
own_disk_rules >"$scratch/own"
install_file "$scratch/own" "$own_rules" 644
{ cat "$here/mdadm.conf"; own_arrays; } >"$scratch/mdadm.conf"
install_file "$scratch/mdadm.conf" /etc/mdadm/mdadm.conf 644

# The file must be there: without it LVM uses every disk. It lists what the appliance's own volume groups lie on.
devices=$root/etc/lvm/devices/drover.devices
if [ ! -e "$devices" ]; then
  mkdir -p "$(dirname "$devices")"
  printf '# LVM uses these disks only (lvmdevices(8)); made by Drover'\''s protect.sh\n' >"$devices"
  chmod 600 "$devices"
  changed=1
fi
if [ -z "$root" ] && command -v lvmdevices >/dev/null; then
  own_disks | while read -r disk; do lsblk -rnpo NAME,FSTYPE "/dev/$disk"; done | awk '$2 == "LVM2_member" { print $1 }' |
    while read -r volume; do
      lvmdevices --adddev "$volume" >/dev/null 2>&1 || die "LVM's own disk $volume cannot be listed in $devices: lvmdevices --adddev $volume says why"
    done
fi

if [ -z "$root" ]; then
  udevadm control --reload 2>/dev/null || true
  if [ "$changed" = 1 ] && command -v update-initramfs >/dev/null; then update-initramfs -u; fi
fi
echo "protected; own disks: ${serials[*]:-none with a serial}"
