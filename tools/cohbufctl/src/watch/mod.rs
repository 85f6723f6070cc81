// SPDX-License-Identifier: GPL-2.0

//! `watch`: all dma-bufs, live.

mod app;
mod draw;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::cli::WatchArgs;
use crate::error::{Error, Result};
use crate::show::Look;
use crate::system::Sources;
use crate::watch::app::{App, Next};

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

fn run(mut terminal: DefaultTerminal, args: &WatchArgs, look: Look) -> std::io::Result<()> {
    let sources = Sources::default();
    let interval = Duration::from_millis(args.interval);
    let mut app = App::new(args.sort, look);
    let mut looked = Instant::now();
    app.update(sources.look(), looked);
    loop {
        terminal.draw(|frame| draw::draw(frame, &mut app))?;
        let wait = interval.saturating_sub(looked.elapsed());
        let mut now = false;
        if event::poll(wait)? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => match app.press(key) {
                    Next::Quit => return Ok(()),
                    Next::Look => now = true,
                    Next::Draw => {}
                },
                // Resized, for example: it is drawn anew.
                _ => {}
            }
        }
        let due = looked.elapsed() >= interval;
        if due || now {
            looked = Instant::now();
        }
        if now || (due && !app.paused) {
            app.update(sources.look(), looked);
        }
    }
}
