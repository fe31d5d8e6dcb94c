//! AdamW over plain slices: one pass per tensor, and a state that can be saved.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use crate::model::{Weights, single};

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.98;
const EPSILON: f32 = 1e-8;
const WEIGHT_DECAY: f32 = 0.05;
/// Gradients longer than this are scaled down to it.
const LARGEST_NORM: f32 = 1.0;

/// First and second moments of each tensor, in file order.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Running means of the gradients.
    pub first: Vec<Vec<f32>>,
    /// Running means of their squares.
    pub second: Vec<Vec<f32>>,
}

impl Moments {
    /// Moments before the first step.
    pub fn zero(weights: &Weights) -> Self {
        let zeros: Vec<Vec<f32>> = weights
            .named()
            .iter()
            .map(|(_, var)| vec![0.0; var.elem_count()])
            .collect();
        Self {
            first: zeros.clone(),
            second: zeros,
        }
    }

    /// Takes step number `step` (from 1) and returns the length of the gradient.
    ///
    /// # Errors
    /// When a tensor cannot be read or written.
    pub fn step(
        &mut self,
        weights: &Weights,
        gradients: &GradStore,
        step: usize,
        rate: f32,
    ) -> candle_core::Result<f32> {
        let mut plain = Vec::with_capacity(weights.named().len());
        for (_, var) in weights.named() {
            let gradient = gradients.get(var.as_tensor());
            plain.push(match gradient {
                Some(gradient) => gradient.flatten_all()?.to_vec1::<f32>()?,
                None => vec![0.0; var.elem_count()],
            });
        }
        let square: f64 = plain
            .iter()
            .flatten()
            .map(|g| f64::from(*g) * f64::from(*g))
            .sum();
        let length = single(square.sqrt());
        let clip = if length > LARGEST_NORM {
            LARGEST_NORM / length
        } else {
            1.0
        };
        let exponent = i32::try_from(step).unwrap_or(i32::MAX);
        let corrections = (1.0 - BETA1.powi(exponent), 1.0 - BETA2.powi(exponent));
        for (index, (_, var)) in weights.named().iter().enumerate() {
            let update = Update {
                rate,
                clip,
                corrections,
                decay: decay(var),
            };
            let values = var.flatten_all()?.to_vec1::<f32>()?;
            let values = update.apply(
                values,
                &plain[index],
                &mut self.first[index],
                &mut self.second[index],
            );
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
        Ok(length)
    }
}

/// Norm weights are not decayed.
fn decay(var: &Var) -> f32 {
    if var.rank() == 1 { 0.0 } else { WEIGHT_DECAY }
}

struct Update {
    rate: f32,
    clip: f32,
    corrections: (f32, f32),
    decay: f32,
}

impl Update {
    fn apply(
        &self,
        mut values: Vec<f32>,
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) -> Vec<f32> {
        for (((value, gradient), first), second) in
            values.iter_mut().zip(gradient).zip(first).zip(second)
        {
            let gradient = gradient * self.clip;
            *first = BETA1 * *first + (1.0 - BETA1) * gradient;
            *second = BETA2 * *second + (1.0 - BETA2) * gradient * gradient;
            let direction =
                (*first / self.corrections.0) / ((*second / self.corrections.1).sqrt() + EPSILON);
            *value -= self.rate * (direction + self.decay * *value);
        }
        values
    }
}

/// The learning rate of step `step` (from 1) of `steps`: a short rise, then half a cosine.
pub fn rate(step: usize, steps: usize) -> f32 {
    const PEAK: f64 = 2e-3;
    const FLOOR: f64 = 5e-5;
    let rise = 60.min(steps / 10).max(1);
    if step <= rise {
        return single(PEAK * step as f64 / rise as f64);
    }
    let done = (step - rise) as f64 / (steps - rise).max(1) as f64;
    single(FLOOR + (PEAK - FLOOR) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_rises_then_falls_to_its_floor() {
        assert!(rate(1, 1000) < rate(60, 1000));
        assert!((rate(60, 1000) - 2e-3).abs() < 1e-9);
        assert!((rate(1000, 1000) - 5e-5).abs() < 1e-9);
        assert!(rate(1, 1).is_finite());
    }

    #[test]
    fn first_step_moves_each_value_by_the_rate_against_its_gradient() {
        let update = Update {
            rate: 0.1,
            clip: 1.0,
            corrections: (1.0 - BETA1, 1.0 - BETA2),
            decay: 0.0,
        };
        let moved = update.apply(vec![1.0, 1.0], &[0.5, -3.0], &mut [0.0; 2], &mut [0.0; 2]);
        assert!((moved[0] - 0.9).abs() < 1e-5 && (moved[1] - 1.1).abs() < 1e-5);
    }
}
