use super::Fake;
use conclave_bridge::fabric::Items;

impl Items for Fake {}
