//! Whole builds with buildpacks made here, against a blob store and a controller made here.

mod builds {
    mod buildpacks;
    mod fakes;
    mod slugs;
    mod world;
}
