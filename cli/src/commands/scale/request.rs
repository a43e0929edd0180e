//! What `flynn scale` was asked for: `web=3,disk=ssd worker=0`.

use controller_api::{ProcessCounts, ProcessTags, Release};

use crate::failure::Failure;

/// Counts and tags by process type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) counts: ProcessCounts,
    pub(super) tags: ProcessTags,
}

impl Request {
    /// Reads the arguments; every type must be one of the release's.
    pub(super) fn parse(specs: &[String], release: &Release) -> Result<Self, Failure> {
        let (mut request, mut unknown) = (Self::default(), Vec::new());
        for text in specs {
            let Some((name, spec)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                return Err(Failure::said("ERROR: scale args must be of the form <typ>=<spec>"));
            };
            let (count, tags) = spec.split_once(',').map_or((spec, None), |(count, tags)| (count, Some(tags)));
            request.counts.insert(name.to_owned(), quantity(count, text)?);
            if let Some(tags) = tags {
                let tags = tags.split(',').filter(|tag| !tag.is_empty());
                let pair = |tag: &str| match tag.split_once('=') {
                    Some((key, value)) => (key.to_owned(), value.to_owned()),
                    None => (tag.to_owned(), "true".to_owned()),
                };
                request.tags.insert(name.to_owned(), tags.map(pair).collect());
            }
            if !release.processes.contains_key(name) {
                unknown.push(format!("{name:?}"));
            }
        }
        if unknown.is_empty() {
            return Ok(request);
        }
        Err(Failure::said(format!("ERROR: unknown process types: {}", unknown.join(", "))))
    }
}

fn quantity(count: &str, text: &str) -> Result<u32, Failure> {
    let unreadable = || Failure::said(format!("ERROR: could not parse quantity in {text:?}"));
    let count: i64 = count.parse().map_err(|_| unreadable())?;
    if count < 0 {
        return Err(Failure::said(format!("ERROR: process quantities cannot be negative in {text:?}")));
    }
    u32::try_from(count).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Request, String> {
        let mut release = Release::default();
        for name in ["web", "worker"] {
            release.processes.insert(name.to_owned(), controller_api::ProcessType::default());
        }
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        Request::parse(&words, &release).map_err(|failure| failure.to_string())
    }

    #[test]
    fn counts_and_tags_are_read() {
        let request = parse("web=3,disk=ssd,fast worker=0").unwrap();
        assert_eq!(request.counts, [("web".to_owned(), 3), ("worker".to_owned(), 0)].into());
        let tags = [("disk".to_owned(), "ssd".to_owned()), ("fast".to_owned(), "true".to_owned())];
        assert_eq!(request.tags, [("web".to_owned(), tags.into())].into());
    }

    #[test]
    fn mistakes_are_told_in_the_words_of_old() {
        for (words, want) in [
            ("web", "ERROR: scale args must be of the form <typ>=<spec>"),
            ("web=x", "ERROR: could not parse quantity in \"web=x\""),
            ("web=-1", "ERROR: process quantities cannot be negative in \"web=-1\""),
            ("zz=1 aa=2", "ERROR: unknown process types: \"zz\", \"aa\""),
        ] {
            assert_eq!(parse(words), Err(want.to_owned()));
        }
    }
}
