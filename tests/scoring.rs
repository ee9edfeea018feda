//! The accuracy suite's own arithmetic, held to literals: a suite that scores wrongly proves nothing.
//! (The suite itself has no test harness, see `make accuracy`.)
#![allow(dead_code, unreachable_pub, reason = "the suite uses what the tests do not")]

#[path = "accuracy/score.rs"]
mod score;
#[path = "accuracy/truth.rs"]
mod truth;
