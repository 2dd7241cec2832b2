#!/usr/bin/env python3
"""Makes and opens every frozen vector of `crates/conclave-e2ee/vectors/e2ee.json` with another
implementation than the one that wrote them (`sealed.py` and `signed.py`, which are written from
docs/protocol.md). Says how many there are, or fails on the first that differs.

Needs the package `cryptography`."""

import json
import os
import sys

import sealed
from sealed import ChannelKey
from signed import ENCRYPTION_KEY, b64, encryption_key, header_of, open_parts, public, record, sha, sign_parts
from wire import Refused, uncbor

VECTORS = os.path.join(os.path.dirname(__file__), "../../crates/conclave-e2ee/vectors/e2ee.json")


def same(what, one, other):
    if one != other:
        raise Refused(f"{what} differs")


def raw(vector, *names):
    return [bytes.fromhex(vector[name]) for name in names]


def facts_of(value):
    """Returns decoded CBOR as the vectors show it: bytes in hex."""
    if isinstance(value, dict):
        return {name: facts_of(item) for name, item in value.items()}
    return value.hex() if isinstance(value, bytes) else value


def keys(vector):
    key = ChannelKey(*raw(vector, "channel"), vector["e"], *raw(vector, "key"))
    same("a derived key", {label: key.k(label).hex() for label in vector["derived"]}, vector["derived"])
    same("the set of labels", set(vector["derived"]), {"msg", "state", "memory", "profile", "bundle", "prev", "commit"})


def header(vector, suite=1):
    scope, sid, msg_id, route, rkid, seed = raw(vector, "scope", "sid", "msg_id", "route", "rkid", "signer_seed")
    made = header_of(suite, vector["kind"], scope, vector["epoch"], vector["sender"], public(seed), sid, vector["ctr"],
        msg_id, vector["ts"], route, rkid, vector["hop"], vector["flags"])
    same("a header", made.hex(), vector["header"])
    return made


def entry(vector, made, ct):
    """Compares the sealed parts, and returns them as a receiver has them: parsed and verified."""
    nonce, seed = raw(vector, "nonce", "signer_seed")
    expected = {part: b64(*raw(vector, part)) for part in ("header", "nonce", "ct", "sig")}
    for part, text in sign_parts(seed, made, nonce, ct).items():
        same(part, text, expected[part])
    whole = sealed.lp(made) + nonce + sealed.lp(ct) + bytes.fromhex(vector["sig"])
    same("the hash of an envelope", sha(whole).hex(), vector["hash"])
    return open_parts(expected)


def envelopes(vector):
    made, (nonce, body, bytes_of_key) = header(vector), raw(vector, "nonce", "body", "key")
    key = ChannelKey(*raw(vector, "scope"), vector["epoch"], bytes_of_key)
    head, *parts = entry(vector, made, key.seal(vector["kind"], made, nonce, body))
    same("a body", key.open(head, *parts), body)


def whispers(vector):
    made, (secret, to, ephemeral, body) = header(vector), raw(vector, "encryption_seed", "encryption_key", "ephemeral", "body")
    same("an encryption key", encryption_key(secret), to)
    head, *parts = entry(vector, made, sealed.seal_whisper(to, made, body, ephemeral))
    same("a whisper", sealed.open_whisper(secret, head, *parts), body)


def wraps(vector):
    names = "channel", "key", "commit", "to", "encryption_seed", "encryption_key", "ephemeral", "sealed"
    channel, bytes_of_key, commit, to, secret, public_key, ephemeral, given = raw(vector, *names)
    key = ChannelKey(channel, vector["e"], bytes_of_key, commit)
    same("an encryption key", encryption_key(secret), public_key)
    same("a wrap", sealed.seal_wrap(key, to, vector["gen"], public_key, ephemeral), given)
    same("a wrapped key", sealed.open_wrap(given, channel, vector["e"], to, vector["gen"], commit, secret).key, bytes_of_key)


