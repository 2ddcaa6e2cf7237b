//! Robust statistics on short series: median, MAD, Theil-Sen, Mann-Kendall. No allocation outlives a call.

/// The median; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Makes the MAD of a normal distribution equal to its standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;

/// Standard deviation from the median absolute deviation.
pub fn robust_sigma(values: &[f64]) -> f64 {
    let center = median(values);
    let deviations: Vec<f64> = values.iter().map(|value| (value - center).abs()).collect();
    MAD_TO_SIGMA * median(&deviations)
}

/// `robust_sigma` around a resistant line (medians of the outer thirds), so that a slow leak is not taken for noise.
pub fn sigma_around_line(values: &[f64]) -> f64 {
    let third = values.len() / 3;
    if third == 0 {
        return robust_sigma(values);
    }
    let slope =
        (median(&values[values.len() - third..]) - median(&values[..third])) / (values.len() - third) as f64;
    let level: Vec<f64> =
        values.iter().enumerate().map(|(step, value)| value - slope * step as f64).collect();
    robust_sigma(&level)
}

/// The trend of evenly spaced values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Per step.
    pub slope: f64,
    /// Lower 99 % bound of the slope.
    pub slope_low: f64,
    /// Mann-Kendall's z.
    pub z: f64,
}

/// One-sided 99 % of the normal distribution.
pub const Z_99: f64 = 2.326;

/// Theil-Sen's slope with its lower bound (Sen 1968) and Mann-Kendall's z, ties corrected. O(n²): n is 12 here.
pub fn trend(values: &[f64]) -> Option<Trend> {
    let n = values.len();
    if n < 4 {
        return None;
    }
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    let mut score = 0.0;
    for (i, earlier) in values.iter().enumerate() {
        for (j, later) in values.iter().enumerate().skip(i + 1) {
            slopes.push((later - earlier) / (j - i) as f64);
            score += match later.total_cmp(earlier) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Less => -1.0,
                std::cmp::Ordering::Equal => 0.0,
            };
        }
    }
    slopes.sort_by(f64::total_cmp);
    let variance = (kendall(n as f64) - ties(values)) / 18.0;
    let deviation = variance.max(0.0).sqrt();
    let z = if deviation == 0.0 { 0.0 } else { (score - f64::signum(score)) / deviation };
    let rank = ((slopes.len() as f64 - Z_99 * deviation) / 2.0).floor().max(0.0) as usize;
    let slope_low = slopes.get(rank).copied().unwrap_or_default();
    Some(Trend { slope: median(&slopes), slope_low, z: if score == 0.0 { 0.0 } else { z } })
}

fn kendall(n: f64) -> f64 {
    n * (n - 1.0) * (2.0 * n + 5.0)
}

fn ties(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.chunk_by(|a, b| a == b).filter(|run| run.len() > 1).map(|run| kendall(run.len() as f64)).sum()
}

/// Ordinary regression of `y` on `x`: the slope.
pub fn regression(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / n;
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let joint: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (points.len() >= 3 && spread > 0.0).then(|| joint / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_certainty() {
        let line: Vec<f64> = (0..12).map(|step| 5.0 + 3.0 * f64::from(step)).collect();
        let trend = trend(&line).expect("a trend");
        assert_eq!((trend.slope, trend.slope_low), (3.0, 3.0));
        assert!(trend.z > 4.0, "z {}", trend.z);
    }

    #[test]
    fn one_outlier_moves_nothing() {
        let mut line: Vec<f64> = (0..12).map(f64::from).collect();
        line[5] = 1e9;
        assert!((trend(&line).expect("a trend").slope - 1.0).abs() < 0.2);
    }

    #[test]
    fn a_flat_or_swinging_series_has_no_trend() {
        for series in [[7.0; 12], [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]] {
            let trend = trend(&series).expect("a trend");
            assert!(trend.z < Z_99 && trend.slope_low <= 0.0, "{trend:?}");
        }
        assert_eq!(trend(&[1.0, 2.0]), None);
    }

    #[test]
    fn sigma_ignores_a_minority() {
        let mut values = vec![10.0, 11.0, 9.0, 10.0, 10.5, 9.5];
        values.push(1e6);
        assert!(robust_sigma(&values) < 2.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_line_has_no_sigma_of_its_own() {
        let line: Vec<f64> = (0..30).map(|step| 4.0 * f64::from(step)).collect();
        assert!(sigma_around_line(&line) < 1e-9 && robust_sigma(&line) > 40.0);
    }

    #[test]
    fn regression_finds_the_cost_of_an_operation() {
        let points: Vec<(f64, f64)> = (0..5).map(|x| (f64::from(x), 2.0 * f64::from(x) + 1.0)).collect();
        assert_eq!(regression(&points), Some(2.0));
        assert_eq!(regression(&points[..2]), None);
    }
}
