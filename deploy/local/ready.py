#!/usr/bin/env python3
"""ready.py KIND HOST:PORT PID SECONDS: waits until a service answers as it should, its process ends, or the time is over."""
import socket
import struct
import sys
import time
import urllib.request


def emulator(address):
    """It listens before it works: only an answer from its API counts."""
    with urllib.request.urlopen(f"http://{address}/bigquery/v2/projects/local/datasets", timeout=5) as reply:
        return reply.status == 200


def broker(address):
    """A Metadata request, version 1 with no topics: the brokers in the answer are those that may serve."""
    host, port = address.rsplit(":", 1)
    client = b"ready"
    request = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    with socket.create_connection((host, int(port)), timeout=5) as conn:
        conn.sendall(struct.pack(">i", len(request)) + request)
        reply = b""
        while len(reply) < 12:
            piece = conn.recv(4096)
            if not piece:
                return False
            reply += piece
    return struct.unpack_from(">i", reply, 8)[0] > 0


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def main():
    kind, address, pid, seconds = sys.argv[1:]
    until = time.monotonic() + float(seconds)
    why = ""
    while time.monotonic() < until:
        if not alive(int(pid)):
            sys.exit(f"the {kind} ended before it answered")
        try:
            if {"emulator": emulator, "broker": broker}[kind](address):
                return
            why = "it answers, but does not serve yet"
        except OSError as error:
            why = str(error)
        time.sleep(0.1)
    sys.exit(f"the {kind} at {address} did not answer within {seconds} s: {why}")


if __name__ == "__main__":
    main()
