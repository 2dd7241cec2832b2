//! What an agent may send out: texts without secrets, and nothing from where few read to where many do.
//!
//! Pure, like the guard: [`secret`] looks for credentials, [`flow`] remembers where the words in an agent's
//! context came from, [`hold`] keeps what was stopped until a human allowed it, once. No file is read for
//! sending anywhere in this program, so that there is no path to check.

pub mod flow;
pub mod hold;
pub mod secret;
