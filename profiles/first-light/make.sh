#!/usr/bin/env bash
# First light: real traffic of real programs, captured by softflowd, stored by nfcapd, annotated by
# updater, printed by nfdump. Ends by itself; leaves nothing running and nothing outside OUT.
#
# usage: make.sh TRACKER UPDATER OUT
set -euo pipefail

tracker=$(realpath "$1") updater=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" != 0 ]; then
    echo "make.sh: capturing packets and looking at other users' sockets needs root" >&2
    exit 1
fi
rm -rf "$3"
mkdir -p "$3/flows" "$3/www" "$3/log"
cd "$3"

pids=()
netns=
finish() {
    # Only what was started here, by its pid, youngest first.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
    pids=()
    if [ -n "$netns" ]; then ip netns del "$netns" 2>/dev/null || true; fi
    netns=
}
trap finish EXIT
trap 'exit 130' INT TERM

start() { # start NAME COMMAND...: in the background, what it says in log/NAME
    local name=$1
    shift
    "$@" >"log/$name" 2>&1 </dev/null &
    pids+=($!)
}
wait_for() { # wait_for WHAT COMMAND...: until it succeeds, for ten seconds
    local what=$1
    shift
    for _ in $(seq 100); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "make.sh: waited in vain for $what; see $PWD/log" >&2
    exit 1
}

# A network namespace of its own keeps other traffic out; where none can be made (in a container),
# the host's loopback serves.
if ip netns add "procflow-demo-$$" 2>/dev/null; then
    netns=procflow-demo-$$
    ip -n "$netns" link set lo up
    inside=(ip netns exec "$netns")
    vantage=netns:$netns
    place="a network namespace of its own"
else
    inside=()
    vantage=host
    place="the loopback of the host"
fi

port=$((20000 + $$ % 10000))
start tracker "$tracker" "$port" --state "$PWD/tracker"
wait_for tracker grep -q serving log/tracker
start nfcapd "${inside[@]}" nfcapd -w "$PWD/flows" -p 9995 -b 127.0.0.1 -t 5
start softflowd "${inside[@]}" softflowd -d -i lo -v 9 -n 127.0.0.1:9995 -t expint=1 \
    -t tcp.fin=2 -t tcp=30 -t udp=30 -t general=30 -c "$PWD/softflowd.ctl" -p "$PWD/softflowd.pid"
wait_for softflowd softflowctl -c softflowd.ctl statistics
wait_for nfcapd grep -q Startup log/nfcapd

echo "== real traffic"
head -c 20000000 /dev/zero >www/large
echo hello >www/small
for address in 127.0.0.1 ::1; do
    start "http-$address" "${inside[@]}" python3 -m http.server 8080 --bind "$address" --directory www
done
start resolver "${inside[@]}" python3 "$here/resolver.py" serve
serving() { [ "$("${inside[@]}" ss -Hltn 'sport = :8080' | wc -l)" = 2 ]; }
wait_for "the web servers" serving
sleep 1.5 # the times of NetFlow v9 are off by up to a second: begin well after the tracker did
web() { "${inside[@]}" curl -s "$@"; }
echo "   curl, two long connections (IPv4, IPv6) to a Python web server"
web -o /dev/null --limit-rate 5M http://127.0.0.1:8080/large &
long4=$!
web -o /dev/null --limit-rate 5M 'http://[::1]:8080/large' &
long6=$!
echo "   stub, asking resolver over UDP for three seconds"
"${inside[@]}" python3 "$here/resolver.py" ask
echo "   curl, ten short connections"
for _ in 1 2 3 4 5; do
    web -o /dev/null http://127.0.0.1:8080/small
    web -o /dev/null 'http://[::1]:8080/small'
done
wait "$long4" "$long6"
# softflowd gets its packets in blocks of about 2,000: push the last ones through.
"${inside[@]}" python3 "$here/resolver.py" flush
sleep 1
softflowctl -c softflowd.ctl expire-all >/dev/null
sleep 1
softflowctl -c softflowd.ctl shutdown >/dev/null
sleep 0.5
kill "${pids[1]}" # nfcapd closes its file
wait "${pids[1]}" || true
sleep 5.1 # until its slot is over

lines() { nfdump -q -R flows -O tstart -o "$1" 'not port 7' | sed 's/ *$//'; }
lines "fmt:%line" >flows-before.txt

echo "== updater 127.0.0.1 $port --once"
"$updater" 127.0.0.1 "$port" --once --dir flows --slot 5s --grace 0s --vantage "$vantage" \
    --state "$PWD/updater" --tracker-state "$PWD/tracker" --report report.jsonl | tee summary.txt
lines "fmt:%line %uname" >flows-after.txt
{
    echo "tracker watched with: $(sed -n 's/^tracker: watching with //p' log/tracker)"
    echo "traffic and capture in: $place"
    echo "python3   two web servers on port 8080, 127.0.0.1 and ::1"
    echo "curl      two long downloads (4 s) and ten short ones"
    echo "resolver  a Python program that answers on UDP port 5353"
    echo "stub      a Python program that asks it for three seconds"
} >running.txt
finish
rm -rf www tracker updater softflowd.pid softflowd.ctl

echo "== nfdump -R flows -o 'fmt:%line %uname'"
cat flows-after.txt

# The demonstration is one only if it shows what it says.
for expected in 'curl>python3' 'python3>curl' 'stub>resolver' 'resolver>stub'; do
    if ! grep -q "$expected" flows-after.txt; then
        echo "make.sh: no flow is named $expected" >&2
        exit 1
    fi
done
if ! grep '::1' flows-after.txt | grep -q 'curl>python3'; then
    echo "make.sh: no IPv6 flow is named" >&2
    exit 1
fi
echo "== kept in $PWD"
