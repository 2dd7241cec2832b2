#!/usr/bin/env python3
"""A Conclave peer, written from docs/protocol.md alone: the reference for other languages.

    peer.py http://127.0.0.1:7420 --user pia --channel lobby
    peer.py --link --user pia

makes an account (the first time; the keys stay in a file), joins the public channel, or the one that
the invite link on the first line of standard input leads into, and then says each further line: to
the channel or, when it begins with `@alice/desk/api `, to that session alone. What it receives is
verified and opened before it is printed, one JSON object a line.

Needs the package `cryptography`. Numbers of sections are those of the document. Left out, and
needed for daily use: reconnecting with the cursor (1, 3.2), acknowledging (3.2), who may do what in
a channel (6.2), a new encryption key every week, and bringing a key to others who lack it (9.4).
"""

import argparse
import collections
import json
import os
import secrets
import select
import struct
import sys

import sealed
from channel import Channel
from signed import CONTROL, MESSAGE, RECEIPT, WHISPER, Identity
from signed import b64, check, genesis, header_of, lp, now_ms, open_clear, open_parts, public, record
from signed import keys_in, sha, sign, sign_parts, unb64
from wire import PING, Refused, WebSocket, cbor, uncbor

REDEEM, JOIN = "conclave/v1/redeem", "conclave/v1/join"


