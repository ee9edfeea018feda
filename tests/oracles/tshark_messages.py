"""Application messages of a capture as tshark takes them apart, each with the flow that carries it.

A flow is the pair of endpoints and the protocol (6 or 17) of the innermost IP packet around the message, so
for a tunnel the packet inside it; connections that reuse a pair of endpoints are one flow here. Packets
quoted in ICMP errors carry no messages. IP fragments, TCP segments (also out of order), TLS records and QUIC
CRYPTO frames are put together by tshark; what it cannot put together, it does not show.
"""

import codecs
import ipaddress
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

OPTIONS = [
    "ip.defragment:TRUE", "ipv6.defragment:TRUE", "tcp.desegment_tcp_streams:TRUE",
    "tcp.reassemble_out_of_order:TRUE", "tls.desegment_ssl_records:TRUE", "quic.reassemble_crypto_out_of_order:TRUE",
    "http.desegment_headers:TRUE", "dns.desegment_dns_messages:TRUE",
]
TRANSPORTS = {"tcp": 6, "udp": 17}
DNS_PORTS = {53, 5353, 5355}
# TLS in these is not the TLS of the connection: its records are in the packets of another protocol.
WRAPPERS = {"openvpn", "tds", "eap", "radius"}
ENCRYPTED = {"quic", "tls", "dtls"}
# tshark leaves some control characters in its XML, which must not be there.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class Place:
    """Where in a frame the walk is: the innermost packet so far and what of it has been passed."""

    def __init__(self):
        self.addresses = self.protocol = self.ports = None
        self.passed = set()
        self.quoted = False

    def flow(self):
        ends = sorted((str(ipaddress.ip_address(address)), port) for address, port in zip(self.addresses, self.ports))
        return tuple(f"{address} {port}" for address, port in ends), self.protocol

    def enter(self, layer):
        """The kind of message that this layer is, if it is one; also notes that the layer has been passed."""
        name = layer.get("name")
        if name in ("ip", "ipv6"):
            self.addresses = [shown(layer, f"{name}.{end}") for end in ("src", "dst")]
            self.protocol = self.ports = None
        elif name in TRANSPORTS:
            self.protocol = TRANSPORTS[name]
            self.ports = [shown(layer, f"{name}.{end}") for end in ("srcport", "dstport")]
            self.passed = set()
            if None in self.ports:
                self.protocol = None
            else:
                self.ports = [int(port) for port in self.ports]
        elif name in ("icmp", "icmpv6"):
            self.quoted = True
        elif name in ("sctp", "dccp"):
            self.protocol = None
        if self.quoted or self.protocol is None or self.addresses is None or None in self.addresses:
            return None
        kind = self.kind(name)
        self.passed.add(name)
        return kind

    def kind(self, name):
        tcp = self.protocol == 6
        if name == "tls" and tcp:
            return None if self.passed & WRAPPERS else "tls"
        if name == "tls":
            return "quic" if "quic" in self.passed else None
        if name in ("http", "ssdp") and not self.passed & ENCRYPTED:
            return "http" if tcp else "ssdp"
        if name in ("dns", "mdns", "llmnr") and not self.passed & ENCRYPTED:
            return "dns" if DNS_PORTS.intersection(self.ports) else None
        if name in ("quic", "gquic"):
            return None if tcp else "gquic"
        return {("dtls", False): "dtls", ("ssh", True): "ssh"}.get((name, tcp))


def messages(capture, display_filter):
    """(flow, kind, element) of every message in the frames that pass the filter, in order."""
    command = ["tshark", "-n", "-r", capture, "-Y", display_filter, "-T", "pdml"]
    for option in OPTIONS:
        command += ["-o", option]
    parser = xml.etree.ElementTree.XMLPullParser(["start", "end"])
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    root = None
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
            while chunk := process.stdout.read(1 << 16):
                parser.feed(FORBIDDEN.sub("?", decoder.decode(chunk)))
                for event, element in parser.read_events():
                    if root is None:
                        root = element
                    if event == "end" and element.tag == "packet":
                        yield from walk(element, Place())
                        root.clear()
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            sys.exit(f"tshark ended with {process.returncode} on {capture}: {said}")


def walk(element, place):
    for child in element:
        if child.tag == "proto" and (kind := place.enter(child)):
            yield place.flow(), kind, child
        yield from walk(child, place)


def fields(element, name):
    return [field for field in element.iter("field") if field.get("name") == name]


def shown(element, name):
    found = fields(element, name)
    return found[0].get("show") if found else None


def octets(field):
    return bytes.fromhex(field.get("value") or "")


def text(raw):
    """Octets as they are if they are printable ASCII, otherwise as \\xNN."""
    return "".join(chr(octet) if 32 <= octet < 127 else f"\\x{octet:02x}" for octet in raw)


def add_new(values, value):
    if value not in values:
        values.append(value)
