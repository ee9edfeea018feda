"""A DNS-like exchange over UDP: `serve` answers, `ask` asks for three seconds, `flush` sends what
pushes other packets through softflowd's buffer (on port 7, left out of what is shown)."""

import socket
import sys
import time


def call_me(name):
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(name)


def serve():
    call_me("resolver")
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 5353))
    while True:
        question, asker = server.recvfrom(512)
        server.sendto(question + b" 192.0.2.1", asker)


def ask():
    call_me("stub")
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(2)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        client.sendto(b"example.org A", ("127.0.0.1", 5353))
        client.recvfrom(512)
        time.sleep(0.2)


def flush():
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 7))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(6000):
        sender.sendto(b"flush", ("127.0.0.1", 7))
        receiver.recv(16)


{"serve": serve, "ask": ask, "flush": flush}[sys.argv[1]]()
