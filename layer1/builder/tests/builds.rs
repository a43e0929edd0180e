//! Whole builds with buildpacks made here, against a blob store and a controller made here.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod builds {
    mod buildpacks;
    mod fakes;
    mod slugs;
    mod world;
}
