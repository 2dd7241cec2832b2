//! What the tools cost a session that never calls one: their names, words and schemas are in the
//! context from the start. Counted with a public tokenizer (o200k), which is within a tenth of others.

use conclave_bridge::mcp::INSTRUCTIONS;
use conclave_bridge::tool::{self, Set, Tool};
use serde_json::json;
use std::collections::BTreeMap;

fn tokens(text: &str) -> usize {
    tiktoken_rs::o200k_base_singleton()
        .encode_ordinary(text)
        .len()
}

/// A tool as a host shows it to its model.
fn cost(tool: &Tool, servers: bool) -> usize {
    let schema = tool.schema(servers);
    let shown = json!({"name": tool.name, "description": tool.about, "input_schema": schema});
    tokens(&shown.to_string())
}

#[test]
fn lesson_29_each_toolset_keeps_within_its_budget() {
    let mut sets: BTreeMap<Set, usize> = BTreeMap::new();
    for tool in tool::all() {
        let cost = cost(tool, false);
        println!("{cost:>5} {:<8} {}", tool.set.as_str(), tool.name);
        *sets.entry(tool.set).or_default() += cost;
    }
    let several: usize = tool::all().map(|tool| cost(tool, true)).sum();
    let all: usize = sets.values().sum();
    let instructions = tokens(INSTRUCTIONS);
    for (set, cost) in &sets {
        println!("{cost:>5} {}", set.as_str());
    }
    println!("{all:>5} all, {several} with several servers, and {instructions} of instructions");
    assert!(
        sets[&Set::Core] < 1_500,
        "{} tokens of core",
        sets[&Set::Core]
    );
    assert!(all < 5_000 && several < 5_000, "{all} or {several} tokens");
    assert!(instructions < 600, "{instructions} tokens");
    // The host cuts what is longer.
    assert!(INSTRUCTIONS.len() < 2_048, "{}", INSTRUCTIONS.len());
}

#[test]
fn the_guide_is_short_enough_to_be_read() {
    let guide = include_str!("../../../conclave/src/skill/SKILL.md");
    let cost = tokens(guide);
    println!("{cost:>5} the guide");
    assert!(cost <= 2_000, "{cost} tokens");
}
