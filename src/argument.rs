// SPDX-License-Identifier: GPL-2.0

//! The names that stand in brackets in comments: the sections of `Documentation/coherency.rst` with
//! the argument for a decision. For rustdoc alone, where each leads to its section.

macro_rules! sections {
    ($($name:ident)*) => {
        $(
            #[doc = concat!(
                "The argument: [", stringify!($name),
                "](../../../coherency.html#", stringify!($name), ")."
            )]
            pub(crate) fn $name() {}
        )*
    };
}

sections!(
    beside caches copies device dirty idle merge order quick region shared usual vmap window written
);
