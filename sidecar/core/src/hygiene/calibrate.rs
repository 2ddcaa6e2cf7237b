//! The calibration probe: which shapes to write, and what the engine's answer says about the model.
//! An engine whose answer the model cannot meet is not calibrated: its verdict is `Unknown`.

use thiserror::Error;

use crate::hygiene::size_model::{Affine, Collection, Corrections, SizeModel};
use crate::ledger::Family;

/// How a probe is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `count` string keys of `value_len` bytes.
    Strings,
    /// One zset of `count` members of `value_len` bytes.
    Compact,
    Table,
}

/// One shape to write, measure and remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub form: Form,
    pub count: u64,
    pub value_len: u64,
}

/// Every probe key has this length, as most names of the data model are near it.
pub const PROBE_KEY_LEN: usize = 48;

/// Counts keep the probe under 5 MB and a few milliseconds; lengths touch each string header, and the classes
/// that blobs use most.
pub const PROBES: &[Probe] = &[
    Probe { form: Form::Strings, count: 256, value_len: 100 },
    Probe { form: Form::Strings, count: 256, value_len: 228 },
    Probe { form: Form::Strings, count: 128, value_len: 1_152 },
    Probe { form: Form::Strings, count: 64, value_len: 4_224 },
    Probe { form: Form::Strings, count: 16, value_len: 16_000 },
    Probe { form: Form::Strings, count: 8, value_len: 65_472 },
    Probe { form: Form::Strings, count: 4, value_len: 262_080 },
    Probe { form: Form::Compact, count: 60, value_len: 24 },
    Probe { form: Form::Compact, count: 110, value_len: 60 },
    Probe { form: Form::Table, count: 512, value_len: 24 },
    Probe { form: Form::Table, count: 512, value_len: 50 },
];

/// A probe with what the engine's memory grew by, its main tables left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub probe: Probe,
    pub grown_bytes: f64,
}

#[derive(Clone, Debug, PartialEq, Error)]
pub enum Misfit {
    #[error(
        "{count} {form:?} of {value_len} bytes cost {measured:.0} bytes each, the model says {modelled:.0}"
    )]
    Shape { form: Form, count: u64, value_len: u64, measured: f64, modelled: f64 },
    #[error("no measurement of {0:?}")]
    Missing(Form),
}

/// What the correction may leave unexplained per item: half of the smallest class step, or 0.3 % of the item.
const LEFT_BYTES_MAX: f64 = 8.0;
const LEFT_SHARE_MAX: f64 = 0.003;
/// A zset's nodes have random heights: 512 of them vary by a percent.
const LEFT_SHARE_TABLE_MAX: f64 = 0.03;
/// A correction beyond these means that the layout is a different one, not that it is a little off.
const PER_ITEM_MAX: f64 = 48.0;
const PER_BYTE_MAX: f64 = 0.02;

/// The model's bytes for a probe, main tables left out.
pub fn modelled(model: &SizeModel, probe: &Probe) -> f64 {
    match probe.form {
        Form::Strings => (model.string_key(PROBE_KEY_LEN, probe.value_len as usize) * probe.count) as f64,
        Form::Compact | Form::Table => {
            let collection = Collection {
                members: probe.count,
                compact_bytes: probe.count * model.compact_member(Family::Names, probe.value_len),
                table_bytes: probe.count * model.table_member(Family::Names, probe.value_len),
                expanded: probe.form == Form::Table,
            };
            model.collection(Family::Names, PROBE_KEY_LEN, &collection) as f64
        }
    }
}

/// Fits one correction per form and refuses a model that stays wrong. `model` has no corrections yet.
pub fn calibrate(model: &SizeModel, measured: &[Measured]) -> Result<SizeModel, Misfit> {
    let string = fit(model, measured, Form::Strings)?;
    // The frame of a collection is a key like any other: fit the rest with the strings' correction applied.
    let framed = SizeModel { corrections: Corrections { string, ..Default::default() }, ..*model };
    let listpack = fit(&framed, measured, Form::Compact)?;
    let table = fit(&framed, measured, Form::Table)?;
    let fitted = SizeModel { corrections: Corrections { string, listpack, table }, ..*model };
    for Measured { probe, grown_bytes } in measured {
        verify(&fitted, probe, *grown_bytes)?;
    }
    Ok(fitted)
}

