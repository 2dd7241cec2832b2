"""A channel as its control records make it: members, epochs and their keys (6.2 and 9 of the document).

The server judged the author's role and the age of the key; a whole client judges them again (6.2)."""

import collections
import struct

from sealed import ChannelKey
from signed import CONTROL, Identity, lp, open_record, sha
from wire import Refused

Epoch = collections.namedtuple("Epoch", "commit prev_box bundle_box")


class Channel:
    """`identity` answers a user id and a record's number with that user's identity, up to there at least."""

    def __init__(self, channel_id, identity):
        self.id, self.identity, self.head = channel_id, identity, (-1, None)
        self.members, self.heads, self.epochs, self.keys, self.stale = {}, {}, {}, {}, False
        self.mode = self.history = self.genesis = None

    def obey(self, rec):
        """Applies a control record."""
        _, kind, channel, c, prev, *rest, user, _path, _key_kind, key, ident, _ts = open_record(CONTROL, rec, -3)
        author = self.identity(user, ident[0])
        if channel != self.id or (c, prev) != (self.head[0] + 1, self.head[1]) or (kind == "create") != (c == 0):
            raise Refused("a broken chain of control records")
        if key not in author.ever:
            raise Refused(f"a control record by a key that was never {author.name}'s")
        if kind == "create":
            self.genesis, (self.mode, _visibility, self.history) = sha(rec), rest[:3]
        if kind in ("create", "join", "add"):
            self.enter(*((rest[0], rest[1]) if kind == "add" else (user, ident)))
        if kind == "remove":
            self.stale |= self.members.pop(rest[0], None) is not None
        if kind == "ident":
            self.advance(*rest)
        if kind == "epoch":
            self.start(c, *rest)
        self.head = c, sha(rec)

    def enter(self, user, ident):
        self.members[user] = ident
        self.stale |= self.history == "since_join"

    def at(self, user):
        """Returns a member's identity as of the record that the channel goes by."""
        n, head = self.members[user]
        if head not in self.heads:
            records = self.identity(user, n).records[: n + 1]
            if len(records) != n + 1 or sha(records[-1]) != head:
                raise Refused("an identity record that is not the one its channel names")
            self.heads[head] = Identity(user, records)
        return self.heads[head]

    def advance(self, user, ident):
        if user not in self.members or ident[0] <= self.members[user][0]:
            raise Refused("an identity head that does not grow")
        before, self.members[user] = self.at(user), ident
        after = self.at(user)
        self.stale |= not (before.machines.keys() <= after.machines.keys() and before.owners <= after.owners)

    def root(self):
        """Returns the hash of the membership, as an epoch's record names it."""
        parts = b""
        for user in sorted(self.members):
            (n, head), machines = self.members[user], sorted(self.at(user).machines)
            part = user + struct.pack(">I", n) + head + struct.pack(">I", len(machines)) + b"".join(machines)
            parts += lp(part)
        return sha(parts)

    def start(self, c, e, covers_c, members_root, commit, prev_box, bundle_box):
        """Begins an epoch: its number, what it covers and for whom are this side's to compute (9.4)."""
        if self.mode != "e2e" or (e, covers_c, members_root) != (len(self.epochs) + 1, c - 1, self.root()):
            raise Refused("an epoch that is not for these members")
        if prev_box is not None and (self.history != "full" or e == 1):
            raise Refused("an epoch with a way back that must not be")
        self.epochs[e], self.stale = Epoch(commit, prev_box, bundle_box), False

    def learn(self, e, open_key):
        """Takes the key of an epoch, if it is the one committed to, and walks back from it as far as
        boxes of keys before lead. `open_key` gets the commitment."""
        if e not in self.epochs or e in self.keys:
            return
        self.keys[e] = key = open_key(self.epochs[e].commit)
        while (e - 1) not in self.keys and self.epochs[e].prev_box is not None:
            self.keys[e - 1] = key = key.open_previous(self.epochs[e].prev_box, self.epochs[e - 1].commit)
            e -= 1

    def take(self, e, key):
        """Takes bytes as the key of an epoch: what a box gave."""
        self.learn(e, lambda commit: ChannelKey(self.id, e, key, commit))

    def needs_epoch(self):
        return not self.epochs or self.stale

    def current(self):
        """Returns the newest epoch, if something may be said under it."""
        if self.needs_epoch():
            raise Refused("stale_epoch: an epoch must begin first")
        return len(self.epochs)

    def holders(self):
        """Returns who may hold the newest key: machines with their first encryption key, and owner keys
        with nothing where history is full."""
        holders = {}
        for person in map(self.at, self.members):
            holders |= {key: person.encryption[key] for key in person.machines}
            if self.history == "full":
                holders |= dict.fromkeys(person.owners)
        return holders
