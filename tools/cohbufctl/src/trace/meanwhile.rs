// SPDX-License-Identifier: GPL-2.0

//! What is recorded: a program, or some time.

use std::io::{self, IsTerminal as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, getpgrp, pidfd_open, pidfd_send_signal};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::SIGINT;

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::signals;

/// From a look at the clock to the next.
const STEP: Duration = Duration::from_millis(100);

/// What comes meanwhile.
enum News {
    Signal(i32),
    Ended(io::Result<ExitStatus>),
}

/// From when this is made, a signal ends what is recorded, and not this process.
pub(super) struct Meanwhile {
    news: Receiver<News>,
    sender: mpsc::Sender<News>,
}

impl Meanwhile {
    pub(super) fn new() -> Result<Self> {
        let (sender, news) = mpsc::channel();
        signals::send(sender.clone(), News::Signal).map_err(Error::Signals)?;
        Ok(Self { news, sender })
    }

    /// Waits for so long, or until there is a signal.
    pub(super) fn sleep(&self, seconds: f64) {
        let (begin, whole) = (Instant::now(), Duration::from_secs_f64(seconds));
        let progress = Progress::time("recording", whole);
        while let Some(left) = whole
            .checked_sub(begin.elapsed())
            .filter(|left| !left.is_zero())
        {
            progress.set_time(begin.elapsed());
            // Where nobody looks, what is recorded is not disturbed.
            let step = if progress.is_seen() { STEP } else { left };
            if self.news.recv_timeout(left.min(step)).is_ok() {
                return;
            }
        }
    }

    /// Waits for a program. A signal is for that, and the second one is not: with it, what is left
    /// is [`None`], and the program runs on.
    pub(super) fn run(&self, program: &str, arguments: &[String]) -> Result<Option<ExitStatus>> {
        let failed = |error| Error::Exec {
            program: program.to_owned(),
            error,
        };
        let child = Command::new(program)
            .args(arguments)
            .spawn()
            .map_err(failed)?;
        let pidfd = open(&child);
        let sender = self.sender.clone();
        thread::spawn(move || {
            let mut child = child;
            let _ = sender.send(News::Ended(child.wait()));
        });
        let mut signals = 0;
        loop {
            match self.news.recv() {
                Ok(News::Ended(status)) => return status.map(Some).map_err(failed),
                Ok(News::Signal(signal)) if signals == 0 => {
                    signals += 1;
                    pass_on(signal, pidfd.as_ref());
                }
                Ok(News::Signal(_)) | Err(_) => return Ok(None),
            }
        }
    }
}

fn open(child: &Child) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(child.id()).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Ctrl-C in a terminal is for all that run in it: the program has it already.
fn pass_on(signal: i32, to: Option<&OwnedFd>) {
    let stdin = io::stdin();
    let ours = |group| group == getpgrp();
    if signal == SIGINT && stdin.is_terminal() && tcgetpgrp(&stdin).is_ok_and(ours) {
        return;
    }
    if let (Some(to), Some(signal)) = (to, Signal::from_named_raw(signal)) {
        let _ = pidfd_send_signal(to, signal);
    }
}
