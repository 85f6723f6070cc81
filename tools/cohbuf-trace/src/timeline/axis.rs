// SPDX-License-Identifier: GPL-2.0

//! Where a time is on paper: lines of steps, one below the other. A step is the time between two
//! instants at which something begins or ends, and is as wide as the logarithm of it, so that
//! microseconds of maintenance are seen beside a wait of a second.

/// A step is at least so wide.
const LEAST: f64 = 13.0;
/// And so much more for each tenfold of a microsecond.
const TENFOLD: f64 = 13.0;
/// A period in which something is at work has a label.
const CALL: f64 = 46.0;

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Instants, and where they are.
    points: Vec<(u64, f64)>,
}

impl Row {
    pub(super) fn from(&self) -> u64 {
        self.points.first().map_or(0, |point| point.0)
    }

    pub(super) fn to(&self) -> u64 {
        self.points.last().map_or(0, |point| point.0)
    }

    pub(super) fn right(&self) -> f64 {
        self.points.last().map_or(0.0, |point| point.1)
    }

    pub(super) fn points(&self) -> &[(u64, f64)] {
        &self.points
    }

    /// Where a time is; what is before or after the line, at its ends.
    pub(super) fn x(&self, time: u64) -> f64 {
        let after = self.points.partition_point(|point| point.0 <= time);
        if after == 0 {
            return self.points[0].1;
        }
        let Some(&(next, right)) = self.points.get(after) else {
            return self.right();
        };
        let (last, left) = self.points[after - 1];
        left + (right - left) * (time - last) as f64 / (next - last) as f64
    }
}

/// Lays out the instants, which are in order, from `left` to `right`. `calls`: periods that need
/// room. `wants`: instants after which there is text of that width.
pub(super) fn rows(
    instants: &[u64],
    calls: &[(u64, u64)],
    wants: &[(u64, f64)],
    left: f64,
    right: f64,
) -> Vec<Row> {
    let mut widths: Vec<f64> = instants
        .windows(2)
        .map(|pair| {
            let micros = (pair[1] - pair[0]) as f64 / 1e3;
            LEAST + TENFOLD * (1.0 + micros).log10()
        })
        .collect();
    for &(from, to) in calls {
        let first = instants.partition_point(|&at| at < from);
        let last = instants.partition_point(|&at| at < to);
        let room: f64 = widths[first..last.max(first)].iter().sum();
        if first < last && room < CALL {
            let more = (CALL - room) / (last - first) as f64;
            widths[first..last]
                .iter_mut()
                .for_each(|width| *width += more);
        }
    }
    for &(at, width) in wants {
        let step = instants.partition_point(|&instant| instant < at);
        if let Some(has) = widths.get_mut(step) {
            *has = has.max(width.min(right - left));
        }
    }

    let mut rows = Vec::new();
    let mut step = 0;
    while step < widths.len() {
        let mut points = vec![(instants[step], left)];
        let mut x = left;
        while step < widths.len() && (x == left || x + widths[step] <= right) {
            x += widths[step];
            step += 1;
            points.push((instants[step], x));
        }
        // Lines that are followed by others fill the page, and the last does so nearly.
        let wide = (right - left) / (x - left);
        let stretch = match step < widths.len() {
            true => wide,
            false => wide.clamp(1.0, 1.6),
        };
        for point in &mut points {
            point.1 = left + (point.1 - left) * stretch;
        }
        rows.push(Row { points });
    }
    if rows.is_empty() && !instants.is_empty() {
        rows.push(Row {
            points: vec![(instants[0], left)],
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_in_order_and_on_the_page() {
        let instants: Vec<u64> = (0..300).map(|n| n * n * 1000).collect();
        let rows = rows(
            &instants,
            &[(1_000, 4_000)],
            &[(9_000, 200.0)],
            100.0,
            900.0,
        );
        assert!(rows.len() > 5);
        for pair in rows.windows(2) {
            assert_eq!(pair[0].to(), pair[1].from());
        }
        for row in &rows {
            let mut last = 0.0;
            for time in (row.from()..=row.to()).step_by(997_000) {
                let x = row.x(time);
                assert!((100.0..=900.001).contains(&x) && x >= last, "{time}: {x}");
                last = x;
            }
        }
    }

    #[test]
    fn one_instant_is_a_line() {
        let rows = rows(&[5], &[], &[], 100.0, 900.0);
        assert_eq!((rows.len(), rows[0].x(5)), (1, 100.0));
    }

    #[test]
    fn call_has_room() {
        let rows = rows(&[0, 1000, 2000, 3000], &[(1000, 2000)], &[], 0.0, 100.0);
        assert!(rows[0].x(2000) - rows[0].x(1000) >= CALL);
    }
}
