//! The residual as a series: baseline, floor, and the three tests on it: identity (A1), trend of minima (A2) and
//! CUSUM (A3). Fed only while every gate is open.

use std::collections::VecDeque;

use blobstore_sidecar_api::config::HygieneConfig;

use crate::hygiene::statistics::{Trend, Z_99, median, regression, sigma_around_line, trend};

/// Buckets of a trend window: an hour of 5-minute minima, three hours of 15-minute minima.
pub const WINDOW_BUCKETS: usize = 12;
/// The long window's buckets are this many of the short one's.
const LONG_BUCKET_FACTOR: u64 = 3;
/// The baseline is the median of the first healthy hour: six confirmation times.
const BASELINE_SHARE: u64 = 6;
/// Sigma is learned over the last healthy six hours, one value per bucket.
const SIGMA_BUCKETS: usize = 72;
/// Below this many values a deviation says nothing.
const SIGMA_VALUES_MIN: usize = 12;
/// The floor in sigmas: one excursion in three million of pure noise.
const FLOOR_SIGMAS: f64 = 5.0;
/// A baseline within these shares of the floor is model error; beyond them it would hide a leak, or make one
/// out of a ledger that was ahead while the baseline was learned.
const BASELINE_MAX: f64 = 0.5;
const BASELINE_MIN: f64 = -0.25;
/// Steps of the CUSUM are a tenth of the confirmation time (a minute of ten), minima over five of them.
const CUSUM_STEP_SHARE: u64 = 10;
const CUSUM_MINIMA: usize = 5;
const CUSUM_DRIFT: f64 = 0.75;
/// One step counts no more than this many floors: a tall burst shorter than the confirmation time is no alarm.
const CUSUM_STEP_MAX: f64 = 2.0;
const CUSUM_ALARM: f64 = 8.0;
/// Confirmations that the trend test needs; each miss takes one back.
const TREND_CONFIRMATIONS: u32 = 3;
/// Fewer operations than this in a window do not explain a residual.
const OPERATIONS_MIN: f64 = 10_000.0;

/// Values gathered into minima per stretch of time.
#[derive(Clone, Debug)]
pub struct Buckets {
    width_ms: u64,
    open: Option<(u64, f64)>,
    closed: VecDeque<f64>,
    /// Of a full window; reckoned when a bucket closes.
    trend: Option<Trend>,
}

impl Buckets {
    pub fn new(width_ms: u64) -> Self {
        let closed = VecDeque::with_capacity(WINDOW_BUCKETS + 1);
        Self { width_ms: width_ms.max(1), open: None, closed, trend: None }
    }

    /// True when a bucket was closed by this value.
    pub fn push(&mut self, value: f64, now_ms: u64) -> bool {
        let index = now_ms / self.width_ms;
        if let Some((open, least)) = &mut self.open
            && *open == index
        {
            *least = least.min(value);
            return false;
        }
        let Some((_, least)) = self.open.replace((index, value)) else { return false };
        self.closed.push_back(least);
        keep_newest(&mut self.closed, WINDOW_BUCKETS);
        if self.closed.len() == WINDOW_BUCKETS {
            let per_ms = 1.0 / self.width_ms as f64;
            let scaled = |trend: Trend| Trend {
                slope: trend.slope * per_ms,
                slope_low: trend.slope_low * per_ms,
                ..trend
            };
            self.trend = trend(self.closed.make_contiguous()).map(scaled);
        }
        true
    }

    /// Trend over a full window, per millisecond.
    pub fn trend(&self) -> Option<Trend> {
        self.trend
    }

    /// Rise over what the buckets hold, per millisecond, when the window is not full yet.
    pub fn slope(&self) -> f64 {
        let steps = self.closed.len().saturating_sub(1).max(1) as f64;
        match (self.closed.front(), self.closed.back()) {
            (Some(first), Some(last)) => (last - first) / steps / self.width_ms as f64,
            _ => 0.0,
        }
    }

    pub fn last(&self) -> Option<f64> {
        self.closed.back().copied()
    }
}

/// Keeps the newest values.
fn keep_newest<T>(values: &mut VecDeque<T>, len: usize) {
    while values.len() > len {
        values.pop_front();
    }
}

