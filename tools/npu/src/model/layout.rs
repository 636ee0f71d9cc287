// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which tensors the device needs, and how they lie together in buffers.

use std::collections::HashMap;
use std::ops::Range;

use super::config::Config;

/// Tensors begin at multiples of this in their buffer.
const ALIGN: usize = 256;

/// A tensor and its place in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name in the file of weights.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its first byte in the group.
    pub offset: usize,
}

impl Tensor {
    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.shape.iter().product::<usize>() * 4
    }
}

/// Tensors that share a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are.
    pub title: String,
    /// The tensors, one behind the other.
    pub tensors: Vec<Tensor>,
    /// Bytes of all.
    pub size: usize,
}

/// A part of a tensor that lies in some range of its group.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The tensor.
    pub tensor: &'a Tensor,
    /// First byte in the tensor.
    pub from: usize,
    /// First byte in the range.
    pub to: usize,
    /// Bytes.
    pub length: usize,
}

impl Group {
    fn new(title: impl Into<String>, prefix: &str, tensors: &[(&str, &[usize])]) -> Self {
        let mut group = Self {
            title: title.into(),
            tensors: Vec::new(),
            size: 0,
        };
        for (name, shape) in tensors {
            let tensor = Tensor {
                name: format!("{prefix}{name}"),
                shape: shape.to_vec(),
                offset: group.size.next_multiple_of(ALIGN),
            };
            group.size = tensor.offset + tensor.size();
            group.tensors.push(tensor);
        }
        group
    }

    /// What lies in a range of the group; gaps between tensors are left out.
    pub fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = Piece<'_>> {
        self.tensors.iter().filter_map(move |tensor| {
            let start = range.start.max(tensor.offset);
            let end = range.end.min(tensor.offset + tensor.size());
            (start < end).then(|| Piece {
                tensor,
                from: start - tensor.offset,
                to: start - range.start,
                length: end - start,
            })
        })
    }
}

/// The groups of a model: what is used most comes first.
pub fn groups(config: &Config) -> Vec<Group> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (square, wide, narrow) = ([hidden, hidden], [inner, hidden], [hidden, inner]);
    let layer: [(&str, &[usize]); 16] = [
        ("attention.self.query.weight", &square),
        ("attention.self.query.bias", &[hidden]),
        ("attention.self.key.weight", &square),
        ("attention.self.key.bias", &[hidden]),
        ("attention.self.value.weight", &square),
        ("attention.self.value.bias", &[hidden]),
        ("attention.output.dense.weight", &square),
        ("attention.output.dense.bias", &[hidden]),
        ("attention.output.LayerNorm.weight", &[hidden]),
        ("attention.output.LayerNorm.bias", &[hidden]),
        ("intermediate.dense.weight", &wide),
        ("intermediate.dense.bias", &[inner]),
        ("output.dense.weight", &narrow),
        ("output.dense.bias", &[hidden]),
        ("output.LayerNorm.weight", &[hidden]),
        ("output.LayerNorm.bias", &[hidden]),
    ];
    let mut groups: Vec<Group> = (0..config.num_hidden_layers)
        .map(|i| Group::new(format!("layer {i}"), &format!("encoder.layer.{i}."), &layer))
        .collect();
    groups.push(Group::new(
        "embeddings",
        "embeddings.",
        &[
            ("LayerNorm.weight", &[hidden]),
            ("LayerNorm.bias", &[hidden]),
            (
                "token_type_embeddings.weight",
                &[config.type_vocab_size, hidden],
            ),
            (
                "position_embeddings.weight",
                &[config.max_position_embeddings, hidden],
            ),
            ("word_embeddings.weight", &[config.vocab_size, hidden]),
        ],
    ));
    groups
}

/// Device addresses of tensors by their names.
#[derive(Clone, Debug, Default)]
pub struct Addresses(HashMap<String, u64>);

impl Addresses {
    /// Adds a group's tensors, the group being at `va`.
    pub fn add(&mut self, group: &Group, va: u64) {
        for tensor in &group.tensors {
            self.0
                .insert(tensor.name.clone(), va + tensor.offset as u64);
        }
    }

    /// Where a tensor is.
    ///
    /// # Panics
    ///
    /// If no group that was added has it.
    pub fn of(&self, name: &str) -> u64 {
        *self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("tensor {name} has no address"))
    }
}
