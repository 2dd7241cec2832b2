"""What a Conclave peer signs and verifies: bytes, records, identities, envelopes.

Numbers of sections are those of docs/protocol.md."""

import base64
import collections
import hashlib
import json
import os
import secrets
import struct
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wire import Refused, cbor, uncbor

# ---- 1: bytes and signatures


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def lp(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def sha(data):
    return hashlib.sha256(data).digest()


def now_ms():
    return int(time.time() * 1000)


def public(seed):
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def encryption_key(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def sign(seed, data):
    return Ed25519PrivateKey.from_private_bytes(seed).sign(data)


def check(key, sig, data, whose):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(sig, data)
    except (InvalidSignature, ValueError):
        raise Refused(f"a bad signature of {whose}") from None


# ---- 6: signed records, and the identities that a chain of them makes

IDENTITY, CONTROL, ENROLMENT = "conclave/v1/identity", "conclave/v1/control", "conclave/v1/enrolment"
ENCRYPTION_KEY = "conclave/v1/encryption-key"


def record(label, fields, seed):
    body = lp(cbor(fields))
    return body + sign(seed, lp(label) + body)


def open_record(label, rec, key_at):
    """Returns the fields of a record, signed by the key that stands at place `key_at` among them."""
    body, sig = rec[4:-64], rec[-64:]
    fields = uncbor(body)
    if lp(body) + sig != rec or not isinstance(fields, list) or cbor(fields) != body:
        raise Refused("a record that is not in its one form")
    check(fields[key_at], sig, lp(label) + lp(body), label)
    return fields


def keys_in(path):
    """Returns the keys kept in a file, or new ones. A real client keeps its owner key elsewhere."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return {name: unb64(value) for name, value in json.load(file).items()}
    keys = {"owner": secrets.token_bytes(32), "machine": secrets.token_bytes(32), "instance": secrets.token_bytes(16)}
    return keys | {"encryption": secrets.token_bytes(32)}


def genesis(server_id, user, machine, keys):
    """Returns the first record of a new account: one owner key, one machine."""
    owner, key, encryption = public(keys["owner"]), public(keys["machine"]), encryption_key(keys["encryption"])
    consent = lp(ENROLMENT) + server_id + lp(user) + lp(owner) + lp(machine) + key + encryption
    box = [machine, key, encryption, sign(keys["machine"], consent)]
    return record(IDENTITY, [1, "genesis", None, 0, None, server_id, user, [owner], box, owner, now_ms()], keys["owner"])


class Identity:
    """A user: name, owner keys and machines (key to name) that are active at the last record given, the
    first encryption key of each, and keys that ever were."""

    def __init__(self, user_id, records):
        if not records or sha(records[0]) != user_id:
            raise Refused("an identity of somebody else")
        self.user_id, self.owners, self.machines, self.ever, prev = user_id, set(), {}, set(), None
        self.encryption, self.records = {}, records
        for n, rec in enumerate(records):
            self.apply(open_record(IDENTITY, rec, -2), n, prev)
            prev = sha(rec)

    def apply(self, fields, n, prev):
        _, kind, user_id, at, before, *rest, signer, _ts = fields
        if (user_id, at, before) != (self.user_id if n else None, n, prev) or (kind == "genesis") != (n == 0):
            raise Refused("a broken chain of identity records")
        if kind == "genesis":
            _server, self.name, owners, machine = rest
            self.owners, rest = set(owners), [machine]
            self.ever.update(owners)
        if signer not in self.owners:
            raise Refused("an identity record that no owner signed")
        if kind in ("revoke_machine", "rotate_machine"):
            del self.machines[rest[0]]
        if kind in ("genesis", "add_machine", "rotate_machine"):
            name, key, encryption, _consent = rest[1] if kind == "rotate_machine" else rest[0]
            self.machines[key], self.encryption[key] = name, encryption
            self.ever.add(key)
        if kind == "add_owner":
            self.owners.add(rest[0])
            self.ever.add(rest[0])
        if kind == "revoke_owner":
            self.owners.remove(rest[0])


# ---- 5: envelopes

MESSAGE, WHISPER, RECEIPT = 1, 2, 5
HEADER, ENVELOPE = "conclave/v1/header", "conclave/v1/envelope-sig"
Header = collections.namedtuple("Header", "suite kind scope epoch path key sid ctr id ts route rkid hop flags")


def header_of(suite, kind, scope, epoch, path, key, sid, ctr, msg_id, ts, route, rkid=bytes(8), hop=0, flags=0):
    """Returns the bytes of a header: what is signed and, in suite 1, what the body is sealed to."""
    start = lp(HEADER) + struct.pack(">BB16sI", suite, kind, scope, epoch) + lp(path)
    middle = struct.pack(">32s8sQ16sQ", key, sid, ctr, msg_id, ts)
    return start + middle + lp(route) + struct.pack(">8sBB", rkid, hop, flags)


def sign_parts(seed, header, nonce, ct):
    """Returns the envelope of these parts."""
    sig = sign(seed, signed_part(header, nonce, ct))
    return {"header": b64(header), "nonce": b64(nonce), "ct": b64(ct), "sig": b64(sig)}


def open_parts(env):
    """Returns head, header, nonce and ciphertext of an envelope, signed by the key in its header."""
    header, nonce, ct, sig = (unb64(env[part]) for part in ("header", "nonce", "ct", "sig"))
    label, rest = split_lp(header)
    try:
        suite, kind, scope, epoch = struct.unpack(">BB16sI", rest[:22])
        path, rest = split_lp(rest[22:])
        middle, (route, end) = struct.unpack(">32s8sQ16sQ", rest[:72]), split_lp(rest[72:])
        head = Header(suite, kind, scope, epoch, path.decode(), *middle, route, *struct.unpack(">8sBB", end))
    except (struct.error, UnicodeDecodeError):
        raise Refused("a header that is not well-formed") from None
    if label != HEADER.encode() or suite > 1 or head.flags & 1 or len(nonce) != 24:
        raise Refused("an envelope of another suite")
    check(head.key, sig, signed_part(header, nonce, ct), head.path)
    return head, header, nonce, ct


def seal(seed, kind, scope, path, sid, ctr, route, body):
    """Returns a signed envelope of suite 0."""
    ids = public(seed), sid, ctr, secrets.token_bytes(16), now_ms()
    return sign_parts(seed, header_of(0, kind, scope, 0, path, *ids, route), bytes(24), cbor(body))


def open_clear(head, _header, nonce, ct):
    """Returns the body of a verified envelope of suite 0."""
    if head.suite or head.epoch or any(nonce):
        raise Refused("an envelope of another suite")
    return uncbor(ct)


def open_envelope(env):
    """Returns the header and body of an envelope of suite 0, signed by the key in its header."""
    parts = open_parts(env)
    return parts[0], open_clear(*parts)


def signed_part(header, nonce, ct):
    return lp(ENVELOPE) + lp(header) + lp(sha(nonce + ct))


def split_lp(data):
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]
