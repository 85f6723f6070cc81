// SPDX-License-Identifier: GPL-2.0

//! How far long work is: on standard error, where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Goes away when it is dropped.
pub(crate) struct Progress(ProgressBar);

const TICK: Duration = Duration::from_millis(100);

impl Progress {
    /// Of so many bytes.
    pub(crate) fn bytes(what: &'static str, bytes: u64) -> Self {
        Self::bar(
            what,
            bytes,
            "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        )
    }

    /// Of so many steps.
    pub(crate) fn steps(what: &'static str, steps: u64) -> Self {
        Self::bar(what, steps, "{msg} {wide_bar} {pos}/{len} {eta}")
    }

    /// Of so much time.
    pub(crate) fn time(what: &'static str, whole: Duration) -> Self {
        Self::bar(what, millis(whole), "{msg} {wide_bar} {eta}")
    }

    /// Of work that does not say how far it is.
    pub(crate) fn spinner(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_message(what);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    fn bar(what: &'static str, length: u64, template: &str) -> Self {
        // It hides itself where standard error is no terminal.
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self(bar)
    }

    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Whether somebody can see it.
    pub(crate) fn is_seen(&self) -> bool {
        !self.0.is_hidden()
    }

    pub(crate) fn set_time(&self, done: Duration) {
        self.set(millis(done));
    }

    pub(crate) fn step(&self) {
        self.0.inc(1);
    }

    pub(crate) fn done(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