/// One value of the series.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Engine bytes less the upper edge of everything explained.
    pub residual: f64,
    pub ledger_bytes: f64,
    pub commands: f64,
}

/// Where the residual stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    pub residual: f64,
    pub baseline: f64,
    pub floor: f64,
    /// Residual less baseline.
    pub excess: f64,
    /// A2 and A3; A1 is `excess > floor` held for the confirmation time, which the detector counts.
    pub trending: bool,
    pub stepped: bool,
    pub slope_per_ms: f64,
    /// A4: bytes per thousand commands, where enough of them ran.
    pub per_thousand_commands: Option<f64>,
}

/// The series of one engine run.
#[derive(Clone, Debug)]
pub struct Track {
    baseline_until_ms: Option<u64>,
    first_values: Vec<f64>,
    baseline: f64,
    healthy: VecDeque<f64>,
    sigma: f64,
    short: Buckets,
    long: Buckets,
    minutes: Buckets,
    cusum: f64,
    trend_score: u32,
    slope_per_ms: f64,
    operations: VecDeque<(f64, f64)>,
}

impl Track {
    pub fn new(config: &HygieneConfig) -> Self {
        let bucket_ms = config.trend_bucket_seconds * 1_000;
        Self {
            baseline_until_ms: None,
            first_values: Vec::new(),
            baseline: 0.0,
            healthy: VecDeque::with_capacity(SIGMA_BUCKETS + 1),
            sigma: 0.0,
            short: Buckets::new(bucket_ms),
            long: Buckets::new(bucket_ms * LONG_BUCKET_FACTOR),
            minutes: Buckets::new(config.confirm_seconds * 1_000 / CUSUM_STEP_SHARE),
            cusum: 0.0,
            trend_score: 0,
            slope_per_ms: 0.0,
            operations: VecDeque::with_capacity(WINDOW_BUCKETS + 1),
        }
    }

    pub fn observe(&mut self, config: &HygieneConfig, point: &Point, now_ms: u64) -> Standing {
        let floor = self.floor(config, point.ledger_bytes);
        self.learn_baseline(config, point.residual, floor, now_ms);
        let baseline = self.baseline;
        let excess = point.residual - baseline;
        if self.minutes.push(excess, now_ms) {
            self.step_cusum(floor);
        }
        let bucket_closed = self.short.push(excess, now_ms);
        self.long.push(excess, now_ms);
        if bucket_closed {
            self.learn_sigma(point, excess, floor);
            self.test_trend(floor);
        }
        Standing {
            residual: point.residual,
            baseline,
            floor,
            excess,
            trending: self.trend_score >= TREND_CONFIRMATIONS,
            stepped: self.cusum >= CUSUM_ALARM,
            slope_per_ms: self.slope_per_ms,
            per_thousand_commands: self.per_thousand_commands(),
        }
    }

    fn floor(&self, config: &HygieneConfig, ledger_bytes: f64) -> f64 {
        let share = ledger_bytes * config.residual_permille as f64 / 1_000.0;
        (config.residual_bytes_min as f64).max(share).max(FLOOR_SIGMAS * self.sigma)
    }

    fn learn_baseline(&mut self, config: &HygieneConfig, residual: f64, floor: f64, now_ms: u64) {
        let learning_ms = config.confirm_seconds * 1_000 * BASELINE_SHARE;
        let until_ms = *self.baseline_until_ms.get_or_insert(now_ms + learning_ms);
        // A sample a second over an hour, at most: what `sample_seconds` 1 with default times would give.
        if now_ms >= until_ms || self.first_values.len() >= 3_600 {
            self.first_values = Vec::new();
            return;
        }
        // What is above the floor is what the identity test is for, not something to get used to.
        if residual <= floor {
            self.first_values.push(residual);
        }
        self.baseline = median(&self.first_values).clamp(BASELINE_MIN * floor, BASELINE_MAX * floor);
    }

    fn learn_sigma(&mut self, point: &Point, excess: f64, floor: f64) {
        let least = self.short.last().unwrap_or(excess);
        if least.abs() <= floor {
            self.healthy.push_back(least);
            keep_newest(&mut self.healthy, SIGMA_BUCKETS);
        }
        if self.healthy.len() >= SIGMA_VALUES_MIN {
            self.sigma = sigma_around_line(self.healthy.make_contiguous());
        }
        self.operations.push_back((point.commands, least));
        keep_newest(&mut self.operations, WINDOW_BUCKETS);
    }

