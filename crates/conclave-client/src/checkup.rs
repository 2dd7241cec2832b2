//! A look at one account without a session: does the server answer, and is what the disk has in order.
//!
//! For diagnosis: nothing is written, and nothing that was not there before is left on the disk.

use crate::client::{Session, random};
use crate::dial::Proxies;
use crate::error::ClientError;
use crate::home::{Home, Profile};
use crate::keystore::MachineKeys;
use crate::link::Driver;
use crate::origin::Origin;
use conclave_proto::codec::Encoding;
use conclave_proto::frame::Ready;
use conclave_proto::handshake::Mode;
use conclave_proto::id::{Blob, ServerId, UserId};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::link::{Input, LinkConfig, Output, Pin};
use conclave_proto::reject::{Code, Reject};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long it waits for who is writing.
const BUSY: Duration = Duration::from_millis(500);

/// How long the goodbye may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// How a server answered this machine.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// What it said of the session.
    pub ready: Arc<Ready>,
    /// How long it took, from the dial on.
    pub took: Duration,
    /// How far its clock is ahead of this machine's, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// Asks a server as this machine: dial, handshake, goodbye.
///
/// # Errors
/// [`ClientError::Down`] with what went wrong first, [`ClientError::NoAccount`], [`ClientError::Home`].
pub async fn greet(
    home: &Home,
    profile: &Profile,
    within: Duration,
) -> Result<Greeting, ClientError> {
    let url = profile.urls.first().cloned().unwrap_or_default();
    let keys = MachineKeys::load(home, &profile.id)?;
    let keys = keys.ok_or_else(|| ClientError::NoAccount(url.clone()))?;
    let session = Session::one_shot("")?;
    let config = LinkConfig {
        secret: Arc::new(keys.signing.clone()),
        pin: Pin::Known {
            key: profile.key,
            server_id: profile.id,
        },
        handle: session.handle,
        pinned: false,
        instance: session.instance,
        agent: String::new(),
        encoding: Encoding::Cbor,
        mode: Mode::Auth,
        seed: u64::from_be_bytes(random()?),
    };
    let origin: Origin = url.parse()?;
    let start = Instant::now();
    let mut driver = Driver::new(config, origin, Proxies::from_env());
    let answer = async {
        loop {
            match driver.next().await {
                Output::Up(ready) => return Ok(ready),
                Output::Down { reason, .. } => return Err(ClientError::Down(reason)),
                _ => {}
            }
        }
    };
    let answer = tokio::time::timeout(within, answer).await;
    let silent = || Err(Reject::new(Code::Offline, "the server does not answer").into());
    let ready: Arc<Ready> = answer.unwrap_or_else(|_| silent())?.into();
    let took = start.elapsed();
    let (here, there) = (driver.now().wall.0, ready.at.0);
    driver.input(Input::Stop);
    // The goodbye is written while this waits; whether it arrives changes nothing.
    let _gone = tokio::time::timeout(FAREWELL, driver.next()).await;
    let ahead = i128::from(there) - i128::from(here);
    Ok(Greeting {
        ready,
        took,
        clock_ahead_ms: i64::try_from(ahead).unwrap_or_default(),
    })
}

/// What a replica says of an account.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The user's identity, verified; none if the replica has none.
    pub identity: Option<IdentityLog>,
    /// How many drafts wait to be sent, by handle.
    pub waiting: Vec<(String, u64)>,
    /// What SQLite finds wrong with the file; empty if nothing.
    pub faults: Vec<String>,
}

/// Reads a replica without touching it; nothing is known of one that does not exist.
///
/// # Errors
/// SQLite's, also where the replica is of an older form.
pub fn kept(path: &Path, server: &ServerId, me: &UserId) -> Result<Kept, rusqlite::Error> {
    if !path.exists() {
        return Ok(Kept::default());
    }
    let db = open(path)?;
    let mut query = db.prepare("SELECT rec FROM ident WHERE user = ?1 ORDER BY n")?;
    let records = query.query_map([me.as_bytes()], |row| row.get::<_, Vec<u8>>(0))?;
    let records: Vec<Blob> = records
        .map(|rec| rec.map(Blob::from))
        .collect::<Result<_, _>>()?;
    let mut query = db.prepare("SELECT handle, count(*) FROM draft GROUP BY handle")?;
    let waiting = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    let waiting = waiting.collect::<Result<Vec<(String, i64)>, _>>()?;
    let mut query = db.prepare("PRAGMA quick_check(3)")?;
    let faults = query.query_map([], |row| row.get::<_, String>(0))?;
    let mut faults: Vec<String> = faults.collect::<Result<_, _>>()?;
    faults.retain(|fault| fault != "ok");
    let count = |(handle, n): (String, i64)| (handle, u64::try_from(n).unwrap_or(0));
    Ok(Kept {
        identity: identity(&records, server),
        waiting: waiting.into_iter().map(count).collect(),
        faults,
    })
}

fn identity(records: &[Blob], server: &ServerId) -> Option<IdentityLog> {
    let (first, rest) = records.split_first()?;
    let mut log = IdentityLog::genesis(first, server).ok()?;
    for record in rest {
        log.append(record).ok()?;
    }
    Some(log)
}

/// Opens a replica to read. Where nobody has it open it is taken as it stands: SQLite would make the files that
/// writers share, and leave them.
fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let in_use = Path::new(&wal).exists();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match (in_use, path.to_str()) {
        (false, Some(text)) => {
            let text = text
                .replace('%', "%25")
                .replace('?', "%3f")
                .replace('#', "%23");
            let uri = format!("file:{text}?immutable=1");
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
        }
        (true, _) | (_, None) => Connection::open_with_flags(path, flags)?,
    };
    db.busy_timeout(BUSY)?;
    Ok(db)
}
