// SPDX-License-Identifier: GPL-2.0

//! `watch`: all dma-bufs, live.

mod app;
mod draw;

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::cli::WatchArgs;
use crate::error::{Error, Result};
use crate::show::Look;
use crate::signals;
use crate::system::{Looker, Snapshot};
use crate::watch::app::{App, Next};

/// How long a buffer that is locked may take.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) fn watch(args: &WatchArgs, look: Look) -> Result<()> {
    if !std::io::stdout().is_terminal() {
        return Err(Error::NoTerminal("standard output is not one"));
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::NoTerminal("standard input is not one"));
    }
    if look.json {
        return Err(Error::NoTerminal("and it prints no JSON"));
    }
    // It gives the terminal back where something panics, too.
    let terminal = ratatui::try_init().map_err(Error::Terminal)?;
    let result = run(terminal, args, look);
    let restored = ratatui::try_restore();
    result.and(restored).map_err(Error::Terminal)
}

/// What comes while it runs.
enum News {
    Input(io::Result<Event>),
    Look(Snapshot, Instant),
    Signal,
}

/// Looks whenever it is asked to, and says when it began.
fn looks(news: Sender<News>) -> Sender<()> {
    let (ask, asked) = mpsc::channel();
    thread::spawn(move || {
        let mut looker = Looker::new(PATIENCE);
        for () in asked {
            let began = Instant::now();
            if news.send(News::Look(looker.look(), began)).is_err() {
                break;
            }
        }
    });
    ask
}

fn keys(news: Sender<News>) {
    thread::spawn(move || {
        loop {
            let input = event::read();
            let failed = input.is_err();
            if news.send(News::Input(input)).is_err() || failed {
                break;
            }
        }
    });
}

/// Whatever hangs, keys are seen.
fn run(mut terminal: DefaultTerminal, args: &WatchArgs, look: Look) -> io::Result<()> {
    let interval = Duration::from_millis(args.interval);
    let (sender, news) = mpsc::channel();
    signals::send(sender.clone(), |_| News::Signal)?;
    keys(sender.clone());
    let ask = looks(sender);
    let mut app = App::new(args.sort, look);
    // When it looked last, and since when there is no answer.
    let (mut looked, mut asked) = (Instant::now(), None);
    let mut now = true;
    loop {
        if now && asked.is_none() {
            now = false;
            looked = Instant::now();
            asked = Some(looked);
            // While it lives, there is someone to ask.
            let _ = ask.send(());
        }
        let waited = asked.map(|asked| asked.elapsed());
        app.waiting = waited.filter(|waited| *waited >= 3 * PATIENCE);
        terminal.draw(|frame| draw::draw(frame, &mut app))?;
        let left = interval.saturating_sub(looked.elapsed());
        let left = if asked.is_some() { PATIENCE } else { left };
        match news.recv_timeout(left) {
            Ok(News::Input(input)) => match input? {
                Event::Key(key) if key.kind == KeyEventKind::Press => match app.press(key) {
                    Next::Quit => return Ok(()),
                    Next::Look => now = true,
                    Next::Draw => {}
                },
                // Resized, for example: it is drawn anew.
                _ => {}
            },
            Ok(News::Look(snapshot, began)) => {
                asked = None;
                app.update(snapshot, began);
            }
            Ok(News::Signal) => return Ok(()),
            Err(_) => {}
        }
        if asked.is_none() && looked.elapsed() >= interval {
            if app.paused {
                looked = Instant::now();
            } else {
                now = true;
            }
        }
    }
}
