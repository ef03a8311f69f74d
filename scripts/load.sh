#!/usr/bin/env bash
# A load test for any MQTT broker, made of the clients people already have:
# mosquitto_pub and mosquitto_sub.
set -euo pipefail
export LC_ALL=C # decimal points in $EPOCHREALTIME and awk, bytes in string lengths

usage() {
  cat <<'END'
Usage: load.sh [options]

Publishes numbered messages through a broker, checks every message that every
subscriber receives, and prints one line of results for each QoS.

  -H HOST     broker's host (127.0.0.1)
  -p PORT     broker's port (1883)
  -n COUNT    messages in total, divided among the publishers (100000)
  -P COUNT    publishers: more than one makes a fan-in (1)
  -S COUNT    subscribers, each receives every message: a fan-out (1)
  -q LIST     QoS levels, for publishing and subscribing alike ("0 1 2")
  -s BYTES    payload size (64)
  -V VERSION  mqttv31, mqttv311 or mqttv5 (mqttv311)
  -i PID      the broker's process on this machine: adds its CPU time and memory
  -w SECONDS  stop the clients of one QoS level after this time (60)
  -h          this text

Publisher I sends its messages to the topic load/RUN/I, and every subscriber
subscribes to load/RUN/#. A retained message on load/RUN/ready shows when a
subscriber is really subscribed. The clock runs from the first publish until the
last subscriber has received everything or was stopped.

  lost        messages that a subscriber did not receive, or received damaged
  duplicates  messages that a subscriber received more than once
  disorder    messages that came after a later one of the same publisher
  seconds     include the time-out (-w) where a subscriber waited for lost messages
  messages/s  deliveries per second: one message to ten subscribers counts ten

Exit status: 0 if every message arrived once and in order, 1 if not,
2 if the test could not be run.

Subscribers read slower than publishers write, so that messages queue up in the
broker. Brokers drop QoS 1 and 2 messages above a limit per client by design;
Mosquitto's is "max_queued_messages 1000". To test for loss raise that limit
("max_queued_messages 0" lifts it). QoS 0 has no flow control at all: whether
anything is lost there depends on how much the broker is willing to buffer.
END
}

die() {
  echo "load.sh: $*" >&2
  exit 2
}

host=127.0.0.1 port=1883 messages=100000 publishers=1 subscribers=1 levels="0 1 2"
size=64 version=mqttv311 broker="" patience=60

