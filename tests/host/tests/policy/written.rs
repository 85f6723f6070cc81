// SPDX-License-Identifier: GPL-2.0

//! What is known of the pages that the CPU has written. Mirrors `rust/written.rs`, and what the
//! kernel does to page tables for it.

use std::ops::Range;

use crate::memory::{LEN, PAGE, PAGES};
use crate::windows::Owner;

/// `WrittenPages`
#[derive(Clone, Debug, Default)]
pub struct Written([bool; PAGES]);

impl Written {
    /// `clean_record_shared_mapping_range()`
    pub fn record(&mut self, tables: &mut PageTables, range: &Range<usize>) {
        for (_, dirty) in &mut tables.0 {
            for page in pages(range) {
                self.0[page] |= std::mem::take(&mut dirty[page]);
            }
        }
    }

    pub fn add(&mut self, range: &Range<usize>) {
        self.0[pages(range)].fill(true);
    }

    /// The pages that lie in `range` as a whole.
    pub fn remove(&mut self, range: &Range<usize>) {
        for page in range.start.div_ceil(PAGE)..range.end / PAGE {
            self.0[page] = false;
        }
    }

    pub fn any(&self) -> bool {
        self.0.contains(&true)
    }

    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + Clone + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = (at..PAGES).find(|page| self.0[*page])?;
            let end = (start..PAGES).find(|page| !self.0[*page]).unwrap_or(PAGES);
            at = end;
            Some(start * PAGE..end * PAGE)
        })
    }
}

/// The pages that have a byte of `range`.
fn pages(range: &Range<usize>) -> Range<usize> {
    let end = range.end.min(LEN);
    range.start.min(end) / PAGE..end.div_ceil(PAGE)
}

/// The dirty bits of the mappings into user space, one of the whole buffer for each owner.
#[derive(Debug, Default)]
pub struct PageTables(Vec<(Owner, [bool; PAGES])>);

impl PageTables {
    pub fn write(&mut self, owner: Owner, at: usize) {
        match self.0.iter_mut().find(|(of, _)| *of == owner) {
            Some((_, dirty)) => dirty[at / PAGE] = true,
            None => {
                let mut dirty = [false; PAGES];
                dirty[at / PAGE] = true;
                self.0.push((owner, dirty));
            }
        }
    }

    pub fn unmap(&mut self, owner: Owner) {
        self.0.retain(|(of, _)| *of != owner);
    }
}
