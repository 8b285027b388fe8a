"""A client of many connections: `connects.py tcp|udp|connected-udp|connected-and-sent|many ADDRESS PORT COUNT [FROM]`.

Prints JSON: who answered how often, which errors came how often, and peers that were shown other than ADDRESS and PORT.
"""
import collections
import errno
import json
import socket
import sys

kind, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
names, errors, strangers = collections.Counter(), collections.Counter(), set()


def shown(peer):
    if peer[:2] != (address, port):
        strangers.add("%s %s" % peer[:2])


def once():
    stream = kind == "tcp"
    with socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        if kind == "many":
            answers = set()
            for _ in range(20):
                sock.sendto(b"who?", (address, port))
                answers.add(sock.recvfrom(1000)[0])
            return b"+".join(sorted(answers))
        if kind == "connected-and-sent":
            sock.connect((address, port))
            sock.sendto(b"who?", (address, port))
            answer, peer = sock.recvfrom(1000)
            shown(peer)
            return answer
        if kind == "udp":
            sock.sendto(b"who?", (address, port))
            answer, peer = sock.recvfrom(1000)
            shown(peer)
            return answer
        sock.connect((address, port))
        shown(sock.getpeername())
        if not stream:
            sock.send(b"who?")
            answer, peer = sock.recvfrom(1000)
            shown(peer)
            return answer
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := sock.recv(1000):
            answer += chunk
        return answer.split(b"\r\n\r\n", 1)[-1]


for _ in range(count):
    try:
        names[once().decode().strip()] += 1
    except socket.timeout:
        errors["ETIMEDOUT"] += 1
    except OSError as error:
        errors[errno.errorcode.get(error.errno, str(error.errno))] += 1
print(json.dumps({"names": names, "errors": errors, "strangers": sorted(strangers)}))
