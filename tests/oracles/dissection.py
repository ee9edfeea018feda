#!/usr/bin/env python3
"""What server_names.py and ja4.py say of a capture, by one run of tshark: an object a line for each flow, with the
endpoints in order, the protocol, "names" by kind, and the fingerprints.

usage: dissection.py CAPTURE
"""

import json
import sys

import ja4
import server_names
from tshark_messages import add_new, messages


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    flows = {}
    for flow, kind, element in messages(sys.argv[1], f"{server_names.FILTER} || {ja4.FILTER}"):
        names, found = flows.setdefault(flow, ({}, {}))
        for name in server_names.names_of(kind, element):
            add_new(names.setdefault(kind, []), name)
        for key, value in ja4.fingerprints(kind, element):
            if value:
                add_new(found.setdefault(key, []), value)
    for (ends, protocol), (names, found) in sorted(flows.items()):
        if names or found:
            print(json.dumps({"ends": ends, "protocol": protocol, "names": names, "fingerprints": found}))


main()
