// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The model's weights, from `model.safetensors`: read from the file piece by piece, so that the
//! whole is in memory once only, where it is used.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::{Error, Result, format_error};

/// A file of weights.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the tensors begin in the file.
    base: u64,
}

impl Weights {
    /// Opens the weights of a model's directory and reads what tensors there are.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("model.safetensors");
        let error = |error| Error::File {
            path: path.display().to_string(),
            error,
        };
        let mut file = File::open(&path).map_err(error)?;
        let length = file.metadata().map_err(error)?.len();
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(error)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > length - 8 {
            return Err(format_error(&path, "the header is longer than the file"));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(error)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| format_error(&path, error))?;
        let base = 8 + header_length;
        if base + metadata.data_len() as u64 != length {
            return Err(format_error(
                &path,
                "the file is cut short, or longer than its tensors",
            ));
        }
        Ok(Self {
            path,
            file,
            metadata,
            base,
        })
    }

    fn info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let problem = |what| format_error(&self.path, format!("tensor {name} {what}"));
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| problem("is missing".into()))?;
        if info.dtype != Dtype::F32 {
            return Err(problem(format!("is of {:?}, not F32", info.dtype)));
        }
        if info.shape != shape {
            return Err(problem(format!(
                "has shape {:?}, not {shape:?}",
                info.shape
            )));
        }
        let (start, end) = info.data_offsets;
        if end.checked_sub(start) != Some(shape.iter().product::<usize>() * 4) {
            return Err(problem("has the wrong size".into()));
        }
        Ok(info)
    }

    /// Checks that there is such a tensor.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.info(name, shape).map(drop)
    }

    /// Reads bytes of a tensor, from byte `offset` of it.
    pub fn read_bytes(
        &self,
        name: &str,
        shape: &[usize],
        offset: usize,
        target: &mut [u8],
    ) -> Result<()> {
        let (start, end) = self.info(name, shape)?.data_offsets;
        assert!(
            offset + target.len() <= end - start,
            "read beyond tensor {name}"
        );
        self.file
            .read_exact_at(target, self.base + (start + offset) as u64)
            .map_err(|error| Error::File {
                path: self.path.display().to_string(),
                error,
            })
    }

    /// Reads `count` values of a tensor, from value `first` of it.
    pub fn read_values(
        &self,
        name: &str,
        shape: &[usize],
        first: usize,
        count: usize,
    ) -> Result<Vec<f32>> {
        let mut values = vec![0f32; count];
        self.read_bytes(
            name,
            shape,
            first * 4,
            bytemuck::cast_slice_mut(&mut values),
        )?;
        Ok(values)
    }
}