    fn step_cusum(&mut self, floor: f64) {
        let minima = self.minutes.closed.iter().rev().take(CUSUM_MINIMA);
        let least = minima.copied().fold(f64::INFINITY, f64::min);
        if self.minutes.closed.len() >= CUSUM_MINIMA {
            self.cusum = (self.cusum + (least / floor).min(CUSUM_STEP_MAX) - CUSUM_DRIFT)
                .clamp(0.0, 2.0 * CUSUM_ALARM);
        }
    }

    fn test_trend(&mut self, floor: f64) {
        let windows = [self.short.trend(), self.long.trend()];
        self.slope_per_ms = windows[0].map_or_else(|| self.short.slope(), |trend| trend.slope);
        let excess = self.short.last().unwrap_or(0.0);
        let rises = |trend: &Trend| trend.slope_low > 0.0 && trend.z > Z_99;
        let hit = excess > floor && windows.iter().flatten().any(rises);
        self.trend_score = if hit {
            (self.trend_score + 1).min(2 * TREND_CONFIRMATIONS)
        } else {
            self.trend_score.saturating_sub(1)
        };
    }

    fn per_thousand_commands(&self) -> Option<f64> {
        let first = self.operations.front()?.0;
        let ran = self.operations.back()?.0 - first;
        if ran < OPERATIONS_MIN {
            return None;
        }
        let points: Vec<(f64, f64)> =
            self.operations.iter().map(|(commands, bytes)| ((commands - first) / 1_000.0, *bytes)).collect();
        regression(&points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    /// Feeds `residual(minute)` every 15 s for `minutes` and returns where it stands.
    fn check(minutes: u64, residual: impl Fn(f64) -> f64) -> Standing {
        let config = HygieneConfig::default();
        let mut track = Track::new(&config);
        let mut standing = Standing::default();
        for tick in 0..minutes * 4 {
            let minute = tick as f64 / 4.0;
            let point =
                Point { residual: residual(minute), ledger_bytes: 100.0 * MIB, commands: minute * 6_000.0 };
            standing = track.observe(&config, &point, tick * 15_000);
        }
        standing
    }

    #[test]
    fn a_constant_offset_becomes_the_baseline() {
        let standing = check(120, |_| 1.5 * MIB);
        assert_eq!((standing.baseline, standing.excess), (1.5 * MIB, 0.0));
        assert!(!standing.trending && !standing.stepped);
    }

    #[test]
    fn an_offset_beyond_half_the_floor_is_not_got_used_to() {
        assert_eq!(check(120, |_| 3.9 * MIB).baseline, 2.0 * MIB);
    }

    #[test]
    fn a_slow_leak_under_bursts_is_a_trend_of_minima() {
        let standing = check(400, |minute| {
            let burst = if (minute as u64).is_multiple_of(4) { 0.0 } else { 30.0 * MIB };
            minute * 0.05 * MIB + burst
        });
        assert!(standing.trending, "{standing:?}");
        let per_minute = standing.slope_per_ms * 60_000.0 / MIB;
        assert!((0.04..0.06).contains(&per_minute), "slope {per_minute}");
    }

    #[test]
    fn a_step_is_found_by_the_sums() {
        let standing = check(180, |minute| if minute < 100.0 { 0.0 } else { 6.0 * MIB });
        assert!(standing.stepped && !standing.trending, "{standing:?}");
    }

    #[test]
    fn noise_raises_the_floor() {
        let noise = |minute: f64| ((minute * 4.0) as u64 % 7) as f64 * MIB / 2.0;
        let standing = check(400, |minute| noise(minute) + ((minute / 5.0) as u64 % 3) as f64 * 1.9 * MIB);
        assert!(standing.floor > 4.0 * MIB && !standing.trending, "{standing:?}");
    }

    #[test]
    fn cost_per_operation_is_told() {
        let standing = check(300, |minute| minute * 6.0 * 1_024.0);
        let cost = standing.per_thousand_commands.expect("enough operations");
        assert!((900.0..1_150.0).contains(&cost), "{cost} bytes per thousand");
    }
}
