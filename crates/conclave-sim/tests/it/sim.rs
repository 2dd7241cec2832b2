//! Seeds of the whole-system simulation.
//!
//! `CONCLAVE_SIM_SEED=N` replays one seed, `CONCLAVE_SIM_SEEDS=N` runs N of them.

use conclave_sim::world::{Stats, replay, run};

fn number(var: &str) -> Option<u64> {
    Some(std::env::var(var).ok()?.parse().expect("a number"))
}

#[test]
fn sim() {
    if let Some(seed) = number("CONCLAVE_SIM_SEED") {
        match replay(seed) {
            Ok(_) => return,
            Err(broken) => panic!("seed {seed}:\n{broken}"),
        }
    }
    let seeds = 0..number("CONCLAVE_SIM_SEEDS").unwrap_or(200);
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let run_some = |first: u64| {
        let mut total = Stats::default();
        for seed in seeds.clone().filter(|seed| seed % workers == first) {
            let stats = run(seed).unwrap_or_else(|broken| {
                panic!(
                    "seed {seed}: {broken}\nreplay: CONCLAVE_SIM_SEED={seed} cargo test -p conclave-sim --test it sim"
                )
            });
            total.add(&stats);
        }
        total
    };
    let mut total = Stats::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|n| scope.spawn(move || run_some(n)))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(stats) => total.add(&stats),
                Err(cause) => std::panic::resume_unwind(cause),
            }
        }
    });
    // A run in which nothing goes wrong proves nothing.
    assert!(total.crashes > 0 && total.failed_commits > 0, "{total:?}");
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed));
    }
}