class Peer:
    def __init__(self, url, keys, user, link=None, machine="python", handle="peer"):
        self.ws = WebSocket(url, "conclave.v2.json", timeout_s=45)
        self.keys, self.sid, self.sent = keys, secrets.token_bytes(8), collections.Counter()
        self.requests, self.events, self.link = 0, collections.deque(), link
        self.people, self.closed, self.heard, self.box = {}, [], collections.deque(), {}
        self.cursor, self.counters, self.ids = {}, {}, set()
        self.shake_hands(user, machine, handle)

    def shake_hands(self, user, machine, handle):
        key, nonce, instance = public(self.keys["machine"]), secrets.token_bytes(32), self.keys["instance"]
        self.ws.send({"hello": {"versions": [2], "nonce": b64(nonce), "key": b64(key), "handle": handle, "pinned": False,
            "instance": b64(instance), "bindings": ["none"], "agent": "python-example/1"}})
        answer = self.expect("challenge")
        server, self.server_id, origin = unb64(answer["key"]), unb64(answer["server_id"]), answer["origin"]
        # On first contact the user must trust the key, or have its fingerprint from a link.
        if self.link and sha(server)[:16] != self.link.fingerprint:
            raise Refused("this is not the server of the link")
        if server != self.keys.setdefault("server", server) or origin != self.ws.origin or answer["binding"] != "none":
            raise Refused("this is not the server that was dialled")
        if not self.ws.tls and not self.ws.loopback:
            raise Refused("without TLS only this machine's own server can be trusted")
        transcript = lp("conclave/v1/hs") + lp(b"\0\2") + b"\0\2" + lp(origin) + lp(server) + lp(nonce)
        transcript += lp(unb64(answer["nonce"])) + lp(key) + lp(handle) + lp(instance) + b"\0" + lp("none") + lp(b"")
        transcript = sha(transcript)
        check(server, unb64(answer["sig"]), lp("conclave/v1/hs-server") + transcript, "the server")
        mode, body = "auth", b""
        if "user" not in self.keys:
            mode, body = "register", genesis(self.server_id, user, machine, self.keys)
            if self.link:
                proof = sign(self.link.seed, lp(REDEEM) + self.server_id + self.link.key + sha(body))
                mode, body = "redeem", self.link.key + proof + body
        proof = lp("conclave/v1/hs-client") + sha(transcript + lp(mode) + sha(body))
        self.ws.send({"auth": {"mode": mode, "body": b64(body), "sig": b64(sign(self.keys["machine"], proof))}})
        ready = self.expect("ready")
        self.keys["user"] = self.user_id = unb64(ready["user_id"])
        self.path, self.ident, self.mailbox = ready["path"], ready["ident"], unb64(ready["mailbox"])

    def receive(self):
        frame = self.ws.receive()
        if "bye" in frame:
            raise Refused(json.dumps(frame["bye"]["reason"]))
        return frame

    def expect(self, word):
        frame = self.receive()
        if word not in frame:
            raise Refused(f"expected {word}, got {json.dumps(frame)}")
        return frame[word]

    def request(self, op, **fields):
        """Asks and waits for the answer; what happens in between is kept for `take`."""
        self.requests += 1
        self.ws.send({"req": {"id": self.requests, "op": {op: fields}}})
        while True:
            frame = self.receive()
            if "event" in frame:
                self.events.append(frame["event"])
            elif frame.get("res", {}).get("id") == self.requests:
                result = frame["res"]["result"]
                if "err" in result:
                    raise Refused(json.dumps(result["err"]))
                (answer,) = result["ok"].values()
                return answer

    def identity(self, user_id):
        """Fetches and verifies who somebody is."""
        answer = self.request("ident_fetch", user=b64(user_id), **{"from": 0})
        person = self.people[user_id] = Identity(user_id, [unb64(rec) for rec in answer["records"]])
        return person

    def known(self, user_id, n):
        """Returns who somebody is, up to record `n` at least."""
        person = self.people.get(user_id)
        return person if person and len(person.records) > n else self.identity(user_id)

    def person(self, name):
        known = [person for person in self.people.values() if person.name == name]
        return known[0] if known else self.identity(unb64(self.request("find_user", name=name)["user_id"]))

    def enter(self, info, ticket=None):
        """Becomes a member, unless this user is one, and follows the channel and the mailbox."""
        self.channel = Channel(unb64(info["channel"]), self.known)
        if "role" not in info:
            n, head, ident = info["ctl"]["n"], unb64(info["ctl"]["hash"]), [self.ident["n"], unb64(self.ident["hash"])]
            proof = ticket and [ticket.key, sign(ticket.seed, lp(JOIN) + self.channel.id + ticket.id + self.user_id
                + struct.pack(">Q", ident[0]) + ident[1] + struct.pack(">Q", n) + head)]
            self.control((n, head), "join", proof)
        for log in (b"\1" + self.channel.id, self.mailbox):
            self.cursor[log] = 0
            self.hear_up_to(log, self.request("subscribe", log=b64(log), after=0)["head"])
        if self.user_id not in self.channel.members:
            raise Refused("the channel's records do not make this user a member")

    def control(self, after, kind, *fields, **beside):
        """Appends a control record to the channel; returns its place."""
        author = [self.user_id, self.path, "machine", public(self.keys["machine"]), [self.ident["n"], unb64(self.ident["hash"])]]
        fields = [1, kind, self.channel.id, after[0] + 1, after[1], *fields, *author, now_ms()]
        rec = record(CONTROL, fields, self.keys["machine"])
        return self.request("ctl_append", channel=b64(self.channel.id), rec=b64(rec), **beside)["seq"]

    def hear_up_to(self, log, seq):
        """Takes what happened in a log up to an entry; what is to be shown waits for `run`."""
        self.hear()
        while self.cursor[log] < seq:
            self.events.extend(event for word, event in self.receive().items() if word == "event")
            self.hear()

    def hear(self):
        while self.events:
            self.heard.extend(self.take(self.events.popleft()))

    def join(self, name):
        """Joins a public channel."""
        (info,) = self.request("find_channel", name=name)["channels"]
        self.enter(info)

    def join_by(self, link):
        """Joins the channel that a link leads into: the one whose first record its box names (9.6)."""
        answer = self.request("invite", invite=b64(link.id))
        box = sealed.open_invite(unb64(answer["invite_box"]), link.secret, unb64(answer["channel"]["channel"]), link.id)
        self.box = box
        if sha(unb64(answer["ctl"][0]["body"]["ctl"])) != box["genesis"]:
            raise Refused("this is not the channel of the link")
        self.enter(answer["channel"], link)

    def fetch_keys(self):
        """Learns what keys of the channel there are for this machine (9.4)."""
        if "key" in self.box:
            self.channel.take(self.box["key"]["e"], self.box["key"]["key"])
        holder = public(self.keys["machine"])
        wraps = self.request("wrap_fetch", channel=b64(self.channel.id), **{"from": 1}, holder=b64(holder))["wraps"]
        for wrap in reversed(wraps):
            e, generation, ct = wrap["e"], wrap["gen"], unb64(wrap["sealed"])
            try:
                self.channel.learn(e, lambda commit: sealed.open_wrap(ct, self.channel.id, e, holder, generation, commit,
                    self.keys["encryption"]))
            except Refused as why:
                print(f"not taken: {why}", file=sys.stderr)

    def key_of(self, e):
        """Returns the key of an epoch, or nothing if nobody has brought it yet."""
        if e not in self.channel.keys:
            self.fetch_keys()
        return self.channel.keys.get(e)

    def say(self, text):
        log, scope, body = b"\1" + self.channel.id, self.channel.id, cbor({"text": text})
        if self.channel.mode != "e2e":
            return self.append(log, self.header(log, 0, MESSAGE, scope, 0, b""), bytes(24), body)
        if self.channel.needs_epoch():
            self.begin_epoch()
        e, nonce = self.channel.current(), secrets.token_bytes(24)
        header = self.header(log, 1, MESSAGE, scope, e, b"")
        return self.append(log, header, nonce, self.must_have(e).seal(MESSAGE, header, nonce, body))

    def must_have(self, e):
        key = self.key_of(e)
        if key is None:
            raise Refused("keys_pending: no member that is online has brought the key yet")
        return key

    def begin_epoch(self):
        """Draws a new key, commits to it in a signed record and seals it to whoever may hold it (9.4)."""
        channel, e = self.channel, len(self.channel.epochs) + 1
        key, prev_box = sealed.ChannelKey(channel.id, e, secrets.token_bytes(32)), None
        if e > 1 and channel.history == "full":
            prev_box = key.seal_previous(self.must_have(e - 1), secrets.token_bytes(24))
        if e - 1 in channel.keys:
            facts = channel.keys[e - 1].open_bundle(channel.epochs[e - 1].bundle_box)
        else:
            facts = {name: self.box[name] for name in ("index_key", "name", "topic") if name in self.box}
        bundle_box = key.seal_bundle(facts, secrets.token_bytes(24))
        wraps = []
        for holder, (generation, to) in self.newest_keys(channel.holders()).items():
            ct = sealed.seal_wrap(key, holder, generation, to, secrets.token_bytes(32))
            wraps.append({"to": b64(holder), "gen": generation, "sealed": b64(ct)})
        place = e, channel.head[0], channel.root(), key.k("commit"), prev_box, bundle_box
        seq = self.control(channel.head, "epoch", *place, wraps=wraps)
        self.hear_up_to(b"\1" + channel.id, seq)
        channel.take(e, key.key)

    def newest_keys(self, holders):
        """Returns generation and encryption key of each holder that has one now. `holders` names each one's
        first key, or nothing for an owner key."""
        found = {holder: (0, first) for holder, first in holders.items() if first}
        for rec in self.request("ek_fetch", holders=[b64(holder) for holder in holders])["recs"]:
            holder, generation, key, not_after = sealed.announced(unb64(rec), self.server_id)
            if holder not in holders or (holders[holder] is None) != (generation == 0):
                raise Refused("an encryption key of somebody else")
            found[holder] = generation, key
            if not_after < now_ms():
                del found[holder]
        return found

    def whisper(self, path, text):
        user, machine, handle = path.split("/")
        person = self.person(user)
        mailbox = b"\2" + sha(lp("conclave/v1/mailbox") + lp(person.user_id) + lp(machine) + lp(handle))[:16]
        to = self.encryption_key(person, machine)
        header = self.header(mailbox, 1, WHISPER, self.server_id[:16], 0, path.encode(), sealed.key_id(to))
        ct = sealed.seal_whisper(to, header, cbor({"text": text}), secrets.token_bytes(32))
        return self.append(mailbox, header, bytes(24), ct)

    def encryption_key(self, person, machine):
        """Returns what a machine opens whispers with now: the newest key it announced, else its first."""
        (holder,) = [key for key, name in person.machines.items() if name == machine] or [None]
        if holder is None:
            raise Refused(f"{person.name} has no machine {machine}")
        found = self.newest_keys({holder: person.encryption[holder]})
        if not found:
            raise Refused(f"keys_pending: the encryption key of {person.name}/{machine} is out of date")
        return found[holder][1]

    def header(self, log, suite, kind, scope, epoch, route, rkid=bytes(8)):
        ids = self.sid, self.sent[log] + 1, secrets.token_bytes(16), now_ms()
        return header_of(suite, kind, scope, epoch, self.path, public(self.keys["machine"]), *ids, route, rkid)

    def append(self, log, header, nonce, ct):
        stored = self.request("append", log=b64(log), env=sign_parts(self.keys["machine"], header, nonce, ct))
        self.sent[log] += 1
        return {"kind": "stored", "seq": stored["seq"]}

    def take(self, event):
        """Yields the messages that an event brings, verified; says on stderr what was not shown."""
        if "keys" in event:
            yield from self.show_waiting()
        for entry in event.get("entries", {}).get("entries", []):
            log = unb64(event["entries"]["log"])
            if entry["seq"] <= self.cursor[log]:
                continue
            self.cursor[log] = entry["seq"]
            try:
                if "ctl" in entry["body"]:
                    self.obey(unb64(entry["body"]["ctl"]), entry["seq"])
                    yield from self.show_waiting()  # a newer key leads back to older ones
                elif "env" in entry["body"]:
                    yield from self.show(entry["seq"], self.verify(log, entry["body"]["env"]))
            except Refused as why:
                print(f"not shown: {why}", file=sys.stderr)

    def obey(self, rec, seq):
        """Applies a control record, after those before it that a closed past keeps out of the log (3.2)."""
        if self.channel.genesis is None and uncbor(rec[4:-64])[3] > 0:
            page = {"next": 0, "head": seq}
            while page["next"] < page["head"]:
                page = self.request("ctl_fetch", channel=b64(self.channel.id), after=page["next"])
                for entry in page["entries"]:
                    if entry["seq"] < seq:
                        self.channel.obey(unb64(entry["body"]["ctl"]))
        self.channel.obey(rec)
        if self.box.get("genesis", self.channel.genesis) != self.channel.genesis:
            raise Refused("this is not the channel of the link")

    def show(self, seq, parts):
        """Opens a verified envelope and yields what is to be shown; keeps it if the key is not there yet."""
        head = parts[0]
        if head.kind not in (MESSAGE, WHISPER) or head.path == self.path:
            return
        if head.kind == WHISPER:
            body = uncbor(sealed.open_whisper(self.keys["encryption"], *parts))
        elif self.channel.mode == "e2e":
            key = self.key_of(head.epoch)
            if key is None:
                self.closed.append((seq, parts))
                return
            body = uncbor(key.open(*parts))
        else:
            body = open_clear(*parts)
        kind = "message" if head.kind == MESSAGE else "whisper"
        yield {"kind": kind, "seq": seq, "from": head.path, "text": body.get("text")}

    def show_waiting(self):
        waiting, self.closed = self.closed, []
        for seq, parts in waiting:
            yield from self.show(seq, parts)

    def verify(self, log, env):
        """Returns the parts of an envelope that passes the checks of section 5."""
        parts = open_parts(env)
        head = parts[0]
        name, machine, _handle = head.path.split("/")
        person = self.person(name)
        if log == self.mailbox:
            private = head.suite == 1 and head.kind in (WHISPER, RECEIPT)
            if not private or (head.scope, head.route) != (self.server_id[:16], self.path.encode()):
                raise Refused("a whisper to somebody else, or one that is not sealed")
            if head.key not in person.machines:
                person = self.identity(person.user_id)  # perhaps a new machine
        else:
            if head.scope != self.channel.id or person.user_id not in self.channel.members:
                raise Refused(f"{name} is not a member")
            if head.suite != (self.channel.mode == "e2e") or (head.suite and head.epoch != self.channel.current()):
                raise Refused("an entry of another suite or epoch than the channel's")
            person = self.channel.at(person.user_id)
        if person.machines.get(head.key) != machine:
            raise Refused(f"this is not a key of {name}/{machine}")
        chain = log, head.key, head.sid
        if head.ctr <= self.counters.get(chain, 0) or head.id in self.ids:
            raise Refused(f"{head.path} said this before")
        self.counters[chain] = head.ctr
        self.ids.add(head.id)
        return parts

    def run(self, lines):
        """Prints what is heard and says the lines of a file descriptor, until they end."""
        rest = b""
        while True:
            self.hear()
            while self.heard:
                print(json.dumps(self.heard.popleft()), flush=True)
            ready = [self.ws.sock] if self.ws.waiting() else select.select([self.ws.sock, lines], [], [], 20)[0]
            if not ready:
                self.ws.frame(PING)
            if self.ws.sock in ready:
                self.events.extend(event for word, event in self.receive().items() if word == "event")
            if lines in ready:
                data = os.read(lines, 65536)
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    print(json.dumps(self.speak(line.decode())), flush=True)
                if not data:
                    return

    def speak(self, line):
        to, _, text = line.partition(" ")
        try:
            return self.whisper(to[1:], text) if to.startswith("@") else self.say(line)
        except Refused as why:
            return {"kind": "refused", "why": str(why)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="the server, unless --link")
    parser.add_argument("--user", required=True)
    parser.add_argument("--channel")
    parser.add_argument("--link", action="store_true", help="read an invite link from standard input")
    parser.add_argument("--keys", default="peer.keys", help="where the keys are [default: peer.keys]")
    args = parser.parse_args()
    if not (args.link or (args.url and args.channel)):
        parser.error("give a server and --channel, or --link")
    keys = keys_in(args.keys)
    link = sealed.Link(first_line(sys.stdin.fileno())) if args.link else None
    peer = Peer(link.url if link else args.url, keys, args.user, link)
    if link:
        peer.join_by(link)
    else:
        peer.join(args.channel)
    with open(args.keys, "w", encoding="utf-8", opener=lambda path, how: os.open(path, how, 0o600)) as file:
        json.dump({name: b64(value) for name, value in keys.items()}, file)
    print(json.dumps({"kind": "ready", "path": peer.path}), flush=True)
    peer.run(sys.stdin.fileno())


def first_line(lines):
    """Returns the first line of a file descriptor, and leaves the rest for `run`."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(lines, 1)
        if not byte:
            break
        line += byte
    return line.decode()


if __name__ == "__main__":
    main()
