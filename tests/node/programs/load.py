"""Connects over and over, `load.py ADDRESS PORT`; each line that it reads it answers with what became of that so far.

JSON: the connections, who answered how often and when the last of these began (seconds since 1970), and errors.
"""
import collections
import errno
import json
import socket
import sys
import threading
import time

address, port = sys.argv[1], int(sys.argv[2])
counts, last, errors = collections.Counter(), {}, collections.Counter()
lock = threading.Lock()


def once():
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        sock.connect((address, port))
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := sock.recv(1000):
            answer += chunk
        return answer.split(b"\r\n\r\n", 1)[-1].decode().strip()


def load():
    while True:
        begun = time.time()
        try:
            name = once()
            with lock:
                counts[name] += 1
                last[name] = begun
        except OSError as error:
            with lock:
                errors[errno.errorcode.get(error.errno, str(error))] += 1


threading.Thread(target=load, daemon=True).start()
for _ in sys.stdin:
    with lock:
        told = {"connections": sum(counts.values()) + sum(errors.values()), "names": counts, "last": last, "errors": errors}
        print(json.dumps(told), flush=True)
