//! What was installed where: one private record a file, with the bytes that were there before.
//!
//! The directory exists only while something is installed; with the last record everything of it goes.

use super::edit::Edit;
use super::file::{digest, failed, make_dirs, write_atomic};
use crate::error::{CliError, Own};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const DIR: &str = "installs";
const LOCK: &str = "lock";
/// The most files that are kept account of.
const RECORDS_MAX: usize = 4096;

/// What is ours in one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The file.
    pub(crate) path: PathBuf,
    /// Whether it was made by us.
    pub(crate) created: bool,
    /// The directories that were made for it, the uppermost first.
    #[serde(default)]
    pub(crate) dirs: Vec<PathBuf>,
    /// The hash of what we wrote last.
    pub(crate) after: String,
    /// Who of ours has something in it.
    pub(crate) shares: Vec<Share>,
    /// What was there before, where that is known; kept in a file of its own.
    #[serde(skip)]
    pub(crate) before: Option<String>,
}

/// What one install has in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Share {
    /// The client, its scope and the project it is for.
    pub(crate) holder: String,
    /// What was put in.
    pub(crate) edits: Vec<Edit>,
    /// What was made to hold it.
    #[serde(default)]
    pub(crate) made: Vec<Vec<String>>,
}

/// The records, held against every other process.
#[derive(Debug)]
pub(crate) struct Ledger {
    dir: PathBuf,
    /// The directories above the records that were made for them.
    made: Vec<PathBuf>,
    _lock: Option<File>,
}

impl Ledger {
    /// Reads only, and makes nothing.
    pub(crate) fn look(config_dir: &Path) -> Self {
        Self {
            dir: config_dir.join(DIR),
            made: Vec::new(),
            _lock: None,
        }
    }

    /// Waits for the right to change the records.
    pub(crate) fn open(config_dir: &Path) -> Result<Self, CliError> {
        const TRIES_MAX: usize = 100;
        let dir = config_dir.join(DIR);
        for _ in 0..TRIES_MAX {
            let made = make_dirs(&dir, 0o700).map_err(|e| failed("make", &dir, &e))?;
            let path = dir.join(LOCK);
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            let file = match options.open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|e| failed("lock", &path, &e))?,
            };
            file.lock().map_err(|e| failed("lock", &path, &e))?;
            // Whoever had it before may have taken the directory away.
            let held = file.metadata().map(|meta| meta.ino()).ok();
            if held.is_some() && fs::metadata(&path).map(|meta| meta.ino()).ok() == held {
                return Ok(Self {
                    dir,
                    made,
                    _lock: Some(file),
                });
            }
        }
        Err(CliError::local("another install does not come to an end"))
    }

    /// Returns the record of a file.
    pub(crate) fn record(&self, path: &Path) -> Result<Option<Record>, CliError> {
        let stem = self.stem(path);
        let text = match fs::read_to_string(stem.with_extension("json")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| failed("read", &stem, &e))?,
        };
        let damaged = |e: serde_json::Error| {
            let message = format!("the record of {} is damaged: {e}", path.display());
            CliError::own(Own::Local, message).hint(format!(
                "take our entries out of the file by hand, then remove {}",
                stem.with_extension("json").display()
            ))
        };
        let mut record: Record = serde_json::from_str(&text).map_err(damaged)?;
        record.before = fs::read_to_string(stem.with_extension("before")).ok();
        Ok(Some(record))
    }

    /// Returns every record.
    pub(crate) fn records(&self) -> Result<Vec<Record>, CliError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| failed("list", &self.dir, &e))?,
        };
        let mut records = Vec::new();
        for entry in entries.take(RECORDS_MAX).flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|ext| ext != "json") {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|e| failed("read", &path, &e))?;
            if let Ok(known) = serde_json::from_str::<Record>(&text) {
                records.extend(self.record(&known.path)?);
            }
        }
        records.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(records)
    }

    /// Keeps a record, with what was there before.
    pub(crate) fn keep(&mut self, record: &mut Record) -> Result<(), CliError> {
        self.made.append(&mut record.dirs);
        record.dirs = std::mem::take(&mut self.made);
        let stem = self.stem(&record.path);
        let write = |path: &Path, bytes: &[u8]| {
            write_atomic(path, bytes, Some(0o600), 0o600).map_err(|e| failed("write", path, &e))
        };
        let before = stem.with_extension("before");
        match &record.before {
            Some(text) => write(&before, text.as_bytes())?,
            None => drop(fs::remove_file(&before)),
        }
        let text = serde_json::to_string_pretty(record).unwrap_or_default();
        write(&stem.with_extension("json"), text.as_bytes())
    }

    /// Drops a record; the directories that were made for it go when they are empty.
    pub(crate) fn drop_record(&mut self, mut record: Record) -> Result<(), CliError> {
        let stem = self.stem(&record.path);
        drop(fs::remove_file(stem.with_extension("before")));
        let path = stem.with_extension("json");
        fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
        self.made.append(&mut record.dirs);
        Ok(())
    }

    /// Takes away what is empty now: directories that were made, and the records' own.
    pub(crate) fn close(mut self) -> Result<(), CliError> {
        let rest = self.records()?;
        self.made.sort();
        self.made.dedup();
        self.made.reverse();
        if rest.is_empty() {
            drop(fs::remove_file(self.dir.join(LOCK)));
            drop(fs::remove_dir(&self.dir));
            // Made by us: then what others of our commands made in it goes, too, if it holds nothing.
            if let Some(root) = self
                .dir
                .parent()
                .filter(|root| self.made.iter().any(|d| d == root))
            {
                let inner = fs::read_dir(root).into_iter().flatten().flatten();
                inner.for_each(|entry| drop(fs::remove_dir(entry.path())));
            }
        }
        // Not empty, or somebody's who came after us: then it stays.
        self.made
            .retain(|dir| fs::remove_dir(dir).is_err() && dir.exists());
        match rest.into_iter().next() {
            Some(mut record) if !self.made.is_empty() => self.keep(&mut record),
            _ => Ok(()),
        }
    }

    fn stem(&self, path: &Path) -> PathBuf {
        let name = digest(path.as_os_str().as_encoded_bytes());
        self.dir.join(name.get(..32).unwrap_or(&name))
    }
}
