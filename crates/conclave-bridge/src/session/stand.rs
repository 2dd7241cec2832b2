//! How the machine stands, looked at each second: the human's pause, what a human allowed, the time of day.

use super::Session;
use crate::guard::DAY_MIN;
use crate::state::{HomeId, Input, Stand};
use crate::switch::{self, Pause, Resume};
use crate::tool::answer::{Answer, Failure};
use crate::tool::{Tool, When};
use conclave_proto::time::UnixMs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What an agent does when its human paused it.
pub(crate) const PAUSED: &str = "your human paused conclave on this machine: stop, say nothing, wait for nothing; `conclave resume` ends it";

/// Returns the minute of the day of a moment, by this machine's clock.
pub type MinuteOf = fn(UnixMs) -> u16;

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    paused: Option<Pause>,
    resumed: Option<Resume>,
    /// Until it was looked at nobody knows it: that reads the time zones, which takes a while.
    minute: Option<u16>,
}

impl Standing {
    /// Looks at everything but the time of day.
    fn first(home: &Path) -> Self {
        Self {
            paused: switch::paused(home, now()),
            resumed: switch::resumed(home),
            minute: None,
        }
    }

    fn look(home: &Path, minute: Option<MinuteOf>) -> Self {
        let now = now();
        let utc = || u16::try_from(now.0 / 60_000 % u64::from(DAY_MIN)).unwrap_or_default();
        Self {
            minute: Some(minute.map_or_else(utc, |minute| minute(now))),
            ..Self::first(home)
        }
    }
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    UnixMs(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// Looks until the session ends; tells what changed.
async fn watch(
    home: PathBuf,
    minute: Option<MinuteOf>,
    tell: mpsc::Sender<Standing>,
    mut last: Standing,
) {
    let there = home.clone();
    let looked = tokio::task::spawn_blocking(move || Standing::look(&there, minute));
    let Ok(mut next) = looked.await else { return };
    loop {
        if next != last {
            if tell.send(next.clone()).await.is_err() {
                return;
            }
            last = next;
        }
        tokio::time::sleep(LOOK).await;
        next = Standing::look(&home, minute);
    }
}

impl Session {
    /// Begins to look. How it stands at the start holds from the start.
    pub(super) fn take_stand(
        &mut self,
        home: Option<&Path>,
        minute: Option<MinuteOf>,
        ended: CancellationToken,
    ) -> mpsc::Receiver<Standing> {
        let (tell, told) = mpsc::channel(1);
        let Some(home) = home else { return told };
        let first = Standing::first(home);
        self.resumed = first.resumed.clone();
        self.stand(first.clone());
        let watch = watch(home.to_owned(), minute, tell, first);
        tokio::spawn(ended.run_until_cancelled_owned(watch));
        told
    }

    /// Takes how the machine stands now.
    pub(super) fn stand(&mut self, standing: Standing) {
        let now = self.now();
        let before = self.state.is_paused();
        let stand = Stand {
            paused: standing.paused.is_some(),
            minute: standing.minute,
        };
        if stand.paused && !before {
            self.noted(
                None,
                "pause",
                "Every agent of this machine is paused.",
                Some("`conclave resume` ends it"),
            );
        }
        self.state.handle(now, Input::Stand(stand));
        if stand.paused {
            self.end_waits();
        } else if before {
            self.noted(None, "pause", "The pause is over.", None);
        }
        if standing.resumed != self.resumed {
            self.resumed.clone_from(&standing.resumed);
            if let Some(resume) = standing.resumed.filter(|resume| self.is_meant(resume)) {
                self.state.guard().resume(resume.more);
                let text = format!(
                    "Your human lets this session go on: {} messages beyond the budgets.",
                    resume.more
                );
                self.tripped(None, "resume", &text, None);
            }
        }
    }

    /// Returns whether a human's word is for this session.
    fn is_meant(&self, resume: &Resume) -> bool {
        let Some(session) = &resume.session else {
            return true;
        };
        let mut views = (0..self.homes.len()).filter_map(|home| self.view(HomeId(home)));
        views.any(|view| {
            let path = view.path.as_ref();
            path.is_some_and(|path| path.handle.as_str() == session || path.to_string() == *session)
        })
    }

    /// Refuses a tool that would say something while the human pauses.
    pub(super) fn may_run(&self, tool: &Tool) -> Result<(), Failure> {
        match tool.when {
            When::Emit | When::Admin => self.may_say(),
            When::Always | When::Approver => Ok(()),
        }
    }

    /// Refuses to say something while the human pauses.
    pub(crate) fn may_say(&self) -> Result<(), Failure> {
        if !self.state.is_paused() {
            return Ok(());
        }
        let text = "your human paused the agents of this machine";
        Err(Failure::new("paused", text, PAUSED))
    }

    /// Ends what waits for messages: there will be none.
    fn end_waits(&mut self) {
        let now = self.now();
        for wait in std::mem::take(&mut self.waits) {
            wait.timer.abort();
            if !wait.gone.is_cancelled() {
                self.answer(wait.reply, Ok(paused()));
            }
        }
        self.state.handle(now, Input::Waits(0));
    }
}

/// What a call that fetches messages says meanwhile: they are kept.
pub(crate) fn paused() -> Answer {
    Answer::ok()
        .with("messages", 0)
        .with("paused", true)
        .with("hint", PAUSED)
}
