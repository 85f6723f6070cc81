// SPDX-License-Identifier: GPL-2.0

//! The windows of a buffer. Mirrors `src/windows.rs`.

use crate::policy::Access;
use crate::region::Region;

/// An address space.
pub type Owner = usize;

#[derive(Debug)]
struct Window {
    region: Region,
    writes: bool,
    open: usize,
}

impl Window {
    fn is(&self, region: &Region, writes: bool) -> bool {
        self.region == *region && self.writes == writes
    }
}

/// The windows of one address space.
#[derive(Debug)]
struct Of {
    owner: Owner,
    lives: bool,
    windows: Vec<Window>,
}

#[derive(Debug, Default)]
pub struct Windows(Vec<Of>);

impl Windows {
    fn writing(&self) -> impl Iterator<Item = &Window> + Clone {
        self.0
            .iter()
            .flat_map(|of| of.windows.iter())
            .filter(|window| window.writes)
    }

    pub fn any(&self) -> bool {
        self.writing().next().is_some()
    }

    pub fn owned(&self) -> impl Iterator<Item = &Region> + Clone {
        self.writing().map(|window| &window.region)
    }

    /// `Windows::reserve()` and `Windows::open()`
    pub fn open(&mut self, owner: Owner, region: &Region, access: Access) {
        let writes = access.writes();
        if !self.any_of(owner) {
            self.0.push(Of {
                owner,
                lives: true,
                windows: Vec::new(),
            });
        }
        let Some(of) = self.0.iter_mut().find(|of| of.owner == owner) else {
            return;
        };
        match of.windows.iter_mut().find(|w| w.is(region, writes)) {
            Some(window) => window.open += 1,
            None => of.windows.push(Window {
                region: *region,
                writes,
                open: 1,
            }),
        }
    }

    pub fn end(&mut self, owner: Owner, region: &Region, access: Access) {
        let writes = access.writes();
        if let Some(of) = self.0.iter_mut().find(|of| of.owner == owner) {
            match of.windows.iter_mut().find(|w| w.is(region, writes)) {
                Some(window) => {
                    window.open -= 1;
                    of.windows.retain(|window| window.open > 0);
                }
                None => of
                    .windows
                    .retain(|window| window.writes != writes || !region.contains(&window.region)),
            }
        }
        self.0.retain(|of| !of.windows.is_empty());
    }

    pub fn any_of(&self, owner: Owner) -> bool {
        self.0.iter().any(|of| of.owner == owner)
    }

    /// The last user of the address space is gone.
    pub fn dies(&mut self, owner: Owner) {
        for of in self.0.iter_mut().filter(|of| of.owner == owner) {
            of.lives = false;
        }
    }

    pub fn forget_dead(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|of| of.lives);
        self.0.len() < before
    }

    pub fn forget_dead_but(&mut self, owner: Owner) -> bool {
        let before = self.0.len();
        self.0.retain(|of| of.owner == owner || of.lives);
        self.0.len() < before
    }
}
