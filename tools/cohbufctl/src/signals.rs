// SPDX-License-Identifier: GPL-2.0

//! Signals that would end the process.

use std::io;
use std::sync::mpsc::Sender;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Sends them instead. When nobody receives any more, the next one ends the process as it would.
pub(crate) fn send<T: Send + 'static>(to: Sender<T>, as_what: fn(i32) -> T) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for signal in &mut signals {
            if to.send(as_what(signal)).is_err() {
                let _ = emulate_default_handler(signal);
            }
        }
    });
    Ok(())
}
