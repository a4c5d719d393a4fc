//! Postgres types of ids, slugs and enums.
//!
//! Values are validated when they are read, so a row that another program wrote cannot produce an invalid id.

/// Maps a type with `get() -> i64` and `TryFrom<i64>` to `bigint`.
macro_rules! sql_bigint {
    ($type:ty) => {
        #[cfg(feature = "sqlx")]
        const _: () = {
            use sqlx::encode::IsNull;
            use sqlx::error::BoxDynError;
            use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
            use sqlx::{Decode, Encode, Postgres, Type};

            impl Type<Postgres> for $type {
                fn type_info() -> PgTypeInfo {
                    <i64 as Type<Postgres>>::type_info()
                }
            }

            impl PgHasArrayType for $type {
                fn array_type_info() -> PgTypeInfo {
                    <i64 as PgHasArrayType>::array_type_info()
                }
            }

            impl Encode<'_, Postgres> for $type {
                fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                    Encode::<Postgres>::encode_by_ref(&self.get(), buffer)
                }
            }

            impl Decode<'_, Postgres> for $type {
                fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
                    let number = <i64 as Decode<Postgres>>::decode(value)?;
                    Ok(Self::try_from(number)?)
                }
            }
        };
    };
}

/// Maps a type with `as_str()` and `FromStr` to `text`. Not a `CREATE TYPE` enum: a new value needs no
/// migration.
#[macro_export]
macro_rules! sql_text {
    ($type:ty) => {
        const _: () = {
            use sqlx::encode::IsNull;
            use sqlx::error::BoxDynError;
            use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
            use sqlx::{Decode, Encode, Postgres, Type};

            impl Type<Postgres> for $type {
                fn type_info() -> PgTypeInfo {
                    <str as Type<Postgres>>::type_info()
                }

                fn compatible(found: &PgTypeInfo) -> bool {
                    <str as Type<Postgres>>::compatible(found)
                }
            }

            impl PgHasArrayType for $type {
                fn array_type_info() -> PgTypeInfo {
                    <String as PgHasArrayType>::array_type_info()
                }
            }

            impl Encode<'_, Postgres> for $type {
                fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                    Encode::<Postgres>::encode_by_ref(&self.as_str(), buffer)
                }
            }

            impl Decode<'_, Postgres> for $type {
                fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
                    let text = <&str as Decode<Postgres>>::decode(value)?;
                    text.parse().map_err(|error| format!("{text:?}: {error}").into())
                }
            }
        };
    };
}

pub(crate) use sql_bigint;
