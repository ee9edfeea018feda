"""Prints the flows that nfstream sees on an interface, with the pid that it found for each."""

import sys

from nfstream import NFStreamer

streamer = NFStreamer(
    source=sys.argv[1],
    system_visibility_mode=1,
    system_visibility_poll_ms=100,
    idle_timeout=1,
    n_meters=1,
    n_dissections=0,
)
print("ready", flush=True)
for flow in streamer:
    print(flow.src_ip, flow.src_port, flow.dst_ip, flow.dst_port, flow.system_process_pid, flush=True)
