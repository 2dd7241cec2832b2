//! `conclave verify`: numbers that people compare, so that no server can stand between them.
//!
//! Prints; what follows from a comparison is a person's word: at a terminal, or digits that were typed.

use super::Context;
use super::open::{self, Target};
use crate::error::{CliError, Own};
use crate::{output, prompt};
use conclave_client::ClientError;
use conclave_client::client::verify::{Authenticator, Safety, fingerprint};
use conclave_proto::id::{ServerId, UserId};
use conclave_proto::name::Name;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::{Value, json};

/// How many digits a safety number has.
const DIGITS: usize = 60;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A user's name, or a channel with its `#`
    who: String,
    /// The digits as the other person sees them: marks the user as verified if they are the same
    #[arg(long, value_name = "DIGITS", conflicts_with = "accept_change")]
    confirm: Option<String>,
    /// Accept that the name stands for another user now (only at a terminal)
    #[arg(long)]
    accept_change: bool,
    #[command(flatten)]
    target: Target,
}

/// What was asked of the server: who is who.
struct Pair {
    server: ServerId,
    me: Name,
    my_id: UserId,
    safety: Safety,
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    if args.who.starts_with('#') {
        return channel(cx, &args).await;
    }
    let name = Name::new(args.who.trim_start_matches('@'))?;
    if let Some(typed) = &args.confirm {
        well_typed(typed)?;
    }
    if args.accept_change {
        prompt::need_person(
            "the name",
            "run it at a terminal: only a person can accept it",
        )?;
    }
    let pair = look(cx, &args.target, &name).await?;
    match pair.safety.presented {
        Some(presented) => changed(cx, &args, &pair, presented).await,
        None if args.accept_change => Err(CliError::usage(format!(
            "{name} is who it was: there is nothing to accept"
        ))
        .hint(format!("compare digits with `conclave verify {name}`"))),
        None => compare(cx, &args, &pair).await,
    }
}

async fn look(cx: &Context, target: &Target, name: &Name) -> Result<Pair, CliError> {
    open::with(cx, target, async |client| {
        let account = client.account();
        if account.user == *name {
            return Err(
                CliError::usage("this is you: there is nobody to compare with")
                    .hint("`conclave key` shows your own digits"),
            );
        }
        Ok(Pair {
            server: client.server(),
            me: account.user.clone(),
            my_id: account.user_id,
            safety: client.safety(name).await?,
        })
    })
    .await
}

/// Shows the number, and hears whether it is the same on the other side.
async fn compare(cx: &Context, args: &Args, pair: &Pair) -> Result<(), CliError> {
    let name = &pair.safety.name;
    if let Some(typed) = &args.confirm {
        if !pair.is_same(typed) {
            return Err(differ(name));
        }
        mark(cx, args, pair).await?;
        cx.out.result(
            format_args!("{name} is verified: the digits are the same"),
            &pair.object(true),
        );
        return Ok(());
    }
    cx.out
        .result(pair.text(), &pair.object(pair.safety.verified));
    if cx.out.is_json() {
        return Ok(());
    }
    let me = &pair.me;
    cx.out.talk(format_args!(
        "\nCompare side by side or by phone, not over this server: `conclave verify {me}` shows {name} the same two lines."
    ));
    if !output::interactive() {
        return Ok(());
    }
    if let Some(code) = pair.picture() {
        cx.out.picture(&code);
    }
    match prompt::line(cx.out, "Do the digits match? [y/N]")?.as_str() {
        "y" | "Y" | "yes" => {
            mark(cx, args, pair).await?;
            cx.out.talk(format_args!("{name} is verified."));
            Ok(())
        }
        "n" | "N" | "no" => {
            open::with(cx, &args.target, async |client| {
                Ok(client.unmark_verified(name).await?)
            })
            .await?;
            Err(differ(name))
        }
        _ => {
            cx.out.talk("Nothing was changed.");
            Ok(())
        }
    }
}

async fn mark(cx: &Context, args: &Args, pair: &Pair) -> Result<(), CliError> {
    open::with(cx, &args.target, async |client| {
        let safety = &pair.safety;
        Ok(client.mark_verified(&safety.name, safety.user).await?)
    })
    .await
}

