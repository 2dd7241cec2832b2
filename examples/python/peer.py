#!/usr/bin/env python3
"""A Conclave peer, written from docs/protocol.md alone: the reference for other languages.

    peer.py http://127.0.0.1:7420 --user pia --channel lobby

makes an account (the first time; the keys stay in a file), joins the public channel, and then says
each line of standard input: to the channel or, when it begins with `@alice/desk/api `, to that
session alone. What it receives is verified before it is printed, one JSON object a line.

Needs the package `cryptography`. Numbers of sections are those of the document. Left out, and
needed for daily use: reconnecting with the cursor (1, 3.2), acknowledging (3.2), who may do what in
a channel (6.2).
"""

import argparse
import collections
import json
import os
import secrets
import select
import sys

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from signed import CONTROL, MESSAGE, WHISPER, Identity
from signed import b64, check, genesis, lp, now_ms, open_envelope, open_record, public, record, seal, sha, sign, unb64
from wire import PING, Refused, WebSocket


class Peer:
    def __init__(self, url, keys, user, machine="python", handle="peer"):
        self.ws = WebSocket(url, "conclave.v2.json", timeout_s=45)
        self.keys, self.sid, self.sent = keys, secrets.token_bytes(8), collections.Counter()
        self.requests, self.events = 0, collections.deque()
        self.people, self.members, self.control = {}, set(), (-1, None)
        self.cursor, self.counters, self.ids = {}, {}, set()
        self.shake_hands(user, machine, handle)

    def shake_hands(self, user, machine, handle):
        key, nonce, instance = public(self.keys["machine"]), secrets.token_bytes(32), self.keys["instance"]
        self.ws.send({"hello": {"versions": [2], "nonce": b64(nonce), "key": b64(key), "handle": handle, "pinned": False,
            "instance": b64(instance), "bindings": ["none"], "agent": "python-example/1"}})
        answer = self.expect("challenge")
        server, self.server_id, origin = unb64(answer["key"]), unb64(answer["server_id"]), answer["origin"]
        # On first contact the user must trust the key, or have its fingerprint from a link.
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

    def person(self, name):
        known = [person for person in self.people.values() if person.name == name]
        return known[0] if known else self.identity(unb64(self.request("find_user", name=name)["user_id"]))

    def join(self, name):
        """Joins a public channel, unless this user is in it, and follows it and the mailbox."""
        (info,) = self.request("find_channel", name=name)["channels"]
        self.channel = unb64(info["channel"])
        if "role" not in info:
            c, prev, ident = info["ctl"]["n"] + 1, unb64(info["ctl"]["hash"]), [self.ident["n"], unb64(self.ident["hash"])]
            author = [self.user_id, self.path, "machine", public(self.keys["machine"]), ident]
            rec = record(CONTROL, [1, "join", self.channel, c, prev, None, *author, now_ms()], self.keys["machine"])
            self.request("ctl_append", channel=b64(self.channel), rec=b64(rec))
        for log in (b"\1" + self.channel, self.mailbox):
            self.cursor[log] = 0
            self.request("subscribe", log=b64(log), after=0)

    def say(self, text):
        return self.append(b"\1" + self.channel, MESSAGE, self.channel, b"", text)

    def whisper(self, path, text):
        user, machine, handle = path.split("/")
        mailbox = sha(lp("conclave/v1/mailbox") + lp(self.person(user).user_id) + lp(machine) + lp(handle))[:16]
        return self.append(b"\2" + mailbox, WHISPER, self.server_id[:16], path.encode(), text)

    def append(self, log, kind, scope, route, text):
        ctr = self.sent[log] + 1
        env = seal(self.keys["machine"], kind, scope, self.path, self.sid, ctr, route, {"text": text})
        stored = self.request("append", log=b64(log), env=env)
        self.sent[log] = ctr
        return {"kind": "stored", "seq": stored["seq"]}

    def take(self, event):
        """Yields the messages that an event brings, verified; says on stderr what was not shown."""
        for entry in event.get("entries", {}).get("entries", []):
            log = unb64(event["entries"]["log"])
            if entry["seq"] <= self.cursor[log]:
                continue
            self.cursor[log] = entry["seq"]
            try:
                if "ctl" in entry["body"]:
                    self.obey(unb64(entry["body"]["ctl"]))
                elif "env" in entry["body"]:
                    head, body = self.verify(log, entry["body"]["env"])
                    if head.kind in (MESSAGE, WHISPER) and head.path != self.path:
                        kind = "message" if head.kind == MESSAGE else "whisper"
                        yield {"kind": kind, "seq": entry["seq"], "from": head.path, "text": body.get("text")}
            except Refused as why:
                print(f"not shown: {why}", file=sys.stderr)

    def obey(self, rec):
        """Applies a control record: who is a member from here on. The server judged the author's
        role and the age of the key; a whole client judges them again (6.2)."""
        _, kind, channel, c, prev, *rest, user, _path, _key_kind, key, _head, _ts = open_record(CONTROL, rec, -3)
        author = self.identity(user)
        if channel != self.channel or (c, prev) != (self.control[0] + 1, self.control[1]):
            raise Refused("a broken chain of control records")
        if key not in author.ever:
            raise Refused(f"a control record by a key that was never {author.name}'s")
        self.control = c, sha(rec)
        if kind in ("create", "join", "add"):
            self.members.add(rest[0] if kind == "add" else user)
        if kind == "remove":
            self.members.discard(rest[0])

    def verify(self, log, env):
        """Returns header and body of an envelope that passes the checks of section 5."""
        head, body = open_envelope(env)
        name, machine, _handle = head.path.split("/")
        person = self.person(name)
        if person.machines.get(head.key) != machine:
            person = self.identity(person.user_id)  # perhaps a new machine
        if person.machines.get(head.key) != machine:
            raise Refused(f"this is not a key of {name}/{machine}")
        if log == self.mailbox and (head.scope, head.route) != (self.server_id[:16], self.path):
            raise Refused("a whisper to somebody else")
        if log != self.mailbox and (head.scope != self.channel or person.user_id not in self.members):
            raise Refused(f"{name} is not a member")
        chain = log, head.key, head.sid
        if head.ctr <= self.counters.get(chain, 0) or head.id in self.ids:
            raise Refused(f"{head.path} said this before")
        self.counters[chain] = head.ctr
        self.ids.add(head.id)
        return head, body

    def run(self, lines):
        """Prints what is heard and says the lines of a file descriptor, until they end."""
        rest = b""
        while True:
            while self.events:
                for heard in self.take(self.events.popleft()):
                    print(json.dumps(heard), flush=True)
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


def keys_in(path):
    """Returns the keys kept in a file, or new ones. A real client keeps its owner key elsewhere."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return {name: unb64(value) for name, value in json.load(file).items()}
    keys = {"owner": secrets.token_bytes(32), "machine": secrets.token_bytes(32), "instance": secrets.token_bytes(16)}
    return keys | {"encryption": X25519PrivateKey.generate().public_key().public_bytes_raw()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--user", required=True)
    parser.add_argument("--channel", required=True)
    parser.add_argument("--keys", default="peer.keys", help="where the keys are [default: peer.keys]")
    args = parser.parse_args()
    keys = keys_in(args.keys)
    peer = Peer(args.url, keys, args.user)
    with open(args.keys, "w", encoding="utf-8", opener=lambda path, how: os.open(path, how, 0o600)) as file:
        json.dump({name: b64(value) for name, value in keys.items()}, file)
    peer.join(args.channel)
    print(json.dumps({"kind": "ready", "path": peer.path}), flush=True)
    peer.run(sys.stdin.fileno())


if __name__ == "__main__":
    try:
        main()
    except Refused as why:
        sys.exit(f"peer: {why}")