/// Items that a correction multiplies: a compact collection is one item however many members it has.
fn items(probe: &Probe) -> f64 {
    if probe.form == Form::Compact { 1.0 } else { probe.count as f64 }
}

/// Least squares of the difference per item over the model's bytes per item, weighted by nothing: each shape
/// counts once. A slope needs at least 3 shapes; below that only the constant is learned.
fn fit(model: &SizeModel, measured: &[Measured], form: Form) -> Result<Affine, Misfit> {
    let points: Vec<(f64, f64)> = measured
        .iter()
        .filter(|measured| measured.probe.form == form)
        .map(|Measured { probe, grown_bytes }| {
            let expected = modelled(model, probe);
            (expected / items(probe), (grown_bytes - expected) / items(probe))
        })
        .collect();
    if points.is_empty() {
        return Err(Misfit::Missing(form));
    }
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    if points.len() < 3 {
        return Ok(Affine { per_item: mean_y, per_byte: 0.0 });
    }
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread.max(1.0);
    Ok(Affine { per_item: mean_y - slope * mean_x, per_byte: slope })
}

fn verify(model: &SizeModel, probe: &Probe, grown_bytes: f64) -> Result<(), Misfit> {
    let expected = modelled(model, probe) / items(probe);
    let seen = grown_bytes / items(probe);
    let share = if probe.form == Form::Table { LEFT_SHARE_TABLE_MAX } else { LEFT_SHARE_MAX };
    let Corrections { string, listpack, table } = model.corrections;
    let correction = match probe.form {
        Form::Strings => string,
        Form::Compact => listpack,
        Form::Table => table,
    };
    let plausible = correction.per_item.abs() <= PER_ITEM_MAX && correction.per_byte.abs() <= PER_BYTE_MAX;
    // A compact collection rounds to a class as a whole: one class step of 4 KiB is a quarter of it.
    let left =
        if probe.form == Form::Compact { expected * 0.25 } else { LEFT_BYTES_MAX.max(expected * share) };
    if plausible && (seen - expected).abs() <= left {
        return Ok(());
    }
    Err(Misfit::Shape {
        form: probe.form,
        count: probe.count,
        value_len: probe.value_len,
        measured: seen,
        modelled: expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hygiene::allocator::Allocator;
    use crate::hygiene::size_model::ASSUMED;

    fn answers(truth: &SizeModel, extra_per_key: f64) -> Vec<Measured> {
        let grown = |probe: &Probe| {
            let keys = if probe.form == Form::Strings { probe.count as f64 } else { 1.0 };
            modelled(truth, probe) + keys * extra_per_key
        };
        PROBES.iter().map(|probe| Measured { probe: *probe, grown_bytes: grown(probe) }).collect()
    }

    #[test]
    fn an_exact_model_needs_no_correction() {
        let fitted = calibrate(&ASSUMED, &answers(&ASSUMED, 0.0)).expect("calibrated");
        assert!(fitted.corrections.string.per_item.abs() < 0.01, "{:?}", fitted.corrections);
    }

    #[test]
    fn a_header_we_do_not_know_is_learned() {
        let fitted = calibrate(&ASSUMED, &answers(&ASSUMED, 16.0)).expect("calibrated");
        assert!((fitted.corrections.string.per_item - 16.0).abs() < 1.0, "{:?}", fitted.corrections);
    }

    #[test]
    fn another_allocator_is_not_calibrated() {
        let truth = SizeModel { allocator: Allocator::Libc, ..ASSUMED };
        let misfit = calibrate(&ASSUMED, &answers(&truth, 0.0)).expect_err("a misfit");
        assert!(misfit.to_string().contains("the model says"), "{misfit}");
    }

    #[test]
    fn a_layout_far_off_is_not_calibrated() {
        assert!(calibrate(&ASSUMED, &answers(&ASSUMED, 300.0)).is_err());
    }

    #[test]
    fn an_engine_without_answers_is_not_calibrated() {
        assert_eq!(calibrate(&ASSUMED, &[]), Err(Misfit::Missing(Form::Strings)));
    }
}
