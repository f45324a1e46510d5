//! How a field takes a write, and the declaration of a state with a reducer per field.

/// Declares a state: its fields, the reducer of each, and what a node on it may fail with.
///
/// ```
/// use weir::graph;
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("no answer")]
/// pub struct NoAnswer;
///
/// fn shorten(notes: &mut String, note: String) {
///     notes.extend(note.chars().take(3));
/// }
///
/// graph::state! {
///     /// What the agents of a chat share.
///     #[derive(Debug, Clone, Default, PartialEq)]
///     pub struct Chat {
///         /// What was said, in order.
///         pub messages: Vec<String> => append,
///         /// What each agent found, by its name.
///         pub results: std::collections::BTreeMap<String, u32> => merge,
///         /// What is to be done.
///         pub task: String => overwrite,
///         /// Who goes next; one node per superstep may say so.
///         pub next: String => last_value,
///         /// Tokens spent.
///         pub tokens: u64 => add,
///         /// The best score so far.
///         pub best: u32 => max,
///         /// Shortened notes.
///         pub notes: String => with(String, shorten),
///     }
///     /// What one agent has to say.
///     pub update ChatUpdate;
///     error NoAnswer;
/// }
///
/// let update = ChatUpdate::default().messages(vec!["hello".to_owned()]).tokens(3);
/// let mut chat = Chat::default();
/// graph::State::apply(&mut chat, update);
/// assert_eq!(chat.messages, ["hello"]);
/// ```
///
/// | reducer | a write `v` makes of the field `x` | in the update |
/// |---|---|---|
/// | `last_value` | `v`; two writers in one superstep are an error | `Option<T>` |
/// | `overwrite` | `v`; of several writers the last in name order wins | `Option<T>` |
/// | `append`, `merge` | `x.extend(v)`: concatenation; for maps, a shallow merge in which `v` wins | `Option<T>` |
/// | `add` | `x += v` | `Option<T>` |
/// | `max` | the larger of both | `Option<T>` |
/// | `with(U, f)` | what `f(&mut x, v)` makes of it | `Option<U>` |
///
/// The update has a field as visible as the state's and a setter for each field, and implements
/// `Debug`, `Clone`, `Default`, `Serialize` and `Deserialize` (a field that is `None` is left out;
/// keys that are no field are passed over; `r#type` is `type`). A field of type `Option` can be set to `None`:
/// `Some(None)` is written as `null` and read back.
#[macro_export]
#[doc(hidden)]
macro_rules! __graph_state {
    (
        $(#[$state_attribute:meta])*
        $state_vis:vis struct $state:ident {
            $(
                $(#[$attribute:meta])*
                $vis:vis $field:ident : $type:ty => $reducer:ident $( ( $($argument:tt)* ) )?
            ),+ $(,)?
        }
        $(#[$update_attribute:meta])*
        $update_vis:vis update $update:ident;
        error $error:ty;
    ) => {
        $(#[$state_attribute])*
        $state_vis struct $state {
            $( $(#[$attribute])* $vis $field: $type, )+
        }

        $(#[$update_attribute])*
        #[derive(Debug, Clone, Default)]
        $update_vis struct $update {
            $(
                #[doc = concat!("What to write to `", stringify!($field), "` (", stringify!($reducer), ").")]
                $vis $field: ::core::option::Option<
                    $crate::__graph_state!(@written $type, $reducer $( ( $($argument)* ) )?)
                >,
            )+
        }

        impl $update {
            $(
                #[doc = concat!("Writes `value` to `", stringify!($field), "` (", stringify!($reducer), ").")]
                #[must_use]
                $update_vis fn $field(
                    mut self,
                    value: $crate::__graph_state!(@written $type, $reducer $( ( $($argument)* ) )?),
                ) -> Self {
                    self.$field = ::core::option::Option::Some(value);
                    self
                }
            )+
        }

        impl $crate::graph::State for $state {
            type Update = $update;
            type Error = $error;

            fn check(
                &self,
                update: &$update,
                claims: &mut $crate::graph::Claims<'_>,
            ) -> ::core::result::Result<(), $crate::graph::Refusal> {
                let _: (&$update, &mut $crate::graph::Claims<'_>) = (update, &mut *claims);
                $( $crate::__graph_state!(@check claims, update, $field, $reducer); )+
                ::core::result::Result::Ok(())
            }

            fn apply(&mut self, update: $update) {
                $(
                    if let ::core::option::Option::Some(value) = update.$field {
                        $crate::__graph_state!(
                            @apply self.$field, value, $reducer $( ( $($argument)* ) )?
                        );
                    }
                )+
            }
        }

        $crate::__graph_state!(@serde $update, $($field)+);
    };

    (@written $type:ty, with($written:ty, $function:expr)) => { $written };
    (@written $type:ty, $reducer:ident) => { $type };

    (@check $claims:ident, $update:ident, $field:ident, last_value) => {
        if $update.$field.is_some() {
            $claims.claim($crate::graph::__private::plain(stringify!($field)))?;
        }
    };
    (@check $claims:ident, $update:ident, $field:ident, $reducer:ident) => {};

    (@apply $x:expr, $v:ident, last_value) => { $x = $v };
    (@apply $x:expr, $v:ident, overwrite) => { $x = $v };
    (@apply $x:expr, $v:ident, append) => { ::core::iter::Extend::extend(&mut $x, $v) };
    (@apply $x:expr, $v:ident, merge) => { ::core::iter::Extend::extend(&mut $x, $v) };
    (@apply $x:expr, $v:ident, add) => { $x += $v };
    (@apply $x:expr, $v:ident, max) => {
        if $v > $x {
            $x = $v;
        }
    };
    (@apply $x:expr, $v:ident, with($written:ty, $function:expr)) => { $function(&mut $x, $v) };
    (@apply $x:expr, $v:ident, $reducer:ident) => {
        compile_error!(concat!("`", stringify!($reducer), "` is no reducer"))
    };

    (@serde $update:ident, $($field:ident)+) => {
        impl $crate::graph::__private::Serialize for $update {
            fn serialize<T: $crate::graph::__private::Serializer>(
                &self,
                serializer: T,
            ) -> ::core::result::Result<T::Ok, T::Error> {
                use $crate::graph::__private::SerializeMap as _;
                let mut map = serializer.serialize_map(::core::option::Option::None)?;
                $(
                    if let ::core::option::Option::Some(value) = &self.$field {
                        map.serialize_entry(
                            $crate::graph::__private::plain(stringify!($field)),
                            value,
                        )?;
                    }
                )+
                map.end()
            }
        }

        impl<'de> $crate::graph::__private::Deserialize<'de> for $update {
            fn deserialize<T: $crate::graph::__private::Deserializer<'de>>(
                deserializer: T,
            ) -> ::core::result::Result<Self, T::Error> {
                struct Fields;
                impl<'de> $crate::graph::__private::Visitor<'de> for Fields {
                    type Value = $update;

                    fn expecting(
                        &self,
                        formatter: &mut ::core::fmt::Formatter<'_>,
                    ) -> ::core::fmt::Result {
                        formatter.write_str(concat!("the fields of ", stringify!($update)))
                    }

                    fn visit_map<M: $crate::graph::__private::MapAccess<'de>>(
                        self,
                        mut map: M,
                    ) -> ::core::result::Result<$update, M::Error> {
                        let mut update = <$update as ::core::default::Default>::default();
                        while let ::core::option::Option::Some(key) =
                            map.next_key::<::std::borrow::Cow<'de, str>>()?
                        {
                            match key.as_ref() {
                                $(
                                    key if key
                                        == $crate::graph::__private::plain(stringify!($field)) =>
                                    {
                                        update.$field = ::core::option::Option::Some(map.next_value()?);
                                    }
                                )+
                                _ => {
                                    let _: $crate::graph::__private::IgnoredAny = map.next_value()?;
                                }
                            }
                        }
                        ::core::result::Result::Ok(update)
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
    };
}

/// What the macro's expansion names, so that the crate that uses it needs no serde of its own.
#[doc(hidden)]
pub mod private {
    pub use serde::de::{IgnoredAny, MapAccess, Visitor};
    pub use serde::ser::SerializeMap;
    pub use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// The name of a field without the mark of a raw identifier, as serde has it.
    #[doc(hidden)]
    #[must_use]
    pub fn plain(field: &'static str) -> &'static str {
        field.strip_prefix("r#").unwrap_or(field)
    }
}
