"""One socket of each kind, and what it is shown: `sockets.py SCENARIO WORD...` prints JSON. See the functions below."""
import errno
import json
import select
import socket
import sys
import time

STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


def made(address, kind):
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.settimeout(5)
    return sock


def text(peer):
    return "%s %s" % peer[:2]


def http(sock):
    sock.settimeout(5)
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := sock.recv(1000):
        answer += chunk
    return answer.split(b"\r\n\r\n", 1)[-1].decode().strip()


def asked(sock):
    """Of a connected socket: who answers, and the peers that getpeername and recvfrom show."""
    shown = text(sock.getpeername())
    sock.send(b"who?")
    answer, peer = sock.recvfrom(100)
    return [answer.decode(), shown, text(peer)]


def tcp(to, source):
    with made(to[0], STREAM) as sock:
        sock.connect(to)
        shown = text(sock.getpeername())
        return [http(sock), shown]


def tcp_bound(to, source):
    with made(to[0], STREAM) as sock:
        sock.bind((source, 0))
        sock.connect(to)
        shown = text(sock.getpeername())
        return [http(sock), shown]


def tcp_nonblocking(to, source):
    with made(to[0], STREAM) as sock:
        sock.setblocking(False)
        begun = sock.connect_ex(to)
        assert begun == errno.EINPROGRESS, errno.errorcode.get(begun)
        assert select.select([], [sock], [], 5)[1]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        shown = text(sock.getpeername())
        return [http(sock), shown]


def mptcp(*to):
    """A socket of MPTCP (RFC 8684): who answered, and the peer that it was shown."""
    to = (to[0], int(to[1]))
    def act():
        with socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, STREAM, 262) as sock:
            sock.settimeout(5)
            sock.connect(to)
            shown = text(sock.getpeername())
            return [http(sock), shown]
    return failing(act)


def udp_connected(to, source):
    with made(to[0], DGRAM) as sock:
        sock.connect(to)
        return asked(sock)


def udp_connected_bound(to, source):
    with made(to[0], DGRAM) as sock:
        sock.bind((source, 0))
        sock.connect(to)
        return asked(sock)


def udp_sendto(to, source):
    with made(to[0], DGRAM) as sock:
        sock.sendto(b"who?", to)
        answer, peer = sock.recvfrom(100)
        return [answer.decode(), text(peer)]


def udp_sendto_bound(to, source):
    with made(to[0], DGRAM) as sock:
        sock.bind((source, 0))
        sock.sendto(b"who?", to)
        answer, peer = sock.recvfrom(100)
        return [answer.decode(), text(peer)]


def udp_sendmsg(to, source):
    with made(to[0], DGRAM) as sock:
        sock.sendmsg([b"wh", b"o?"], [], 0, to)
        answer, _, _, peer = sock.recvmsg(100)
        return [answer.decode(), text(peer)]


def streams(source, *to):
    """Each kind of TCP socket: who answered, and the peers that it was shown."""
    return each([tcp, tcp_bound, tcp_nonblocking], source, to)


def packets(source, *to):
    """The same of UDP sockets."""
    return each([udp_connected, udp_connected_bound, udp_sendto, udp_sendto_bound, udp_sendmsg], source, to)


def each(kinds, source, to):
    to = (to[0], int(to[1]))
    return {kind.__name__: failing(lambda: kind(to, source)) for kind in kinds}


def failing(act):
    try:
        return act()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


def in_turn(*words):
    """One socket, not connected: a packet to each, three times; then all of them before the answers are read."""
    to = [(words[at], int(words[at + 1])) for at in range(0, len(words), 2)]
    told = []
    with made(to[0][0], DGRAM) as sock:
        for one in to * 3:
            sock.sendto(b"who?", one)
            answer, peer = sock.recvfrom(100)
            told.append([answer.decode(), text(peer)])
        for one in to:
            sock.sendto(b"who?", one)
        both = [sock.recvfrom(100) for _ in to]
        told.extend(sorted([answer.decode(), text(peer)] for answer, peer in both))
    return told


def again(*words):
    """One UDP socket that is connected to each after the other."""
    to = [(words[at], int(words[at + 1])) for at in range(0, len(words), 2)]
    told = []
    with made(to[0][0], DGRAM) as sock:
        for one in to:
            sock.connect(one)
            told.append(asked(sock))
    return told


def beside(address, port, other, other_port):
    """A UDP socket that is connected, and sends one packet elsewhere: what it is shown before and after."""
    with made(address, DGRAM) as sock:
        sock.connect((address, int(port)))
        before = asked(sock)
        sock.sendto(b"who?", (other, int(other_port)))
        return [before, asked(sock)]


def many_packets(address, port, count):
    """One socket, not connected: who answered its packets."""
    names = set()
    with made(address, DGRAM) as sock:
        for _ in range(int(count)):
            sock.sendto(b"who?", (address, int(port)))
            names.add(sock.recvfrom(100)[0].decode())
    return sorted(names)


def errors(address, port):
    """Which error each way to connect or send gets, and the longest time that one took in seconds."""
    to, told, longest = (address, int(port)), {}, 0
    def nonblocking(sock):
        sock.setblocking(False)
        sock.connect(to)
    ways = {
        "tcp": (STREAM, lambda sock: sock.connect(to)),
        "tcp_nonblocking": (STREAM, nonblocking),
        "udp_connected": (DGRAM, lambda sock: sock.connect(to)),
        "udp_sendto": (DGRAM, lambda sock: sock.sendto(b"who?", to)),
        "udp_sendmsg": (DGRAM, lambda sock: sock.sendmsg([b"who?"], [], 0, to)),
    }
    for name, (kind, act) in ways.items():
        for _ in range(20):
            with made(address, kind) as sock:
                begun = time.monotonic()
                told[name] = failing(lambda: act(sock)) or "none"
                longest = max(longest, time.monotonic() - begun)
    return {"errors": told, "longest": longest}


def sctp(address, port):
    """What becomes of an SCTP connect."""
    def act():
        with socket.socket(socket.AF_INET, STREAM, 132) as sock:
            sock.settimeout(2)
            sock.connect((address, int(port)))
        return "connected"
    return failing(act)


print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
