use std::collections::BTreeMap;

/// A sparse vector: weights at some of 2^32 dimensions, ascending, each once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SparseVector {
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl SparseVector {
    /// The dimensions, ascending.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The weights, in the order of the dimensions.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Whether it has no weights: it matches nothing.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

/// Weights of the same dimension are added.
impl FromIterator<(u32, f32)> for SparseVector {
    fn from_iter<I: IntoIterator<Item = (u32, f32)>>(weights: I) -> Self {
        let mut sums: BTreeMap<u32, f32> = BTreeMap::new();
        for (index, value) in weights {
            *sums.entry(index).or_default() += value;
        }
        let (indices, values) = sums.into_iter().unzip();
        Self { indices, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_sorted_and_unique() {
        let vector: SparseVector = [(9, 1.0), (2, 0.5), (9, 2.0)].into_iter().collect();
        assert_eq!((vector.indices(), vector.values()), (&[2, 9][..], &[0.5, 3.0][..]));
    }
}
