"""Connected UDP sockets that stay open: `held.py ADDRESS PORT COUNT [OTHER]`. It answers each line with JSON, an item for each socket:
who answers, or the error that it got, which it keeps until it is connected again.

ask: sends, and reads the answer
read: reads, without waiting; who answered last, where there is nothing to read
again: those with an error are connected again, the same sockets, and ask.
sent: sends by sendto(2), though connected, and reads the answer
apart: those with an error send eight packets to the address, without being connected: who answers from there, all that do
other: they are connected no more, and send a packet to the other address: who seems to answer
"""
import ctypes
import errno
import json
import select
import socket
import sys

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class Held:
    def __init__(self):
        self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(5)
        self.error, self.name = None, None
        self.sock.connect((address, port))

    def told(self, act):
        try:
            self.error or act()
        except OSError as error:
            self.error = errno.errorcode.get(error.errno, str(error))
        return self.error or self.name

    def exchange_by(self, send):
        send(b"who?")
        self.name = self.sock.recv(100).decode()

    def ask(self):
        return self.told(lambda: self.exchange_by(self.sock.send))

    def sent(self):
        return self.told(lambda: self.exchange_by(lambda octets: self.sock.sendto(octets, (address, port))))

    def read(self):
        readable = select.select([self.sock], [], [], 0)[0]
        return self.told(lambda: readable and self.sock.recv(100))

    def exchange_with(self, to):
        self.sock.sendto(b"who?", (to, port))
        name, sender = self.sock.recvfrom(100)
        return name.decode() if sender[0] == to else sender[0]

    def apart(self):
        if not self.error:
            return self.name
        self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return ",".join(sorted({self.exchange_with(address) for _ in range(8)}))

    def other(self):
        # AF_UNSPEC: connect(2) dissolves the association.
        ctypes.CDLL(None).connect(self.sock.fileno(), bytes(16), 16)
        return self.exchange_with(sys.argv[4])

    def again(self):
        if self.error:
            self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.sock.connect((address, port))
            self.error = None
        return self.ask()


held = [Held() for _ in range(count)]
for line in sys.stdin:
    print(json.dumps([getattr(each, line.strip())() for each in held]), flush=True)
