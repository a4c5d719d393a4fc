//! Detects processors that are slow at int8 models.

use guildex_types::ModelSlug;

use super::source::LocalSource;

/// Whether a model is quantized to int8, judging by its names.
pub(crate) fn is_int8(slug: &ModelSlug, source: &LocalSource) -> bool {
    let named = match source {
        LocalSource::Named(name) => name.to_ascii_lowercase().ends_with("-q"),
        LocalSource::Folder { .. } => false,
    };
    named || slug.as_str().ends_with("-int8")
}

/// Whether this processor has dot product instructions for int8. Without them int8 is hardly faster than fp32, and on x86
/// some intermediate sums saturate at 16 bits.
pub(crate) fn has_int8_dot_product() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512vnni") || std::is_x86_feature_detected!("avxvnni");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("dotprod")
        || std::arch::is_aarch64_feature_detected!("i8mm");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return true;
}

/// Warning for an int8 model on a processor without int8 instructions.
pub(crate) fn warning(slug: &ModelSlug, source: &LocalSource, has_int8_dot_product: bool) -> Option<String> {
    (is_int8(slug, source) && !has_int8_dot_product).then(|| {
        format!(
            "{slug} is an int8 model, and this processor has no int8 dot product instructions (VNNI on x86, DotProd on \
             ARM): the fp32 model may be as fast and is more exact"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::source::Pooling;

    #[test]
    fn int8_without_processor_support_gives_a_warning() {
        let folder = LocalSource::Folder { path: "/model".into(), pooling: Pooling::Mean };
        let named = |name: &str| LocalSource::Named(name.to_owned());
        let slug = |name: &str| name.parse::<ModelSlug>().unwrap();
        let (int8, fp32) = (slug("all-minilm-l6-v2-int8"), slug("all-minilm-l6-v2-fp32"));
        for (slug, source) in
            [(&int8, &folder), (&int8, &named("all-MiniLM-L6-v2")), (&fp32, &named("bge-small-en-v1.5-Q"))]
        {
            let warned = warning(slug, source, false).unwrap();
            assert!(warned.starts_with(slug.as_str()), "{warned}");
            assert_eq!(warning(slug, source, true), None);
        }
        assert_eq!(warning(&fp32, &folder, false), None);
        assert_eq!(warning(&fp32, &named("all-MiniLM-L6-v2"), false), None);
    }
}
