#!/usr/bin/env python3
"""Names of servers that a capture's flows show, read from tshark's fields.

Independent of procflow: tshark takes the frames apart, this only sorts by flow (see tshark_messages.py for
what a flow is). Prints an object a line: the endpoints in order, the protocol, and under "names" what there
is of these, each in order of first appearance without repeats:

  tls    server_name of a ClientHello over TCP, also after STARTTLS or CONNECT
  dtls   the same of DTLS over UDP
  quic   the same of a ClientHello in the Initial packets of IETF QUIC or of Google's T05x versions
  gquic  SNI tag of a Google QUIC CHLO
  http   Host header of an HTTP/1 request over TCP, as sent (with its port, if any), also if empty
  ssdp   Host header over UDP
  dns    name of a question, in queries and in responses, in the case sent: DNS with port 53 (UDP or TCP),
         mDNS with 5353, LLMNR with 5355

Left out: flows without any of these; DNS on other ports, over TLS, HTTPS or QUIC, NetBIOS names, names of
DNS records; questions for which tshark shows no name (the root, a name too long); names in certificates;
:authority of HTTP/2 and 3; encrypted hellos and names; TLS inside OpenVPN, TDS, EAP and RADIUS packets;
whatever is not over TCP or UDP. Octets that are not printable ASCII are written \\xNN; a dot within a DNS
label looks like a dot between two.

usage: server_names.py CAPTURE
"""

import json
import sys

from tshark_messages import add_new, fields, messages, octets, text

HELLO_NAMES = {
    "tls": "tls.handshake.extensions_server_name", "quic": "tls.handshake.extensions_server_name",
    "dtls": "dtls.handshake.extensions_server_name", "gquic": "gquic.tag.sni",
}
FILTER = " || ".join(sorted({*HELLO_NAMES.values(), "http.host", "dns.qry.name"}))


def host(field):
    """The value of a header line; tshark's field covers all of it."""
    return text(octets(field).partition(b":")[2].strip(b" \t\r\n"))


def question(field):
    """The name by its labels, or as tshark shows it if some are elsewhere in the message."""
    shown, raw, labels = field.get("show"), octets(field), []
    if shown.startswith("<") and shown.endswith(">"):
        return None
    while raw and 0 < raw[0] < 64:
        labels.append(raw[1:1 + raw[0]])
        raw = raw[1 + raw[0]:]
    return text(b".".join(labels) if raw == b"\0" else shown.encode())


def names_of(kind, element):
    if kind == "dns":
        return [name for field in fields(element, "dns.qry.name") if (name := question(field)) is not None]
    if kind in ("http", "ssdp"):
        return [host(field) for field in fields(element, "http.host")]
    if kind in HELLO_NAMES:
        return [text(octets(field)) for field in fields(element, HELLO_NAMES[kind])]
    return []


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    flows = {}
    for flow, kind, element in messages(sys.argv[1], FILTER):
        for name in names_of(kind, element):
            add_new(flows.setdefault(flow, {}).setdefault(kind, []), name)
    for (ends, protocol), names in sorted(flows.items()):
        print(json.dumps({"ends": ends, "protocol": protocol, "names": dict(sorted(names.items()))}))


if __name__ == "__main__":
    main()
