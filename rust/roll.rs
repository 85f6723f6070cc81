// SPDX-License-Identifier: GPL-2.0

//! The roll of a type: a list of those of its values that are there, which takes no memory but theirs,
//! and can be gone through without holding its lock all the time.
//!
//! `kernel::list` has lists of what is reference counted, each in an allocation of its own. What is
//! listed here is a part of something else, and leaves the roll when that goes.

use core::{
    cell::UnsafeCell,
    marker::PhantomPinned,
    ops::Deref,
    ptr::null, //
};

use kernel::{
    prelude::*,
    sync::GlobalLockBackend, //
};

use crate::static_mutex::StaticMutex;

/// A type that has a roll: [`roll!`](crate::roll!) makes both.
///
/// # Safety
///
/// [`Enrolled::roll`] must return the only [`Roll`] of the type, always the same.
pub unsafe trait Enrolled: Send + Sync + Sized + 'static {
    #[doc(hidden)]
    type Lock: GlobalLockBackend<Item = Roll<Self>>;

    /// The roll.
    fn roll() -> &'static StaticMutex<Self::Lock>;
}

/// The place of an [`Entry`] in the roll: its neighbours, null at the ends. In its cell it makes the
/// entry invariant in `T`: one of a type is of no other, which would have another roll.
struct Links<T: Enrolled> {
    prev: *const Entry<T>,
    next: *const Entry<T>,
    /// [`Roll::round`] when it was last shown.
    shown: bool,
}

/// A value that may be in the roll, until it is dropped.
///
/// # Invariants
///
/// - Where `listed`, the entry is in the roll of `T`, and stays where it is.
/// - `links` are accessed with the lock of the roll held. That may be while somebody else is about to
///   drop the entry, and has a `&mut` to it: it is not [`Unpin`], so that this is no claim to be alone.
#[pin_data(PinnedDrop)]
pub struct Entry<T: Enrolled> {
    links: UnsafeCell<Links<T>>,
    /// Changed by [`Entry::enroll`] and [`Entry::leave`], under the lock of the roll.
    listed: UnsafeCell<bool>,
    value: T,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The value may be sent, and the links are those of a list that may be: whoever changes them
// has the lock.
unsafe impl<T: Enrolled> Send for Entry<T> {}
// SAFETY: As above; the value may be shared.
unsafe impl<T: Enrolled> Sync for Entry<T> {}

impl<T: Enrolled> Entry<T> {
    /// One that is not in the roll yet.
    pub fn new<E>(value: impl Init<T, E>) -> impl PinInit<Self, E> {
        try_pin_init!(Self {
            links: UnsafeCell::new(Links {
                prev: null(),
                next: null(),
                shown: false,
            }),
            // INVARIANT: It is in no roll.
            listed: UnsafeCell::new(false),
            value <- value,
            _pin: PhantomPinned,
        }? E)
    }

    /// Puts it at the end of the roll, if it is not there. It is not shown in this round.
    ///
    /// Not in [`Roll::next`], which has the lock.
    pub fn enroll(&self) {
        let mut roll = T::roll().lock();
        // SAFETY: The lock is held.
        let listed = unsafe { &mut *self.listed.get() };
        if *listed {
            return;
        }
        // SAFETY: The lock is held. An entry is made by a pinned initialiser alone, so that it does
        // not move, and is in no list.
        // INVARIANT: It is in the roll from now on.
        unsafe { roll.push_back(self) };
        *listed = true;
    }

    /// Takes it out of the roll, if it is there. Nobody is shown it any more.
    pub fn leave(&self) {
        let mut roll = T::roll().lock();
        // SAFETY: The lock is held.
        let listed = unsafe { &mut *self.listed.get() };
        if *listed {
            // SAFETY: By the type invariant it is in the roll.
            // INVARIANT: It is not from now on.
            unsafe { roll.remove(self) };
            *listed = false;
        }
    }
}

#[pinned_drop]
impl<T: Enrolled> PinnedDrop for Entry<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Nobody else has a reference to call `enroll` or `leave` by; who has the lock of the
        // roll looks at other fields.
        if unsafe { *self.listed.get() } {
            self.leave();
        }
    }
}

