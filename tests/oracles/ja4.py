#!/usr/bin/env python3
"""Fingerprints of the TLS, DTLS, QUIC and SSH hellos of a capture's flows, made from tshark's fields.

Independent of procflow: tshark takes the frames apart, this only puts its values together (see
tshark_messages.py for what a flow is). Prints an object a line for every flow that has any: the endpoints in
order, the protocol, and lists in order of first appearance without repeats, so that the two hellos around a
HelloRetryRequest (itself a ServerHello) count once if they give the same:

  ja4           ClientHello. FoxIO, technical_details/JA4.md of github.com/FoxIO-LLC/ja4 as of commit
                0e54bc8371de (June 2026; the text itself last changed in 820ec301a930, January 2026)
  ja4s          ServerHello. FoxIO, technical_details/JA4S.md in the same commit (last changed in b6f3ff4c779d,
                February 2024)
  ja3, ja3s     as tshark computes them, of the same hellos
  hassh, hassh_server   as tshark computes them, of the SSH key exchange messages of client and server

The first letter is t over TCP, q in QUIC, d for DTLS over UDP. Where the texts leave room: the highest
supported version is the highest number; a version not in JA4.md's table (drafts of TLS 1.3) is 00; signature
algorithms are those of extension 000d only; GREASE values are left out of them too, and out of a ServerHello;
a ServerHello without extensions has the hash 000000000000 and d for DTLS, as the ClientHello has.

Left out: hellos that tshark cannot take apart to their end (cut short, or a segment not captured), hellos in
the form of SSL 2.0, encrypted ones (such as the inner hello of ECH), Google QUIC's CHLO; TLS inside OpenVPN,
TDS, EAP and RADIUS packets; DTLS over SCTP.

usage: ja4.py CAPTURE
"""

import hashlib
import json
import sys

from tshark_messages import add_new, fields, messages, octets, shown

KEYS = ("ja4", "ja3", "ja3s", "ja4s", "hassh", "hassh_server")
FILTER = "tls.handshake.type in {1,2} || dtls.handshake.type in {1,2} || ssh.kex.hassh || ssh.kex.hasshserver"
VERSIONS = {
    0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2",
    0xFEFF: "d1", 0xFEFD: "d2", 0xFEFC: "d3",
}
LETTERS = {"tls": "t", "quic": "q", "dtls": "d"}
SERVER_NAME, SIGNATURE_ALGORITHMS, ALPN, SUPPORTED_VERSIONS = 0x00, 0x0D, 0x10, 0x2B
CLIENT, SERVER = 1, 2


class Hello:
    """The values of one ClientHello or ServerHello, without GREASE."""

    def __init__(self, element, protocol):
        self.element = element
        self.prefix = f"{protocol}.handshake."
        self.type = int(self.shown("type") or 0)
        kind = self.prefix + "extension.type"
        self.parts = [
            (int.from_bytes(octets(child)), node)
            for node in element.iter() for child in node if child.get("name") == kind
        ]
        self.ciphers = self.numbers(element, "ciphersuite")
        self.extensions = [number for number, _ in self.parts if not grease(number)]

    def shown(self, name):
        return shown(self.element, self.prefix + name)

    def numbers(self, element, name):
        values = [int.from_bytes(octets(field)) for field in fields(element, self.prefix + name)]
        return [value for value in values if not grease(value)]

    def in_extension(self, extension, name):
        return [value for number, node in self.parts if number == extension for value in self.numbers(node, name)]

    def complete(self):
        """Whether all of the message is there, by the lengths it states."""
        suites, length = self.shown("cipher_suites_length"), self.shown("extensions_length")
        # The version and the random value, then what may be there: each with the octets of its own length.
        size = 34 + (2 if suites is None else 0)
        parts = {"session_id": 1, "cookie": 1, "cipher_suites": 2, "comp_methods": 1, "extensions": 2}
        for name, octets_of_length in parts.items():
            stated = self.shown(name + "_length")
            size += 0 if stated is None else octets_of_length + int(stated)
        if self.type == SERVER and self.shown("comp_method") is not None:
            size += 1
        if int(self.shown("length") or 0) != size or not self.numbers(self.element, "version"):
            return False
        if suites is not None and int(suites) != 2 * len(fields(self.element, self.prefix + "ciphersuite")):
            return False
        lengths = fields(self.element, self.prefix + "extension.len")
        return int(length or 0) == sum(4 + int(field.get("show")) for field in lengths)

    def version(self):
        offered = self.in_extension(SUPPORTED_VERSIONS, "extensions.supported_version")
        return VERSIONS.get(max(offered or self.numbers(self.element, "version")), "00")

    def alpn(self):
        nodes = [node for number, node in self.parts if number == ALPN]
        lengths = [field for node in nodes for field in fields(node, self.prefix + "extensions_alpn_str_len")]
        values = [field for node in nodes for field in fields(node, self.prefix + "extensions_alpn_str")]
        if not lengths or not values or octets(lengths[0]) == b"\0":
            return "00"
        first = octets(values[0])
        ends = first[:1] + first[-1:]
        if ends.isalnum():
            return ends.decode()
        return first.hex()[0] + first.hex()[-1]

    def ja4(self, letter):
        name = "d" if SERVER_NAME in self.extensions else "i"
        start = f"{letter}{self.version()}{name}{count(self.ciphers)}{count(self.extensions)}{self.alpn()}"
        others = sorted(number for number in self.extensions if number not in (SERVER_NAME, ALPN))
        algorithms = self.in_extension(SIGNATURE_ALGORITHMS, "sig_hash_alg")
        return f"{start}_{digest(sorted(self.ciphers))}_{digest(others, algorithms)}"

    def ja4s(self, letter):
        start = f"{letter}{self.version()}{count(self.extensions)}{self.alpn()}"
        return f"{start}_{listed(self.ciphers)}_{digest(self.extensions)}"


def grease(number):
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def count(values):
    return f"{min(len(values), 99):02}"


def listed(values):
    return ",".join(f"{value:04x}" for value in values)


def digest(values, behind=()):
    if not values:
        return "0" * 12
    string = "_".join(listed(part) for part in (values, behind) if part)
    return hashlib.sha256(string.encode()).hexdigest()[:12]


def fingerprints(kind, element):
    """(key, fingerprint) of each hello in a message."""
    if kind == "ssh":
        for key, name in (("hassh", "ssh.kex.hassh"), ("hassh_server", "ssh.kex.hasshserver")):
            yield from ((key, field.get("show")) for field in fields(element, name))
    if kind not in LETTERS:
        return
    protocol = "dtls" if kind == "dtls" else "tls"
    for handshake in fields(element, f"{protocol}.handshake"):
        hello = Hello(handshake, protocol)
        if hello.type not in (CLIENT, SERVER) or not hello.complete():
            continue
        if hello.type == CLIENT:
            yield from (("ja4", hello.ja4(LETTERS[kind])), ("ja3", hello.shown("ja3")))
        else:
            yield from (("ja4s", hello.ja4s(LETTERS[kind])), ("ja3s", hello.shown("ja3s")))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    flows = {}
    for flow, kind, element in messages(sys.argv[1], FILTER):
        for key, value in fingerprints(kind, element):
            if value:
                add_new(flows.setdefault(flow, {key: [] for key in KEYS})[key], value)
    for (ends, protocol), found in sorted(flows.items()):
        print(json.dumps({"ends": ends, "protocol": protocol, **found}))


if __name__ == "__main__":
    main()
