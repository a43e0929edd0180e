//! Which lines a caller wants: the query of `GET /log/APP`, parsed once.

use kit_http::ApiError;
use kit_syslog::Stream;

use crate::buffer::CAPACITY;
use crate::line::Line;

/// What a caller asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    /// Whether to go on with lines to come.
    pub(crate) is_following: bool,
    /// How many of the buffered lines, the newest; None or zero as the API has it.
    pub(crate) lines: Option<usize>,
}

/// What a line must be like. All that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    job: Option<String>,
    /// Set but empty: lines without a process type.
    process_type: Option<String>,
    /// None: all streams.
    streams: Option<Vec<Stream>>,
}

impl Filter {
    pub(crate) fn matches(&self, line: &Line) -> bool {
        let (process_type, job) = line.message.process();
        self.job.as_deref().is_none_or(|wanted| wanted == job)
            && self.process_type.as_deref().is_none_or(|wanted| wanted == process_type)
            && self.streams.as_ref().is_none_or(|wanted| wanted.contains(&line.message.stream()))
    }
}

impl Query {
    /// Reads decoded `name=value` pairs. Of repeated names the first counts, of `process_type` the last.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let named = |name: &'static str| {
            pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let set = |name| named(name).next().filter(|value| !value.is_empty());
        Ok(Self {
            filter: Filter {
                job: set("job_id").map(str::to_owned),
                process_type: named("process_type").next_back().map(str::to_owned),
                streams: set("stream_types").map(streams),
            },
            is_following: named("follow").next() == Some("true"),
            lines: set("lines").map(lines).transpose()?,
        })
    }
}

/// The known names of a comma list; unknown ones match nothing.
fn streams(list: &str) -> Vec<Stream> {
    let all = [Stream::Stdout, Stream::Stderr, Stream::Init, Stream::Unknown];
    let named = |name: &str| all.into_iter().find(|stream| stream.as_str() == name);
    list.split(',').filter_map(named).collect()
}

fn lines(text: &str) -> Result<usize, ApiError> {
    let refuse = |what: String| ApiError::validation("lines", what);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse(format!("strconv.Atoi: parsing {text:?}: invalid syntax")));
    }
    let number: i64 = text
        .parse()
        .map_err(|_| refuse(format!("strconv.Atoi: parsing {text:?}: value out of range")))?;
    usize::try_from(number)
        .ok()
        .filter(|number| *number <= CAPACITY)
        .ok_or_else(|| refuse(format!("lines must be an integer between 0 and {CAPACITY}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Query, ApiError> {
        let owned: Vec<_> = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Query::parse(&owned)
    }

    #[test]
    fn the_number_of_lines_is_checked() {
        for (text, want) in [("0", 0), ("10000", 10_000), ("+7", 7)] {
            assert_eq!(parse(&[("lines", text)]).unwrap().lines, Some(want));
        }
        assert_eq!(parse(&[("lines", "")]).unwrap().lines, None);
        let range = "lines lines must be an integer between 0 and 10000";
        for (text, want) in [
            ("-1", range),
            ("10001", range),
            ("x", "lines strconv.Atoi: parsing \"x\": invalid syntax"),
            ("1.5", "lines strconv.Atoi: parsing \"1.5\": invalid syntax"),
            ("-", "lines strconv.Atoi: parsing \"-\": invalid syntax"),
            (
                "99999999999999999999",
                "lines strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            let error = parse(&[("lines", text)]).unwrap_err();
            assert_eq!(error.message, want);
            assert_eq!(error.detail, Some(serde_json::json!({"field": "lines"})));
        }
    }

    #[test]
    fn follow_is_the_word_true() {
        for (text, want) in [("true", true), ("1", false), ("TRUE", false), ("", false)] {
            assert_eq!(parse(&[("follow", text)]).unwrap().is_following, want, "{text}");
        }
        assert_eq!(parse(&[]).unwrap(), Query::default());
    }
}
