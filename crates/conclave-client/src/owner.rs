//! The owner key: what an account is recovered with, on paper or sealed with a passphrase.
//!
//! It signs only identity records, verdicts and policies. No daily act needs it, so its copy on disk,
//! if there is one, is never readable without the passphrase.

use crate::home::{Home, HomeError};
use crate::keystore::random_seed;
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{Key, KeyInit as _, XChaCha20Poly1305, XNonce};
use conclave_proto::bytes::{Builder, Reader};
use conclave_proto::id::ServerId;
use conclave_proto::key::Secret;
use std::fmt;
use std::path::PathBuf;
use zeroize::Zeroizing;

const OWNER_FILE: &str = "owner.sealed";
const MAGIC: [u8; 8] = *b"conclown";
const FORMAT: u8 = 1;
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// The most that a file may ask of this machine.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 4;

/// Crockford's base32: no I, L, O or U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 32 bytes of seed and 3 of checksum are exactly so many characters.
const RECOVERY_CHARS: usize = 56;
const GROUP_CHARS: usize = 4;
const CHECK_BYTES: usize = 3;

/// A user's owner key. Wiped on drop, never printed but by [`Owner::recovery`].
#[derive(Clone)]
pub struct Owner(Secret);

/// Why there is no owner key.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// A recovery key has another length.
    #[error(
        "a recovery key has {RECOVERY_CHARS} letters and digits, this has {0}; type all of its groups"
    )]
    Length(usize),
    /// A character that is in no recovery key.
    #[error("{found:?} in group {group} is in no recovery key; check that group")]
    Alphabet {
        /// What was typed.
        found: char,
        /// Where, from 1.
        group: usize,
    },
    /// The checksum does not fit.
    #[error("this recovery key has a typing mistake; compare it group by group")]
    Checksum,
    /// The wrong passphrase, or a changed file: they cannot be told apart.
    #[error("wrong passphrase, or the sealed copy is damaged; the recovery key works in any case")]
    Passphrase,
    /// Not a sealed owner key of a known format.
    #[error("this is no sealed owner key of a format this version knows; use the recovery key")]
    Format,
    /// There is no memory to check the passphrase.
    #[error("cannot derive a key from the passphrase: {0}")]
    Derive(String),
    /// The file itself.
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl Owner {
    /// Draws a fresh key.
    ///
    /// # Errors
    /// [`OwnerError::Home`] if the system has no random bytes.
    pub fn create() -> Result<Self, OwnerError> {
        Ok(Self(Secret::from_seed(&*random_seed()?)))
    }

    /// Returns the key to sign with.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.0
    }

    /// Returns the key in the form that is written on paper: groups of four, with a checksum.
    #[must_use]
    pub fn recovery(&self) -> Zeroizing<String> {
        let seed = self.0.seed();
        let mut text = Zeroizing::new(String::with_capacity(RECOVERY_CHARS * 2));
        let (mut bits, mut held) = (0_u32, 0);
        let mut chars = 0;
        for byte in seed.iter().copied().chain(checksum(&seed)) {
            bits = bits << 8 | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                if chars > 0 && chars % GROUP_CHARS == 0 {
                    text.push('-');
                }
                text.extend(letter(bits >> held & 31));
                chars += 1;
            }
            bits &= (1 << held) - 1;
        }
        text
    }

    /// Reads what [`Owner::recovery`] printed; case, spaces and hyphens do not matter, and look-alikes
    /// (O and 0; I, L and 1) are taken for one another.
    ///
    /// # Errors
    /// [`OwnerError::Length`], [`OwnerError::Alphabet`] or [`OwnerError::Checksum`].
    pub fn from_recovery(text: &str) -> Result<Self, OwnerError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(RECOVERY_CHARS * 5 / 8));
        let (mut bits, mut held) = (0_u32, 0);
        let mut chars = 0;
        for found in text.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
            let group = chars / GROUP_CHARS + 1;
            let value = value(found).ok_or(OwnerError::Alphabet { found, group })?;
            chars += 1;
            if chars > RECOVERY_CHARS {
                continue;
            }
            bits = bits << 5 | value;
            held += 5;
            if held >= 8 {
                held -= 8;
                bytes.extend((bits >> held).to_be_bytes().last());
                bits &= (1 << held) - 1;
            }
        }
        if chars != RECOVERY_CHARS {
            return Err(OwnerError::Length(chars));
        }
        let mut reader = Reader::new(&bytes);
        let seed = reader.array().map(Zeroizing::new);
        let seed = seed.ok_or(OwnerError::Length(chars))?;
        if reader.rest() != checksum(&seed) {
            return Err(OwnerError::Checksum);
        }
        Ok(Self(Secret::from_seed(&seed)))
    }

    /// Returns a copy that only the passphrase opens.
    ///
    /// # Errors
    /// [`OwnerError::Derive`] or no random bytes.
    pub fn seal(&self, passphrase: &str) -> Result<Vec<u8>, OwnerError> {
        let random = random_seed()?;
        let more = random_seed()?;
        let mut reader = Reader::new(&*random);
        let salt: [u8; 16] = reader.array().ok_or(OwnerError::Format)?;
        let nonce: [u8; 24] = Reader::new(&*more).array().ok_or(OwnerError::Format)?;
        let header = Builder::default()
            .raw(&MAGIC)
            .u8(FORMAT)
            .u32(MEMORY_KIB)
            .u32(PASSES)
            .u32(LANES)
            .raw(&salt)
            .raw(&nonce)
            .into_vec();
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).map_err(derive)?;
        let sealed = cipher(passphrase, &salt, params)?
            .encrypt(&XNonce::from(nonce), payload(&*self.0.seed(), &header))
            .map_err(|e| OwnerError::Derive(e.to_string()))?;
        Ok([header, sealed].concat())
    }

    /// Opens what [`Owner::seal`] made.
    ///
    /// # Errors
    /// [`OwnerError::Passphrase`], [`OwnerError::Format`] or [`OwnerError::Derive`].
    pub fn unseal(bytes: &[u8], passphrase: &str) -> Result<Self, OwnerError> {
        let (params, salt, nonce, sealed) = read_header(bytes).ok_or(OwnerError::Format)?;
        let header = bytes
            .get(..bytes.len() - sealed.len())
            .ok_or(OwnerError::Format)?;
        let opened = cipher(passphrase, &salt, params)?
            .decrypt(&XNonce::from(nonce), payload(sealed, header))
            .map_err(|_| OwnerError::Passphrase)?;
        let opened = Zeroizing::new(opened);
        let seed = Zeroizing::new(Reader::new(&opened).array().ok_or(OwnerError::Format)?);
        Ok(Self(Secret::from_seed(&seed)))
    }

    /// Keeps a sealed copy on this machine.
    ///
    /// # Errors
    /// [`OwnerError`].
    pub fn save(&self, home: &Home, server: &ServerId, passphrase: &str) -> Result<(), OwnerError> {
        Ok(home.write_private(&path(home, server), &self.seal(passphrase)?)?)
    }

    /// Opens the sealed copy on this machine; `None` if there is none.
    ///
    /// # Errors
    /// [`OwnerError`].
    pub fn load(
        home: &Home,
        server: &ServerId,
        passphrase: &str,
    ) -> Result<Option<Self>, OwnerError> {
        home.read_private(&path(home, server))?
            .map(|bytes| Self::unseal(&bytes, passphrase))
            .transpose()
    }

    /// Returns whether there is a sealed copy on this machine.
    ///
    /// # Errors
    /// [`OwnerError::Home`].
    pub fn has_copy(home: &Home, server: &ServerId) -> Result<bool, OwnerError> {
        Ok(home.read_private(&path(home, server))?.is_some())
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner(…)")
    }
}

