"""What a Conclave peer seals and opens: suite 1, as section 9 of docs/protocol.md says it.

XChaCha20-Poly1305 and HPKE (RFC 9180) are put together here from ChaCha20-Poly1305, X25519 and HMAC,
so that every step can be read. Random bytes are arguments: `vectors.py` makes the frozen vectors
with this file and opens them."""

import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from signed import ENCRYPTION_KEY, encryption_key, lp, open_record, public, sha, unb64
from wire import Refused, cbor, uncbor

# ---- 9.1: HKDF-SHA256, XChaCha20-Poly1305, padding


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(prk, info, size):
    out, block, n = b"", b"", 0
    while len(out) < size:
        n += 1
        block = mac(prk, block + info + bytes([n]))
        out += block
    return out[:size]


def hkdf(ikm, info, size=32):
    return expand(mac(bytes(32), ikm), info, size)


def hchacha20(key, nonce):
    """Returns the subkey of XChaCha20 (draft-irtf-cfrg-xchacha 2.2) for the first 16 bytes of a nonce."""
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def quarter(a, b, c, d):
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & 0xFFFFFFFF
            mixed = state[z] ^ state[x]
            state[z] = (mixed << turn | mixed >> (32 - turn)) & 0xFFFFFFFF

    for _ in range(10):
        for column in range(4):
            quarter(column, column + 4, column + 8, column + 12)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *state[:4], *state[12:])


def xseal(key, nonce, aad, plain):
    cipher = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    return cipher.encrypt(bytes(4) + nonce[16:], plain, aad)


def xopen(key, nonce, aad, sealed):
    try:
        cipher = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
        return cipher.decrypt(bytes(4) + nonce[16:], sealed, aad)
    except (InvalidTag, ValueError, struct.error):
        raise Refused("a broken seal") from None


def seal_box(key, nonce, aad, plain):
    return nonce + xseal(key, nonce, aad, plain)


def open_box(key, aad, sealed):
    return xopen(key, sealed[:24], aad, sealed[24:])


def pad(plain):
    need, size = len(plain) + 4, 256
    while size < need:
        size += size if size < 4096 else 4096
    return struct.pack(">I", len(plain)) + plain + bytes(size - need)


def unpad(padded):
    plain = padded[4 : 4 + int.from_bytes(padded[:4], "big")]
    if pad(plain) != padded:
        raise Refused("padding in another form than its one")
    return plain


# ---- 9.2: HPKE, base mode, ids 0x0020 0x0001 0x0003

KEM, SUITE = b"KEM\0\x20", b"HPKE\0\x20\0\x01\0\x03"


def labelled_extract(suite, salt, label, ikm):
    return mac(salt or bytes(32), b"HPKE-v1" + suite + label + ikm)


def labelled_expand(suite, prk, label, info, size):
    return expand(prk, struct.pack(">H", size) + b"HPKE-v1" + suite + label + info, size)


def agree(secret, public):
    try:
        return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Refused("an encryption key that is no good point") from None


def hpke_cipher(dh, enc, to, info):
    """Returns the cipher and the nonce of the first and only message between two keys."""
    eae_prk = labelled_extract(KEM, b"", b"eae_prk", dh)
    shared = labelled_expand(KEM, eae_prk, b"shared_secret", enc + to, 32)
    context = b"\0" + labelled_extract(SUITE, b"", b"psk_id_hash", b"") + labelled_extract(SUITE, b"", b"info_hash", info)
    secret = labelled_extract(SUITE, shared, b"secret", b"")
    key = labelled_expand(SUITE, secret, b"key", context, 32)
    return ChaCha20Poly1305(key), labelled_expand(SUITE, secret, b"base_nonce", context, 12)


def hpke_seal(to, info, aad, plain, ephemeral):
    """Returns enc[32] and the ciphertext; `ephemeral` is the input of DeriveKeyPair."""
    secret = labelled_expand(KEM, labelled_extract(KEM, b"", b"dkp_prk", ephemeral), b"sk", b"", 32)
    enc = encryption_key(secret)
    cipher, nonce = hpke_cipher(agree(secret, to), enc, to, info)
    return enc + cipher.encrypt(nonce, plain, aad)


def hpke_open(secret, info, aad, sealed):
    enc = sealed[:32]
    cipher, nonce = hpke_cipher(agree(secret, enc), enc, encryption_key(secret), info)
    try:
        return cipher.decrypt(nonce, sealed[32:], aad)
    except InvalidTag:
        raise Refused("a broken seal") from None


# ---- 9.3: channel keys, and what is sealed under them

LABEL_OF_KIND = {1: "msg", 3: "state", 4: "memory", 6: "profile"}


