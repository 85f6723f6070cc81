// SPDX-License-Identifier: GPL-2.0

//! What is watched, and what keys do.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use crate::cli::Sort;
use crate::show::Look;
use crate::system::{Bytes, DmaBuf, Snapshot};

/// Looks that are remembered.
const HISTORY: usize = 240;

/// Bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) cleaned: u64,
    pub(super) invalidated: u64,
    pub(super) copied: u64,
}

impl Rate {
    fn between(before: &Bytes, after: &Bytes, seconds: f64) -> Self {
        let rate = |before: u64, after: u64| {
            let bytes = after.saturating_sub(before) as f64;
            (bytes / seconds.max(0.001)) as u64
        };
        Self {
            cleaned: rate(before.cleaned, after.cleaned),
            invalidated: rate(before.invalidated, after.invalidated),
            copied: rate(
                before.copied.saturating_add(before.own_ops),
                after.copied.saturating_add(after.own_ops),
            ),
        }
    }

    pub(super) fn sum(&self) -> u64 {
        [self.cleaned, self.invalidated, self.copied]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// What is to be done after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Draw,
    Look,
    Quit,
}

pub(super) struct App {
    pub(super) look: Look,
    pub(super) sort: Sort,
    pub(super) backwards: bool,
    pub(super) paused: bool,
    /// Sorted.
    pub(super) buffers: Vec<DmaBuf>,
    pub(super) missing: Vec<String>,
    /// For how long there is no answer, where that is too long.
    pub(super) waiting: Option<Duration>,
    pub(super) rates: BTreeMap<u64, Rate>,
    /// Bytes a second of all, the latest last.
    pub(super) history: VecDeque<u64>,
    pub(super) table: TableState,
    /// The buffer that is selected, wherever it moves to.
    selected: Option<u64>,
    looked: Option<Instant>,
}

impl App {
    pub(super) fn new(sort: Sort, look: Look) -> Self {
        Self {
            look,
            sort,
            backwards: false,
            paused: false,
            buffers: Vec::new(),
            missing: Vec::new(),
            waiting: None,
            rates: BTreeMap::new(),
            history: VecDeque::new(),
            table: TableState::default(),
            selected: None,
            looked: None,
        }
    }

    /// Takes what there is now.
    pub(super) fn update(&mut self, snapshot: Snapshot, now: Instant) {
        if let Some(looked) = self.looked {
            let seconds = now.saturating_duration_since(looked).as_secs_f64();
            self.rates = self.rates_of(&snapshot.buffers, seconds);
            let rates = self.rates.values().map(Rate::sum);
            self.history.push_back(rates.fold(0, u64::saturating_add));
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
        self.looked = Some(now);
        self.buffers = snapshot.buffers;
        self.missing = snapshot.missing;
        self.arrange();
    }

    /// Whether it knows of anything.
    pub(super) fn has_looked(&self) -> bool {
        self.looked.is_some()
    }

    fn rates_of(&self, buffers: &[DmaBuf], seconds: f64) -> BTreeMap<u64, Rate> {
        let bytes = |buffer: &DmaBuf| buffer.cohbuf.as_ref().map(|known| known.bytes);
        let rates = buffers.iter().filter_map(|buffer| {
            let before = self.buffers.iter().find(|old| old.inode == buffer.inode)?;
            let rate = Rate::between(&bytes(before)?, &bytes(buffer)?, seconds);
            Some((buffer.inode, rate))
        });
        rates.collect()
    }

    pub(super) fn rate(&self, buffer: &DmaBuf) -> Rate {
        self.rates.get(&buffer.inode).copied().unwrap_or_default()
    }

    /// The buffer that is selected.
    pub(super) fn selection(&self) -> Option<&DmaBuf> {
        self.buffers.get(self.table.selected()?)
    }

    fn arrange(&mut self) {
        let rates = &self.rates;
        let rate = |buffer: &DmaBuf| rates.get(&buffer.inode).map_or(0, Rate::sum);
        let sort = self.sort;
        let order = |a: &DmaBuf, b: &DmaBuf| -> Ordering {
            let by = match sort {
                Sort::Size => Reverse(a.size).cmp(&Reverse(b.size)),
                Sort::Name => a.name.cmp(&b.name),
                Sort::Exporter => a.exporter.cmp(&b.exporter),
                Sort::Importers => b.importers().cmp(&a.importers()),
                Sort::Rate => rate(b).cmp(&rate(a)),
            };
            by.then(a.inode.cmp(&b.inode))
        };
        self.buffers.sort_by(order);
        if self.backwards {
            self.buffers.reverse();
        }
        let at = self
            .selected
            .and_then(|inode| self.buffers.iter().position(|buffer| buffer.inode == inode));
        let last = self.buffers.len().checked_sub(1);
        let at = at.or_else(|| self.table.selected().or(Some(0)));
        self.select(last.and_then(|last| at.map(|at| at.min(last))));
    }

    fn select(&mut self, at: Option<usize>) {
        self.table.select(at);
        self.selected = self.selection().map(|buffer| buffer.inode);
    }

    fn step(&mut self, down: bool) {
        let Some(last) = self.buffers.len().checked_sub(1) else {
            return;
        };
        let at = self.table.selected().unwrap_or(0);
        let at = if down { at + 1 } else { at.saturating_sub(1) };
        self.select(Some(at.min(last)));
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Next {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Next::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Char(' ') => return Next::Look,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('b') => self.look.exact = !self.look.exact,
            KeyCode::Char('r') => {
                self.backwards = !self.backwards;
                self.arrange();
            }
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Size => Sort::Name,
                    Sort::Name => Sort::Exporter,
                    Sort::Exporter => Sort::Importers,
                    Sort::Importers => Sort::Rate,
                    Sort::Rate => Sort::Size,
                };
                self.arrange();
            }
            KeyCode::Down | KeyCode::Char('j') => self.step(true),
            KeyCode::Up | KeyCode::Char('k') => self.step(false),
            KeyCode::Home => self.select((!self.buffers.is_empty()).then_some(0)),
            KeyCode::End => self.select(self.buffers.len().checked_sub(1)),
            _ => {}
        }
        Next::Draw
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::system::tests::sample;