type Header<'a> = (Params, [u8; 16], [u8; 24], &'a [u8]);

/// Takes a sealed copy apart; costs that no honest writer asks for are not paid.
fn read_header(bytes: &[u8]) -> Option<Header<'_>> {
    let mut r = Reader::new(bytes);
    (r.array()? == MAGIC && r.u8()? == FORMAT).then_some(())?;
    let (memory, passes, lanes) = (r.u32()?, r.u32()?, r.u32()?);
    (memory <= MEMORY_KIB_MAX && passes <= PASSES_MAX && lanes <= LANES_MAX).then_some(())?;
    let params = Params::new(memory, passes, lanes, Some(32)).ok()?;
    Some((params, r.array()?, r.array()?, r.rest()))
}

fn cipher(
    passphrase: &str,
    salt: &[u8; 16],
    params: Params,
) -> Result<XChaCha20Poly1305, OwnerError> {
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
        .map_err(derive)?;
    let mut key = Key::from(*key);
    let cipher = XChaCha20Poly1305::new(&key);
    zeroize::Zeroize::zeroize(key.as_mut_slice());
    Ok(cipher)
}

fn payload<'a>(msg: &'a [u8], aad: &'a [u8]) -> Payload<'a, 'a> {
    Payload { msg, aad }
}

fn derive(error: argon2::Error) -> OwnerError {
    OwnerError::Derive(error.to_string())
}

fn path(home: &Home, server: &ServerId) -> PathBuf {
    home.server_dir(server).join(OWNER_FILE)
}

fn checksum(seed: &[u8; 32]) -> [u8; CHECK_BYTES] {
    let hash = Builder::labelled("conclave/v1/recovery-check")
        .raw(seed)
        .sha256();
    let [a, b, c, ..] = *hash.as_bytes();
    [a, b, c]
}

fn letter(value: u32) -> Option<char> {
    let index = usize::try_from(value).ok()?;
    ALPHABET.get(index).map(|byte| char::from(*byte))
}

fn value(typed: char) -> Option<u32> {
    let byte = match u8::try_from(typed).ok()?.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        byte => byte,
    };
    let index = ALPHABET.iter().position(|letter| *letter == byte)?;
    u32::try_from(index).ok()
}
