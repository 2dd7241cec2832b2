//! Everything that dials out: keys, pins, the link to a server, the replica, the outbox.
