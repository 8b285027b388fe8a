"""Servers that say who they are: `backends.py READY NAME/tcp/ADDRESS/PORT NAME/udp/ADDRESS/PORT ...`.

TCP: HTTP/1.0, the body is the name; a request line `GET /wait` is answered when the peer sends one more line. UDP: the name.
Writes the file READY when all listen.
"""
import asyncio
import socket
import sys


def bound(kind, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setblocking(False)
    sock.bind((address, port))
    return sock


class Tcp(asyncio.Protocol):
    def __init__(self, name):
        self.name, self.waits = name, False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if data.startswith(b"GET /wait") and not self.waits:
            self.waits = True
            return
        body = (self.name + "\n").encode()
        head = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)
        self.transport.close()


class Udp(asyncio.DatagramProtocol):
    def __init__(self, name):
        self.name = name

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(self.name.encode(), peer)


async def main(ready, servers):
    loop = asyncio.get_running_loop()
    for server in servers:
        name, kind, address, port = server.split("/")
        if kind == "tcp":
            sock = bound(socket.SOCK_STREAM, address, int(port))
            await loop.create_server(lambda name=name: Tcp(name), sock=sock, backlog=1024)
        else:
            sock = bound(socket.SOCK_DGRAM, address, int(port))
            await loop.create_datagram_endpoint(lambda name=name: Udp(name), sock=sock)
    open(ready, "w").close()
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1], sys.argv[2:]))
