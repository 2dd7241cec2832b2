//! Length-prefixed byte strings, the one framing used inside signed and hashed data.
//!
//! `lp(x)` is a big-endian `u32` length followed by `x`, so that field boundaries cannot be moved.

use crate::id::Hash;
use sha2::{Digest, Sha256};

/// Builds signed or hashed input from fields whose boundaries are explicit.
#[derive(Clone, Debug, Default)]
pub struct Builder(Vec<u8>);

impl Builder {
    /// Starts with a domain-separation label: `lp(label)`.
    #[must_use]
    pub fn labelled(label: &str) -> Self {
        Self::default().lp(label.as_bytes())
    }

    /// Appends `lp(field)`. Fields are bounded by the frame limit, far below `u32::MAX`.
    #[must_use]
    pub fn lp(mut self, field: &[u8]) -> Self {
        let len = u32::try_from(field.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    /// Appends fixed-size bytes without a length.
    #[must_use]
    pub fn raw(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(field);
        self
    }

    /// Appends one byte.
    #[must_use]
    pub fn u8(self, value: u8) -> Self {
        self.raw(&[value])
    }

    /// Appends a big-endian `u16`.
    #[must_use]
    pub fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a big-endian `u32`.
    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a big-endian `u64`.
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// Returns the bytes built so far.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }

    /// Returns SHA-256 of the bytes built so far.
    #[must_use]
    pub fn sha256(self) -> Hash {
        sha256(&self.0)
    }
}

/// Returns SHA-256 of `data`.
#[must_use]
pub fn sha256(data: &[u8]) -> Hash {
    Hash::new(Sha256::digest(data).into())
}

/// Reads fields off a byte string; every method returns `None` past the end and never panics.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first byte of `data`.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Takes `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    /// Takes a fixed-size array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Takes one length-prefixed field.
    pub fn lp(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len).ok()?)
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    /// Takes a big-endian `u32`.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a big-endian `u64`.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Returns what is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Returns whether everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
