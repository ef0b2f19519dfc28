#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh Debian 12 to a finished migration on this machine: installs what is missing, builds, starts a whole fleet
# (Kafka, Redis, a CloudStack stand-in, volume agent with nbdkit, 2 workers, 2 schedulers, aggregator), migrates a real
# disk with live progress and compares the result byte by byte with an independent conversion of the source.
#
#   quickstart.sh [--image FILE]... [--out DIR] [--boot] [--keep] [--nbd-port N]
#
#   --image FILE   migrate this disk (raw, qcow2, vmdk, vhdx) instead of the demonstration guest; repeatable
#   --out DIR      leave the migrated volumes there, one raw file per image with the image's base name
#   --boot         boot the result in QEMU (without KVM) and show what it says
#   --keep         leave the fleet running afterwards and say how to talk to it
#   --nbd-port N   port of the agent's NBD server (default: a free one)
#
# Exit code 0: migrated and equal. Nothing stays running (but for --keep) and nothing stays on disk but the build, the
# cache (${XDG_CACHE_HOME:-~/.cache}/drover) and --out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
images=() out='' boot=0 keep=0 nbd_port=0
usage() { sed -n '3,17s/^# \{0,1\}//p' deploy/quickstart.sh; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }
while [ $# -gt 0 ]; do
  case $1 in
    --image) [ $# -ge 2 ] || die "--image needs a FILE"; images+=("$2"); shift 2 ;;
    --image=*) images+=("${1#*=}"); shift ;;
    --out) [ $# -ge 2 ] || die "--out needs a DIR"; out=$2; shift 2 ;;
    --out=*) out=${1#*=}; shift ;;
    --boot) boot=1; shift ;;
    --keep) keep=1; shift ;;
    --nbd-port) [ $# -ge 2 ] || die "--nbd-port needs a number"; nbd_port=$2; shift 2 ;;
    --nbd-port=*) nbd_port=${1#*=}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown option '$1'" ;;
  esac
done
[[ $nbd_port =~ ^[0-9]+$ && $nbd_port -le 65535 ]] || die "--nbd-port '$nbd_port' is not a port number"
export DROVER_CACHE=${DROVER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/drover}
unset DROVER_CONFIG

base_name() { # PATH: its last part, without the extension
  local name; name=$(basename "$1")
  case $name in
    ?*.*) echo "${name%.*}" ;;
    *) echo "$name" ;;
  esac
}

# What is wrong with the arguments is said before anything is installed or built.
declare -A base_names=()
for i in "${!images[@]}"; do
  image=${images[$i]}
  [ -e "$image" ] || die "--image $image: no such file"
  [ -f "$image" ] && [ -r "$image" ] || die "--image $image: not a readable file"
  [ -s "$image" ] || die "--image $image: the file is empty"
  images[$i]=$(readlink -f "$image")
  name=$(base_name "$image")
  [ -z "${base_names[$name]:-}" ] || [ -z "$out" ] || die "two images are called $name: they would be one file in --out"
  base_names[$name]=1
done
if [ -n "$out" ]; then
  mkdir -p "$out" 2>/dev/null && [ -w "$out" ] || die "--out $out: cannot be written"
  out=$(readlink -f "$out")
fi

phases=()
began=$(date +%s%N)
phase() { # NAME COMMAND...: runs it and notes how long it took
  local name=$1 start; shift
  start=$(date +%s%N)
  "$@"
  phases+=("$(printf '%-44s %7.1f s' "$name" "$(awk "BEGIN { print ($(date +%s%N) - $start) / 1e9 }")")")
}
# A shell handles signals only between foreground commands: what takes long runs beside it, in a process group that a
# signal to us ends at once.
beside() {
  local code=0
  setpriv --pdeathsig TERM setsid "$@" &
  child=$!
  wait "$child" || code=$?
  child=''
  return $code
}
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || step() { printf '\n== %s\n' "$*"; }