/// Refuses a name that is somebody else's now, unless a person types that it is all right.
async fn changed(
    cx: &Context,
    args: &Args,
    pair: &Pair,
    presented: UserId,
) -> Result<(), CliError> {
    let Safety { name, user, .. } = &pair.safety;
    if !cx.out.is_json() {
        let digits = |user| fingerprint(&pair.server, user);
        cx.out.alarm(format_args!(
            "STOP: {name} is not who it was.\n\
             before  {user}\n        {}\n\
             now     {presented}\n        {}\n\
             A server that keeps the rules never gives a name to somebody else: it, or\n\
             somebody in its place, may be putting another person there.\n\
             Whispers to {name} stop here until you decide.",
            digits(user),
            digits(&presented),
        ));
    }
    if !args.accept_change {
        let error = ClientError::PinChanged {
            what: "user",
            name: name.to_string(),
            pinned: user.to_string(),
            presented: presented.to_string(),
        };
        return Err(CliError::from(error).hint(format!(
            "ask {name} by phone for the digits that `conclave key` shows there; only if they are those of \"now\": `conclave verify {name} --accept-change`"
        )));
    }
    let typed = prompt::line(cx.out, "Type the name to accept the new user:")?;
    if typed != name.as_str() {
        return Err(CliError::usage("not accepted: nothing was changed"));
    }
    open::with(cx, &args.target, async |client| {
        Ok(client.accept_pin(name, presented).await?)
    })
    .await?;
    cx.out.result(
        format_args!("{name} is {presented} now, not verified: `conclave verify {name}`"),
        &json!({"user": name, "user_id": presented, "verified": false}),
    );
    Ok(())
}

/// Shows what members of a channel compare.
async fn channel(cx: &Context, args: &Args) -> Result<(), CliError> {
    if args.confirm.is_some() || args.accept_change {
        return Err(CliError::usage(
            "the digits of a channel are only shown: they change with every change of the channel",
        ));
    }
    let (info, seen) = open::with(cx, &args.target, async |client| {
        let info = client.resolve(&args.who).await?;
        let seen = client.authenticator(info.channel).await?;
        Ok((info, seen))
    })
    .await?;
    let Authenticator { digits, head } = seen;
    let name = super::channel::called(info.name.as_ref());
    cx.out.result(
        format_args!("#{name} as of control record {}\n\n  {digits}", head.n),
        &json!({"channel": info.name, "id": info.channel, "digits": digits, "record": head.n}),
    );
    if !cx.out.is_json() {
        cx.out.talk(format_args!(
            "\nCompare with another member who sees the same record number: `conclave verify '#{name}'`. Other digits mean that the \
             server shows you different members, roles or keys."
        ));
    }
    Ok(())
}

impl Pair {
    /// The two halves with their owners, in the order that both people see.
    fn halves(&self) -> [(&str, String); 2] {
        let Safety {
            name,
            fingerprint,
            own_fingerprint,
            number,
            ..
        } = &self.safety;
        let own = (own_fingerprint.as_str(), format!("{} (you)", self.me));
        let other = (fingerprint.as_str(), name.to_string());
        match number.starts_with(own_fingerprint.as_str()) {
            true => [own, other],
            false => [other, own],
        }
    }

    fn text(&self) -> String {
        let name = &self.safety.name;
        let lines = self.halves();
        let lines = lines
            .iter()
            .map(|(digits, whose)| format!("  {digits}   {whose}"));
        let lines: Vec<_> = lines.collect();
        let state = match self.safety.verified {
            true => format!("{name} is verified: you compared this number before."),
            false => format!("{name} is not verified yet."),
        };
        format!("{}\n\n{state}", lines.join("\n"))
    }

    fn object(&self, verified: bool) -> Value {
        let safety = &self.safety;
        json!({
            "user": safety.name, "user_id": safety.user, "number": safety.number,
            "fingerprint": safety.fingerprint, "own_fingerprint": safety.own_fingerprint,
            "verified": verified, "code": self.code(),
        })
    }

    /// What a camera reads: the same on both sides.
    fn code(&self) -> String {
        let (me, other) = (self.my_id, self.safety.user);
        let number = &self.safety.number;
        let (a, b) = match number.starts_with(&self.safety.own_fingerprint) {
            true => (me, other),
            false => (other, me),
        };
        let digits: String = number.split_whitespace().collect();
        format!("conclave:safety:1:{}:{a}:{b}:{digits}", self.server)
    }

    fn picture(&self) -> Option<String> {
        let code = QrCode::with_error_correction_level(self.code(), EcLevel::L).ok()?;
        Some(code.render::<Dense1x2>().quiet_zone(true).build())
    }

    /// Whether somebody typed the digits, or pasted what a camera read.
    fn is_same(&self, typed: &str) -> bool {
        self.safety.is_number(typed) || typed.trim() == self.code()
    }
}

/// Refuses what cannot be the number, so that a slip of the hand is no alarm.
fn well_typed(typed: &str) -> Result<(), CliError> {
    let digits: String = typed.split_whitespace().collect();
    let fits = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    if fits || typed.trim().starts_with("conclave:safety:1:") {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "a safety number has {DIGITS} digits"
    )))
}

fn differ(name: &Name) -> CliError {
    CliError::own(
        Own::Mismatch,
        format!("the digits are not those that this machine sees for you and {name}"),
    )
    .hint(format!(
        "look for a slip first; if they do differ, send nothing secret to {name} over this server and tell its operator"
    ))
}
