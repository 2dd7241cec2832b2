//! What a session needs of a server to know its peers: who is there, and what they say of themselves. Here it comes from the client.

use super::Remote;
use crate::fabric::Peers;

impl Peers for Remote {}
