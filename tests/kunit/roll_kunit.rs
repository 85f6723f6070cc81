// SPDX-License-Identifier: GPL-2.0

//! The list of what lives, gone through while some come and go.

use kernel::macros::kunit_tests;

#[kunit_tests(dma_buf_roll)]
mod tests {
    use dma_buf::{
        roll,
        roll::Entry, //
    };
    use kernel::prelude::*;

    use crate::fixture::*;

    /// Has a digit, from 1 on.
    pub(crate) struct Thing(u32);

    roll! {
        pub(crate) static THINGS: Roll<Thing>;
    }

    fn thing(digit: u32) -> Result<Pin<KBox<Entry<Thing>>>> {
        let thing = KBox::pin_init(Entry::new(Thing(digit)), GFP_KERNEL)?;
        thing.enroll();
        Ok(thing)
    }

    /// The digits of all that are left in this round.
    fn rest() -> u32 {
        let mut digits = 0;
        while THINGS.lock().next(|thing| digits = digits * 10 + thing.0) {}
        digits
    }

    fn round() -> u32 {
        THINGS.lock().begin();
        rest()
    }

    #[test]
    fn each_is_shown_once() -> Result {
        check(round() == 0, "there is none")?;
        let (one, two, _three) = (thing(1)?, thing(2)?, thing(3)?);
        let not_listed = KBox::pin_init(Entry::new(Thing(4)), GFP_KERNEL)?;
        check(round() == 123, "in the order in which they came")?;
        check(rest() == 0, "once a round")?;
        check(round() == 123, "and each round")?;
        one.enroll();
        check(round() == 123, "who is there comes no second time")?;
        one.leave();
        one.leave();
        check(round() == 23, "who leaves is gone")?;
        one.enroll();
        check(round() == 231, "and comes back as the last")?;
        check(
            one.0 == 1 && two.0 == 2 && not_listed.0 == 4,
            "they are what they were",
        )
    }

    #[test]
    fn who_is_dropped_is_gone() -> Result {
        let (one, two, three, four) = (thing(1)?, thing(2)?, thing(3)?, thing(4)?);
        drop(two);
        check(round() == 134, "from the middle")?;
        drop(one);
        check(round() == 34, "the first")?;
        drop(four);
        check(round() == 3, "the last")?;
        let five = thing(5)?;
        check(round() == 35, "others follow")?;
        drop(three);
        drop(five);
        check(round() == 0, "none is left")?;
        let _six = thing(6)?;
        check(round() == 6, "and it begins anew")
    }

    #[test]
    fn some_come_and_go_in_a_round() -> Result {
        let (one, two, three) = (thing(1)?, thing(2)?, thing(3)?);
        THINGS.lock().begin();
        let mut first = 0;
        check(
            THINGS.lock().next(|thing| first = thing.0) && first == 1,
            "the first is shown",
        )?;
        let four = thing(4)?;
        drop(two);
        check(rest() == 3, "who was there all the time, and is there")?;
        // Those that were shown went to the back.
        check(round() == 143, "all, the next time")?;
        drop(one);
        THINGS.lock().begin();
        check(rest() == 43, "both that are left")?;
        drop((three, four));
        check(round() == 0, "none is left")
    }
}
