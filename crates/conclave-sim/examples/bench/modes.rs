//! The fan-out of an `e2e` channel beside that of a `signed` one, by turns.

use crate::bare::{median, verdict};
use crate::fan::{Figures, Pace, SENDERS, WINDOW, Work, conclave};
use crate::process::Served;
use crate::room::Room;
use crate::say;
use conclave_proto::channel_log::Visibility;

const ROUNDS: usize = 3;
const TARGET: f64 = 1.5;

/// Several runs of one mode.
#[derive(Default)]
struct Runs(Vec<Figures>);

impl Runs {
    fn middle(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        median(self.0.iter().map(of).collect())
    }

    fn words(&self) -> String {
        format!(
            "{:.0} deliveries/s, {:.0} sends/s, p50 {:.1} ms, p99 {:.1} ms, lost {}",
            self.middle(|f| f.deliveries),
            self.middle(|f| f.sends),
            self.middle(|f| f.p50),
            self.middle(|f| f.p99),
            self.0.iter().map(|f| f.lost).sum::<u64>()
        )
    }
}

/// One run in a fresh server.
async fn run(visibility: Visibility, receivers: usize, pace: Pace, work: Work) -> Figures {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let served = Served::conclave(dir.path()).await;
    let room = Room::make(served.addr, "bench", visibility).await;
    let user = room.account().await;
    assert_eq!(
        user.key.is_some(),
        visibility == Visibility::Private,
        "private is e2e"
    );
    let figures = conclave(&user, receivers, pace, work).await;
    served.kill().await;
    figures
}

async fn compare(receivers: usize, pace: Pace, work: Work, what: &str) -> f64 {
    let (mut signed, mut sealed) = (Runs::default(), Runs::default());
    for _ in 0..ROUNDS {
        signed
            .0
            .push(run(Visibility::Public, receivers, pace, work).await);
        sealed
            .0
            .push(run(Visibility::Private, receivers, pace, work).await);
    }
    say(&format!(
        "{receivers} receivers x {SENDERS} senders, {what}"
    ));
    say(&format!("  signed: {}", signed.words()));
    say(&format!("  e2e:    {}", sealed.words()));
    let (a, b) = match pace {
        Pace::Window(_) => (
            signed.middle(|f| f.deliveries),
            sealed.middle(|f| f.deliveries),
        ),
        Pace::Rate(_) => (sealed.middle(|f| f.p99), signed.middle(|f| f.p99)),
    };
    let measure = match pace {
        Pace::Window(_) => "deliveries/s, signed to e2e",
        Pace::Rate(_) => "p99, e2e to signed",
    };
    say(&format!(
        "  {measure}: {}",
        verdict(a / b.max(1e-9), TARGET)
    ));
    signed.middle(|f| f.sends).min(sealed.middle(|f| f.sends))
}

/// Part `fan --mode e2e`.
pub(crate) async fn fan_out() {
    for receivers in [10, 100] {
        let what = format!("window {WINDOW}, made ahead and counted");
        let sends = compare(receivers, Pace::Window(WINDOW), Work::Carry, &what).await;
        let rate = sends / 2.0 / f64::from(SENDERS);
        let what = "open loop at half the slower rate";
        compare(receivers, Pace::Rate(rate), Work::Carry, what).await;
    }
    let what = format!("window {WINDOW}, sealed, signed, verified and opened by the peers");
    compare(10, Pace::Window(WINDOW), Work::Whole, &what).await;
}
