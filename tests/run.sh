#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, and runs tests.
#
#   tests/run.sh [unit|system|fault|all] [-k EXPR] [--preset PRESET]
#
#   (none)   unit and system
#   unit     decisions and parsers (cmocka), under AddressSanitizer and UndefinedBehaviorSanitizer
#   system   whole fleets on real Kafka, Redis and nbdkit (pytest)
#   fault    the same fleets with processes killed at many points, and long random sequences
#   all      all three: what CI runs
#   -k EXPR  only tests whose name matches: a regular expression for unit tests, a pytest expression for system tests
#   --preset PRESET   build of the unit tests: dev, release, asan (default) or tsan
#
# The last line counts: "N passed, N failed". Exit code 0: none failed. In CI (CI is set) a skipped test counts as failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
suites='unit system' expression='' preset=asan
while [ $# -gt 0 ]; do
  case $1 in
    unit | system | fault) suites=$1; shift ;;
    all) suites='unit system fault'; shift ;;
    -k) expression=${2:?-k needs an expression}; shift 2 ;;
    --preset) preset=${2:?--preset needs a name}; shift 2 ;;
    -h | --help) sed -n '3,16s/^# \{0,1\}//p' tests/run.sh; exit 0 ;;
    *) sed -n '3,16s/^# \{0,1\}//p' tests/run.sh >&2; echo "tests/run.sh: unknown argument '$1'" >&2; exit 2 ;;
  esac
done
export DROVER_CACHE=${DROVER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/drover}
unset DROVER_CONFIG
began=$SECONDS
passed=0 failed=0

./deploy/install-dependencies.sh build run test
results=$(mktemp -d "${TMPDIR:-/tmp}/drover-tests.XXXXXX")
trap 'rm -rf "$results"' EXIT

build() { # PRESET
  [ -e "build/$1/build.ninja" ] || cmake --preset "$1" >"$results/build.log" 2>&1 || { cat "$results/build.log"; exit 1; }
  cmake --build --preset "$1" >"$results/build.log" 2>&1 || { grep -E 'error|FAILED|warning' "$results/build.log" | head -n 40; exit 1; }
}

count() { # JUNIT-FILE: adds its results
  local numbers
  numbers=$(/usr/bin/python3 - "$1" <<'PY'
import os, sys, xml.etree.ElementTree as tree
try:
    suites = list(tree.parse(sys.argv[1]).getroot().iter("testsuite"))
except (OSError, tree.ParseError):
    print(0, 1)
    sys.exit()
total = sum(int(s.get("tests", 0)) for s in suites)
bad = sum(int(s.get("failures", 0)) + int(s.get("errors", 0)) for s in suites)
skipped = sum(int(s.get("skipped", 0)) + int(s.get("disabled", 0) or 0) for s in suites)
if skipped and os.environ.get("CI"):
    names = [c.get("name") for s in suites for c in s.iter("testcase") if c.find("skipped") is not None]
    print(f"skipped, which in CI is a failure: {', '.join(names)}", file=sys.stderr)
    bad, skipped = bad + skipped, 0
print(total - bad - skipped, bad)
PY
  )
  passed=$((passed + ${numbers% *})) failed=$((failed + ${numbers#* }))
}

if [[ $suites == *unit* ]]; then
  echo "== unit tests ($preset)"
  build "$preset"
  export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
  ctest --test-dir "build/$preset" -j 2 --output-on-failure --output-junit "$results/unit.xml" ${expression:+-R "$expression"} || true
  count "$results/unit.xml"
fi
directories=()
if [[ $suites == *system* ]]; then directories+=(tests/system tests/doubles); fi
if [[ $suites == *fault* ]]; then directories+=(tests/fault); fi
if [ ${#directories[@]} -gt 0 ]; then
  echo "== ${suites#unit } tests"
  build release
  ./deploy/kafka/kafka.sh archive
  rc=0
  # Tests wait more than they compute: three files at a time, each with a broker of its own.
  /usr/bin/python3 -m pytest "${directories[@]}" -n 3 --dist loadfile -p no:cacheprovider -q --durations=10 --junitxml "$results/system.xml" \
    ${expression:+-k "$expression"} || rc=$?
  [ "$rc" = 5 ] || count "$results/system.xml" # 5: no test matches
fi
echo "finished in $((SECONDS - began)) s"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
