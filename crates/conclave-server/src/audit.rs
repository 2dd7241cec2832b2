//! The audit log: what was done with power, hash-chained, in the transaction of the act itself.
//!
//! Rows name ids, never contents. A signed checkpoint of the newest row goes to every client, so that
//! a rewritten log does not go unnoticed (SECURITY D.7).

use conclave_proto::body::Head;
use conclave_proto::bytes::{Builder, Reader};
use conclave_proto::frame::reply::AuditRow;
use conclave_proto::id::{Blob, Hash, MsgId, UserId};
use conclave_proto::key::{MachineKey, Secret, ServerKey, label};
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;

/// A checkpoint is signed at least every so many rows.
pub const CHECKPOINT_ROWS: u64 = 100;
/// And at least so long after the last one, if there are new rows.
pub const CHECKPOINT_MS: u64 = 600_000;

/// Returns a row's hash: `SHA-256(lp(prev) ‖ lp(entry))`.
#[must_use]
pub fn hash(prev: &Hash, entry: &str) -> Hash {
    Builder::default()
        .lp(prev.as_bytes())
        .lp(entry.as_bytes())
        .sha256()
}

/// Something that is audited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// When.
    pub at: UnixMs,
    /// Who, if a user did it.
    pub user: Option<UserId>,
    /// By which machine.
    pub machine: Option<MachineKey>,
    /// What, as a word.
    pub action: &'static str,
    /// To what: an id or name, never contents.
    pub target: String,
    /// The record that ordered it.
    pub digest: Option<Hash>,
    /// The request id of an admin's act, which is carried out once.
    pub request: Option<RequestId>,
}

/// Drawn at random by who makes a request.
pub type RequestId = [u8; 16];

/// Returns when an admin's act was done and its request id, from a row's text.
#[must_use]
pub fn request_of(entry: &str) -> Option<(RequestId, UnixMs)> {
    let row: serde_json::Value = serde_json::from_str(entry).ok()?;
    let request: MsgId = row.get("request")?.as_str()?.parse().ok()?;
    Some((*request.as_bytes(), UnixMs(row.get("at")?.as_u64()?)))
}

impl Act {
    /// Returns the row's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = |id: Option<String>| id.map_or(serde_json::Value::Null, Into::into);
        let mut row = serde_json::json!({
            "at": self.at.0,
            "user": text(self.user.map(|u| u.to_string())),
            "machine": text(self.machine.map(|m| m.to_string())),
            "action": self.action,
            "target": self.target,
            "digest": text(self.digest.map(|d| d.to_string())),
        });
        if let (Some(request), Some(row)) = (self.request, row.as_object_mut()) {
            row.insert("request".into(), MsgId::new(request).to_string().into());
        }
        row.to_string()
    }
}

/// Returns the number of the first row that does not follow from the one before it, or `None` if all
/// do. `before` is the row the caller knows to precede the first one.
#[must_use]
pub fn verify(before: Option<Head>, rows: &[AuditRow]) -> Option<u64> {
    let mut last = before.unwrap_or(Head {
        n: 0,
        hash: Hash::new([0; 32]),
    });
    for row in rows {
        let follows = row.n == last.n + 1 && row.prev == last.hash;
        if !follows || row.hash != hash(&row.prev, &row.entry) {
            return Some(last.n + 1);
        }
        last = Head {
            n: row.n,
            hash: row.hash,
        };
    }
    None
}

/// Signs the newest row. The body is `version[1] ‖ n ‖ hash ‖ time`.
#[must_use]
pub fn checkpoint(head: &Head, at: UnixMs, secret: &Secret) -> Blob {
    let body = Builder::default()
        .u8(1)
        .u64(head.n)
        .raw(head.hash.as_bytes())
        .u64(at.0)
        .into_vec();
    Record::sign(label::CHECKPOINT, &body, secret)
        .bytes()
        .clone()
}

/// Reads a checkpoint that `key` signed; `None` for anything else.
#[must_use]
pub fn open_checkpoint(rec: &Blob, key: &ServerKey) -> Option<(Head, UnixMs)> {
    let rec = Record::parse(rec).ok()?;
    rec.verify(label::CHECKPOINT, key).ok()?;
    let mut r = Reader::new(rec.body());
    if r.u8()? != 1 {
        return None;
    }
    let head = Head {
        n: r.u64()?,
        hash: Hash::new(r.array()?),
    };
    let at = UnixMs(r.u64()?);
    r.is_empty().then_some((head, at))
}
