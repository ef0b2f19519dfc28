#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A single Apache Kafka broker (KRaft) on loopback, for trying out and for tests.
#
#   kafka.sh fetch              get the broker's jars once (Maven), into the cache
#   kafka.sh archive            fetch, and make the class archive once that halves the broker's time to start
#   kafka.sh start DIR [PORT]   start it in the background with its data in DIR; PORT 0 or none: a free one. Returns when
#                               it answers. Writes DIR/kafka.address (host:port) and DIR/kafka.pid. Starting again on
#                               the same DIR, also after kill -9, continues with the same data and port. What is in
#                               DIR/more.properties at the first start is added to the broker's configuration.
#   kafka.sh run DIR [PORT]     the same in the foreground, for a supervisor
#   kafka.sh wait DIR           wait until it answers; fails when its process ends
#   kafka.sh stop DIR           stop it by its process id
#
# The cache is $DROVER_CACHE, else ${XDG_CACHE_HOME:-~/.cache}/drover.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${DROVER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/drover}
die() { echo "kafka.sh: $*" >&2; exit 1; }

version=$(sha256sum "$here/pom.xml" | cut -c1-12)
home=$cache/kafka-$version
lib=$home/lib

java_options=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xms64m -Xmx384m -Xshare:auto
  -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true)

fetch() {
  [ -e "$home/complete" ] && return 0
  command -v java >/dev/null || die "java is missing: ./deploy/install-dependencies.sh run"
  command -v mvn >/dev/null || die "mvn is missing: ./deploy/install-dependencies.sh run"
  mkdir -p "$cache"
  exec 9>"$cache/kafka.lock"; flock 9
  [ -e "$home/complete" ] && return 0
  rm -rf "$home"; mkdir -p "$lib"
  echo "Fetching Apache Kafka (about 45 jars) into $home" >&2
  local log=$home/fetch.log try
  for try in 1 2 3; do
    if mvn -B -q -f "$here/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$lib" >"$log" 2>&1; then
      touch "$home/complete"; exec 9>&-; return 0
    fi
    sleep "$try"
  done
  tail -n 20 "$log" >&2
  die "Maven could not fetch the broker; is Maven's repository reachable? The whole log: $log"
}

free_ports() { # N free loopback ports, one a line
  perl -MIO::Socket::INET -e 'my @s; for (1..$ARGV[0]) { my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die $!; push @s, $s; print $s->sockport, "\n" }' "$1"
}

port_is_free() {
  perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => $ARGV[0], ReuseAddr => 1)' "$1"
}

alive() { # DIR: is the process of DIR/kafka.pid our broker?
  local pid
  pid=$(cat "$1/kafka.pid" 2>/dev/null) || return 1
  [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "kafka.Kafka $1/server.properties"
}

answers() { # HOST PORT: accepts connections and answers ApiVersions (key 18, version 0) with correlation id 7
  perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 1) or exit 1;
    my $body = pack("nnNn", 18, 0, 7, 0xffff);
    print $s pack("N", length $body), $body; $s->flush; local $SIG{ALRM} = sub { exit 1 }; alarm 2;
    read($s, my $head, 8) == 8 or exit 1; exit((unpack("NN", $head))[1] == 7 ? 0 : 1)' "$1" "$2" 2>/dev/null
}

prepare() { # DIR PORT: DIR/server.properties and formatted storage, unless they are there; a clear word when the port is taken
  local dir=$1 port=$2 ports
  if [ ! -e "$dir/server.properties" ]; then
    mapfile -t ports < <(free_ports 2)
    [ "$port" != 0 ] || port=${ports[0]}
    cat >"$dir/server.properties.new" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${ports[1]}
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:${ports[1]}
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=16777216
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
message.max.bytes=1048588
PROPERTIES
    [ ! -e "$dir/more.properties" ] || cat "$dir/more.properties" >>"$dir/server.properties.new"
    java "${java_options[@]}" -cp "$lib/*" kafka.tools.StorageTool format --ignore-formatted \
      "--cluster-id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c1-22)" \
      --config "$dir/server.properties.new" >"$dir/format.log" 2>&1 || { cat "$dir/format.log" >&2; die "formatting $dir/data failed"; }
    mv "$dir/server.properties.new" "$dir/server.properties"
  fi
  port=$(port_of "$dir")
  port_is_free "$port" || die "port $port on 127.0.0.1 is taken: stop what listens there, or start with another DIR and PORT"
}