def boxes(vector):
    channel, bytes_of_key, nonce, plain, given = raw(vector, "channel", "key", "nonce", "plain", "sealed")
    key, what = ChannelKey(channel, vector["e"], bytes_of_key), vector["box"]
    if what == "prev":
        same("a box", sealed.seal_box(key.k("prev"), nonce, key.previous_aad(), plain), given)
        commit = ChannelKey(channel, vector["e"] - 1, plain).k("commit")
        same("the key before", key.open_previous(given, commit).key, plain)
        return
    aad, opened = {"bundle": (key.facts_aad("conclave/v1/bundle"), key.open_bundle),
        "name": (key.facts_aad("conclave/v1/name"), key.open_name)}[what]
    same("a box", sealed.seal_box(key.k("bundle"), nonce, aad, sealed.pad(plain)), given)
    same("what is in a box", facts_of(opened(given)), vector["facts"])
    same("what is in a box", facts_of(uncbor(plain)), vector["facts"])


def invite_boxes(vector):
    channel, invite, secret, nonce, plain, given = raw(vector, "channel", "invite", "secret", "nonce", "plain", "sealed")
    aad = sealed.invite_aad(channel, invite)
    same("the id of an invite", sealed.invite_id(public(sealed.hkdf(secret, b"conclave/v1/invite-sign"))), invite)
    same("a box", sealed.seal_box(sealed.invite_key(secret), nonce, aad, sealed.pad(plain)), given)
    same("what is in a box", facts_of(sealed.open_invite(given, secret, channel, invite)), vector["facts"])
    same("what is in a box", facts_of(uncbor(plain)), vector["facts"])


def owner_keys(vector):
    seed, key, secret, public_key, rkid = raw(vector, "owner_seed", "owner_key", "encryption_seed", "encryption_key", "rkid")
    same("an owner key", public(seed), key)
    same("an owner's encryption key", sealed.of_owner(seed), secret)
    same("an owner's encryption key", (encryption_key(secret), sealed.key_id(public_key)), (public_key, rkid))


def slots(vector):
    (index_key,) = raw(vector, "index_key")
    same("a slot", sealed.slot(index_key, vector["name"]).hex(), vector["slot"])
    if "public" in vector:
        same("a public index key", sealed.public_index(*raw(vector, "public")), index_key)


def numbers(vector):
    server, channel, head = raw(vector, "server", "channel", "hash")
    users = [bytes.fromhex(user) for user in vector["users"]]
    same("a fingerprint", [sealed.fingerprint(server, user) for user in users], vector["fingerprints"])
    same("a safety number", sealed.safety_number(server, *users), vector["safety_number"])
    same("a safety number", sealed.safety_number(server, *reversed(users)), vector["safety_number"])
    same("an authenticator", sealed.authenticator(channel, vector["n"], head), vector["authenticator"])


def announcements(vector):
    server, key, given, seed = raw(vector, "server", "key", "record", "seed")
    fields = [1, "encryption_key", server, vector["holder"], public(seed), vector["gen"], key, vector["not_after"]]
    same("an announcement", record(ENCRYPTION_KEY, fields, seed), given)
    same("an announcement", sealed.announced(given, server), (public(seed), vector["gen"], key, vector["not_after"]))


def padding(vector):
    plain = b"\7" * vector["length"]
    padded = sealed.pad(plain)
    same("padding", (len(padded), sha(padded).hex()), (vector["padded"], vector["sha256"]))
    same("what was padded", sealed.unpad(padded), plain)


CHECKS = {check.__name__: check for check in (keys, envelopes, whispers, wraps, boxes, invite_boxes, owner_keys,
    slots, numbers, announcements, padding)}


def main():
    with open(sys.argv[1] if sys.argv[1:] else VECTORS, encoding="utf-8") as file:
        groups = json.load(file)
    same("the set of groups", set(groups), set(CHECKS))
    for group, vectors in groups.items():
        for n, vector in enumerate(vectors):
            try:
                CHECKS[group](vector)
            except Refused as why:
                sys.exit(f"{group} {n}: {why}")
    print(json.dumps({"checked": sum(map(len, groups.values()))}))


if __name__ == "__main__":
    main()
