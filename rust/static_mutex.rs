// SPDX-License-Identifier: GPL-2.0

//! Mutexes in static items, for what callbacks must reach that have no pointer to it.

use kernel::{
    sync::{
        GlobalGuard,
        GlobalLock,
        GlobalLockBackend,
        SetOnce, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
};

#[doc(hidden)]
pub use kernel::{
    static_lock_class,
    str::CStr,
    sync::{
        lock::mutex::MutexBackend,
        LockClassKey, //
    }, //
};

/// A mutex in a static, made by [`static_mutex!`](crate::static_mutex!).
///
/// C's mutex cannot be made at compile time. The kernel crate has its user call `init` before
/// anything else, unsafely; here the first [`lock`](Self::lock) does it.
///
/// # Invariants
///
/// - `lock` is initialised once, by whoever populated `claimed`.
/// - `ready` is populated after that.
pub struct StaticMutex<B: GlobalLockBackend> {
    lock: GlobalLock<B>,
    claimed: SetOnce<()>,
    ready: SetOnce<()>,
}

impl<B: GlobalLockBackend> StaticMutex<B> {
    /// # Safety
    ///
    /// `B` must not be used with any other lock.
    #[doc(hidden)]
    pub const unsafe fn new(data: B::Item) -> Self {
        Self {
            // SAFETY: `B` is this lock's own, as the caller promises, and `lock` initialises it
            // before any use.
            lock: unsafe { GlobalLock::new(data) },
            claimed: SetOnce::new(),
            ready: SetOnce::new(),
        }
    }

    /// Locks the mutex, which may sleep.
    pub fn lock(&'static self) -> GlobalGuard<B> {
        if self.ready.as_ref().is_none() {
            self.make_ready();
        }
        self.lock.lock()
    }

    #[cold]
    fn make_ready(&'static self) {
        if self.claimed.populate(()) {
            // SAFETY: `claimed` can be populated once, so that this is the only call.
            unsafe { self.lock.init() };
            self.ready.populate(());
        }
        // Another task may be at it right now.
        while self.ready.as_ref().is_none() {
            fsleep(Delta::from_micros(1));
        }
    }
}

/// Defines a static [`StaticMutex`](crate::static_mutex::StaticMutex).
///
/// The value is not dropped when the module is unloaded: leave nothing in it that needs that.
///
/// # Examples
///
/// ```ignore
/// static_mutex! {
///     static COUNT: u32 = 0;
/// }
///
/// fn next() -> u32 {
///     let mut count = COUNT.lock();
///     *count += 1;
///     *count
/// }
/// ```
#[macro_export]
macro_rules! static_mutex {
    ($(#[$meta:meta])* $vis:vis static $name:ident: $item:ty = $value:expr;) => {
        #[allow(non_camel_case_types, unreachable_pub)]
        $vis enum $name {}

        impl ::kernel::sync::GlobalLockBackend for $name {
            const NAME: &'static $crate::static_mutex::CStr =
                ::kernel::c_str!(::core::stringify!($name));
            type Item = $item;
            type Backend = $crate::static_mutex::MutexBackend;

            fn get_lock_class() -> ::core::pin::Pin<&'static $crate::static_mutex::LockClassKey> {
                $crate::static_mutex::static_lock_class!()
            }
        }

        $(#[$meta])*
        $vis static $name: $crate::static_mutex::StaticMutex<$name> = {
            // Outside of the unsafe block.
            let value: $item = $value;

            // SAFETY: The type `$name` was made for this static.
            unsafe { $crate::static_mutex::StaticMutex::new(value) }
        };
    };
}