while getopts H:p:n:P:S:q:s:V:i:w:h option; do
  case $option in
    H) host=$OPTARG ;;
    p) port=$OPTARG ;;
    n) messages=$OPTARG ;;
    P) publishers=$OPTARG ;;
    S) subscribers=$OPTARG ;;
    q) levels=$OPTARG ;;
    s) size=$OPTARG ;;
    V) version=$OPTARG ;;
    i) broker=$OPTARG ;;
    w) patience=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[[ $# -eq 0 ]] || die "unknown argument '$1', see -h"

for number in "$port" "$messages" "$publishers" "$subscribers" "$size" "$patience"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || die "'$number' is not a positive number, see -h"
done
[[ $levels =~ ^[0-2](\ [0-2])*$ ]] || die "-q takes a list like \"0 1 2\""
((publishers <= messages)) || die "more publishers than messages"
longest="$publishers $messages "
((size >= ${#longest})) || die "the numbers in a payload need at least -s ${#longest}"
if [[ -n $broker ]]; then
  [[ -r /proc/$broker/stat ]] || die "no process $broker on this machine"
fi
for program in mosquitto_pub mosquitto_sub timeout awk; do
  command -v "$program" >/dev/null || die "$program is not installed"
done

to_broker=(-h "$host" -p "$port" -V "$version")
files=$(mktemp -d)
mkfifo "$files/silence" # never written to: reading it with a time-out is a sleep without a process
subscriber_pids=() publisher_pids=() other_pids=()
ready="" # topic of the retained message, while the broker holds it

cleanup() {
  stop_all
  clear_ready
  rm -rf "$files"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# SIGKILL, because a client may be waiting for a broker that hangs.
stop_all() {
  local pid
  for pid in "${subscriber_pids[@]}" "${publisher_pids[@]}" "${other_pids[@]}"; do
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  subscriber_pids=() publisher_pids=() other_pids=()
}

set_ready() {
  ready=$1
  timeout "$patience" mosquitto_pub "${to_broker[@]}" -q 1 -t "$ready" -r -m ready ||
    die "cannot publish to $host:$port"
}

clear_ready() {
  [[ -n $ready ]] || return 0
  timeout "$patience" mosquitto_pub "${to_broker[@]}" -q 1 -t "$ready" -r -n 2>/dev/null || true
  ready=""
}

# One line, one message: "publisher sequence xxx…", filled up to the payload size.
write_payloads() {
  local publisher=$1 count=$((messages / publishers + ($1 <= messages % publishers)))
  awk -v publisher="$publisher" -v count="$count" -v size="$size" 'BEGIN {
    for (fill = "x"; length(fill) < size; fill = fill fill);
    for (sequence = 1; sequence <= count; sequence++) {
      numbers = publisher " " sequence " "
      print numbers substr(fill, 1, size - length(numbers))
    }
  }'
}

# Prints "delivered lost duplicates disorder" of all that one subscriber received. A number above
# the expected one leaves a gap; one from a gap is late; any other lower number is a duplicate.
verify() {
  awk -v size="$size" -v publishers="$publishers" -v expected="$messages" '
    BEGIN { for (p = 1; p <= publishers; p++) next_of[p] = 1 }
    length($0) != size || !($1 in next_of) { next }
    {
      publisher = $1; sequence = $2 + 0
      if (sequence >= next_of[publisher]) {
        for (n = next_of[publisher]; n < sequence; n++) missing[publisher, n]
        next_of[publisher] = sequence + 1
        delivered++
      } else if ((publisher, sequence) in missing) {
        delete missing[publisher, sequence]
        delivered++
        disorder++
      } else {
        duplicates++
      }
    }
    END { print delivered + 0, expected - delivered, duplicates + 0, disorder + 0 }' "$1"
}

# The broker's user and system time in clock ticks; the name before them may contain spaces.
cpu_ticks() {
  local stat fields
  stat=$(<"/proc/$broker/stat")
  read -ra fields <<<"${stat##*) }"
  echo $((fields[11] + fields[12]))
}

rss() {
  awk '$1 == "VmRSS:" { print $2 }' "/proc/$broker/status"
}

row() {
  local format='%3s %10s %11s %9s %10s %8s %10s %8s %8s %10s'
  [[ -z $broker ]] || format+=' %6s %11s %8s'
  # shellcheck disable=SC2059 # the format is built above
  printf "$format\n" "$@"
}

# Subscribes, and returns once every subscriber holds the retained message.
start_subscribers() {
  local run=$1 qos=$2 i
  for ((i = 1; i <= subscribers; i++)); do
    : >"$files/received.$i" # here, so that nothing of the last run is taken for this one's
    # To be received: the retained message, a greeting of each publisher, and the messages.
    mosquitto_sub "${to_broker[@]}" -i "s$i-$run" -q "$qos" -t "load/$run/#" \
      -C $((1 + publishers + messages)) >"$files/received.$i" &
    subscriber_pids+=($!)
  done
  for ((i = 1; i <= subscribers; i++)); do
    await_lines 1 "$files/received.$i" || die "subscriber $i is not subscribed"
  done
}

# Connects the publishers, and returns once a greeting of each has arrived. What follows in their
# pipes waits at gates: first the messages, then the end of the input. mosquitto_pub must not see
# that end early, or it takes the 65,535th last acknowledgement for the last and leaves.
start_publishers() {
  local run=$1 qos=$2 i
  for ((i = 1; i <= publishers; i++)); do
    rm -f "$files/pipe.$i" "$files/gate.$i"
    mkfifo "$files/pipe.$i" "$files/gate.$i"
    feed "$i" >"$files/pipe.$i" &
    other_pids+=($!)
    disown # or the shell would report its end
    mosquitto_pub "${to_broker[@]}" -i "p$i-$run" -q "$qos" -t "load/$run/$i" \
      -l <"$files/pipe.$i" &
    publisher_pids+=($!)
  done
  await_lines $((1 + publishers)) "$files/received.1" || die "not all publishers can publish"
}

feed() {
  exec 3<>"$files/gate.$1"
  echo ready
  read -r <&3
  cat "$files/payloads.$1"
  read -r <&3
}

open_gates() {
  local i
  for ((i = 1; i <= publishers; i++)); do
    echo 1<>"$files/gate.$i"
  done
}

# Waits for the first $1 lines of file $2. False if a client ends before.
await_lines() {
  local limit=$((SECONDS + patience)) pid
  until (($(wc -l <"$2") >= $1)); do
    for pid in "${subscriber_pids[@]}" "${publisher_pids[@]}"; do
      kill -0 "$pid" 2>/dev/null || return 1
    done
    ((SECONDS < limit)) || return 1
    sleep 0.02
  done
}

# Stops the subscribers when the time is over, and publishers that then do not come to an end.
watch() {
  read -rt "$patience" <>"$files/silence" || kill -KILL "${subscriber_pids[@]}" 2>/dev/null || true
  read -rt 5 <>"$files/silence" || kill -KILL "${publisher_pids[@]}" 2>/dev/null || true
}

# Runs one QoS level and prints its row.
measure() {
  local qos=$1 run=$$-$RANDOM ticks=0 begin micros pid
  set_ready "load/$run/ready"
  start_subscribers "$run" "$qos"
  start_publishers "$run" "$qos"
  [[ -z $broker ]] || ticks=$(cpu_ticks)

  begin=${EPOCHREALTIME/./}
  open_gates
  watch &
  other_pids+=($!)
  wait "${subscriber_pids[@]}" 2>/dev/null || true
  micros=$((${EPOCHREALTIME/./} - begin))

  if [[ -n $broker ]]; then
    [[ -r /proc/$broker/stat ]] || die "the broker ended in the test of QoS $qos"
    ticks=$(($(cpu_ticks) - ticks))
  fi
  open_gates
  for pid in "${publisher_pids[@]}"; do
    wait "$pid" 2>/dev/null || echo "load.sh: a publisher could not send everything" >&2
  done
  stop_all
  clear_ready
  report "$qos" "$micros" "$ticks"
}

report() {
  local qos=$1 micros=$2 ticks=$3 i totals figures cells
  totals=$(for ((i = 1; i <= subscribers; i++)); do verify "$files/received.$i"; done |
    awk '{ for (i = 1; i <= 4; i++) sum[i] += $i } END { print sum[1], sum[2], sum[3], sum[4] }')
  figures=$(awk -v micros="$micros" -v ticks="$ticks" -v hertz="$(getconf CLK_TCK)" '{
      cpu = ticks / hertz
      printf "%.2f %.0f %.2f %.2f", micros / 1e6, $1 * 1e6 / micros, cpu, $1 ? cpu * 1e6 / $1 : 0
    }' <<<"$totals")
  read -ra cells <<<"$qos $publishers $subscribers $messages $totals $figures"
  if [[ -n $broker ]]; then
    row "${cells[@]}" "$(rss)"
  else
    row "${cells[@]:0:10}"
  fi
  [[ $totals == *" 0 0 0" ]] || clean=false
}

for ((i = 1; i <= publishers; i++)); do
  write_payloads "$i" >"$files/payloads.$i"
done

row QoS publishers subscribers sent delivered lost duplicates disorder seconds messages/s \
  ${broker:+"CPU s" us/delivery "RSS kB"}
clean=true # until something is lost, duplicated or disordered
for level in $levels; do
  measure "$level"
done
$clean