port_of() { sed -n 's#^advertised.listeners=PLAINTEXT://127.0.0.1:##p' "$1/server.properties"; }

run() { # DIR PORT: becomes the broker
  local dir=$1 options=("${java_options[@]}")
  [ ! -s "$home/kafka.jsa" ] || options+=("-XX:SharedArchiveFile=$home/kafka.jsa")
  rm -rf "$dir/tmp"; mkdir -p "$dir/tmp"
  echo "127.0.0.1:$(port_of "$dir")" >"$dir/kafka.address"
  echo "$BASHPID" >"$dir/kafka.pid"
  exec java "${options[@]}" "-Djava.io.tmpdir=$dir/tmp" -cp "$lib/*" kafka.Kafka "$dir/server.properties"
}

wait_ready() { # DIR
  local dir=$1 i pid
  for ((i = 0; i < 600; i++)); do
    pid=$(cat "$dir/kafka.pid" 2>/dev/null || true)
    if [ -n "$pid" ]; then
      ! answers 127.0.0.1 "$(port_of "$dir")" || return 0
      kill -0 "$pid" 2>/dev/null || { tail -n 20 "$dir/kafka.log" >&2 2>/dev/null || true; die "the broker ended; its log: $dir/kafka.log"; }
    fi
    sleep 0.1
  done
  die "the broker did not answer within 60 s; its log: $dir/kafka.log"
}

start() { # DIR PORT
  local dir=$1
  alive "$dir" && { echo "already running at $(cat "$dir/kafka.address")" >&2; return 0; }
  prepare "$dir" "$2"
  rm -f "$dir/kafka.pid"
  # It outlives this script and whoever called it: no terminal, no descriptors of theirs.
  ( trap '' HUP; run "$dir" ) >>"$dir/kafka.log" 2>&1 </dev/null 9>&- &
  wait_ready "$dir"
}

directory() { # DIR: made, and absolute
  mkdir -p "$1" && cd "$1" && pwd
}

# An archive of loaded classes makes the broker start in half the time. A JVM writes it when it ends, so it is made once
# from a broker that is started for this only.
archive() {
  fetch
  [ -s "$home/kafka.jsa" ] && return 0
  local dir; dir=$(mktemp -d /tmp/drover-kafka-archive.XXXXXX)
  java_options+=("-XX:ArchiveClassesAtExit=$home/kafka.jsa.new")
  ( start "$dir" 0 ) && stop "$dir" 60
  rm -rf "$dir"
  if [ -s "$home/kafka.jsa.new" ]; then mv "$home/kafka.jsa.new" "$home/kafka.jsa"; fi
}

stop() { # DIR [SECONDS]
  local dir pid i
  dir=$(cd "$1" 2>/dev/null && pwd) || return 0
  alive "$dir" || { rm -f "$dir/kafka.pid"; return 0; }
  pid=$(cat "$dir/kafka.pid")
  kill -TERM "$pid" 2>/dev/null || true
  for ((i = 0; i < ${2:-15} * 10; i++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$dir/kafka.pid"
}

case ${1:-} in
  fetch | archive) "$1" ;;
  start | run | wait | stop)
    [ $# -ge 2 ] || die "usage: kafka.sh $1 DIR"
    case $1 in
      stop) stop "$2" ;;
      wait) wait_ready "$(directory "$2")" ;;
      *)
        dir=$(directory "$2")
        fetch
        if [ "$1" = start ]; then
          start "$dir" "${3:-0}"
        else
          rm -f "$dir/kafka.pid"
          prepare "$dir" "${3:-0}"
          run "$dir"
        fi ;;
    esac ;;
  -h | --help) sed -n '3,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
  *) die "usage: kafka.sh fetch | archive | start DIR [PORT] | run DIR [PORT] | wait DIR | stop DIR" ;;
esac