    /// An app that has seen two looks, a second apart.
    pub(crate) fn app() -> App {
        let mut app = App::new(Sort::Size, Look::plain());
        let now = Instant::now();
        app.update(sample(), now);
        let mut later = sample();
        if let Some(known) = &mut later.buffers[1].cohbuf {
            known.bytes.cleaned += 2 << 20;
            known.bytes.copied += 1 << 20;
        }
        app.update(later, now + Duration::from_secs(1));
        app
    }

    fn press(app: &mut App, key: char) -> Next {
        app.press(KeyEvent::from(KeyCode::Char(key)))
    }

    fn inodes(app: &App) -> Vec<u64> {
        app.buffers.iter().map(|buffer| buffer.inode).collect()
    }

    #[test]
    fn rates_are_those_of_a_second() {
        let app = app();
        let rate = app.rates[&18];
        assert_eq!((rate.cleaned, rate.copied), (2 << 20, 1 << 20));
        assert_eq!(app.history, [3 << 20]);
        assert!(!app.rates.contains_key(&17));
    }

    #[test]
    fn half_a_second_counts_twice() {
        let after = Bytes {
            cleaned: 1000,
            ..Bytes::default()
        };
        let rate = Rate::between(&Bytes::default(), &after, 0.5);
        assert_eq!(rate.cleaned, 2000);
        // A buffer with the inode of one that is gone.
        assert_eq!(Rate::between(&after, &Bytes::default(), 1.0).cleaned, 0);
    }

    #[test]
    fn sorted_by_what_keys_say() {
        let mut app = app();
        assert_eq!(inodes(&app), [18, 17]);
        press(&mut app, 'r');
        assert_eq!(inodes(&app), [17, 18]);
        press(&mut app, 'r');
        press(&mut app, 's');
        assert_eq!(app.sort, Sort::Name);
        assert_eq!(inodes(&app), [17, 18]);
        for _ in 0..4 {
            press(&mut app, 's');
        }
        assert_eq!(app.sort, Sort::Size);
    }

    #[test]
    fn a_selection_stays_with_its_buffer() {
        let mut app = app();
        app.press(KeyEvent::from(KeyCode::Down));
        assert_eq!(app.selection().map(|buffer| buffer.inode), Some(17));
        press(&mut app, 'r');
        assert_eq!(app.selection().map(|buffer| buffer.inode), Some(17));
        app.press(KeyEvent::from(KeyCode::Down));
        app.press(KeyEvent::from(KeyCode::Down));
        assert_eq!(app.table.selected(), Some(1));
        // It is gone, and then all are.
        let mut less = sample();
        less.buffers.remove(1);
        app.update(less, Instant::now());
        assert_eq!(app.selection().map(|buffer| buffer.inode), Some(17));
        app.update(Snapshot::default(), Instant::now());
        assert!(app.selection().is_none());
    }

    #[test]
    fn keys_that_end_it() {
        let mut app = app();
        assert_eq!(press(&mut app, 'q'), Next::Quit);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.press(control_c), Next::Quit);
        assert_eq!(press(&mut app, 'c'), Next::Draw);
        assert_eq!(press(&mut app, ' '), Next::Look);
    }
}
