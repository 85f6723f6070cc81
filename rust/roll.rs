// SPDX-License-Identifier: GPL-2.0

//! The roll of a type: a list of those of its values that are there, which takes no memory but theirs,
//! and can be gone through without holding its lock all the time.

use core::{
    marker::PhantomData,
    ops::Deref, //
};

use kernel::{
    list::{
        impl_list_arc_safe,
        impl_list_item,
        List,
        ListArc,
        ListLinks, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// A type that has a roll: [`roll!`](crate::roll!) makes both.
///
/// # Safety
///
/// Whoever implements it may make the one [`Roll`] of the type.
pub unsafe trait Enrolled: Send + Sync + 'static {}

/// A value, and its place in the roll.
#[pin_data]
struct Node<T> {
    #[pin]
    links: ListLinks,
    /// [`Roll::round`] when it was last shown. Changed under the lock of the roll.
    shown: Atomic<bool>,
    value: T,
    /// A node of one type is of no other, which could have a roll of its own.
    _invariant: PhantomData<fn(T) -> T>,
}

impl_list_arc_safe! {
    impl{T} ListArcSafe<0> for Node<T> { untracked; }
}
impl_list_item! {
    impl{T} ListItem<0> for Node<T> { using ListLinks { self.links }; }
}

/// A value that may be in the roll, and is kept by this.
pub struct Entry<T>(Arc<Node<T>>);

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

/// An [`Entry`] that is not in the roll yet.
pub struct NewEntry<T>(ListArc<Node<T>>);

impl<T> NewEntry<T> {
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new<E>(value: impl Init<T, E>) -> Result<Self>
    where
        Error: From<E>,
    {
        let node = try_pin_init!(Node {
            links <- ListLinks::new(),
            shown: Atomic::new(false),
            value <- value,
            _invariant: PhantomData,
        });
        ListArc::pin_init(node, GFP_KERNEL).map(Self)
    }

    /// The entry that it will be.
    pub fn entry(&self) -> Entry<T> {
        Entry(self.0.clone_arc())
    }
}

impl<T> Deref for NewEntry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
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
/// There is no other of this type: a `Node` is in this list, or in none.
pub struct Roll<T: Enrolled> {
    list: List<Node<T>>,
    round: bool,
}

impl<T: Enrolled> Roll<T> {
    /// # Safety
    ///
    /// There must be no other roll of `T`.
    #[doc(hidden)]
    pub const unsafe fn new() -> Self {
        // INVARIANT: By the requirement of this function.
        Self {
            list: List::new(),
            round: false,
        }
    }

    /// Puts it at the end. It is not shown in this round.
    pub fn insert(&mut self, entry: NewEntry<T>) {
        entry.0.shown.store(self.round, Relaxed);
        self.list.push_back(entry.0);
    }

    /// Takes it out, if it is there.
    pub fn remove(&mut self, Entry(node): &Entry<T>) {
        // SAFETY: By the type invariant the node is in no other list.
        let gone = unsafe { self.list.remove(node) };
        // Nothing is freed with the lock held: `node` is another reference.
        drop(gone);
    }

    /// Begins a round.
    pub fn begin(&mut self) {
        self.round = !self.round;
    }

    /// One that was not shown in this round.
    #[expect(clippy::should_implement_trait, reason = "others change it meanwhile")]
    pub fn next(&mut self) -> Option<Entry<T>> {
        let first = self.list.pop_front()?;
        if first.shown.load(Relaxed) == self.round {
            self.list.push_front(first);
            return None;
        }
        first.shown.store(self.round, Relaxed);
        let entry = Entry(first.clone_arc());
        self.list.push_back(first);
        Some(entry)
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
/// let new = NewEntry::new(thing)?;
/// let entry = new.entry();
/// LIVE.lock().insert(new);
/// LIVE.lock().remove(&entry);
/// ```
#[macro_export]
macro_rules! roll {
    ($(#[$meta:meta])* $vis:vis static $name:ident: Roll<$value:ty>;) => {
        // SAFETY: The roll is made below.
        unsafe impl $crate::roll::Enrolled for $value {}

        $crate::static_mutex! {
            $(#[$meta])*
            $vis static $name: $crate::roll::Roll<$value> = {
                // SAFETY: There is one implementation of `Enrolled` for the type, which is above, so
                // that there is no other roll.
                unsafe { $crate::roll::Roll::new() }
            };
        }
    };
}