impl<T: Enrolled> Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The roll of a type, in a [`roll!`](crate::roll!).
///
/// To go through it takes those that were not shown in this round off the front, and puts them to the
/// back: [`begin`](Self::begin), and [`next`](Self::next) until there is none. One does so at a time,
/// to the end, and gives the lock back in between.
///
/// # Invariants
///
/// - It is the only one of this type.
/// - It is a list of entries that are there, from `first` to `last`, by their links both ways.
pub struct Roll<T: Enrolled> {
    first: *const Entry<T>,
    last: *const Entry<T>,
    round: bool,
}

// SAFETY: Its entries may be sent and shared.
unsafe impl<T: Enrolled> Send for Roll<T> {}

impl<T: Enrolled> Roll<T> {
    /// # Safety
    ///
    /// There must be no other roll of `T`.
    #[doc(hidden)]
    pub const unsafe fn new() -> Self {
        // INVARIANT: By the requirement of this function. There is no entry.
        Self {
            first: null(),
            last: null(),
            round: false,
        }
    }

    /// # Safety
    ///
    /// The entry must be in no list, and must stay where it is until [`Roll::remove`].
    unsafe fn push_back(&mut self, entry: &Entry<T>) {
        // SAFETY: `&mut self` is the lock of the roll.
        unsafe {
            *entry.links.get() = Links {
                prev: self.last,
                next: null(),
                shown: self.round,
            };
        }
        // INVARIANT: It is the last one now.
        // SAFETY: By the type invariant the last one is there.
        match unsafe { self.last.as_ref() } {
            None => self.first = entry,
            // SAFETY: As above.
            Some(last) => unsafe { (*last.links.get()).next = entry },
        }
        self.last = entry;
    }

    /// # Safety
    ///
    /// The entry must be in this list.
    unsafe fn remove(&mut self, entry: &Entry<T>) {
        // SAFETY: `&mut self` is the lock of the roll.
        let (prev, next) = unsafe { ((*entry.links.get()).prev, (*entry.links.get()).next) };
        // INVARIANT: Its neighbours are each other's.
        // SAFETY: By the type invariant neighbours are there.
        match unsafe { prev.as_ref() } {
            None => self.first = next,
            // SAFETY: As above.
            Some(prev) => unsafe { (*prev.links.get()).next = next },
        }
        // SAFETY: As above.
        match unsafe { next.as_ref() } {
            None => self.last = prev,
            // SAFETY: As above.
            Some(next) => unsafe { (*next.links.get()).prev = prev },
        }
    }

    /// Begins a round.
    pub fn begin(&mut self) {
        self.round = !self.round;
    }

    /// Calls `f` for one that was not shown in this round. Returns whether there was one.
    ///
    /// The value cannot go meanwhile. `f` has the lock of the roll, so that it must not sleep for long,
    /// nor make or drop an [`Entry`] of the type.
    pub fn next(&mut self, f: impl FnOnce(&T)) -> bool {
        // SAFETY: By the type invariant the first one is there. It cannot be removed, and with that
        // not be dropped, before the lock is given back.
        let Some(first) = (unsafe { self.first.as_ref() }) else {
            return false;
        };
        // SAFETY: `&mut self` is the lock of the roll.
        if unsafe { (*first.links.get()).shown } == self.round {
            return false;
        }
        // SAFETY: It is the first of this list, stays where it is, and is in no list in between.
        unsafe {
            self.remove(first);
            self.push_back(first);
        }
        f(first);
        true
    }
}

/// Defines the [`Roll`](crate::roll::Roll) of a type, in a
/// [`StaticMutex`](crate::static_mutex::StaticMutex).
///
/// # Examples
///
/// ```ignore
/// roll! {
///     static LIVE: Roll<Thing>;
/// }
///
/// let entry = KBox::pin_init(Entry::new(thing), GFP_KERNEL)?;
/// entry.enroll();
///
/// LIVE.lock().begin();
/// while LIVE.lock().next(|thing| show(thing)) {}
/// ```
#[macro_export]
macro_rules! roll {
    ($(#[$meta:meta])* $vis:vis static $name:ident: Roll<$value:ty>;) => {
        $crate::static_mutex! {
            $(#[$meta])*
            $vis static $name: $crate::roll::Roll<$value> = {
                // SAFETY: There is one implementation of `Enrolled` for the type, which is below, so
                // that there is no other roll.
                unsafe { $crate::roll::Roll::new() }
            };
        }

        // SAFETY: The roll is made above, for this alone.
        unsafe impl $crate::roll::Enrolled for $value {
            type Lock = $name;

            fn roll() -> &'static $crate::static_mutex::StaticMutex<$name> {
                &$name
            }
        }
    };
}
