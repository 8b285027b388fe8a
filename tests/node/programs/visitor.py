"""A client that stays: `visitor.py ADDRESS PORT`. It holds one connection, and makes others, one after the other.

Each line on standard input is answered with one of JSON. `told`: who answered how often, which errors came how often, peers other
than ADDRESS and PORT, and what getpeername shows for the connection that is held. `finish`: the same, and who answers there.
"""
import collections
import errno
import json
import socket
import sys
import threading
import time

address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
names, errors, strangers = collections.Counter(), collections.Counter(), set()
lock = threading.Lock()


def connect():
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.connect((address, port))
    return sock


def read(sock):
    answer = b""
    while chunk := sock.recv(1000):
        answer += chunk
    return answer.split(b"\r\n\r\n", 1)[-1].decode().strip()


def once():
    with connect() as sock:
        peer = sock.getpeername()[:2]
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return peer, read(sock)


def load():
    while True:
        try:
            peer, name = once()
            with lock:
                names[name] += 1
                if peer != (address, port):
                    strangers.add("%s %s" % peer)
        except OSError as error:
            with lock:
                errors[errno.errorcode.get(error.errno, str(error))] += 1
        time.sleep(0.002)


held = connect()
held.sendall(b"GET /wait HTTP/1.0\r\n")
threading.Thread(target=load, daemon=True).start()
for line in sys.stdin:
    peer = "%s %s" % held.getpeername()[:2]
    answer = None
    if line.strip() == "finish":
        held.sendall(b"\r\n")
        answer = read(held)
    with lock:
        told = {"names": names, "errors": errors, "strangers": sorted(strangers), "held": peer, "answer": answer}
        print(json.dumps(told), flush=True)
