//! What a session needs of a server to know what became of what it said. Here it comes from the client.

use super::Remote;
use crate::fabric::Delivery;

impl Delivery for Remote {}
