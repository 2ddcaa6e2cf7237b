//! How long to wait after a failed pass. Jitter is an argument: two operators must not knock together.

use std::time::Duration;

/// The first wait: most failures are conflicts that the next read resolves.
pub const DELAY_MIN: Duration = Duration::from_millis(500);
/// The longest: a person who puts something right should not wait longer for us to notice.
pub const DELAY_MAX: Duration = Duration::from_secs(60);

/// `failures` in a row from 1; `jitter` from 0 to 1. Doubles up to the maximum, minus up to a quarter.
pub fn delay(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = DELAY_MIN.saturating_mul(1 << doublings).min(DELAY_MAX);
    full.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_up_to_the_bound() {
        let delays: Vec<Duration> = (0..40).map(|failures| delay(failures, 0.0)).collect();
        assert!(delays.is_sorted());
        assert_eq!(delays[0], DELAY_MIN);
        assert_eq!(delays[39], DELAY_MAX);
    }

    #[test]
    fn jitter_only_shortens_a_little() {
        assert_eq!(delay(3, 1.0), Duration::from_millis(1_500));
        assert_eq!(delay(3, 7.0), delay(3, 1.0));
        assert_eq!(delay(3, f64::NAN.max(0.0)), delay(3, 0.0));
    }
}
