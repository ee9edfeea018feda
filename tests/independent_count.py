#!/usr/bin/env python3
"""Packets and octets of each pair of endpoints in a capture, counted from tshark's fields.

Independent of procflow: tshark takes the frames apart, this only adds up. The outermost IP packet of a frame
counts; a fragment counts with the ports of its packet's first one. Prints an object a line: the endpoints in
order, the protocol, packets, octets of IP packets by their headers, octets of frames.

usage: independent_count.py CAPTURE
"""

import collections
import ipaddress
import json
import subprocess
import sys

FIELDS = [
    "frame.len", "frame.protocols", "ip.src", "ip.dst", "ip.proto", "ip.len", "ip.id", "ip.frag_offset",
    "ip.flags.mf", "ipv6.src", "ipv6.dst", "ipv6.plen", "ipv6.nxt", "ipv6.fraghdr.ident",
    "ipv6.fraghdr.offset", "ipv6.fraghdr.nxt", "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport",
    "sctp.srcport", "sctp.dstport",
]
PORTS = {6: "tcp", 17: "udp", 132: "sctp"}
# Without reassembly, and with the relative order of layers as they are.
OPTIONS = ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE"]


def number(text):
    return int(text, 0) if text else 0


def packets(capture):
    command = ["tshark", "-n", "-r", capture, "-T", "fields", "-E", "occurrence=f", "-E", "separator=\t", *OPTIONS]
    for field in FIELDS:
        command += ["-e", field]
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if not output.stdout and output.returncode:
        sys.exit(output.stderr)
    for line in output.stdout.splitlines():
        values = line.split("\t")
        yield dict(zip(FIELDS, values + [""] * (len(FIELDS) - len(values))))


def main():
    counts = collections.defaultdict(lambda: [0, 0, 0])
    first = {}
    later = []
    for packet in packets(sys.argv[1]):
        layers = packet["frame.protocols"].split(":")
        kind = next((layer for layer in layers if layer in ("ip", "ipv6")), None)
        if kind is None or not packet[kind + ".src"]:
            continue
        source, destination = packet[kind + ".src"], packet[kind + ".dst"]
        if kind == "ip":
            protocol, length = number(packet["ip.proto"]), number(packet["ip.len"])
            offset, more = number(packet["ip.frag_offset"]), packet["ip.flags.mf"] in ("1", "True")
            identification = packet["ip.id"]
        else:
            length = 40 + number(packet["ipv6.plen"])
            offset, more = number(packet["ipv6.fraghdr.offset"]), bool(packet["ipv6.fraghdr.ident"])
            identification = packet["ipv6.fraghdr.ident"]
            protocol = number(packet["ipv6.fraghdr.nxt"] or packet["ipv6.nxt"])
            for name, known in (("tcp", 6), ("udp", 17), ("icmpv6", 58)):
                behind = layers[layers.index("ipv6") + 1:]
                if behind[:1] == [name] or (protocol in (0, 43, 60) and name in behind[:3]):
                    protocol = known
        name = PORTS.get(protocol)
        ports = (number(packet[name + ".srcport"]), number(packet[name + ".dstport"])) if name else (0, 0)
        whole = (source, destination, protocol, identification)
        entry = (whole, length, number(packet["frame.len"]))
        if offset:
            later.append(entry)
            continue
        if more:
            first[whole] = ports
        add(counts, entry, ports)
    for entry in later:
        add(counts, entry, first.get(entry[0], (0, 0)))
    for (ends, protocol), (number_of, octets, wire) in sorted(counts.items()):
        print(json.dumps({"ends": ends, "protocol": protocol, "packets": number_of, "ip_octets": octets, "wire_octets": wire}))


def add(counts, entry, ports):
    (source, destination, protocol, _), length, wire = entry
    ends = sorted((str(ipaddress.ip_address(address)), port) for address, port in ((source, ports[0]), (destination, ports[1])))
    key = (tuple(f"{address} {port}" for address, port in ends), protocol)
    counts[key][0] += 1
    counts[key][1] += length
    counts[key][2] += wire


main()
