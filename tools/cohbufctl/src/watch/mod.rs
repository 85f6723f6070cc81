// SPDX-License-Identifier: GPL-2.0

//! `watch`: all dma-bufs, live.

mod app;
mod draw;

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde_json::json;

use crate::cli::WatchArgs;
use crate::error::{Error, Result};
use crate::show::{Look, print_json_line};
use crate::signals;
use crate::system::{Looker, Snapshot};
use crate::watch::app::{App, Next};

/// How long a buffer that is locked may take.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) fn watch(args: &WatchArgs, look: Look) -> Result<()> {
    if look.json {
        return print_looks(args);
    }
    if !std::io::stdout().is_terminal() {
        return Err(Error::NoTerminal("standard output is not one"));
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::NoTerminal("standard input is not one"));
    }
    // It gives the terminal back where something panics, too.
    let terminal = ratatui::try_init().map_err(Error::Terminal)?;
    let result = run(terminal, args, look);
    let restored = ratatui::try_restore();
    result.and(restored).map_err(Error::Terminal)
}

/// A line for each look, for programs.
fn print_looks(args: &WatchArgs) -> Result<()> {
    let interval = Duration::from_millis(args.interval);
    let mut looker = Looker::new(PATIENCE);
    let mut due = Instant::now();
    for number in 1.. {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let snapshot = looker.look();
        print_json_line(&json!({
            "time": time.map_or(0.0, |time| time.as_secs_f64()),
            "buffers": snapshot.buffers,
            "missing": snapshot.missing,
        }))?;
        if args.count == Some(number) {
            break;
        }
        due += interval;
        let now = Instant::now();
        // Where a look takes longer, none is made up for.
        due = due.max(now);
        thread::sleep(due - now);
    }
    Ok(())
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
    let mut left = args.count;
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
        let wait = match asked {
            Some(_) => PATIENCE,
            None => interval.saturating_sub(looked.elapsed()),
        };
        match news.recv_timeout(wait) {
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
                left = left.map(|left| left - 1);
                if left == Some(0) {
                    return Ok(());
                }
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
