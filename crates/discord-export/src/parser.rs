//! Streaming parser of an export: holds the JSON of one message at a time.
//!
//! Based on <https://serde.rs/stream-array.html>: a visitor receives the elements of `messages` while they are parsed.
//! Each element is first read as raw JSON, so that an invalid message does not end the file.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::ErrorKind;
use crate::header::{self, Header};
use crate::message;
use crate::page::{PageBuilder, Rejected};
use crate::source::Meter;

/// Parses `json` into `pages`, to its end or until the caller stops.
pub(crate) fn parse(json: impl Read, meter: &Meter, pages: &mut PageBuilder<'_>) -> Result<(), ErrorKind> {
    let mut parser = serde_json::Deserializer::from_reader(json);
    let mut visitor = ExportVisitor { meter, pages, end: None };
    meter.allow_element();
    let parsed = parser.deserialize_map(&mut visitor).and_then(|()| parser.end());
    match (visitor.end, parsed) {
        (Some(End::Stopped), _) => Ok(()),
        (Some(End::Failed(kind)), _) => Err(kind),
        (None, Ok(())) if pages.have_begun() => Ok(()),
        (None, Ok(())) => Err(ErrorKind::NotAnExport),
        (None, Err(error)) => Err(match ErrorKind::from(error) {
            ErrorKind::Truncated if meter.offset() == 0 => ErrorKind::Empty,
            ErrorKind::Syntax(_) if !pages.have_begun() => ErrorKind::NotAnExport,
            kind => kind,
        }),
    }
}

struct ExportVisitor<'a, 'p> {
    meter: &'a Meter,
    pages: &'a mut PageBuilder<'p>,
    end: Option<End>,
}

/// Reason to leave the parser before the end of the JSON.
enum End {
    Stopped,
    Failed(ErrorKind),
}

impl ExportVisitor<'_, '_> {
    /// A visitor can leave its parser only by an error; `end` records the real reason.
    fn leave<E: serde::de::Error>(&mut self, end: End) -> E {
        self.end = Some(end);
        E::custom("stopped early")
    }

    fn continue_if<E: serde::de::Error>(&mut self, flow: ControlFlow<()>) -> Result<(), E> {
        match flow {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(self.leave(End::Stopped)),
        }
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Field {
    Guild,
    Channel,
    Messages,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for &mut ExportVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an export")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut guild: Option<Box<RawValue>> = None;
        let mut channel: Option<Box<RawValue>> = None;
        while let Some(field) = fields.next_key()? {
            match field {
                Field::Guild => guild = Some(fields.next_value()?),
                Field::Channel => channel = Some(fields.next_value()?),
                Field::Messages => {
                    let (Some(guild), Some(channel)) = (&guild, &channel) else {
                        return Err(self.leave(End::Failed(ErrorKind::NotAnExport)));
                    };
                    let header = match header::parse(guild, channel) {
                        Ok(header) => Arc::new(header),
                        Err(kind) => return Err(self.leave(End::Failed(kind))),
                    };
                    let flow = self.pages.begin(Arc::clone(&header));
                    self.continue_if(flow)?;
                    fields.next_value_seed(Messages { visitor: &mut *self, header: &header })?;
                }
                Field::Other => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
            self.meter.allow_element();
        }
        Ok(())
    }
}

/// Seed for the array of messages.
struct Messages<'a, 'w, 'p> {
    visitor: &'a mut ExportVisitor<'w, 'p>,
    header: &'a Header,
}

impl<'de> DeserializeSeed<'de> for Messages<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Messages<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut messages: A) -> Result<(), A::Error> {
        let Self { visitor, header } = self;
        visitor.meter.allow_element();
        while let Some((offset, raw)) = messages.next_element_seed(Element { meter: visitor.meter })? {
            let message = message::parse(&raw, header).map_err(|reason| Rejected {
                offset,
                id: message::parse_id(&raw),
                reason,
            });
            let flow = visitor.pages.push(message);
            visitor.continue_if(flow)?;
            visitor.meter.allow_element();
        }
        Ok(())
    }
}

/// Seed for one element of the array: its offset and raw JSON.
struct Element<'a> {
    meter: &'a Meter,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = (u64, Box<RawValue>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // The parser has already consumed the element's first byte to detect it.
        let offset = self.meter.offset().saturating_sub(1);
        Ok((offset, Box::deserialize(deserializer)?))
    }
}
