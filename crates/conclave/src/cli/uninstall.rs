//! `conclave uninstall`: take what `conclave install` put into an agent host's configuration out again.

use super::Context;
use super::install::{About, ground};
use crate::error::CliError;
use crate::install::{self, Mode};

/// Arguments of `uninstall`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    about: About,
}

/// Takes it out.
pub(crate) fn run(cx: &Context, args: &Args) -> Result<(), CliError> {
    let about = &args.about;
    let changes = install::uninstall(&ground(cx)?, about.client(), about.scope(), about.mode())?;
    let client = about.client();
    let head = match (about.mode(), changes.is_empty()) {
        (_, true) => format!("nothing was installed for {client}"),
        (Mode::Dry, false) => format!("would uninstall for {client}"),
        (Mode::Write, false) => format!("uninstalled for {client}"),
    };
    about.tell(cx, &head, &changes);
    Ok(())
}