run=$(mktemp -d "${TMPDIR:-/var/tmp}/drover-quickstart.XXXXXX") || die "${TMPDIR:-/var/tmp} cannot be written: set TMPDIR to a directory with room"
fleet_pid='' child=''
finish() {
  local code=$?
  trap - EXIT INT TERM HUP
  [ -z "$child" ] || kill -- "-$child" 2>/dev/null || true
  [ "$code" = 0 ] || keep=0 # nothing is left running after a failure
  if [ -n "$fleet_pid" ] && [ "$keep" = 0 ]; then
    /usr/bin/python3 deploy/fleet.py stop "$run" || code=1
    wait "$fleet_pid" || { cat "$run/fleet.log" >&2; code=1; }
  fi
  if [ "$code" != 0 ] && [ -d "$run/log" ]; then
    local kept=$DROVER_CACHE/last-failure
    rm -rf "$kept"; mkdir -p "$DROVER_CACHE"; cp -r "$run/log" "$kept" 2>/dev/null && echo "quickstart: logs of this run: $kept" >&2
  fi
  [ "$keep" = 1 ] && [ -n "$fleet_pid" ] || rm -rf "$run"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

step "Installing what is missing"
groups=(build run)
[ "$boot" = 0 ] || groups+=(boot)
phase "packages" ./deploy/install-dependencies.sh "${groups[@]}"
phase "Kafka's jars" beside ./deploy/kafka/kafka.sh archive

step "Building"
build() {
  local log=$run/build.log
  { [ -e build/release/build.ninja ] || beside cmake --preset release; } >"$log" 2>&1 &&
    beside cmake --build --preset release >>"$log" 2>&1 || { grep -E 'error|Error|needs these|Debian package' "$log" | head -n 30 >&2 || tail -n 30 "$log" >&2; die "the build failed"; }
}
phase "build" build

if [ ${#images[@]} = 0 ]; then
  step "Making a bootable Linux disk from Debian's packages"
  phase "demonstration guest" beside ./deploy/guest-image.sh "$run/guest.vmdk"
  images=("$run/guest.vmdk")
fi

# Room for the migrated volumes and for the independent conversions they are compared with.
need=0
for image in "${images[@]}"; do
  size=$(qemu-img info -U --output=json "$image" 2>/dev/null | /usr/bin/python3 -c 'import json, sys
d = json.load(sys.stdin); print(d["virtual-size"] if d["format"] != "raw" else d["actual-size"])' 2>/dev/null) || size=0
  need=$((need + 2 * size))
done
room=$(df --output=avail -B1 "$run" | tail -n 1)
[ "$room" -gt $((need + (1 << 30))) ] || [ "$need" -lt $((room / 4)) ] ||
  die "$(df --output=target "$run" | tail -n 1) has $((room >> 20)) MiB free; this needs up to $(((need >> 20) + 1024)): free some, or set TMPDIR to another disk"

step "Starting the fleet"
start_fleet() {
  local options=(run "$run" --nbd-port "$nbd_port")
  [ "$keep" = 1 ] || options+=(--parent $$)
  setsid /usr/bin/python3 deploy/fleet.py "${options[@]}" >"$run/fleet.log" 2>&1 </dev/null &
  fleet_pid=$!
  local i
  for ((i = 0; i < 1200; i++)); do
    [ ! -e "$run/ready" ] || return 0
    kill -0 "$fleet_pid" 2>/dev/null || { cat "$run/fleet.log" >&2; fleet_pid=''; die "the fleet did not start"; }
    sleep 0.1
  done
  cat "$run/fleet.log" >&2
  die "the fleet was not ready within 2 minutes"
}
phase "fleet" start_fleet
export DROVER_CONFIG=$run/drover.conf
PATH=$PWD/build/release/bin:$PATH
redis() { redis-cli -p "$(cat "$run/redis.port")" --raw "$@"; }

step "Migrating"
jobs=()
submit() {
  local i image name
  for i in "${!images[@]}"; do
    image=${images[$i]}
    name=$(basename "$image"); name=${name%.*}
    name=$(printf 'vm-%s' "$name" | tr -c 'A-Za-z0-9-\n' '-' | cut -c1-60 | sed 's/-*$//')
    jobs+=("quickstart-$((i + 1))")
    drover migrate --source "file:${image//,/,,}" --name "$name" --job-id "${jobs[$i]}" >"$run/log/submit.log" 2>&1 ||
      { cat "$run/log/submit.log" >&2; die "$image: the job could not be submitted"; }
    echo "  ${jobs[$i]}: $image"
  done
}
phase "submission" submit
migrate() {
  beside drover watch "${jobs[@]}" || die "a migration failed (see above)"
}
phase "migration" migrate

step "Comparing"
volumes=()
compare() {
  local i image volume capacity reference=$run/reference.raw
  for i in "${!images[@]}"; do
    image=${images[$i]}
    volume=$run/cloudstack/volumes/$(redis HGET "drover:disk:${jobs[$i]}:disk0" volume_id).raw
    capacity=$(redis HGET "drover:disk:${jobs[$i]}:disk0" capacity_bytes)
    qemu-img convert -U -O raw "$image" "$reference" 2>/dev/null || qemu-img convert -O raw "$image" "$reference"
    [ "$(stat -c %s "$reference")" = "$capacity" ] || die "$image: the fleet says $capacity bytes, qemu-img $(stat -c %s "$reference")"
    cmp -n "$capacity" "$reference" "$volume" || die "${jobs[$i]}: the target differs from $image"
    # What the volume has beyond the source's size must read as zeroes.
    cmp -s -n "$(($(stat -c %s "$volume") - capacity))" -i "$capacity:0" "$volume" /dev/zero ||
      die "${jobs[$i]}: the target holds data behind the end of $image"
    echo "  ${jobs[$i]}: $capacity bytes equal"
    volumes+=("$volume")
    rm -f "$reference"
    if [ -n "$out" ]; then
      local name; name=$(base_name "$image")
      cp --sparse=always "$volume" "$out/$name.raw.part" || { rm -f "$out/$name.raw.part"; die "--out $out: cannot be written"; }
      truncate -s "$capacity" "$out/$name.raw.part"
      mv "$out/$name.raw.part" "$out/$name.raw"
      echo "  left in $out/$name.raw"
    fi
  done
}
phase "comparison" compare

if [ "$boot" = 1 ]; then
  step "Booting the result"
  boot_result() {
    local disk=$run/boot.qcow2 log=$run/log/boot.log
    qemu-img create -q -f qcow2 -b "${volumes[0]}" -F raw "$disk"
    # Not every machine may use KVM; without it a boot takes a minute. A guest of the user's need not power off by itself.
    beside timeout 240 qemu-system-x86_64 -accel tcg -m 512 -display none -serial "file:$log" -monitor none -no-reboot -nic none \
      -drive "file=$disk,format=qcow2,if=virtio" </dev/null || true
    if [ "${images[0]}" = "$run/guest.vmdk" ]; then
      grep -a -o 'drover guest: booted, .* intact' "$log" | sed 's/^/  /' || { tail -n 5 "$log" >&2; die "the migrated guest did not boot"; }
    else
      echo "  first line on the serial console: $(tr -d '\033\r' <"$log" | grep -a -m 1 '[[:alnum:]]' || echo none)"
    fi
  }
  phase "boot" boot_result
fi

step "Done"
for i in "${!images[@]}"; do
  key=drover:job:${jobs[$i]}
  printf '  %s: %s, %s of %s bytes moved, status %s\n' "${jobs[$i]}" "$(basename "${images[$i]}")" \
    "$(redis HGET "$key" bytes_transferred)" "$(redis HGET "$key" total_bytes)" "$(redis HGET "$key" status)"
done
echo
printf '  %s\n' "${phases[@]}"
printf '  %-44s %7.1f s\n' "all" "$(awk "BEGIN { print ($(date +%s%N) - $began) / 1e9 }")"
echo
if [ "$keep" = 1 ]; then
  cat <<KEEP
The fleet goes on. To talk to it:
  export DROVER_CONFIG=$run/drover.conf PATH=$PWD/build/release/bin:\$PATH
  drover jobs; drover show ${jobs[0]}; drover failover live ${jobs[0]}
  redis-cli -p $(cat "$run/redis.port") hgetall drover:job:${jobs[0]}
Logs: $run/log. To end it: deploy/fleet.py stop $run && rm -rf $run
KEEP
else
  echo "Where to look next: docs/architecture.md (how it works), docs/redis.md (following jobs), drover --help;"
  echo "./deploy/quickstart.sh --keep leaves the fleet running, --image FILE migrates your own disk."
fi