class ChannelKey:
    """The key of one epoch of a channel."""

    def __init__(self, channel, e, key, commit=None):
        self.channel, self.e, self.key = channel, e, key
        if commit is not None and not hmac.compare_digest(self.k("commit"), commit):
            raise Refused("a key that the epoch's record does not commit to")

    def k(self, label):
        return hkdf(self.key, lp("conclave/v1/epoch") + lp(label) + lp(self.channel) + struct.pack(">I", self.e))

    def seal(self, kind, header, nonce, body):
        return xseal(self.k(LABEL_OF_KIND[kind]), nonce, header, pad(body))

    def open(self, head, header, nonce, ct):
        if (head.suite, head.scope, head.epoch) != (1, self.channel, self.e) or head.kind not in LABEL_OF_KIND:
            raise Refused("an entry that is not sealed under this key")
        return unpad(xopen(self.k(LABEL_OF_KIND[head.kind]), nonce, header, ct))

    def previous_aad(self):
        return lp("conclave/v1/prev") + self.channel + struct.pack(">II", self.e - 1, self.e)

    def open_previous(self, sealed, commit):
        """Returns the key of the epoch before, from the `prev_box` of this one's record."""
        return ChannelKey(self.channel, self.e - 1, open_box(self.k("prev"), self.previous_aad(), sealed), commit)

    def seal_previous(self, previous, nonce):
        return seal_box(self.k("prev"), nonce, self.previous_aad(), previous.key)

    def facts_aad(self, label):
        return lp(label) + self.channel + struct.pack(">I", self.e)

    def seal_bundle(self, facts, nonce):
        return seal_box(self.k("bundle"), nonce, self.facts_aad("conclave/v1/bundle"), pad(cbor(facts)))

    def open_bundle(self, sealed):
        return uncbor(unpad(open_box(self.k("bundle"), self.facts_aad("conclave/v1/bundle"), sealed)))

    def open_name(self, sealed):
        return uncbor(unpad(open_box(self.k("bundle"), self.facts_aad("conclave/v1/name"), sealed)))


# ---- 9.4: encryption keys and wraps

WRAP = b"conclave/v1/epoch-wrap"


def key_id(public):
    return sha(public)[:8]


def of_owner(seed):
    """Returns the secret encryption key of an owner key."""
    return hkdf(seed, b"conclave/v1/owner-encryption")


def announced(rec, server_id):
    """Returns holder, generation, key and last moment of a machine's or owner key's announcement."""
    fields = open_record(ENCRYPTION_KEY, rec, 4)
    _, word, server, kind, holder, generation, key, not_after = fields
    if (word, server) != ("encryption_key", server_id) or (kind == "owner") != (generation == 0):
        raise Refused("an announcement of something else")
    return holder, generation, key, not_after


def wrap_aad(channel, e, to, generation, commit):
    place, count = lp(channel) + struct.pack(">I", e), struct.pack(">I", generation)
    return place + lp(to) + count + lp(commit)


def seal_wrap(key, to, generation, public, ephemeral):
    aad = wrap_aad(key.channel, key.e, to, generation, key.k("commit"))
    return hpke_seal(public, WRAP, aad, key.key, ephemeral)


def open_wrap(sealed, channel, e, to, generation, commit, secret):
    key = hpke_open(secret, WRAP, wrap_aad(channel, e, to, generation, commit), sealed)
    return ChannelKey(channel, e, key, commit)


# ---- 9.5: whispers

WHISPER_INFO = b"conclave/v1/whisper"


def seal_whisper(to, header, body, ephemeral):
    return hpke_seal(to, WHISPER_INFO, header, pad(body), ephemeral)


def open_whisper(secret, head, header, nonce, ct):
    if (head.suite, head.epoch, head.rkid) != (1, 0, key_id(encryption_key(secret))) or any(nonce):
        raise Refused("a whisper that is not sealed to this machine's key")
    return unpad(hpke_open(secret, WHISPER_INFO, header, ct))


# ---- 9.6: what stands beside an invite; 9.7: state names; 9.8: numbers


def invite_aad(channel, invite):
    return lp("conclave/v1/invite-box") + channel + invite


def invite_key(secret):
    return hkdf(secret, b"conclave/v1/invite-box")


def invite_id(public):
    return sha(lp("conclave/v1/invite-id") + public)[:16]


def open_invite(sealed, secret, channel, invite):
    return uncbor(unpad(open_box(invite_key(secret), invite_aad(channel, invite), sealed)))


class Link:
    """An invite: `ORIGIN/i/ID#1.SECRET.FINGERPRINT` (7 of the document)."""

    def __init__(self, text):
        address, _, fragment = text.strip().partition("#")
        self.url, _, self.id = address.partition("/i/")
        version, secret, fingerprint = (fragment.split(".") + ["", "", ""])[:3]
        self.id, self.secret, self.fingerprint = unb64(self.id), unb64(secret), unb64(fingerprint)
        self.seed = hkdf(self.secret, b"conclave/v1/invite-sign")
        self.key = public(self.seed)
        if version != "1" or len(self.secret) != 32 or invite_id(self.key) != self.id:
            raise Refused("not a link that this program knows")


def slot(index_key, name):
    return mac(index_key, name.encode())[:16]


def public_index(channel):
    return sha(b"conclave/v1/public-index" + channel)


def digits(data, groups):
    digest = hashlib.sha512(data).digest()
    numbers = (int.from_bytes(digest[5 * i : 5 * i + 5], "big") % 100_000 for i in range(groups))
    return " ".join(f"{number:05}" for number in numbers)


def fingerprint(server_id, user_id):
    return digits(lp("conclave/v1/fp") + server_id + user_id, 6)


def safety_number(server_id, one, other):
    return " ".join(sorted((fingerprint(server_id, one), fingerprint(server_id, other))))


def authenticator(channel, n, head):
    return digits(lp("conclave/v1/channel-fp") + channel + struct.pack(">Q", n) + head, 9)
