// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How large a transformer is, and where in memory its parts are. Places are counted in numbers.

use super::super::{BLOCK, Error, NUMBERS, Result};

/// How many layers it has.
pub const LAYERS: usize = 12;

/// What vectors are a multiple of.
const UNIT: usize = 64;

/// What the least weights need, in bytes.
const SMALLEST: u64 = 3 << 19;

/// Vectors that a layer needs in a round, beside the wide ones: x, query, context, change.
const NARROW: usize = 4;

/// The weights of a layer, in the order in which they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tensor {
    Query,
    Key,
    Value,
    Output,
    Factor1,
    Summand1,
    Up,
    Down,
    Factor2,
    Summand2,
}

impl Tensor {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Output,
        Self::Factor1,
        Self::Summand1,
        Self::Up,
        Self::Down,
        Self::Factor2,
        Self::Summand2,
    ];
}

/// A transformer's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Numbers of a token's vector.
    pub hidden: usize,
    /// Numbers of the wide vectors.
    pub inner: usize,
    /// Tokens of a round.
    pub tokens: usize,
    /// Rounds.
    pub rounds: usize,
}

impl Shape {
    /// What fills `size` bytes: nine tenths of it weights.
    pub fn new(size: u64, rounds: usize) -> Result<Self> {
        let numbers = (size / 4) as usize;
        let layer = numbers / 10 * 9 / LAYERS;
        // Wide vectors are four times as long as others, or more.
        let hidden = ((layer / 12).isqrt() / UNIT * UNIT).max(UNIT);
        let inner = layer.saturating_sub(4 * hidden * hidden) / (2 * hidden) / UNIT * UNIT;
        let mut shape = Self {
            hidden,
            inner,
            tokens: 1,
            rounds,
        };
        if inner == 0 || shape.size() > size as usize {
            // A tenth has to have room for the cache of one token.
            let cache = 2 * LAYERS * rounds * UNIT * 4;
            return Err(Error::TooSmall(SMALLEST.max(11 * cache as u64)));
        }
        // Each token takes more than the one before: its scores.
        while shape.larger().size() <= size as usize {
            shape = shape.larger();
        }
        Ok(shape)
    }

    fn larger(self) -> Self {
        Self {
            tokens: self.tokens + 1,
            ..self
        }
    }

    /// Rows and columns of a weight.
    pub fn dimensions(&self, tensor: Tensor) -> (usize, usize) {
        let (hidden, inner) = (self.hidden, self.inner);
        match tensor {
            Tensor::Query | Tensor::Key | Tensor::Value | Tensor::Output => (hidden, hidden),
            Tensor::Up => (inner, hidden),
            Tensor::Down => (hidden, inner),
            Tensor::Factor1 | Tensor::Summand1 | Tensor::Factor2 | Tensor::Summand2 => (1, hidden),
        }
    }

    fn numbers(&self, tensors: &[Tensor]) -> usize {
        let dimensions = tensors.iter().map(|tensor| self.dimensions(*tensor));
        dimensions.map(|(rows, cols)| rows * cols).sum()
    }

    /// Where a weight is.
    pub fn weight(&self, layer: usize, tensor: Tensor) -> usize {
        layer * self.numbers(&Tensor::ALL) + self.numbers(&Tensor::ALL[..tensor as usize])
    }

    /// How much all weights are, and where they end.
    pub fn weights(&self) -> usize {
        LAYERS * self.numbers(&Tensor::ALL)
    }

    /// How much the keys, or the values, of a layer are.
    fn cache(&self) -> usize {
        self.rounds * self.tokens * self.hidden
    }

    /// Where a layer's keys are.
    pub fn keys(&self, layer: usize) -> usize {
        self.weights() + 2 * layer * self.cache()
    }

    /// Where a layer's values are.
    pub fn values(&self, layer: usize) -> usize {
        self.keys(layer) + self.cache()
    }

    /// Where the tokens are that go from layer to layer.
    pub fn x(&self) -> usize {
        self.keys(LAYERS)
    }

    /// Where queries are.
    pub fn query(&self) -> usize {
        self.x() + self.tokens * self.hidden
    }

    /// Where there is what attention finds.
    pub fn context(&self) -> usize {
        self.query() + self.tokens * self.hidden
    }

    /// Where there is what is added to the tokens.
    pub fn change(&self) -> usize {
        self.context() + self.tokens * self.hidden
    }

    /// Where wide vectors are.
    pub fn inner(&self) -> usize {
        self.x() + NARROW * self.tokens * self.hidden
    }

    /// Where each token has a number for each it looks at.
    pub fn scores(&self) -> usize {
        self.inner() + self.tokens * self.inner
    }

    /// All of it, in bytes: whole blocks.
    pub fn size(&self) -> usize {
        let end = self.scores() + self.tokens * self.tokens * self.rounds;
        end.div_ceil(NUMBERS) * BLOCK as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_it_is_weights() {
        for (size, hidden) in [
            (4 << 20, 64),
            (16 << 20, 128),
            (64 << 20, 320),
            (1 << 30, 1280),
        ] {
            let shape = Shape::new(size, 8).unwrap();
            assert_eq!(shape.hidden, hidden, "{shape:?}");
            assert!(shape.inner >= 3 * hidden, "{shape:?}");
            assert!(shape.size() as u64 <= size && shape.size() as u64 * 100 > size * 95);
            let weights = shape.weights() * 400 / shape.size();
            assert!((83..=94).contains(&weights), "{weights} {shape:?}");
            let cache = (shape.x() - shape.weights()) * 400 / shape.size();
            assert!((3..=15).contains(&cache), "{cache} {shape:?}");
        }
        assert!(Shape::new(1 << 20, 8).is_err());
        assert!(Shape::new(4 << 20, 1000).is_err());
    }

    #[test]
    fn parts_lie_behind_each_other() {
        let shape = Shape::new(16 << 20, 8).unwrap();
        let mut end = 0;
        for layer in 0..LAYERS {
            for tensor in Tensor::ALL {
                assert_eq!(shape.weight(layer, tensor), end);
                let (rows, cols) = shape.dimensions(tensor);
                end += rows * cols;
            }
        }
        assert_eq!(shape.weights(), end);
        assert_eq!(
            shape.values(0) - shape.keys(0),
            8 * shape.tokens * shape.hidden
        );
        assert_eq!(shape.inner(), shape.change() + shape.tokens * shape.hidden);
    }
}
