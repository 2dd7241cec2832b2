//! A terminal that nobody sits at: keys go in by the test, what is drawn is kept as text.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

/// Chunks that may wait to be looked at; a drawing program makes many.
const CHUNKS: usize = 65_536;

/// Our end.
pub(crate) struct Terminal {
    keys: File,
    drawn: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Terminal {
    /// Opens one; the second is the program's end.
    pub(crate) fn open() -> (Self, File) {
        let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let (ws_col, ws_row) = (160, 50);
        let size = Winsize {
            ws_row,
            ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&ours, size).unwrap();
        let theirs = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let keys = File::from(ours);
        let mut screen = keys.try_clone().unwrap();
        let (tell, drawn) = sync_channel(CHUNKS);
        std::thread::spawn(move || {
            let mut chunk = [0; 8_192];
            while let Ok(bytes) = screen.read(&mut chunk) {
                if bytes == 0 || tell.send(chunk[..bytes].to_vec()).is_err() {
                    break;
                }
            }
        });
        let bytes = Vec::new();
        (Self { keys, drawn, bytes }, theirs)
    }

    /// The program's three streams.
    pub(crate) fn streams(theirs: &File) -> [Stdio; 3] {
        [(); 3].map(|()| theirs.try_clone().unwrap().into())
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// How much was drawn so far: a place to look from.
    pub(crate) fn place(&mut self) -> usize {
        self.take();
        self.bytes.len()
    }

    /// What was drawn since a place, without colours, moves and white space.
    pub(crate) fn since(&mut self, place: usize) -> String {
        self.take();
        plain(&self.bytes[place..])
    }

    fn take(&mut self) {
        loop {
            match self.drawn.try_recv() {
                Ok(chunk) => self.bytes.extend(chunk),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }
}

/// Text without escape sequences and white space: programs write a space or move the cursor as they like.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            plain.extend(Some(c).filter(|c| !c.is_whitespace() && !c.is_control()));
            continue;
        }
        match rest.next() {
            // A control sequence ends with a letter or one of a few signs.
            Some('[') => {
                let _end = rest.find(|c| ('\u{40}'..='\u{7e}').contains(c));
            }
            // An operating system command ends with BEL or ESC \.
            Some(']' | 'P' | '_') => {
                let _end = rest.find(|c| matches!(c, '\u{7}' | '\u{1b}'));
            }
            _ => {}
        }
    }
    plain
}
