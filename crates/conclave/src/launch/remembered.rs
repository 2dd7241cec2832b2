//! Who was launched last in a directory: an agent that takes up its conversation is who it was.

use conclave_bridge::launched::{self, Launch};
use conclave_client::home::{Home, HomeError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const FILE: &str = "remembered.json";
/// Of how many directories it is remembered.
const MAX: usize = 64;

/// The last launches, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered(Vec<In>);

/// The last launch in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct In {
    dir: PathBuf,
    launch: Launch,
}

impl Remembered {
    /// Reads them; a file that says nothing is as none.
    pub(crate) fn load(home: &Home) -> Self {
        let path = launched::dir(home.root()).join(FILE);
        let text = home.read_private(&path).ok().flatten();
        text.and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Returns who was launched last in a directory.
    pub(crate) fn of(&self, dir: &Path) -> Option<&Launch> {
        let found = self.0.iter().rfind(|known| known.dir == dir);
        found.map(|known| &known.launch)
    }

    /// Remembers a launch; the oldest goes where there are too many.
    pub(crate) fn add(&mut self, dir: PathBuf, launch: Launch) {
        self.0.retain(|known| known.dir != dir);
        let over = (self.0.len() + 1).saturating_sub(MAX);
        self.0.drain(..over);
        self.0.push(In { dir, launch });
    }

    /// Keeps them.
    pub(crate) fn keep(&self, home: &Home) -> Result<(), HomeError> {
        let path = launched::dir(home.root()).join(FILE);
        let text = serde_json::to_vec(self).unwrap_or_default();
        home.write_private(&path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_proto::name::Name;

    #[test]
    fn the_newest_of_a_directory_counts_and_the_oldest_goes() {
        let mut known = Remembered::default();
        for n in 0..=MAX {
            let launch = Launch {
                name: Name::new(&format!("s{n}")).ok(),
                ..Launch::default()
            };
            known.add(PathBuf::from(format!("/d{n}")), launch);
        }
        assert_eq!(known.0.len(), MAX);
        assert_eq!(known.of(Path::new("/d0")), None);
        known.add(PathBuf::from("/d1"), Launch::default());
        assert_eq!(known.of(Path::new("/d1")), Some(&Launch::default()));
        assert_eq!(known.0.len(), MAX);
    }
}
