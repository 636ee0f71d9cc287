// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Files of sentences' vectors: safetensors with a tensor `vectors`, and the sentences as JSON in
//! the metadata, so that vectors are never compared with those of other sentences.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{Error, Result, format_error, read};

const TENSOR: &str = "vectors";
const SENTENCES: &str = "sentences";

/// Writes vectors of equal size, one a sentence.
pub fn save(path: &Path, sentences: &[String], vectors: &[Vec<f32>]) -> Result<()> {
    let values = vectors.concat();
    let shape = vec![vectors.len(), vectors.first().map_or(0, Vec::len)];
    let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(&values))
        .map_err(|error| format_error(path, error))?;
    let text = serde_json::to_string(sentences).map_err(|error| format_error(path, error))?;
    let metadata = HashMap::from([(SENTENCES.to_string(), text)]);
    let bytes = safetensors::serialize([(TENSOR, view)], Some(metadata))
        .map_err(|error| format_error(path, error))?;
    std::fs::write(path, bytes).map_err(|error| Error::File {
        path: path.display().to_string(),
        error,
    })
}

/// Reads the vectors of just these sentences, in this order.
pub fn load(path: &Path, sentences: &[String]) -> Result<Vec<Vec<f32>>> {
    let bytes = read(path)?;
    let (_, metadata) =
        SafeTensors::read_metadata(&bytes).map_err(|error| format_error(path, error))?;
    let of: Vec<String> = metadata
        .metadata()
        .as_ref()
        .and_then(|metadata| serde_json::from_str(metadata.get(SENTENCES)?).ok())
        .ok_or_else(|| format_error(path, "it doesn't say of which sentences it is"))?;
    if of != sentences {
        return Err(format_error(path, "it has the vectors of other sentences"));
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|error| format_error(path, error))?;
    let view = file
        .tensor(TENSOR)
        .map_err(|error| format_error(path, error))?;
    let &[rows, size] = view.shape() else {
        return Err(format_error(path, "its tensor is no matrix"));
    };
    if view.dtype() != Dtype::F32 || rows != sentences.len() || size == 0 {
        return Err(format_error(path, "its tensor has the wrong type or size"));
    }
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("a chunk of 4"));
    let values: Vec<f32> = view.data().chunks_exact(4).map(number).collect();
    Ok(values.chunks_exact(size).map(<[f32]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_survive_a_file() {
        let path = std::env::temp_dir().join(format!("npu-vectors-{}", std::process::id()));
        let sentences = ["one".to_string(), "\"two\" \u{2013} zwei".to_string()];
        let vectors = vec![vec![1.0, -2.5, 3.0], vec![0.0, f32::MIN_POSITIVE, 7.0]];
        save(&path, &sentences, &vectors).unwrap();
        let back = load(&path, &sentences);
        let other = load(&path, &["one".to_string(), "three".to_string()]);
        std::fs::write(&path, "no such thing").unwrap();
        let broken = load(&path, &sentences);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(back.unwrap(), vectors);
        assert!(
            other
                .unwrap_err()
                .to_string()
                .ends_with("of other sentences")
        );
        assert!(broken.is_err());
        assert!(load(&path, &sentences).is_err());
    }
}
