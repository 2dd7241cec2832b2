//! The figures of docs/benchmarks.md: `cargo run --release -p conclave-sim --example bench`.
//!
//! Every server runs in a process of its own, on loopback, with its data on disk; the load runs here,
//! on the same cores. A plain WebSocket broadcast with messages of the same size is the yardstick of
//! the same run. Words after `--` choose parts: `fan sends idle storm start bridge hooks`, and of end-to-end
//! encryption `seal rotate catchup`, each beside its bare primitives, and `items` for state and memory. `fan --mode e2e` is the fan-out of
//! an `e2e` channel beside that of a `signed` one.

mod bare;
mod bridge;
mod catchup;
mod fan;
mod hooks;
mod items;
mod modes;
mod nats;
mod peer;
mod process;
mod room;
mod rotate;
mod seal;
mod yard;

use std::io::Write as _;

/// Prints one line; a bench has nothing else to say.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

/// Ends the bench: figures of a run that went wrong are worth nothing.
#[expect(clippy::panic, reason = "a bench has nobody to hand an error to")]
pub(crate) fn give_up(why: &str) -> ! {
    panic!("{why}")
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let workers = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let Ok(runtime) = workers else {
        return say("no runtime");
    };
    match args.first().map(String::as_str) {
        Some("serve") => runtime.block_on(process::serve(&args)),
        Some("broadcast") => runtime.block_on(yard::serve()),
        _ => runtime.block_on(run(&args)),
    }
}

async fn run(parts: &[String]) {
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    say(&format!(
        "cores: {}",
        std::thread::available_parallelism().map_or(0, usize::from)
    ));
    let sealed = parts.windows(2).any(|p| p == ["--mode", "e2e"]);
    if wanted("fan") && !sealed {
        fan::fan_out().await;
    }
    if parts.is_empty() || sealed {
        modes::fan_out().await;
    }
    if wanted("sends") {
        fan::window_one().await;
    }
    if wanted("idle") {
        fan::idle().await;
    }
    if wanted("storm") {
        fan::storm().await;
    }
    if wanted("start") {
        process::starts().await;
    }
    if wanted("bridge") {
        bridge::figures().await;
    }
    if wanted("hooks") {
        hooks::figures().await;
    }
    if wanted("seal") {
        seal::figures();
    }
    if wanted("rotate") {
        rotate::figures().await;
    }
    if wanted("catchup") {
        catchup::figures().await;
    }
    if wanted("items") {
        items::figures().await;
    }
}
