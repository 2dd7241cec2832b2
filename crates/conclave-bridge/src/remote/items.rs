//! What a session needs of a server for shared items: state, claims, memory, search. Here it comes from the client.

use super::Remote;
use crate::fabric::Items;

impl Items for Remote {}
