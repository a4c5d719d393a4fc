//! Models in int8, and processors that are slow at them.

use guildex_types::ModelSlug;

use crate::source::LocalSource;

/// Whether a model multiplies in whole numbers of a byte, as far as its names tell.
pub(crate) fn is_int8(slug: &ModelSlug, source: &LocalSource) -> bool {
    let named = match source {
        LocalSource::Named(name) => name.to_ascii_lowercase().ends_with("-q"),
        LocalSource::Folder { .. } => false,
    };
    named || slug.as_str().ends_with("-int8")
}

/// Whether this processor sums products of bytes in one instruction. Without that int8 gains
/// little over fp32, and on x86 some of its sums are cut off at 16 bits.
pub(crate) fn processor_multiplies_bytes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512vnni") || std::is_x86_feature_detected!("avxvnni");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("dotprod")
        || std::arch::is_aarch64_feature_detected!("i8mm");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return true;
}

/// What whoever runs a model on such a processor ought to know.
pub(crate) fn warning(slug: &ModelSlug, source: &LocalSource, multiplies_bytes: bool) -> Option<String> {
    (is_int8(slug, source) && !multiplies_bytes).then(|| {
        format!(
            "{slug} is in int8, and this processor has no instructions for that (VNNI on x86, dot products on ARM): \
             the model in fp32 may be as fast, and is more exact"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Pooling;

    #[test]
    fn int8_on_a_processor_without_byte_products_is_warned_of() {
        let folder = LocalSource::Folder { path: "/model".into(), pooling: Pooling::Mean };
        let named = |name: &str| LocalSource::Named(name.to_owned());
        let slug = |name: &str| name.parse::<ModelSlug>().unwrap();
        let (int8, fp32) = (slug("all-minilm-l6-v2-int8"), slug("all-minilm-l6-v2-fp32"));
        for (slug, source) in
            [(&int8, &folder), (&int8, &named("all-MiniLM-L6-v2")), (&fp32, &named("bge-small-en-v1.5-Q"))]
        {
            let told = warning(slug, source, false).unwrap();
            assert!(told.starts_with(slug.as_str()), "{told}");
            assert_eq!(warning(slug, source, true), None);
        }
        assert_eq!(warning(&fp32, &folder, false), None);
        assert_eq!(warning(&fp32, &named("all-MiniLM-L6-v2"), false), None);
    }
}
