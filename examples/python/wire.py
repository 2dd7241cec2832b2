"""What a Conclave peer needs below the protocol: CBOR (RFC 8949) and a WebSocket client (RFC 6455),
as small as they can be, on the standard library. Nothing in here knows Conclave."""

import base64
import hashlib
import json
import secrets
import socket
import ssl
import struct
from urllib.parse import urlsplit


class Refused(Exception):
    """The other side said no, or sent what is not valid."""


# ---- CBOR: integers from 0, bytes, text, lists, maps, booleans and None, in deterministic form

SIMPLE = {False: b"\xf4", True: b"\xf5", None: b"\xf6"}


def cbor(value):
    if value is None or isinstance(value, bool):
        return SIMPLE[value]
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    pairs = sorted((cbor(key), cbor(item)) for key, item in value.items())
    return head(5, len(pairs)) + b"".join(key + item for key, item in pairs)


def head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    width = next(width for width in range(4) if n < 1 << (8 << width))
    return bytes([major << 5 | 24 + width]) + n.to_bytes(1 << width, "big")


def uncbor(data):
    try:
        value, end = item_at(data, 0)
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        raise Refused("not CBOR") from None
    if end != len(data):
        raise Refused("bytes after the end of CBOR")
    return value


def item_at(data, at):
    major, n, at = data[at] >> 5, data[at] & 31, at + 1
    if major == 7:
        return {20: False, 21: True, 22: None}[n], at
    if 24 <= n < 28:
        size = 1 << (n - 24)
        n, at = int.from_bytes(data[at : at + size], "big"), at + size
    if major == 0:
        return n, at
    if major in (2, 3):
        raw, at = data[at : at + n], at + n
        return (raw if major == 2 else raw.decode()), at
    if major not in (4, 5) or n > len(data):
        raise ValueError
    items = []
    for _ in range(n * (major - 3)):
        item, at = item_at(data, at)
        items.append(item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2]))), at


# ---- WebSocket

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocket:
    """JSON messages over one connection to http://HOST[:PORT] or https://HOST[:PORT]."""

    def __init__(self, url, subprotocol, timeout_s):
        at = urlsplit(url)
        tls = at.scheme == "https"
        port = at.port or (443 if tls else 80)
        host = f"[{at.hostname}]" if ":" in at.hostname else at.hostname
        self.tls, self.origin = tls, f"{at.scheme}://{host}:{port}"
        self.loopback = at.hostname in ("localhost", "127.0.0.1", "::1")
        self.sock = socket.create_connection((at.hostname, port), timeout=timeout_s)
        if tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=at.hostname)
        self.buffer = b""
        self.upgrade(f"{host}:{port}", subprotocol)

    def upgrade(self, host, subprotocol):
        key = base64.b64encode(secrets.token_bytes(16))
        ask = f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        ask += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {subprotocol}\r\n"
        self.sock.sendall(ask.encode() + b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        status, *lines = self.buffer.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        self.buffer = self.buffer.split(b"\r\n\r\n", 1)[1]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        accept = base64.b64encode(hashlib.sha1(key + ACCEPT).digest()).decode()
        if " 101 " not in status or headers.get("sec-websocket-accept") != accept:
            raise Refused(f"no WebSocket here: {status}")
        if headers.get("sec-websocket-protocol") != subprotocol:
            raise Refused(f"the server does not speak {subprotocol}")

    def waiting(self):
        """Returns whether something was read from the socket and not yet received."""
        return bool(self.buffer) or (self.tls and self.sock.pending() > 0)

    def fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise Refused("the connection ended")
        self.buffer += data

    def take(self, n):
        while len(self.buffer) < n:
            self.fill()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def frame(self, opcode, data=b""):
        size = len(data)
        if size < 126:
            start = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            start = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            start = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
        mask = secrets.token_bytes(4)
        self.sock.sendall(start + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))

    def send(self, value):
        self.frame(TEXT, json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())

    def receive(self):
        """Returns the next message; answers pings on the way."""
        message = b""
        while True:
            first, size = self.take(2)
            if size >= 126:
                size = int.from_bytes(self.take(2 if size == 126 else 8), "big")
            data, opcode = self.take(size), first & 15
            if opcode == CLOSE:
                raise Refused(f"closed with {int.from_bytes(data[:2], 'big')} {data[2:].decode()}")
            if opcode == PING:
                self.frame(PONG, data)
            if opcode < CLOSE:
                message += data
                if first & 0x80:
                    return json.loads(message)
