//! The table agrees with the structs and with itself.

use serde::de::{DeserializeOwned, Deserializer, Visitor};

use super::super::kind::Kind;
use super::super::table::{self, Section};
use super::*;

/// Takes the names of a struct's fields from its `Deserialize`.
struct Fields;

#[derive(Debug)]
struct FieldsFound(&'static [&'static str]);

impl std::fmt::Display for FieldsFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for FieldsFound {}

impl serde::de::Error for FieldsFound {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Fields {
    type Error = FieldsFound;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, FieldsFound> {
        Err(FieldsFound(fields))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, FieldsFound> {
        Err(FieldsFound(&[]))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields<T: DeserializeOwned>(_: &T) -> Vec<&'static str> {
    T::deserialize(Fields).err().unwrap().0.to_vec()
}

#[test]
fn every_field_has_a_row_and_every_row_a_field() {
    // These three only speak for another variable.
    let speaking = ["docker_env", "api_base", "rust_log"];
    let config = Config::default();

    for group in table::TABLE {
        let mut expected = match group.section {
            Section::Kafka => fields(&config.kafka),
            Section::Dispatch => fields(&config.dispatch),
            Section::Workflow => fields(&config.workflow),
            Section::Llm => fields(&config.llm),
            Section::Ollama => fields(&config.llm.ollama),
            Section::OpenAi => fields(&config.llm.openai),
            Section::Admin => fields(&config.admin),
            Section::Service => fields(&config.service),
            Section::Telemetry => fields(&config.telemetry),
        };
        let mut rows: Vec<_> = group.variables.iter().map(|row| group.field(row)).collect();
        rows.retain(|row| !speaking.contains(&row.as_str()));
        rows.sort();
        expected.sort_unstable();
        assert_eq!(rows, expected, "{}", group.title);
    }
}

#[test]
fn every_default_of_the_table_is_the_default_of_its_struct() {
    let default = shown(Config::default());

    assert_eq!(shown(loaded(&[])), default);
    for row in table::variables().filter(|row| !row.default.is_empty()) {
        assert_eq!(shown(loaded(&[(row.name, row.default)])), default, "{}", row.name);
    }
}

#[test]
fn every_bound_of_the_table_is_allowed_and_one_past_it_is_not() {
    for row in table::variables() {
        let (inside, outside) = match row.kind {
            Kind::Count(min, max) => (
                vec![min.to_string(), max.to_string()],
                vec![(i128::from(min) - 1).to_string(), (max + 1).to_string()],
            ),
            Kind::Number(min, max) => (
                vec![min.to_string(), max.to_string()],
                vec![(min - 0.01).to_string(), (max + 0.01).to_string(), "NaN".to_owned()],
            ),
            Kind::Duration(min, max)
            | Kind::DurationOrForever(min, max)
            | Kind::Seconds(min, max) => {
                let parse = |text| humantime::parse_duration(text).unwrap();
                let below = parse(min).checked_sub(Duration::from_nanos(1));
                let above = parse(max) + Duration::from_nanos(1);
                let outside = below.into_iter().chain([above]);
                (
                    vec![min.to_owned(), max.to_owned()],
                    outside.map(|d| humantime::format_duration(d).to_string()).collect(),
                )
            }
            Kind::Size(min, max) => {
                let parse = |text: &str| text.parse::<bytesize::ByteSize>().unwrap().as_u64();
                let max = Some(max).filter(|max| !max.is_empty());
                let above = max.map(|max| (parse(max) + 1).to_string());
                (
                    [min].into_iter().chain(max).map(str::to_owned).collect(),
                    std::iter::once((parse(min) - 1).to_string()).chain(above).collect(),
                )
            }
            Kind::Text
            | Kind::Name
            | Kind::Servers
            | Kind::Path
            | Kind::Secret
            | Kind::Switch
            | Kind::Ignored
            | Kind::Choice(_)
            | Kind::ChoiceAnyCase(_)
            | Kind::Urls
            | Kind::Address
            | Kind::Level
            | Kind::Filter => continue,
        };
        for text in inside {
            assert!(row.kind.normalise(&text).is_ok(), "{} {text}", row.name);
        }
        for text in outside {
            assert!(row.kind.normalise(&text).is_err(), "{} {text}", row.name);
        }
    }
}
